//! One bash process, for as long as it lives.
//!
//! ```text
//! spawn ──► idle ──run──► a command ──status told──► idle
//!             │               ├─ the shell ended ──────────────► gone
//!             │               ├─ time is up, cancelled, no end ─► kill ─► gone
//!             └─ the shell ended (a job killed it) ─────────────► gone
//! ```
//!
//! # Invariants
//! - The shell leads a session and process group of its own, so that [`Shell::kill`] finds everything it
//!   started, whatever became of the parents, unless it made itself a session of its own.
//! - One command at a time; the caller keeps the order.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::framing::Frame;
use super::output::Output;
use crate::hand::children::{Children, Exit};
use crate::hand::environment::Environment;
use crate::hand::procfs::{self, Jobs};
use crate::hand::tools::limits::Limits;

/// The shell, by its absolute path: the agent can write to folders on its search path.
const BASH: &str = "/bin/bash";

/// How often a long command is looked at, to see whether it can still end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks in a row that must find the script read to its end without an answer before the command counts as
/// having no end. Between reading the last byte and answering, a shell needs microseconds.
const LOOKS: u32 = 4;

/// Time a killed shell is given to be gone. Only a process stuck in the kernel needs more.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A running shell.
#[derive(Debug)]
pub(crate) struct Shell {
    children: Arc<Children>,
    pid: Pid,
    exit: watch::Receiver<Option<Exit>>,
    /// Our end of its standard input, through which it also answers.
    control: UnixStream,
    /// Its own end, kept to see how much of the script it has not read yet.
    far_end: Socket,
    /// What was there when the last command began.
    jobs: Jobs,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this status; the shell is ready for the next one.
    Status(i32),
    /// The shell itself ended.
    Exited(Exit),
    /// Its time was up.
    TimedOut(Duration),
    /// Somebody cancelled it.
    Cancelled,
    /// The shell took the line that tells the end for a part of the command.
    Endless,
}

impl Shell {
    /// Starts a shell in `workdir` whose commands see only `environment` and print to `output`.
    pub(crate) fn spawn(
        children: &Arc<Children>,
        workdir: &Path,
        environment: &Environment,
        max_processes: Option<u64>,
        output: &Output,
    ) -> io::Result<Self> {
        let (near_end, far_end) = Socket::pair()?;
        near_end.set_nonblocking(true)?;
        let mut command = Command::new(BASH);
        environment.apply(&mut command);
        command
            .args(["--noprofile", "--norc"])
            .current_dir(workdir)
            .env("PS1", "")
            .env("PS2", "")
            .env("TERM", "dumb")
            .stdin(Stdio::from(OwnedFd::from(far_end.try_clone()?)))
            .stdout(Stdio::from(output.sender()?))
            .stderr(Stdio::from(output.sender()?));
        let child = children.spawn(command)?;
        if let Some(max) = max_processes {
            // Before it is given anything to do, and on it alone: the hand must be able to start a thread
            // when what the agent started has taken all there is.
            let limit = Rlimit { current: Some(max), maximum: Some(max) };
            prlimit(Some(child.pid), Resource::Nproc, limit)?;
        }
        Ok(Self {
            children: Arc::clone(children),
            pid: child.pid,
            exit: child.exit,
            control: UnixStream::from_std(near_end)?,
            far_end,
            jobs: Jobs::of(child.pid),
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until the shell has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub(crate) async fn exited(&mut self) -> Exit {
        exited(&mut self.exit).await
    }

    /// How the shell ended, if it has.
    pub(crate) fn ended(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Runs `command` to its end, taking in what it prints.
    ///
    /// Unless the answer is [`Ended::Status`] the shell is of no further use.
    ///
    /// # Cancel safety
    /// None: the shell would still be busy. Cancel through `limits`.
    pub(crate) async fn run(&mut self, command: &str, output: &mut Output, limits: &Limits) -> Ended {
        let frame = Frame::new(command);
        self.jobs = Jobs::of(self.pid);
        let Self { exit, control, far_end, .. } = self;
        let (mut hear, mut say) = control.split();
        let mut writing = pin!(say.write_all(frame.script()));
        let mut written = false;
        let mut heard = Vec::with_capacity(64);
        let mut looks = 0;
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut over = pin!(limits.over());
        let ended = loop {
            tokio::select! {
                // The output comes last, so that a flood of it holds up nothing else.
                biased;
                () = &mut over => break match limits.time {
                    Some((limit, _)) if !limits.cancel.is_cancelled() => Ended::TimedOut(limit),
                    _ => Ended::Cancelled,
                },
                count = hear.read_buf(&mut heard) => {
                    if let Some(status) = frame.status(&heard) {
                        break Ended::Status(status);
                    }
                    if count.unwrap_or(0) == 0 || heard.len() > 4096 {
                        // Only a command that writes to the shell's own socket gets here.
                        heard.clear();
                        sleep(Duration::from_millis(10)).await;
                    }
                }
                exit = exited(exit) => {
                    // The last thing it did may have been to tell the end of the command.
                    while hear.try_read_buf(&mut heard).is_ok_and(|count| count > 0) {}
                    break match frame.status(&heard) {
                        Some(status) => Ended::Status(status),
                        None => Ended::Exited(exit),
                    };
                }
                _ = &mut writing, if !written => written = true,
                _ = look.tick(), if written => {
                    let unread = ioctl_fionread(&*far_end).unwrap_or(1);
                    looks = if unread == 0 { looks + 1 } else { 0 };
                    if looks > LOOKS {
                        break Ended::Endless;
                    }
                }
                () = output.fill() => {}
            }
        };
        output.settle();
        ended
    }

    /// Lets the shell end by itself, as at the end of a script; its jobs go on.
    pub(crate) async fn close(self) {
        let Self { children, pid, mut exit, control, far_end, .. } = self;
        drop((control, far_end));
        if timeout(KILL_GRACE, exited(&mut exit)).await.is_err() {
            children.kill_group(pid);
        }
    }

    /// Kills the shell in the middle of a command, with what that command started and is still in its session;
    /// jobs of earlier commands go on. Returns the folder it was in, if that can be told.
    pub(crate) async fn cut(self) -> Option<PathBuf> {
        let Self { children, pid, mut exit, jobs, .. } = self;
        let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).ok();
        // The shell first: it must not go on with the rest of the command.
        children.kill(pid);
        drop(tokio::task::spawn_blocking(move || jobs.spare()).await);
        drop(timeout(KILL_GRACE, exited(&mut exit)).await);
        folder.filter(|folder| folder.is_dir())
    }

    /// Kills the shell and everything it started that is still in its session.
    pub(crate) async fn kill(mut self) {
        self.children.kill_group(self.pid);
        let pid = self.pid;
        // Reading `/proc` may take a while on a busy host. Should it fail, the group is dead all the same.
        drop(tokio::task::spawn_blocking(move || procfs::kill_session(pid)).await);
        drop(timeout(KILL_GRACE, self.exited()).await);
    }
}

async fn exited(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    // Without the owner of all children this process is coming to its end.
    exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Signal(0))
}
