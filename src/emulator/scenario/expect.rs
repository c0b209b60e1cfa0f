//! Whether a result is the expected one.

use regex::Regex;

use super::model::{Answerer, Call, Confirmation, Expect, ResolutionName, Tri};
use super::variables::Variables;
use crate::emulator::session::{Permission, Resolved};

/// Characters of a result quoted in a mismatch.
const QUOTE: usize = 500;

impl Call {
    /// How this call should be resolved.
    fn resolution(&self) -> ResolutionName {
        let denied = self.permission == Some(Permission::Deny)
            || self.confirm.as_ref().is_some_and(|confirm| confirm.result == Confirmation::Deny);
        let server = self.answer.as_ref().is_some_and(|answer| answer.by == Answerer::Server);
        match self.expect.resolution {
            Some(resolution) => resolution,
            None if denied => ResolutionName::Denied,
            None if server => ResolutionName::Server,
            None => ResolutionName::Answered,
        }
    }

    /// Compares what became of the call with what was expected: the expectation that failed, and what came
    /// instead.
    pub(in crate::emulator) fn check(
        &self,
        resolved: &Resolved,
        variables: &Variables,
    ) -> Result<(), (String, String)> {
        let (expected, got) = (self.resolution(), ResolutionName::of(resolved.how));
        if expected != got {
            let result = quote(&resolved.result.text());
            return Err((
                format!("{expected:?}").to_lowercase(),
                format!("{got:?}: {result}").to_lowercase(),
            ));
        }
        if matches!(got, ResolutionName::Denied | ResolutionName::Interrupted) {
            return Ok(());
        }
        self.expect.check_result(resolved, variables)
    }
}

impl Expect {
    fn check_result(&self, resolved: &Resolved, variables: &Variables) -> Result<(), (String, String)> {
        let (is_error, text) = (resolved.result.is_error, resolved.result.text());
        let fail = |expected: String| Err((expected, format!("is_error {is_error}, {}", quote(&text))));
        match self.is_error {
            Tri::True if !is_error => return fail("is_error true".into()),
            Tri::False if is_error => return fail("is_error false".into()),
            _ => {}
        }
        if let Some(expected) = &self.text {
            let expected = variables.expand(expected);
            if text != *expected {
                return fail(format!("the text {}", quote(&expected)));
            }
        }
        for part in &self.contains {
            let part = variables.expand(part);
            if !text.contains(&*part) {
                return fail(format!("a text with {}", quote(&part)));
            }
        }
        if let Some(pattern) = &self.matches {
            let pattern = variables.expand_pattern(&pattern.0);
            match Regex::new(&pattern) {
                Ok(regex) if regex.is_match(&text) => {}
                Ok(_) => return fail(format!("a text that matches {pattern}")),
                Err(error) => return fail(format!("a regular expression, but it has an error: {error}")),
            }
        }
        Ok(())
    }
}

fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTE) {
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use remuda_actors::tool::ToolResult;
    use serde_json::json;

    use super::*;
    use crate::emulator::session::Resolution;

    fn check(expect: serde_json::Value, result: ToolResult, how: Resolution) -> Result<(), (String, String)> {
        let call: Call = serde_json::from_value(json!({"tool": "bash", "expect": expect})).unwrap();
        call.check(&Resolved { how, result }, &Variables::default())
    }

    #[test]
    fn every_expectation_can_fail_and_says_what_came_instead() {
        let answered = Resolution::Answered(None);
        let passing = [
            (json!({}), ToolResult::ok("x")),
            (json!({"is_error": true}), ToolResult::error("x")),
            (json!({"is_error": null}), ToolResult::error("x")),
            (json!({"text": "a\nb"}), ToolResult::ok("a\nb")),
            (json!({"contains": ["a", "b"]}), ToolResult::ok("a-b")),
            (json!({"matches": "^[0-9]+$"}), ToolResult::ok("42")),
        ];
        for (expect, result) in passing {
            assert_eq!(check(expect.clone(), result, answered), Ok(()), "{expect}");
        }
        let failing = [
            (json!({}), ToolResult::error("x"), "is_error false"),
            (json!({"is_error": true}), ToolResult::ok("x"), "is_error true"),
            (json!({"text": "a"}), ToolResult::ok("a "), "the text \"a\""),
            (json!({"contains": ["a", "c"]}), ToolResult::ok("a-b"), "a text with \"c\""),
            (json!({"matches": "^[0-9]+$"}), ToolResult::ok("4x"), "a text that matches ^[0-9]+$"),
            (json!({"resolution": "denied"}), ToolResult::ok("x"), "denied"),
        ];
        for (expect, result, expected) in failing {
            let text = result.text();
            let (said, got) = check(expect, result, answered).unwrap_err();
            assert_eq!(said, expected);
            assert!(got.contains(&text), "{got}");
        }
    }

    #[test]
    fn a_denied_call_needs_no_result() {
        let call = json!({"tool": "bash", "permission": "ask", "confirm": {"result": "deny"}});
        let call: Call = serde_json::from_value(call).unwrap();
        let denied = Resolved { how: Resolution::Denied, result: ToolResult::error("no") };
        assert_eq!(call.check(&denied, &Variables::default()), Ok(()));
        let answered = Resolved { how: Resolution::Answered(None), result: ToolResult::ok("ran") };
        assert!(call.check(&answered, &Variables::default()).is_err());
    }
}
