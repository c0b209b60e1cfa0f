//! Reading scenarios: from text to types, with errors that name file, turn and key.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_path_to_error::Segment;

use super::model::{Answerer, Call, End, Scenario, Step, Turn};
use crate::emulator::session::Permission;

/// Turns of a scenario.
const MAX_TURNS: usize = 1000;

/// The largest scenario file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A scenario could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("could not read scenario {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is neither YAML nor JSON.
    #[error("scenario {name}: {message}")]
    Syntax {
        /// The file or name.
        name: String,
        /// What is wrong, with line and column.
        message: String,
    },
    /// It has the wrong shape.
    #[error("scenario {name}: {place}: {message}")]
    Shape {
        /// The file or name.
        name: String,
        /// Turn, step and key.
        place: String,
        /// What is wrong.
        message: String,
    },
}

impl Scenario {
    /// Reads a scenario from a YAML or JSON file.
    ///
    /// # Errors
    /// A [`ScenarioError`] that names the file, the turn and the key.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let read = || {
            let size = std::fs::metadata(path)?.len();
            if size > MAX_FILE {
                return Err(std::io::Error::other(format!("{size} bytes, at most {MAX_FILE} are read")));
            }
            std::fs::read_to_string(path)
        };
        let text = read().map_err(|source| ScenarioError::Read { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a scenario from YAML or JSON text; `name` stands for the file in errors.
    ///
    /// # Errors
    /// A [`ScenarioError`] that names the turn and the key.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        // Both notations become the same tree first, so that both have the same types and the same errors.
        let tree: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| error.to_string())
        } else {
            // `on`, `yes` and the like are words here, as YAML 1.2 has them.
            let options = serde_saphyr::options! { strict_booleans: true };
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
        }
        .map_err(|message| ScenarioError::Syntax { name: name.to_owned(), message })?;
        let scenario: Self = serde_path_to_error::deserialize(tree).map_err(|error| {
            let place = place(error.path().iter());
            ScenarioError::Shape { name: name.to_owned(), place, message: error.into_inner().to_string() }
        })?;
        scenario.check().map_err(|(place, message)| ScenarioError::Shape {
            name: name.to_owned(),
            place,
            message: message.to_owned(),
        })?;
        Ok(scenario)
    }

    /// What types cannot say.
    fn check(&self) -> Result<(), (String, &'static str)> {
        if self.name.is_empty() {
            return Err(("`name`".into(), "must not be empty"));
        }
        if self.turns.is_empty() || self.turns.len() > MAX_TURNS {
            return Err(("`turns`".into(), "expected 1 to 1000 turns"));
        }
        let mut threads = BTreeSet::new();
        for (n, turn) in self.turns.iter().enumerate() {
            let last = n + 1 == self.turns.len();
            if !last && matches!(turn.end, End::Terminate | End::Delete) {
                return Err((format!("turn {}, `end`", n + 1), "only the last turn can end the session"));
            }
            turn.check(&mut threads)
                .map_err(|(place, message)| (format!("turn {}, {place}", n + 1), message))?;
        }
        Ok(())
    }
}

impl Turn {
    fn check<'a>(&'a self, threads: &mut BTreeSet<&'a str>) -> Result<(), (String, &'static str)> {
        for (n, step) in self.steps.iter().enumerate() {
            let at = |key: &str| format!("step {}, `{key}`", n + 1);
            let calls = match step {
                Step::Call(call) => std::slice::from_ref(&**call),
                Step::Calls(calls) if calls.is_empty() => {
                    return Err((at("calls"), "expected at least one call"));
                }
                Step::Calls(calls) => calls,
                Step::OpenThread(name) => {
                    if !threads.insert(name) {
                        return Err((at("open_thread"), "a thread of this name was opened before"));
                    }
                    continue;
                }
                Step::CloseThread(name) if !threads.contains(name.as_str()) => {
                    return Err((at("close_thread"), "no thread of this name was opened before"));
                }
                Step::Say(_) | Step::Wait(_) | Step::CloseThread(_) => continue,
            };
            for call in calls {
                call.check_keys(threads).map_err(|(key, message)| (at(key), message))?;
            }
        }
        Ok(())
    }
}

