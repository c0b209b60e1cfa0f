//! Why a tool call failed, in words for the agent.
//!
//! Every message begins with the tool's name and names the path or argument as the agent gave it. Host
//! paths and the operating system's own error texts stay out: a reason is one of a small set of phrases.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::Duration;

use remuda_actors::tool::ToolResult;
use rustix::io::Errno;

use super::limits::Why;
use crate::hand::confine::PathError;

/// A call that failed; its text becomes an error result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An argument is missing, unknown, or of the wrong type or value.
    #[error("{tool}: {problem}")]
    Argument { tool: &'static str, problem: String },
    /// The path is not one the tool may use.
    #[error("{tool}: {given:?} is outside the session's working directory{}", others(*.other_roots))]
    Outside { tool: &'static str, given: String, other_roots: bool },
    /// A write to a place that may only be read.
    #[error("{tool}: {given} is inside read-only directory {}", root.display())]
    ReadOnly { tool: &'static str, given: String, root: Box<Path> },
    /// The file system, or what is in the file, forbids it.
    #[error("{tool}: {given}: {reason}")]
    File { tool: &'static str, given: String, reason: Cow<'static, str> },
    /// The tool's own rule, such as a text that occurs twice.
    #[error("{tool}: {rule}")]
    Rule { tool: &'static str, rule: String },
    /// Its time was up.
    #[error("{tool}: timed out after {}s", limit.as_secs_f64())]
    TimedOut { tool: &'static str, limit: Duration },
    /// Somebody cancelled the call.
    #[error("{tool}: the call was cancelled{why}")]
    Cancelled { tool: &'static str, why: Why },
}

fn others(other_roots: bool) -> &'static str {
    if other_roots { " and its other permitted directories" } else { "" }
}

impl Failure {
    /// What a path lookup or file operation on `given` came to.
    pub(crate) fn path(tool: &'static str, given: &str, error: PathError) -> Self {
        let given = given.to_owned();
        match error {
            PathError::Outside { other_roots } => Self::Outside { tool, given, other_roots },
            PathError::ReadOnly { root } => Self::ReadOnly { tool, given, root },
            PathError::NotRegular => Self::File { tool, given, reason: "not a regular file".into() },
            PathError::Changed => {
                let reason = "the path was changed by somebody else while it was used; try again";
                Self::File { tool, given, reason: reason.into() }
            }
            PathError::System(errno) => Self::File { tool, given, reason: reason(errno) },
        }
    }

    /// An input or output error on the file `given`.
    pub(crate) fn io(tool: &'static str, given: &str, error: &io::Error) -> Self {
        let reason = match Errno::from_io_error(error) {
            Some(errno) => reason(errno),
            None => error.to_string().to_lowercase().into(),
        };
        Self::File { tool, given: given.to_owned(), reason }
    }

    /// The file `given` itself is the reason.
    pub(crate) fn file(tool: &'static str, given: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::File { tool, given: given.to_owned(), reason: reason.into() }
    }
}

impl From<Failure> for ToolResult {
    fn from(failure: Failure) -> Self {
        Self::error(failure.to_string())
    }
}

/// The fixed phrase for an error number; unusual ones get the system's words in lower case.
pub(crate) fn reason(errno: Errno) -> Cow<'static, str> {
    match errno {
        Errno::NOENT => "no such file or directory".into(),
        Errno::ACCESS => "permission denied".into(),
        Errno::NOTDIR => "not a directory".into(),
        Errno::ISDIR => "is a directory".into(),
        Errno::EXIST => "file already exists".into(),
        Errno::LOOP => "too many levels of symbolic links".into(),
        Errno::NAMETOOLONG => "file name too long".into(),
        Errno::NOSPC | Errno::DQUOT => "no space left on device".into(),
        Errno::MFILE | Errno::NFILE => "too many open files".into(),
        other => {
            let text = io::Error::from(other).to_string();
            // std appends "(os error N)", which tells the agent nothing.
            let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
            text.into()
        }
    }
}
