//! Tools that run in the session's sandbox.

use std::sync::Arc;

use remuda_actors::event::Input;
use remuda_actors::ports::InsideTool;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::hand::tools::custom;

/// An executable in the sandbox, which runs the tool or is an MCP server that does.
#[derive(Debug)]
pub(super) struct Inside {
    /// What agents call the tool by.
    pub(super) name: String,
    /// The executable and its arguments.
    pub(super) argv: Vec<String>,
    /// The tool's name by the server; none if it is the executable that runs it.
    pub(super) mcp: Option<String>,
}

/// What the hand is asked.
#[derive(Serialize)]
struct Arguments<'a> {
    name: &'a str,
    argv: &'a [String],
    input: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    mcp: Option<&'a str>,
}

impl InsideTool for Inside {
    fn request(&self, input: &RawValue) -> (Arc<str>, Input) {
        let arguments = Arguments { name: &self.name, argv: &self.argv, input, mcp: self.mcp.as_deref() };
        let input = match serde_json::value::to_raw_value(&arguments) {
            Ok(raw) => Input::Json(raw.into()),
            Err(error) => Input::Malformed(error.to_string().into()),
        };
        (custom::TOOL.into(), input)
    }
}
