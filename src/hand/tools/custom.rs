//! `custom`: the arguments of a call of a tool that the operator has declared, and that runs in the sandbox.
//!
//! No agent can ask for it: a session passes on only the tools of the agent's own set, and those that the operator
//! has declared by the names that he has given them.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::program::Program;

/// The name of the tool.
pub(crate) const TOOL: &str = "custom";

/// What to run, and what for.
#[derive(Debug)]
pub(crate) struct Custom {
    /// The name that agents know it by.
    pub(crate) name: String,
    /// The executable.
    pub(crate) program: Program,
    /// What the agent has given.
    pub(crate) input: Map<String, Value>,
    /// How the executable is spoken to.
    pub(crate) speaks: Speaks,
}

/// How an executable is spoken to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// The arguments on its standard input, its answer on its standard output.
    Json,
    /// It is an MCP server on its standard input and output, and the tool has this name there.
    Mcp(String),
}

/// The arguments, as they come.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    name: String,
    argv: Vec<String>,
    input: Map<String, Value>,
    #[serde(default)]
    mcp: Option<String>,
}

impl Custom {
    pub(crate) fn parse(input: Value) -> Result<Self, Failure> {
        let arguments: Arguments = serde_json::from_value(input)
            .map_err(|error| Failure::Argument { tool: TOOL, problem: error.to_string() })?;
        let Arguments { name, argv, input, mcp } = arguments;
        let program = Program::parse(serde_json::json!({ "argv": argv }))?;
        Ok(Self { name, program, input, speaks: mcp.map_or(Speaks::Json, Speaks::Mcp) })
    }
}
