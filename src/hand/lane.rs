//! One session thread: its shell, and the calls that must keep their order.
//!
//! ```text
//!               ┌────────────── inbox, in order of arrival ─────────────┐
//! bash, write, edit of a thread ──► lane ──► one at a time ──► answer   │
//!                                    │                                  │
//!                                    └─ meanwhile, and when idle: takes in what jobs print
//! ```
//!
//! A lane starts its shell with the first command. When the shell is lost (it exited, was killed at a
//! timeout, or had to make room) the next command gets a new one, and its output begins with a line that
//! says so. What an exited shell left running goes on, and prints to the same output.
//!
//! # Not here
//! Calls that change nothing: they run beside the lanes ([`calls`](super::calls)).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuda_actors::ids::ThreadId;
use remuda_actors::tool::ToolResult;
use rustix::process::Pid;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::calls::{Ticket, run_blocking};
use super::children::{Children, Exit};
use super::confine::Confinement;
use super::environment::Environment;
use super::shell::{Ended, Output, Shell};
use super::tools::bash::Bash;
use super::tools::limits::{Limits, Why};
use super::tools::{Tool, reason};
use super::wire::MAX_LIVE_CALLS;

/// Shells alive at once. A session has few threads; past this the one idle longest makes room.
const MAX_SHELLS: usize = 32;

/// Threads that have ever had a call; each keeps a task of a few kilobytes.
const MAX_LANES: usize = 1024;

/// How long a command waits for another thread's shell to make room, and after which part of that it looks
/// again for one that has become idle.
const ROOM_WAIT: Duration = Duration::from_secs(10);
const ROOM_LOOK: Duration = Duration::from_millis(200);

/// What every lane uses.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) children: Arc<Children>,
    pub(crate) confinement: Confinement,
    pub(crate) environment: Environment,
    pub(crate) max_processes: Option<u64>,
}

/// The lanes of all threads. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sandbox: Arc<Sandbox>,
    room: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    inboxes: HashMap<Option<ThreadId>, mpsc::Sender<Message>>,
    /// The shell of each lane that has one.
    shells: HashMap<Option<ThreadId>, Seat>,
}

/// A living shell, as the other lanes see it.
#[derive(Debug)]
struct Seat {
    pid: Pid,
    /// Since when it has had nothing to do; none while it runs a command or has been asked to make room.
    idle_since: Option<Instant>,
}

#[derive(Debug)]
enum Message {
    Call(Ticket, Tool),
    /// Another thread needs room for a shell.
    GiveUpShell,
}

/// Why a call cannot be queued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("calls of {MAX_LANES} session threads have come already, and a sandbox takes no more")]
    TooManyThreads,
    /// Only cancelled calls that have not come to their turn can make it so long.
    #[error("the thread's queue is full; wait for its running call to end")]
    Full,
}

impl Lanes {
    pub(crate) fn new(sandbox: Arc<Sandbox>) -> Self {
        let room = Arc::new(Semaphore::new(MAX_SHELLS));
        Self(Arc::new(Shared { sandbox, room, state: Mutex::default() }))
    }

    /// Queues a call behind those of its thread.
    pub(crate) fn queue(
        &self,
        thread: Option<ThreadId>,
        ticket: Ticket,
        tool: Tool,
    ) -> Result<(), QueueError> {
        let mut state = self.0.state.lock();
        let inbox = match state.inboxes.get(&thread) {
            // A lane ends before it is told to only by a defect; the thread gets another one.
            Some(inbox) if !inbox.is_closed() => inbox.clone(),
            None if state.inboxes.len() >= MAX_LANES => return Err(QueueError::TooManyThreads),
            _ => {
                let (inbox, messages) = mpsc::channel(2 * MAX_LIVE_CALLS);
                let lane = Lane {
                    lanes: self.clone(),
                    thread: thread.clone(),
                    messages,
                    output: None,
                    shell: None,
                    lost: None,
                    folder: None,
                };
                tokio::spawn(lane.work());
                state.inboxes.insert(thread, inbox.clone());
                inbox
            }
        };
        inbox.try_send(Message::Call(ticket, tool)).map_err(|_| QueueError::Full)
    }

    /// The shells, and those of them that are running a command.
    pub(crate) fn shells(&self) -> (Vec<Pid>, Vec<Pid>) {
        let state = self.0.state.lock();
        let busy = state.shells.values().filter(|seat| seat.idle_since.is_none());
        (state.shells.values().map(|seat| seat.pid).collect(), busy.map(|seat| seat.pid).collect())
    }

    /// Ends a thread's lane, and its shell with it, once it has done what is queued.
    pub(crate) fn end(&self, thread: &ThreadId) {
        self.0.state.lock().inboxes.remove(&Some(thread.clone()));
    }

    /// Ends all lanes once they have done what is queued.
    pub(crate) fn close(&self) {
        self.0.state.lock().inboxes.clear();
    }

