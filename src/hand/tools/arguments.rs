//! The arguments of a call, checked one by one.
//!
//! Every complaint names the tool, the argument and what was expected, so that the agent can mend it.
//! `null` counts as absent. An argument the tool does not know is refused: it would otherwise be ignored
//! without the agent learning that it had no effect.

use serde_json::{Map, Value};

use super::failure::Failure;

/// Longest path, in bytes: what the kernel takes. Complaints repeat a path, so it must be bounded.
const MAX_PATH_BYTES: usize = 4096;

/// Longest pattern of `glob` and `grep`, in bytes. Compiling one takes memory in proportion.
const MAX_PATTERN_BYTES: usize = 16 << 10;

/// Characters of a name that are repeated in a complaint about it.
const MAX_NAME_CHARS: usize = 60;

/// What is left to be taken of a call's arguments.
pub(crate) struct Arguments {
    tool: &'static str,
    left: Map<String, Value>,
}

impl Arguments {
    /// The arguments of `tool`, which knows those named `known`.
    pub(crate) fn new(tool: &'static str, input: Value, known: &[&str]) -> Result<Self, Failure> {
        let Value::Object(left) = input else {
            let problem = format!("the arguments must be an object, not {}", kind(&input));
            return Err(Failure::Argument { tool, problem });
        };
        if let Some(unknown) = left.keys().find(|name| !known.contains(&name.as_str())) {
            let problem = format!("unknown argument {:?}; it takes {}", beginning(unknown), known.join(", "));
            return Err(Failure::Argument { tool, problem });
        }
        Ok(Self { tool, left })
    }

    /// A string that may be absent.
    pub(crate) fn string(&mut self, name: &str) -> Result<Option<String>, Failure> {
        match self.left.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a string", &other)),
        }
    }

    /// A string that must be there; it may be empty.
    pub(crate) fn required(&mut self, name: &str) -> Result<String, Failure> {
        self.string(name)?.ok_or_else(|| self.problem(format!("{name} is required (a string)")))
    }

    /// A path that must be there and not be empty.
    pub(crate) fn path(&mut self, name: &str) -> Result<String, Failure> {
        let path = self.required(name)?;
        if path.is_empty() {
            return Err(self.problem(format!("{name} must not be empty")));
        }
        self.at_most(name, path, MAX_PATH_BYTES)
    }

    /// A folder to search in; the working directory when absent or empty.
    pub(crate) fn folder(&mut self, name: &str) -> Result<String, Failure> {
        let path = self.string(name)?.filter(|path| !path.is_empty());
        self.at_most(name, path.unwrap_or_else(|| ".".to_owned()), MAX_PATH_BYTES)
    }

    /// A pattern that must be there.
    pub(crate) fn pattern(&mut self, name: &str) -> Result<String, Failure> {
        let pattern = self.required(name)?;
        self.at_most(name, pattern, MAX_PATTERN_BYTES)
    }

    fn at_most(&self, name: &str, text: String, limit: usize) -> Result<String, Failure> {
        if text.len() <= limit {
            return Ok(text);
        }
        Err(self.problem(format!("{name} has {} bytes; the limit is {limit} bytes", text.len())))
    }

    /// A switch, off when absent.
    pub(crate) fn switch(&mut self, name: &str) -> Result<bool, Failure> {
        match self.left.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(on)) => Ok(on),
            Some(other) => Err(self.wrong(name, "true or false", &other)),
        }
    }

    /// A whole number from zero on that may be absent.
    pub(crate) fn count(&mut self, name: &str) -> Result<Option<u64>, Failure> {
        match self.left.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(count) => Ok(Some(count)),
                None => Err(self.wrong(name, "a whole number, 0 or more", &value)),
            },
        }
    }

    /// A list of whole numbers that may be absent.
    pub(crate) fn integers(&mut self, name: &str) -> Result<Option<Vec<i64>>, Failure> {
        let expected = "a list of whole numbers";
        match self.left.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => {
                let numbers = items.iter().map(|item| item.as_i64().ok_or(item)).collect::<Result<_, _>>();
                numbers.map(Some).map_err(|item| self.wrong(name, expected, item))
            }
            Some(other) => Err(self.wrong(name, expected, &other)),
        }
    }

    /// A complaint about these arguments.
    pub(crate) fn problem(&self, problem: String) -> Failure {
        Failure::Argument { tool: self.tool, problem }
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value) -> Failure {
        self.problem(format!("{name} must be {expected}, not {}", kind(found)))
    }
}

/// As much of an unknown name as is needed to know it again.
pub(crate) fn beginning(name: &str) -> String {
    name.chars().take(MAX_NAME_CHARS).collect()
}

/// What a value is, without repeating what may be long.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complaint<T>(outcome: Result<T, Failure>) -> String {
        outcome.err().map(|failure| failure.to_string()).unwrap_or_default()
    }

    #[test]
    fn complaints_name_tool_argument_and_expectation() {
        let known = ["a", "b"];
        let made = |input| Arguments::new("read", input, &known);
        assert_eq!(complaint(made(json!([]))), "read: the arguments must be an object, not a list");
        assert_eq!(complaint(made(json!({"c": 1}))), "read: unknown argument \"c\"; it takes a, b");
        assert!(complaint(made(json!({"x".repeat(1 << 20): 1}))).len() < 120);
        let mut arguments = made(json!({"a": "p".repeat(5000), "b": ""})).unwrap();
        assert_eq!(complaint(arguments.path("a")), "read: a has 5000 bytes; the limit is 4096 bytes");
        assert_eq!(complaint(arguments.path("b")), "read: b must not be empty");
        let mut arguments = made(json!({"a": 5, "b": null})).unwrap();
        assert_eq!(complaint(arguments.required("b")), "read: b is required (a string)");
        assert_eq!(complaint(arguments.required("a")), "read: a must be a string, not 5");
        let mut arguments = made(json!({"a": -1, "b": [1, "x"]})).unwrap();
        assert_eq!(complaint(arguments.count("a")), "read: a must be a whole number, 0 or more, not -1");
        assert_eq!(
            complaint(arguments.integers("b")),
            "read: b must be a list of whole numbers, not a string"
        );
    }
}
