//! Which tools there are, and those that only MCP has.

use std::sync::{Arc, LazyLock};

use remuda_actors::tool::ToolResult;
use serde_json::Value;
use serde_json::value::RawValue;

use super::listing;
use super::processes::Processes;
use crate::hand::lane::Sandbox;
use crate::hand::tools::arguments::Arguments;
use crate::hand::tools::failure::Failure;

/// What clients are told about all tools.
const DEFINITIONS: &str = include_str!("tools.json");

/// The tools that run as calls.
const OF_SANDBOX: [&str; 6] = ["bash", "read", "write", "edit", "glob", "grep"];

/// Deepest listing of a folder.
const MAX_DEPTH: u64 = 10;

/// The same text, known to be JSON.
pub(super) fn definitions() -> &'static RawValue {
    static CHECKED: LazyLock<Box<RawValue>> = LazyLock::new(|| {
        RawValue::from_string(DEFINITIONS.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
    });
    &CHECKED
}

/// Whether a tool of this name runs as a call.
pub(super) fn is_of_sandbox(name: &str) -> bool {
    OF_SANDBOX.contains(&name)
}

/// A tool that only MCP has, with its arguments.
#[derive(Debug)]
pub(super) enum Own {
    Start { command: String },
    List,
    Logs { name: String },
    Stop { name: String },
    Files { path: String, depth: u64 },
}

impl Own {
    /// Checks the arguments. What is wrong with them is the call's answer; none if there is no such tool.
    pub(super) fn parse(name: &str, input: Value) -> Option<Result<Self, ToolResult>> {
        let parsed = match name {
            "process_start" => Self::start(input),
            "process_list" => Arguments::new("process_list", input, &[]).map(|_| Self::List),
            "process_logs" => named("process_logs", input).map(|name| Self::Logs { name }),
            "process_stop" => named("process_stop", input).map(|name| Self::Stop { name }),
            "list_files" => Self::files(input),
            _ => return None,
        };
        Some(parsed.map_err(ToolResult::from))
    }

    fn start(input: Value) -> Result<Self, Failure> {
        let mut arguments = Arguments::new("process_start", input, &["command"])?;
        let command = arguments.required("command")?;
        if command.is_empty() || command.contains('\0') {
            return Err(arguments.problem("command must have no NUL character and not be empty".to_owned()));
        }
        Ok(Self::Start { command })
    }

    fn files(input: Value) -> Result<Self, Failure> {
        let mut arguments = Arguments::new("list_files", input, &["path", "depth"])?;
        let path = arguments.folder("path")?;
        let depth = arguments.count("depth")?.unwrap_or(1);
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(arguments.problem(format!("depth must be from 1 to {MAX_DEPTH}")));
        }
        Ok(Self::Files { path, depth })
    }

    /// Does it.
    pub(super) async fn run(self, processes: &Processes, sandbox: &Arc<Sandbox>) -> ToolResult {
        match self {
            Self::Start { command } => processes.start(&command),
            Self::List => processes.list(),
            Self::Logs { name } => processes.logs(&name).await,
            Self::Stop { name } => processes.stop(&name).await,
            Self::Files { path, depth } => listing::list(sandbox, path, depth).await,
        }
    }
}

fn named(tool: &'static str, input: Value) -> Result<String, Failure> {
    Arguments::new(tool, input, &["name"])?.required("name")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hand::tools::Tool;

    /// What stands for each type in a call that fits the definitions.
    fn sample(kind: &str) -> Value {
        match kind {
            "string" => json!("x"),
            "boolean" => json!(false),
            "integer" => json!(1),
            "array" => json!([1, 1]),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_tool_takes_what_its_definition_says_and_nothing_else() {
        let definitions: Vec<Value> = serde_json::from_str(definitions().get()).unwrap();
        assert_eq!(definitions.len(), 11);
        for definition in definitions {
            let name = definition["name"].as_str().unwrap();
            let schema = &definition["inputSchema"];
            let properties = schema["properties"].as_object().unwrap();
            let input = |names: &mut dyn Iterator<Item = &String>| {
                let values = names.map(|name| {
                    let kind = properties[name]["type"].as_str().unwrap();
                    (name.clone(), sample(kind))
                });
                Value::Object(values.collect())
            };
            let is_ok = |input: Value| match is_of_sandbox(name) {
                true => Tool::parse(name, input).is_ok(),
                false => Own::parse(name, input).unwrap().is_ok(),
            };
            assert!(is_ok(input(&mut properties.keys())), "{name}");
            let mut more = input(&mut properties.keys());
            more["bogus"] = json!(1);
            assert!(!is_ok(more), "{name}");
            let required: Vec<String> =
                serde_json::from_value(schema["required"].clone()).unwrap_or_default();
            for missing in &required {
                let others = &mut properties.keys().filter(|name| *name != missing);
                assert!(!is_ok(input(others)), "{name} without {missing}");
            }
        }
        assert!(Own::parse("custom", json!({})).is_none() && Own::parse("program", json!({})).is_none());
    }
}