    /// Waits for room for one more shell, which an idle one may have to make.
    async fn room(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.0.room).try_acquire_owned() {
            return Some(permit);
        }
        let look = async {
            loop {
                self.0.state.lock().ask_longest_idle();
                if let Ok(permit) = timeout(ROOM_LOOK, Arc::clone(&self.0.room).acquire_owned()).await {
                    return permit.ok();
                }
            }
        };
        timeout(ROOM_WAIT, look).await.ok().flatten()
    }

    fn mark(&self, thread: &Option<ThreadId>, idle_since: Option<Instant>) {
        if let Some(seat) = self.0.state.lock().shells.get_mut(thread) {
            seat.idle_since = idle_since;
        }
    }
}

impl State {
    fn ask_longest_idle(&mut self) {
        let idle = self.shells.iter_mut().filter(|(_, seat)| seat.idle_since.is_some());
        if let Some((thread, seat)) = idle.min_by_key(|(_, seat)| seat.idle_since)
            && let Some(inbox) = self.inboxes.get(thread)
        {
            // So that the next one to need room asks somebody else.
            seat.idle_since = None;
            // A full inbox belongs to a shell that is not idle any more.
            drop(inbox.try_send(Message::GiveUpShell));
        }
    }
}

/// Why a thread's shell is not there any more.
#[derive(Clone, Copy, Debug)]
enum Lost {
    /// It ended by itself.
    Exited(Exit),
    /// It was killed in the middle of a command.
    Cut,
    /// It was killed with everything it had started.
    Killed,
    /// It was ended for the sake of another thread's.
    MadeRoom,
}

impl Lost {
    /// First line of the output of the next command.
    fn note(self, folder: Folder) -> String {
        let why = match self {
            Self::Exited(Exit::Code(code)) => format!("the previous one exited with status {code}"),
            Self::Exited(Exit::Signal(signal)) => format!("the previous one was killed by signal {signal}"),
            Self::Cut => "the previous one was killed".to_owned(),
            Self::Killed => "the previous one was killed with everything it had started".to_owned(),
            Self::MadeRoom => "the previous one had been idle and made room for another thread's".to_owned(),
        };
        let lost = match folder {
            Folder::Kept => "variables and functions are lost",
            Folder::Lost => "working directory, variables and functions are lost",
        };
        format!("[this is a new shell: {why}; its {lost}]")
    }
}

/// Whether a new shell begins where the one before it was.
#[derive(Clone, Copy, Debug)]
enum Folder {
    Kept,
    Lost,
}

#[derive(Debug)]
struct Lane {
    lanes: Lanes,
    thread: Option<ThreadId>,
    messages: mpsc::Receiver<Message>,
    /// Open from the first shell on.
    output: Option<Output>,
    shell: Option<(Shell, OwnedSemaphorePermit)>,
    lost: Option<Lost>,
    /// Where the next shell begins, if not in the working directory.
    folder: Option<PathBuf>,
}

impl Lane {
    async fn work(mut self) {
        loop {
            let Self { messages, output, shell, .. } = &mut self;
            tokio::select! {
                message = messages.recv() => match message {
                    Some(Message::Call(ticket, tool)) => self.call(ticket, tool).await,
                    Some(Message::GiveUpShell) => self.lose(Lost::MadeRoom).await,
                    None => break,
                },
                exit = ended(shell) => self.lose(Lost::Exited(exit)).await,
                () = printed(output) => {}
            }
        }
        if let Some((shell, _)) = self.shell.take() {
            shell.kill().await;
        }
    }

    async fn call(&mut self, ticket: Ticket, tool: Tool) {
        let Some(running) = ticket.begin() else { return };
        match tool {
            Tool::File(tool) => run_blocking(Arc::new(running), tool, &self.lanes.0.sandbox).await,
            Tool::Bash(bash) => {
                let result = self.bash(bash, running.limits()).await;
                running.finish(result);
            }
            // It has no thread, and never comes here.
            Tool::Program(_) | Tool::Custom(_) => {
                running.finish(ToolResult::error("program: it belongs to no thread"))
            }
        }
    }

    async fn bash(&mut self, bash: Bash, limits: &Limits) -> ToolResult {
        match bash {
            Bash::Restart => {
                self.lose(Lost::Killed).await;
                // Asked for, so nothing to tell; and what survived has nothing more to say.
                self.lost = None;
                self.output = None;
                ToolResult::ok("bash session restarted")
            }
            Bash::Run { command, limit } => match self.run(&command, limit, limits).await {
                Ok(result) => result,
                Err(problem) => ToolResult::error(format!("bash: {problem}")),
            },
        }
    }

