//! Runs a program of the operator's from its start to its end.
//!
//! It is a call like any other: journaled, attached to when it is asked for again, ended by a cancellation. What is
//! different is that it runs beside the threads' shells and for as long as it likes.
//!
//! ```text
//! spawn ──► running ──ended──► answer
//!              │ cancelled, time is up
//!              └─► SIGTERM ──► ended, or the grace is over ──► SIGKILL to its session ──► answer
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use remuda_actors::tool::ToolResult;
use rustix::process::{Resource, Rlimit, prlimit};
use tokio::time::timeout;

use super::children::{Child, Exit};
use super::lane::Sandbox;
use super::procfs;
use super::shell::Output;
use super::tools::limits::Limits;
use super::tools::program::Program;

/// Time for a program to end by itself once it is asked to; well within that of the request that asks.
const GRACE: Duration = Duration::from_secs(5);

/// Time a killed program is given to be gone. Only a process stuck in the kernel needs more.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Runs the program and answers with the end of what it printed. The last line says how it ended, unless it
/// succeeded.
pub(crate) async fn run(program: Program, sandbox: &Sandbox, limits: &Limits) -> ToolResult {
    match begin(program, sandbox, limits).await {
        Ok(result) => result,
        Err(error) => ToolResult::error(format!("program: it could not be started: {error}")),
    }
}

async fn begin(program: Program, sandbox: &Sandbox, limits: &Limits) -> io::Result<ToolResult> {
    let mut output = Output::new()?;
    let (stdout, stderr) = (output.sender()?, output.sender()?);
    let mut child = spawn(&program, sandbox, Stdio::null(), stdout, stderr)?;
    let ended = tokio::select! {
        biased;
        exit = ended(&mut child, &mut output) => exit,
        () = limits.over() => None,
    };
    stop(&mut child, &mut output, sandbox).await;
    let mut text = output.take();
    let last_line = match ended {
        Some(Exit::Code(0)) => return Ok(ToolResult::ok(text)),
        Some(Exit::Code(code)) => format!("program: it exited with status {code}"),
        Some(Exit::Signal(signal)) => format!("program: it was killed by signal {signal}"),
        None => format!("program: it was ended{}", limits.cancel.why()),
    };
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&last_line);
    Ok(ToolResult::error(text))
}

/// Starts the program in the working directory, as the leader of a session of its own.
pub(super) fn spawn(
    program: &Program,
    sandbox: &Sandbox,
    stdin: Stdio,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> io::Result<Child> {
    let Some((name, arguments)) = program.argv.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut command = Command::new(name);
    sandbox.environment.apply(&mut command);
    command
        .args(arguments)
        .envs(&program.env)
        .current_dir(sandbox.confinement.workdir())
        .stdin(stdin)
        .stdout(Stdio::from(stdout))
        .stderr(Stdio::from(stderr));
    let child = sandbox.children.spawn(command)?;
    if let Some(max) = sandbox.max_processes {
        // As for the shells: the hand must be able to start a thread when a program has taken all there is.
        let limit = Rlimit { current: Some(max), maximum: Some(max) };
        prlimit(Some(child.pid), Resource::Nproc, limit)?;
    }
    Ok(child)
}

/// Sees to it that nothing is left of a program, and takes in its last words. One that runs is asked to end first.
pub(super) async fn stop(child: &mut Child, output: &mut Output, sandbox: &Sandbox) {
    if child.exit.borrow().is_none() {
        sandbox.children.end_group(child.pid);
        if timeout(GRACE, ended(child, output)).await.is_err() {
            sandbox.children.kill_group(child.pid);
        }
    }
    // What it started and left behind in its session has no purpose without it.
    let pid = child.pid;
    drop(tokio::task::spawn_blocking(move || procfs::kill_session(pid)).await);
    drop(timeout(KILL_GRACE, ended(child, output)).await);
    output.settle();
}

/// Takes in what the program prints until it has ended.
pub(super) async fn ended(child: &mut Child, output: &mut Output) -> Option<Exit> {
    loop {
        tokio::select! {
            biased;
            exit = child.exit.wait_for(Option::is_some) => {
                // Without the owner of all children the hand is coming to its end.
                return Some(exit.ok().and_then(|exit| *exit).unwrap_or(Exit::Signal(0)));
            }
            () = output.fill() => {}
        }
    }
}
