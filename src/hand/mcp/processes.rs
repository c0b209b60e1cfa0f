//! Commands that outlive the call that starts them.
//!
//! ```text
//! start ──► running ──exited──► ended ──pushed out by newer ones──► forgotten
//!              └──stop──► asked to end, killed ──► ended
//! ```
//!
//! Each has a task that reads what it prints and keeps the end of that. While one runs it counts among the jobs that
//! keep the sandbox from being put in standby.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use remuda_actors::tool::ToolResult;
use tokio::sync::{mpsc, oneshot};

use crate::hand::children::{Child, Exit};
use crate::hand::lane::Sandbox;
use crate::hand::program;
use crate::hand::shell::Output;
use crate::hand::tools::program::Program;
use crate::hand::tools::reason;

/// Commands that are known at once; of those that have ended the oldest makes room.
const MAX_PROCESSES: usize = 32;

/// Characters of a command that a list shows.
const SHOWN: usize = 80;

/// The commands of one sandbox.
#[derive(Debug)]
pub(super) struct Processes {
    sandbox: Arc<Sandbox>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    count: u64,
    known: BTreeMap<u64, Process>,
}

#[derive(Debug)]
struct Process {
    command: String,
    begun: Instant,
    state: Arc<Mutex<State>>,
    asks: mpsc::Sender<Ask>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Ended(Exit),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Ended(Exit::Code(code)) => write!(f, "exited with status {code}"),
            Self::Ended(Exit::Signal(signal)) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// What a command's task is asked; it answers with the end of what the command has printed.
#[derive(Debug)]
enum Ask {
    Logs(oneshot::Sender<String>),
    Stop(oneshot::Sender<String>),
}

impl Processes {
    pub(super) fn new(sandbox: Arc<Sandbox>) -> Self {
        Self { sandbox, table: Mutex::default() }
    }

    /// Starts a command.
    pub(super) fn start(&self, command: &str) -> ToolResult {
        let mut table = self.table.lock();
        if table.known.len() >= MAX_PROCESSES {
            let ended = table.known.iter().find(|(_, process)| *process.state.lock() != State::Running);
            let Some(oldest) = ended.map(|(number, _)| *number) else {
                return ToolResult::error(format!(
                    "process_start: {MAX_PROCESSES} commands are running; stop one"
                ));
            };
            table.known.remove(&oldest);
        }
        let program = Program {
            argv: vec!["/bin/bash".to_owned(), "-c".to_owned(), command.to_owned()],
            env: BTreeMap::new(),
        };
        let started = Output::new().and_then(|output| {
            let (stdout, stderr) = (output.sender()?, output.sender()?);
            Ok((program::spawn(&program, &self.sandbox, Stdio::null(), stdout, stderr)?, output))
        });
        let (child, output) = match started {
            Ok(started) => started,
            Err(error) => {
                let why = rustix::io::Errno::from_io_error(&error).map_or(error.to_string().into(), reason);
                return ToolResult::error(format!("process_start: it could not be started: {why}"));
            }
        };
        table.count += 1;
        let number = table.count;
        let (asks, asked) = mpsc::channel(4);
        let state = Arc::new(Mutex::new(State::Running));
        tokio::spawn(keep(child, output, Arc::clone(&state), asked, Arc::clone(&self.sandbox)));
        table
            .known
            .insert(number, Process { command: command.to_owned(), begun: Instant::now(), state, asks });
        ToolResult::ok(format!("started p{number}"))
    }

    /// All commands, one on a line.
    pub(super) fn list(&self) -> ToolResult {
        let table = self.table.lock();
        let line = |(number, process): (&u64, &Process)| {
            let (state, age) = (*process.state.lock(), process.begun.elapsed().as_secs());
            let command: String = process.command.replace('\n', " ").chars().take(SHOWN).collect();
            format!("p{number}  {state}  started {age}s ago  {command}")
        };
        let lines: Vec<_> = table.known.iter().map(line).collect();
        ToolResult::ok(if lines.is_empty() { "no command was started".to_owned() } else { lines.join("\n") })
    }

    /// The end of what a command has printed.
    pub(super) async fn logs(&self, name: &str) -> ToolResult {
        self.ask("process_logs", name, Ask::Logs)
            .await
            .map_or_else(|wrong| wrong, |(_, text)| ToolResult::ok(text))
    }

    /// Ends a command.
    pub(super) async fn stop(&self, name: &str) -> ToolResult {
        match self.ask("process_stop", name, Ask::Stop).await {
            Ok((state, text)) if text.is_empty() => ToolResult::ok(state.to_string()),
            Ok((state, text)) => ToolResult::ok(format!("{text}\n{state}")),
            Err(wrong) => wrong,
        }
    }

    async fn ask(
        &self,
        tool: &str,
        name: &str,
        ask: fn(oneshot::Sender<String>) -> Ask,
    ) -> Result<(State, String), ToolResult> {
        let unknown =
            || ToolResult::error(format!("{tool}: there is no command {name:?}; process_list names them"));
        let number = name.strip_prefix('p').and_then(|number| number.parse().ok()).ok_or_else(unknown)?;
        let (asks, state) = {
            let table = self.table.lock();
            let process = table.known.get(&number).ok_or_else(unknown)?;
            (process.asks.clone(), Arc::clone(&process.state))
        };
        let (reply, answer) = oneshot::channel();
        // Its task goes on for as long as it is known; one that was pushed out just now is not.
        asks.send(ask(reply)).await.map_err(|_| unknown())?;
        let text = answer.await.map_err(|_| unknown())?;
        let state = *state.lock();
        Ok((state, text))
    }
}

/// Reads what a command prints, until nobody can ask for it any more.
async fn keep(
    mut child: Child,
    mut output: Output,
    state: Arc<Mutex<State>>,
    mut asked: mpsc::Receiver<Ask>,
    sandbox: Arc<Sandbox>,
) {
    loop {
        let is_running = *state.lock() == State::Running;
        tokio::select! {
            biased;
            exit = exited(&mut child), if is_running => *state.lock() = State::Ended(exit),
            ask = asked.recv() => match ask {
                Some(Ask::Logs(reply)) => {
                    output.settle();
                    // Whoever asked may have gone.
                    let _ = reply.send(output.text());
                }
                Some(Ask::Stop(reply)) => {
                    program::stop(&mut child, &mut output, &sandbox).await;
                    if let Some(exit) = *child.exit.borrow() {
                        *state.lock() = State::Ended(exit);
                    }
                    let _ = reply.send(output.text());
                }
                None => return,
            },
            () = output.fill() => {}
        }
    }
}

async fn exited(child: &mut Child) -> Exit {
    // Without the owner of all children the hand is coming to its end.
    child.exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or(Exit::Signal(0))
}
