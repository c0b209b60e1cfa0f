//! `bash`: the arguments of a call that runs in a shell.

use std::time::Duration;

use serde_json::Value;

use super::arguments::Arguments;
use super::failure::Failure;

const TOOL: &str = "bash";

/// Time one command may take unless the agent says otherwise, as the official toolset has it.
const DEFAULT_LIMIT: Duration = Duration::from_secs(120);

/// What a `bash` call asks for.
#[derive(Debug)]
pub(crate) enum Bash {
    /// A new shell. A command in the same call is not run, as in the official toolset.
    Restart,
    /// A command, and the time it may take.
    Run { command: String, limit: Duration },
}

impl Bash {
    pub(crate) fn parse(input: Value) -> Result<Self, Failure> {
        let mut arguments = Arguments::new(TOOL, input, &["command", "restart", "timeout_ms"])?;
        let command = arguments.string("command")?.unwrap_or_default();
        let limit = match arguments.count("timeout_ms")? {
            None | Some(0) => DEFAULT_LIMIT,
            Some(limit) => Duration::from_millis(limit),
        };
        if arguments.switch("restart")? {
            return Ok(Self::Restart);
        }
        if command.is_empty() {
            return Err(arguments.problem("command is required".to_owned()));
        }
        // The shell would leave it out without a word.
        if command.contains('\0') {
            return Err(arguments.problem("command must not contain a NUL character".to_owned()));
        }
        Ok(Self::Run { command, limit })
    }
}
