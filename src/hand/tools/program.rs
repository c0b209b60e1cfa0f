//! `program`: the arguments of a call that runs a program of the operator's, such as a worker.
//!
//! No agent can ask for it: a session passes on only the tools of the agent's own set. Its variables are the one way
//! for a credential into a sandbox, and they are given to this program alone, never to the shells.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::failure::Failure;

/// The name of the tool.
pub(crate) const TOOL: &str = "program";

/// What to run. Shows no value of a variable.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// The program and its arguments, at least the former.
    pub(crate) argv: Vec<String>,
    /// Variables beside those of the agent's shells.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, String>,
}

impl Program {
    pub(crate) fn parse(input: Value) -> Result<Self, Failure> {
        let wrong = |what: String| Failure::Argument { tool: TOOL, problem: what };
        let program: Self = serde_json::from_value(input).map_err(|error| wrong(error.to_string()))?;
        if program.argv.first().is_none_or(String::is_empty) {
            return Err(wrong("argv: expected at least the program".to_owned()));
        }
        let texts = program.argv.iter().chain(program.env.keys()).chain(program.env.values());
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(wrong("argv and env: expected texts without NUL characters".to_owned()));
        }
        Ok(program)
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.keys().collect();
        f.debug_struct("Program").field("argv", &self.argv).field("env", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_checked_and_values_never_shown() {
        let program = Program::parse(json!({"argv": ["a", "b"], "env": {"NAME": "hidden"}})).unwrap();
        assert_eq!(format!("{program:?}"), r#"Program { argv: ["a", "b"], env: ["NAME"] }"#);
        for wrong in [json!({}), json!({"argv": []}), json!({"argv": [""]}), json!({"argv": ["a\0"]})] {
            assert!(Program::parse(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
