//! From a tool's name and arguments to the tool.

use remuda_actors::tool::ToolResult;
use serde_json::Value;

use super::arguments::beginning;
use super::bash::Bash;
use super::custom::{self, Custom};
use super::edit::Edit;
use super::failure::Failure;
use super::glob::Glob;
use super::grep::Grep;
use super::limits::Limits;
use super::program::{self, Program};
use super::read::Read;
use super::write::Write;
use crate::hand::confine::Confinement;

/// A call whose arguments have been checked.
#[derive(Debug)]
pub(crate) enum Tool {
    /// Runs in the shell of its thread.
    Bash(Bash),
    /// Runs in the hand itself.
    File(Box<FileTool>),
    /// Runs beside the shells.
    Program(Program),
    /// As well.
    Custom(Box<Custom>),
}

/// A tool that works on files by itself, blocking its thread meanwhile.
#[derive(Debug)]
pub(crate) enum FileTool {
    Read(Read),
    Write(Write),
    Edit(Edit),
    Glob(Glob),
    Grep(Grep),
}

impl Tool {
    /// Checks `input` against what the tool named `name` takes. What is wrong with it is the call's answer.
    pub(crate) fn parse(name: &str, input: Value) -> Result<Self, ToolResult> {
        let parsed = match name {
            "bash" => Bash::parse(input).map(Self::Bash),
            "read" => Read::parse(input).map(|tool| Self::file(FileTool::Read(tool))),
            "write" => Write::parse(input).map(|tool| Self::file(FileTool::Write(tool))),
            "edit" => Edit::parse(input).map(|tool| Self::file(FileTool::Edit(tool))),
            "glob" => Glob::parse(input).map(|tool| Self::file(FileTool::Glob(tool))),
            program::TOOL => Program::parse(input).map(Self::Program),
            custom::TOOL => Custom::parse(input).map(|tool| Self::Custom(Box::new(tool))),
            "grep" => Grep::parse(input).map(|tool| Self::file(FileTool::Grep(tool))),
            _ => {
                let known = "bash, read, write, edit, glob, grep";
                let name = beginning(name);
                return Err(ToolResult::error(format!("unknown tool {name:?}; this sandbox has {known}")));
            }
        };
        parsed.map_err(ToolResult::from)
    }

    fn file(tool: FileTool) -> Self {
        Self::File(Box::new(tool))
    }
}

impl FileTool {
    /// The name it is called by.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Edit(_) => "edit",
            Self::Glob(_) => "glob",
            Self::Grep(_) => "grep",
        }
    }

    /// Whether it changes files, and so must keep its place among the other calls of its thread.
    pub(crate) fn mutates(&self) -> bool {
        matches!(self, Self::Write(_) | Self::Edit(_))
    }

    /// Does it.
    pub(crate) fn run(self, confinement: &Confinement, limits: &Limits) -> ToolResult {
        let done: Result<ToolResult, Failure> = match self {
            Self::Read(tool) => tool.run(confinement, limits),
            Self::Write(tool) => tool.run(confinement, limits),
            Self::Edit(tool) => tool.run(confinement, limits),
            Self::Glob(tool) => tool.run(confinement, limits),
            Self::Grep(tool) => tool.run(confinement, limits),
        };
        done.unwrap_or_else(ToolResult::from)
    }
}
