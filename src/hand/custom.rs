//! Runs a tool of the operator's, an executable in the sandbox, for one call.
//!
//! ```text
//! spawn ──► arguments to its standard input ──► answer from its standard output ──► ended ──► answer
//!                     │ cancelled, time is up, too much output
//!                     └─► SIGTERM ──► ended, or the grace is over ──► SIGKILL to its session ──► an error
//! ```
//!
//! It is a call like any other: journaled, attached to when it is asked for again. What it prints on standard error
//! is for people; the agent reads the end of it when the call fails.

mod mcp;

use std::io;
use std::process::Stdio;
use std::time::Duration;

use remuda_actors::tool::{Block, ToolResult};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::timeout;

use super::children::{Child, Exit};
use super::lane::Sandbox;
use super::program;
use super::shell::Output;
use super::tools::custom::{Custom, Speaks};
use super::tools::limits::Limits;
use super::tools::reason;
use crate::custom::answer::{self, MAX_ANSWER_BYTES};

/// Runs the tool and answers with what it has printed, or with why that is not to be had.
pub(crate) async fn run(custom: &Custom, sandbox: &Sandbox, limits: &Limits) -> ToolResult {
    let name = &custom.name;
    match begin(custom, sandbox, limits).await {
        Ok(result) => result,
        Err(error) => {
            let why = rustix::io::Errno::from_io_error(&error).map_or(error.to_string().into(), reason);
            let program = custom.program.argv.first().map(String::as_str).unwrap_or_default();
            ToolResult::error(format!("{name}: {program} could not be started in the sandbox: {why}"))
        }
    }
}

/// How a conversation with a tool has ended.
enum Said {
    /// It has answered.
    Answer(ToolResult),
    /// It has said all that it is going to say.
    Everything(Vec<u8>),
    /// Something is wrong with what it has said.
    Wrong(String),
}

async fn begin(custom: &Custom, sandbox: &Sandbox, limits: &Limits) -> io::Result<ToolResult> {
    let (stdin, arguments) = pipe_with(PipeFlags::CLOEXEC)?;
    let (answers, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (arguments, answers) = (Sender::from_owned_fd(arguments)?, Receiver::from_owned_fd(answers)?);
    let mut errors = Output::new()?;
    let mut child = program::spawn(&custom.program, sandbox, Stdio::from(stdin), stdout, errors.sender()?)?;
    let said = async {
        match &custom.speaks {
            Speaks::Json => converse(custom, arguments, answers, &mut child).await,
            Speaks::Mcp(tool) => mcp::converse(custom, tool, arguments, answers).await,
        }
    };
    let said = tokio::select! {
        biased;
        said = said => Some(said),
        () = limits.over() => None,
        never = drain(&mut errors) => match never {},
    };
    // A server ends when nobody speaks to it any more; a tool that has closed its output is about to.
    let is_over = matches!(said, Some(Said::Everything(_)));
    let exit = if is_over {
        tokio::select! {
            biased;
            exit = program::ended(&mut child, &mut errors) => exit,
            () = limits.over() => None,
        }
    } else {
        None
    };
    program::stop(&mut child, &mut errors, sandbox).await;
    let errors = errors.take();
    Ok(match (said, exit) {
        (Some(Said::Answer(result)), _) => result,
        (Some(Said::Everything(output)), Some(Exit::Code(0))) => answer::printed(&custom.name, &output),
        (Some(Said::Everything(output)), Some(exit)) => failed(custom, &output, &errors, exit),
        (Some(Said::Wrong(what)), _) => with_errors(format!("{}: {what}", custom.name), &errors),
        (Some(Said::Everything(_)) | None, _) => {
            let name = &custom.name;
            let what = match limits.time.filter(|_| !limits.cancel.is_cancelled()) {
                Some((limit, _)) => format!("{name}: timed out after {}s", limit.as_secs_f64()),
                None => format!("{name}: the call was cancelled{}", limits.cancel.why()),
            };
            with_errors(what, &errors)
        }
    })
}

/// Takes in what a tool prints for people, for ever.
async fn drain(errors: &mut Output) -> std::convert::Infallible {
    loop {
        errors.fill().await;
    }
}

/// Gives the arguments to the tool and takes in what it prints, until it closes its output or has ended.
async fn converse(custom: &Custom, mut stdin: Sender, mut stdout: Receiver, child: &mut Child) -> Said {
    let arguments = serde_json::to_vec(&custom.input).unwrap_or_default();
    let give = async move {
        // One that does not read them may not need them.
        drop(stdin.write_all(&arguments).await);
        drop(stdin);
        std::future::pending::<std::convert::Infallible>().await
    };
    let mut output = Vec::new();
    let take = async {
        let mut rest = (&mut stdout).take(MAX_ANSWER_BYTES as u64 + 1);
        let read = rest.read_to_end(&mut output);
        tokio::pin!(read);
        tokio::select! {
            biased;
            read = &mut read => drop(read),
            // What it has started may keep its output open, and has nothing to add; what itself has printed is there.
            () = async { drop(child.exit.wait_for(Option::is_some).await) } => {
                drop(timeout(Duration::ZERO, &mut read).await);
            }
        }
    };
    tokio::select! {
        () = take => {}
        never = give => match never {},
    }
    if output.len() > MAX_ANSWER_BYTES {
        return Said::Wrong(format!("it printed more than {MAX_ANSWER_BYTES} bytes"));
    }
    Said::Everything(output)
}

/// The answer of a tool that has failed, and how that was.
fn failed(custom: &Custom, output: &[u8], errors: &str, exit: Exit) -> ToolResult {
    let how = match exit {
        Exit::Code(code) => format!("{}: it exited with status {code}", custom.name),
        Exit::Signal(signal) => format!("{}: it was killed by signal {signal}", custom.name),
    };
    let mut result = answer::printed(&custom.name, output);
    if result.content == [Block::text("")] {
        return with_errors(how, errors);
    }
    result.is_error = true;
    result.content.push(Block::text(with_errors(how, errors).text()));
    result
}

fn with_errors(what: String, errors: &str) -> ToolResult {
    answer::bounded(ToolResult::error(if errors.is_empty() { what } else { format!("{what}\n{errors}") }))
}