    async fn run(&mut self, command: &str, limit: Duration, limits: &Limits) -> Result<ToolResult, String> {
        let folder = self.ensure_shell().await?;
        let note = self.lost.take().map(|lost| lost.note(folder));
        let (Some((shell, _)), Some(output)) = (&mut self.shell, &mut self.output) else {
            return Err("the shell could not be used".to_owned());
        };
        self.lanes.mark(&self.thread, None);
        let ended = shell.run(command, output, &limits.at_most(limit)).await;
        match ended {
            Ended::Status(_) => self.lanes.mark(&self.thread, Some(Instant::now())),
            Ended::Exited(exit) => self.lose(Lost::Exited(exit)).await,
            Ended::TimedOut(_) | Ended::Cancelled | Ended::Endless => self.lose(Lost::Cut).await,
        }
        // Only now, so that the last words of the killed are in it.
        let mut text = self.output.as_mut().map(Output::take).unwrap_or_default();
        if let Some(note) = note {
            text = if text.is_empty() { note } else { format!("{note}\n{text}") };
        }
        Ok(answer(text, ended, &limits.cancel.why()))
    }

    /// Starts a shell if there is none, in the folder where the last one was cut.
    async fn ensure_shell(&mut self) -> Result<Folder, String> {
        if let Some((shell, _)) = &mut self.shell
            && let Some(exit) = shell.ended()
        {
            self.lose(Lost::Exited(exit)).await;
        }
        if self.shell.is_some() {
            return Ok(Folder::Kept);
        }
        let Some(permit) = self.lanes.room().await else {
            return Err(format!("all {MAX_SHELLS} shells of this sandbox are busy; try again later"));
        };
        let sandbox = &self.lanes.0.sandbox;
        let workdir = sandbox.confinement.workdir();
        let failed = |error: std::io::Error| {
            let why = rustix::io::Errno::from_io_error(&error).map_or(error.to_string().into(), reason);
            format!("/bin/bash could not be started in {}: {why}", workdir.display())
        };
        if self.output.is_none() {
            self.output = Some(Output::new().map_err(failed)?);
        }
        let Some(output) = &self.output else { return Ok(Folder::Lost) };
        let kept = self.folder.take();
        let begin = |folder: &Path| {
            Shell::spawn(&sandbox.children, folder, &sandbox.environment, sandbox.max_processes, output)
        };
        // It may have become a folder that cannot be entered.
        let there = kept.and_then(|folder| begin(&folder).ok());
        let (shell, folder) = match there {
            Some(shell) => (shell, Folder::Kept),
            None => (begin(workdir).map_err(failed)?, Folder::Lost),
        };
        let seat = Seat { pid: shell.pid(), idle_since: None };
        self.lanes.0.state.lock().shells.insert(self.thread.clone(), seat);
        self.shell = Some((shell, permit));
        Ok(folder)
    }

    /// Lets go of the shell. Jobs of earlier commands end with it only when it is killed with everything: nobody
    /// asked for their end else.
    async fn lose(&mut self, lost: Lost) {
        let Some((shell, permit)) = self.shell.take() else { return };
        match lost {
            Lost::Exited(_) => drop(shell),
            Lost::Cut => self.folder = shell.cut().await,
            Lost::Killed => shell.kill().await,
            Lost::MadeRoom => shell.close().await,
        }
        self.lanes.0.state.lock().shells.remove(&self.thread);
        drop(permit);
        self.lost = Some(lost);
        if let Some(output) = &mut self.output {
            output.settle();
        }
    }
}

async fn ended(shell: &mut Option<(Shell, OwnedSemaphorePermit)>) -> Exit {
    match shell {
        Some((shell, _)) => shell.exited().await,
        None => std::future::pending().await,
    }
}

async fn printed(output: &mut Option<Output>) {
    match output {
        Some(output) => output.fill().await,
        None => std::future::pending().await,
    }
}

/// What becomes of a shell whose command is cut.
const CUT: &str = "the shell and what this call had started were killed, jobs of earlier calls were not";

/// The answer to a command that printed `text`.
fn answer(mut text: String, ended: Ended, why: &Why) -> ToolResult {
    let last_line = match ended {
        Ended::Status(0) => return ToolResult::ok(text),
        // The output is all the agent gets; a status is not told, as in the official toolset.
        Ended::Status(_) | Ended::Exited(Exit::Code(_)) => return ToolResult::error(text),
        Ended::Exited(Exit::Signal(signal)) => format!("bash: the shell was killed by signal {signal}"),
        Ended::TimedOut(limit) => {
            let seconds = limit.as_secs_f64();
            format!("bash: bash command timed out after {seconds:?}s; {CUT}")
        }
        Ended::Cancelled => {
            format!("bash: the call was cancelled{why}; {CUT}")
        }
        Ended::Endless => format!(
            "bash: the command has no end: a quote, here-document or block in it is not closed, or it read the \
             shell's own input; {CUT}"
        ),
    };
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&last_line);
    ToolResult::error(text)
}
