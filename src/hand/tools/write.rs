//! `write`: a file's new contents, in one step.

use std::io::Write as _;
use std::path::Path;

use remuda_actors::tool::ToolResult;
use serde_json::Value;

use super::arguments::Arguments;
use super::failure::Failure;
use super::limits::Limits;
use crate::hand::confine::Confinement;
use crate::hand::replacement::{Bits, Replacement};

const TOOL: &str = "write";

#[derive(Debug)]
pub(crate) struct Write {
    file_path: String,
    content: String,
}

impl Write {
    pub(crate) fn parse(input: Value) -> Result<Self, Failure> {
        let mut arguments = Arguments::new(TOOL, input, &["file_path", "content"])?;
        Ok(Self { file_path: arguments.path("file_path")?, content: arguments.required("content")? })
    }

    pub(crate) fn run(self, confinement: &Confinement, limits: &Limits) -> Result<ToolResult, Failure> {
        limits.check(TOOL)?;
        replace(TOOL, confinement, &self.file_path, &self.content)?;
        Ok(ToolResult::ok(format!("wrote {} bytes to {}", self.content.len(), self.file_path)))
    }
}

/// Puts `content` into the file `given`, which is created with its folders if it is not there.
pub(crate) fn replace(
    tool: &'static str,
    confinement: &Confinement,
    given: &str,
    content: &str,
) -> Result<(), Failure> {
    let started = confinement.at(Path::new(given), |place| {
        place.writable()?;
        Replacement::create(place, Bits::Kept)
    });
    let mut replacement = started.map_err(|error| Failure::path(tool, given, error))?;
    let written = replacement.file().write_all(content.as_bytes());
    written.map_err(|error| Failure::io(tool, given, &error))?;
    replacement.commit().map_err(|error| Failure::path(tool, given, error))
}
