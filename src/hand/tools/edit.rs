//! `edit`: one text of a file replaced by another, letter for letter.

use std::path::Path;

use remuda_actors::tool::ToolResult;
use serde_json::Value;

use super::arguments::Arguments;
use super::failure::Failure;
use super::limits::Limits;
use super::{read, write};
use crate::hand::confine::Confinement;

const TOOL: &str = "edit";

/// Largest file an edit may make, in bytes: replacing every letter of a file by a long text must not take
/// the sandbox's memory.
const MAX_RESULT_BYTES: usize = 32 << 20;

#[derive(Debug)]
pub(crate) struct Edit {
    file_path: String,
    old: String,
    new: String,
    all: bool,
}

impl Edit {
    pub(crate) fn parse(input: Value) -> Result<Self, Failure> {
        let known = ["file_path", "old_string", "new_string", "replace_all"];
        let mut arguments = Arguments::new(TOOL, input, &known)?;
        let edit = Self {
            file_path: arguments.path("file_path")?,
            old: arguments.required("old_string")?,
            new: arguments.required("new_string")?,
            all: arguments.switch("replace_all")?,
        };
        if edit.old.is_empty() {
            return Err(arguments.problem("old_string must not be empty".to_owned()));
        }
        Ok(edit)
    }

    pub(crate) fn run(self, confinement: &Confinement, limits: &Limits) -> Result<ToolResult, Failure> {
        limits.check(TOOL)?;
        let given = self.file_path.as_str();
        let opened = confinement.at(Path::new(given), |place| {
            // Before the contents are looked at: they are none of the agent's business for a refused edit.
            place.writable()?;
            place.open_regular()
        });
        let (file, stat) = opened.map_err(|error| Failure::path(TOOL, given, error))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let text = read::text(TOOL, given, read::whole(TOOL, given, file, size)?)?;
        let count = text.matches(self.old.as_str()).count();
        let rule = |rule| Failure::Rule { tool: TOOL, rule };
        match count {
            0 => return Err(rule(format!("old_string not found in {given}"))),
            1 => {}
            _ if self.all => {}
            _ => {
                let problem = format!("old_string appears {count} times in {given} (must be unique)");
                return Err(rule(problem));
            }
        }
        let result =
            (text.len() - count * self.old.len()).saturating_add(count.saturating_mul(self.new.len()));
        if result > MAX_RESULT_BYTES {
            let problem =
                format!("{given} would grow to {result} bytes; the limit is {MAX_RESULT_BYTES} bytes");
            return Err(rule(problem));
        }
        write::replace(TOOL, confinement, given, &text.replace(&self.old, &self.new))?;
        Ok(ToolResult::ok(format!("edited {given} ({count} replacement(s))")))
    }
}
