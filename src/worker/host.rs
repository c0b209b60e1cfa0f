//! A command that serves sessions on this host.
//!
//! It gets the whole item on standard input, is the leader of a process group of its own, and is ended with that group:
//! asked first, then killed. A process of ours that dies leaves it behind; whoever comes after us sees that the lease is
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
use tokio::time::timeout;

use super::Command;
use crate::hand::Output;

/// Time for a command to end once it is asked to, before it is killed: that of the official pollers.
const GRACE: Duration = Duration::from_secs(30);

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
    async fn run(&self, item: &WorkItem) -> ToolResult {
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
        let mut told = false;
        let status = loop {
            tokio::select! {
                biased;
                status = child.wait() => break status,
                () = &mut telling, if !told => told = true,
                () = output.fill() => {}
            }
        };
        // What it has left in its group goes on only as long as somebody waits for it.
        drop(group);
        output.settle();
        let mut text = output.take();
        let last_line = match status {
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

/// A process group, by its leader, which is ended when this is dropped before the leader has.
#[derive(Debug)]
struct Group(Option<Child>);

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut leader) = self.0.take() else { return };
        // None if it has been waited for, and its number may be another's.
        let pid = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { return };
        let _ = kill_process_group(pid, Signal::TERM);
        let ending = async move {
            if timeout(GRACE, leader.wait()).await.is_err() {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = leader.wait().await;
            }
        };
        // Without a runtime the process is ending, and the leader is killed as it is dropped.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(ending);
        }
    }
}