impl Call {
    fn check_keys(&self, threads: &BTreeSet<&str>) -> Result<(), (&'static str, &'static str)> {
        match (&self.tool, &self.custom) {
            (Some(name), None) | (None, Some(name)) if !name.is_empty() => {}
            _ => return Err(("tool", "expected exactly one of `tool` and `custom`, with a name")),
        }
        if self.custom.is_some() && (self.permission.is_some() || self.confirm.is_some()) {
            return Err(("permission", "permissions and confirmations do not apply to custom tools"));
        }
        if self.confirm.is_some() && matches!(self.permission, Some(Permission::Allow | Permission::Deny)) {
            return Err(("confirm", "only a call with permission `ask` can be confirmed"));
        }
        if let Some(thread) = &self.thread
            && !threads.contains(thread.as_str())
        {
            return Err(("thread", "no thread of this name was opened before"));
        }
        let server = self.answer.as_ref().is_some_and(|answer| answer.by == Answerer::Server);
        if server && (self.custom.is_some() || self.permission.is_some()) {
            return Err(("answer", "the server answers neither custom tools nor calls with a permission"));
        }
        Ok(())
    }
}

/// A path for people: `turn 2, step 1, `call.expect.text``.
fn place<'a>(segments: impl Iterator<Item = &'a Segment>) -> String {
    let (mut counted, mut keys) = (String::new(), String::new());
    let mut list = "";
    for segment in segments {
        match segment {
            Segment::Seq { index } => {
                let word = match list {
                    "turns" => "turn ",
                    "steps" => "step ",
                    "calls" => "call ",
                    _ => "item ",
                };
                keys.clear();
                // Writing to a string cannot fail.
                let _ = write!(counted, "{word}{}, ", index + 1);
            }
            Segment::Map { key } | Segment::Enum { variant: key } => {
                list = key;
                let dot = if keys.is_empty() { "" } else { "." };
                let _ = write!(keys, "{dot}{key}");
            }
            Segment::Unknown => {}
        }
    }
    if keys.is_empty() {
        return counted.trim_end_matches(", ").to_owned();
    }
    format!("{counted}`{keys}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Scenario::parse("demo.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn both_notations_read_alike() {
        let yaml = "name: a\nturns:\n  - message: hi\n    after: 10ms\n    steps:\n      - say: hello\n      - call: {tool: bash, input: {command: ls}}\n      - wait: 1s\n";
        let json = r#"{"name":"a","turns":[{"message":"hi","after":"10ms","steps":[{"say":"hello"},
            {"call":{"tool":"bash","input":{"command":"ls"}}},{"wait":"1s"}]}]}"#;
        let [yaml, json] = [yaml, json].map(|text| Scenario::parse("x", text).unwrap());
        assert_eq!(format!("{yaml:?}"), format!("{json:?}"));
        assert_eq!(yaml.turns[0].steps.len(), 3);
    }

    #[test]
    fn errors_name_file_turn_and_key() {
        let turn = |step: &str| format!("name: a\nturns:\n  - steps: []\n  - steps:\n      - {step}\n");
        let cases = [
            (turn("call: {tool: bash, expect: {contian: x}}"), "turn 2, step 1, `call.expect", "contian"),
            (turn("call: {tool: bash, input: 7}"), "turn 2, step 1, `call.input`", "invalid type"),
            (turn("call: {tool: bash, permission: maybe}"), "`call.permission`", "maybe"),
            (turn("wait: soon"), "turn 2, step 1, `wait`", "a duration such as `200ms`"),
            (turn("call: {}"), "turn 2, step 1, `tool`", "exactly one of `tool` and `custom`"),
            (turn("call: {tool: a, custom: b}"), "turn 2, step 1, `tool`", "exactly one"),
            (turn("calls: []"), "turn 2, step 1, `calls`", "at least one call"),
            (turn("call: {tool: a, thread: t}"), "turn 2, step 1, `thread`", "no thread of this name"),
            (turn("call: {custom: a, permission: ask}"), "`permission`", "do not apply to custom tools"),
            (
                turn("call: {tool: a, permission: allow, confirm: {result: allow}}"),
                "`confirm`",
                "only a call",
            ),
            (turn("call: {tool: a, expect: {matches: '('}}"), "`call.expect.matches`", "regular expression"),
            (turn("sing: la"), "turn 2, step 1", "unknown variant `sing`"),
            ("name: a\nturns: []\n".into(), "`turns`", "1 to 1000"),
            (
                "name: a\nturns:\n  - {steps: [], end: delete}\n  - {steps: []}\n".into(),
                "turn 1, `end`",
                "last",
            ),
            ("name: a\nturns: [\n".into(), "demo.yaml", ""),
            ("{\"name\": 1}".into(), "`name`", "invalid type"),
        ];
        for (text, place, message) in cases {
            let error = error(&text);
            assert!(error.starts_with("scenario demo.yaml: "), "{error}");
            assert!(error.contains(place) && error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Scenario::load(Path::new("/nonexistent/x.yaml")).unwrap_err();
        assert_eq!(error.to_string(), "could not read scenario /nonexistent/x.yaml");
    }
}
