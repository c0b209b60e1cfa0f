//! A command that serves sessions on this host.
//!
//! It gets the whole item on standard input, is the leader of a process group of its own, and is ended with that group:
//! asked first, then killed. What it leaves behind in that group when it ends by itself is its own affair. A process of ours that dies leaves it behind; whoever comes after us sees that the lease is
//! held, and waits.

use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use remuda_actors::ports::{Errand, WorkItem};
use remuda_actors::secret::Secret;
use remuda_actors::tool::ToolResult;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::Command;
use crate::hand::Output;

/// Time for a command to end once it is asked to, before it is killed. Nearly the 30 s of the official pollers, so that
/// it is over when those who wait for it lose their patience.
const GRACE: Duration = Duration::from_secs(25);

/// Longer than any command is waited for: what its end is timed by before it is told to.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A command that serves sessions on this host.
#[derive(Debug)]
pub struct HostCommand(Command);

impl HostCommand {
    /// One that is such a worker.
    pub fn new(command: Command) -> Self {
        Self(command)
    }

    fn start(&self, item: &WorkItem, output: &Output) -> Result<Group, String> {
        let variables = self.0.variables(item).map_err(|fault| fault.to_string())?;
        let (name, arguments) = self.0.argv().split_first().ok_or("there is no program to start")?;
        let failed = |error: std::io::Error| format!("could not start {name}: {error}");
        let mut command = tokio::process::Command::new(name);
        for (own, _) in std::env::vars_os() {
            if own.as_encoded_bytes().get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"ANTHROPIC_"))
            {
                command.env_remove(own);
            }
        }
        command
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, Secret::expose(value))))
            .stdin(Stdio::piped())
            .stdout(Stdio::from(output.sender().map_err(failed)?))
            .stderr(Stdio::from(output.sender().map_err(failed)?))
            .process_group(0)
            .kill_on_drop(true);
        Ok(Group(Some(command.spawn().map_err(failed)?)))
    }
}

#[async_trait]
impl Errand for HostCommand {
    async fn run(&self, item: &WorkItem, mut cut: oneshot::Receiver<()>) -> ToolResult {
        let mut output = match Output::new() {
            Ok(output) => output,
            Err(error) => return ToolResult::error(format!("could not make a pipe: {error}")),
        };
        let mut group = match self.start(item, &output) {
            Ok(group) => group,
            Err(problem) => return ToolResult::error(problem),
        };
        let Some(child) = &mut group.0 else { return ToolResult::error("the command is gone") };
        let (stdin, text) = (child.stdin.take(), self.0.describe(item).to_string());
        let mut telling = std::pin::pin!(async move {
            if let Some(mut stdin) = stdin {
                // One that does not want to know is no failure.
                let _ = stdin.write_all(text.as_bytes()).await;
            }
        });
        let (mut told, mut is_cut) = (false, false);
        let mut over = std::pin::pin!(sleep(NEVER));
        let leader = child.id();
        let status = loop {
            tokio::select! {
                biased;
                status = child.wait() => break status,
                _ = &mut cut, if !is_cut => {
                    is_cut = true;
                    signal(leader, Signal::TERM);
                    over.as_mut().reset(Instant::now() + GRACE);
                }
                () = &mut over, if is_cut => {
                    signal(leader, Signal::KILL);
                    over.as_mut().reset(Instant::now() + NEVER);
                }
                () = &mut telling, if !told => told = true,
                () = output.fill() => {}
            }
        };
        output.settle();
        let mut text = output.take();
        let last_line = match status {
            _ if is_cut => "it was told to end, and did".to_owned(),
            Ok(status) if status.success() => return ToolResult::ok(text),
            Ok(status) => format!("it ended with {status}"),
            Err(error) => format!("nobody knows how it ended: {error}"),
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&last_line);
        ToolResult::error(text)
    }
}

/// Sends a signal to the group of a leader that has not been waited for.
fn signal(leader: Option<u32>, signal: Signal) {
    if let Some(leader) = leader.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        // It may be dead; then there is nobody to tell, which is what is wanted.
        let _ = kill_process_group(leader, signal);
    }
}

/// A process group, by its leader, which is ended when this is dropped before the leader has.
#[derive(Debug)]
struct Group(Option<Child>);

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut leader) = self.0.take() else { return };
        // None if it has been waited for, and its number may be another's.
        let Some(pid) = leader.id() else { return };
        signal(Some(pid), Signal::TERM);
        let ending = async move {
            if timeout(GRACE, leader.wait()).await.is_err() {
                signal(Some(pid), Signal::KILL);
                let _ = leader.wait().await;
            }
        };
        // Without a runtime the process is ending, and the leader is killed as it is dropped.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(ending);
        }
    }
}
