//! Every call the hand knows of, from the request for it to its answer.
//!
//! ```text
//! POST ─► known? ─ no ─► queued ──begin──► running ──finish──► finished ─► everyone who waits
//!           │              │  (journaled)     │   (journaled)
//!           │              └──── DELETE ──────┴──► cancelled, which is an answer too
//!           ├─ queued or running: attach and wait
//!           └─ in the journal: answer from it, nothing runs
//! ```
//!
//! # Invariants
//! - A call belongs to itself, not to the request that brought it: it goes on when the connection breaks.
//! - A call leaves the table of live ones only after the journal has its result, so a look at the table
//!   first and the journal second never misses it.
//! - At most [`MAX_LIVE_CALLS`] are live, with [`MAX_LIVE_BYTES`] of arguments together.

mod fingerprint;
mod ticket;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use remuda_actors::ids::CallId;
use remuda_actors::tool::ToolResult;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, watch};

use self::fingerprint::digest;
pub(crate) use self::ticket::{Ticket, run_blocking};
use super::custom;
use super::journal::{Journal, Known, Stored};
use super::lane::{Lanes, Sandbox};
use super::program;
use super::tools::Tool;
use super::tools::limits::{Cancel, Why};
use super::wire::{CallReply, CallRequest, CallStatus, Error, ErrorCode, MAX_LIVE_CALLS, Origin};

/// Bytes of arguments of all live calls together: two of the largest bodies.
pub(crate) const MAX_LIVE_BYTES: usize = 64 << 20;

/// Reading tools that run at once. Each can hold a file of 20 MiB and its base64.
const MAX_READERS: usize = 4;

/// Why the answer of an earlier call cannot be had; its text is the answer instead.
const UNKNOWN: &str = "this call was running when the sandbox's hand died, and nobody knows how far it came; \
                       it was not run again. Look at what it may have changed before repeating it";
const ENDED: &str = "this call was made before and its result is no longer kept; it was not run again";
const CANCELLED: &str = "the call was cancelled before it started";

/// See the module's documentation. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Calls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    journal: Journal,
    sandbox: Arc<Sandbox>,
    lanes: Lanes,
    readers: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    live: HashMap<CallId, Arc<Live>>,
    live_bytes: usize,
    /// Calls there have been, to tell the older from the younger.
    count: u64,
    closed: bool,
}

/// A call that is queued or running.
#[derive(Debug)]
struct Live {
    number: u64,
    digest: u64,
    bytes: usize,
    /// Set by whoever decides first: the call begins, or is cancelled before it could.
    decided: AtomicBool,
    cancel: Cancel,
    state: watch::Sender<State>,
}

#[derive(Clone, Debug)]
enum State {
    Queued,
    Running,
    Finished(Stored),
    /// It was not run, and may be asked for again.
    Refused(Error),
}

impl Table {
    fn remove(&mut self, id: &CallId) {
        if let Some(live) = self.live.remove(id) {
            self.live_bytes -= live.bytes;
        }
    }
}

/// How a request meets its call.
enum Met {
    Live(watch::Receiver<State>),
    Before(Known),
    New(Ticket),
}

impl Calls {
    pub(crate) fn new(journal: Journal, sandbox: Arc<Sandbox>) -> Self {
        let lanes = Lanes::new(Arc::clone(&sandbox));
        let readers = Arc::new(Semaphore::new(MAX_READERS));
        Self(Arc::new(Shared { journal, sandbox, lanes, readers, table: Mutex::default() }))
    }

    /// Runs a call of which the body had `bytes`, or finds out what became of it, and waits for its answer.
    ///
    /// # Cancel safety
    /// Dropping it stops the waiting alone.
    pub(crate) async fn post(
        &self,
        id: &CallId,
        request: CallRequest,
        bytes: usize,
    ) -> Result<CallReply<Arc<RawValue>>, Error> {
        let digest = digest(&request);
        let (state, origin) = match self.meet(id, digest, bytes, &request)? {
            Met::Live(state) => (state, Origin::Attached),
            Met::Before(known) => return self.journaled(id, known, digest).await,
            Met::New(ticket) => {
                let state = ticket.state();
                self.dispatch(ticket, request)?;
                (state, Origin::Ran)
            }
        };
        match settled(state).await {
            State::Finished(Stored { result, run_us }) => Ok(CallReply { origin, result, run_us }),
            State::Refused(error) => Err(error),
            State::Queued | State::Running => Err(lost()),
        }
    }

    /// What is known of a call; none if nothing is.
    pub(crate) async fn status(&self, id: &CallId) -> Option<CallStatus<Arc<RawValue>>> {
        let live = self.0.table.lock().live.get(id).map(|live| live.state.borrow().clone());
        match live {
            Some(State::Queued) => Some(CallStatus::Queued),
            Some(State::Refused(_)) => None,
            Some(State::Running) => Some(CallStatus::Running),
            Some(State::Finished(Stored { result, run_us })) => Some(CallStatus::Finished { result, run_us }),
            None => match self.0.journal.look_up(id)? {
                Known::Unknown { .. } | Known::Started { .. } => Some(CallStatus::Unknown),
                Known::Finished { .. } => Some(match self.load(id).await {
                    Ok(Stored { result, run_us }) => CallStatus::Finished { result, run_us },
                    Err(_) => CallStatus::Unknown,
                }),
                Known::Ended => {
                    Some(CallStatus::Finished { result: raw(&ToolResult::error(ENDED)), run_us: 0 })
                }
            },
        }
    }

    /// Cancels a call and waits until it has ended. One that has not come yet will not run when it does.
    pub(crate) async fn cancel(
        &self,
        id: &CallId,
        reason: Option<String>,
    ) -> Result<CallStatus<Arc<RawValue>>, Error> {
        while let Some(state) = self.stop(id, reason.clone())? {
            if !matches!(settled(state).await, State::Refused(_)) {
                break;
            }
            // It was not run after all, so it is forbidden as soon as it is off the table.
            tokio::task::yield_now().await;
        }
        Ok(self.status(id).await.unwrap_or(CallStatus::Unknown))
    }

    /// Tells a live call to end, or forbids one that has not begun or is not known.
    fn stop(&self, id: &CallId, reason: Option<String>) -> Result<Option<watch::Receiver<State>>, Error> {
        let mut table = self.0.table.lock();
        let text = format!("{CANCELLED}{}", Why(reason.clone()));
        let cancelled = Stored { result: raw(&ToolResult::error(text)), run_us: 0 };
        if let Some(live) = table.live.get(id).cloned() {
            live.cancel.cancel(reason);
            if !live.decided.swap(true, Ordering::AcqRel) {
                // It need not wait for its turn to be told that it has none. Its ticket is worth nothing now.
                self.0.journal.finish(id, Some(live.digest), cancelled.clone());
                table.remove(id);
                live.state.send_replace(State::Finished(cancelled));
            }
            return Ok(Some(live.state.subscribe()));
        }
        if self.0.journal.look_up(id).is_none() {
            let forbidden = self.0.journal.forbid(id, cancelled);
            forbidden.map_err(|error| Error::new(ErrorCode::JournalFull, error.to_string()))?;
        }
        Ok(None)
    }

    /// The live calls, oldest first.
    pub(crate) fn live(&self) -> Vec<CallId> {
        let table = self.0.table.lock();
        let mut live: Vec<_> = table.live.iter().map(|(id, live)| (live.number, id.clone())).collect();
        live.sort_unstable();
        live.into_iter().map(|(_, id)| id).collect()
    }

    /// The threads' shells.
    pub(crate) fn lanes(&self) -> &Lanes {
        &self.0.lanes
    }

    /// The sandbox the calls work in.
    pub(crate) fn sandbox(&self) -> &Arc<Sandbox> {
        &self.0.sandbox
    }

    /// Takes no more calls, cancels those that are live, and waits until they have ended.
    pub(crate) async fn close(&self) {
        self.0.table.lock().closed = true;
        let stopped: Vec<_> =
            self.live().iter().filter_map(|id| self.stop(id, None).ok().flatten()).collect();
        for state in stopped {
            settled(state).await;
        }
        self.0.lanes.close();
    }

    /// Looks whether a call is known, and makes it a live one if it is not.
    fn meet(&self, id: &CallId, digest: u64, bytes: usize, request: &CallRequest) -> Result<Met, Error> {
        let mut table = self.0.table.lock();
        if let Some(live) = table.live.get(id) {
            same(id, Some(live.digest), digest)?;
            return Ok(Met::Live(live.state.subscribe()));
        }
        match self.0.journal.look_up(id) {
            None => {}
            Some(Known::Unknown { digest: recorded }) if request.again && recorded == digest => {}
            Some(known) => return Ok(Met::Before(known)),
        }
        let busy = |message: String| Err(Error::new(ErrorCode::Busy, message));
        if table.closed {
            return busy("the hand is shutting down".to_owned());
        }
        if table.live.len() >= MAX_LIVE_CALLS {
            return busy(format!(
                "{MAX_LIVE_CALLS} calls are queued or running already; wait for one to end"
            ));
        }
        if table.live_bytes + bytes > MAX_LIVE_BYTES {
            return busy(format!("the arguments of all live calls may have {MAX_LIVE_BYTES} bytes together"));
        }
        table.count += 1;
        table.live_bytes += bytes;
        let live = Arc::new(Live {
            number: table.count,
            digest,
            bytes,
            decided: AtomicBool::new(false),
            cancel: Cancel::default(),
            state: watch::Sender::new(State::Queued),
        });
        table.live.insert(id.clone(), Arc::clone(&live));
        let limit = request.timeout_ms.map(Duration::from_millis);
        Ok(Met::New(Ticket::new(self.clone(), id.clone(), limit, live)))
    }

    /// Sends a call to where it runs.
    fn dispatch(&self, ticket: Ticket, request: CallRequest) -> Result<(), Error> {
        match Tool::parse(&request.tool, request.input) {
            // Wrong arguments are an answer like any other, and go the same way.
            Err(answer) => {
                if let Some(running) = ticket.begin() {
                    running.finish(answer);
                }
            }
            Ok(Tool::File(tool)) if !tool.mutates() => {
                let (readers, sandbox) = (Arc::clone(&self.0.readers), Arc::clone(&self.0.sandbox));
                tokio::spawn(async move {
                    let permit = readers.acquire().await;
                    if let Some(running) = ticket.begin() {
                        run_blocking(Arc::new(running), tool, &sandbox).await;
                    }
                    drop(permit);
                });
            }
            Ok(Tool::Program(program)) => {
                let sandbox = Arc::clone(&self.0.sandbox);
                tokio::spawn(async move {
                    if let Some(running) = ticket.begin() {
                        running.finish(program::run(program, &sandbox, running.limits()).await);
                    }
                });
            }
            Ok(Tool::Custom(custom)) => {
                let sandbox = Arc::clone(&self.0.sandbox);
                tokio::spawn(async move {
                    if let Some(running) = ticket.begin() {
                        running.finish(custom::run(&custom, &sandbox, running.limits()).await);
                    }
                });
            }
            Ok(tool) => {
                let queued = self.0.lanes.queue(request.thread, ticket, tool);
                queued.map_err(|error| Error::new(ErrorCode::Busy, error.to_string()))?;
            }
        }
        Ok(())
    }

    async fn journaled(
        &self,
        id: &CallId,
        known: Known,
        digest: u64,
    ) -> Result<CallReply<Arc<RawValue>>, Error> {
        let answer = |text: String| Stored { result: raw(&ToolResult::error(text)), run_us: 0 };
        let unreadable = |why: String| {
            answer(format!(
                "this call was made before, but the record of it is damaged ({why}); it was not run again"
            ))
        };
        let stored = match known {
            Known::Finished { digest: recorded } => {
                same(id, recorded, digest)?;
                self.load(id).await.unwrap_or_else(unreadable)
            }
            // Only a defect leaves a call started that is not live.
            Known::Unknown { digest: recorded } | Known::Started { digest: recorded } => {
                same(id, Some(recorded), digest)?;
                answer(UNKNOWN.to_owned())
            }
            Known::Ended => answer(ENDED.to_owned()),
        };
        Ok(CallReply { origin: Origin::Journal, result: stored.result, run_us: stored.run_us })
    }

    async fn load(&self, id: &CallId) -> Result<Stored, String> {
        let (shared, id) = (Arc::clone(&self.0), id.clone());
        let loaded = tokio::task::spawn_blocking(move || shared.journal.load(&id)).await;
        loaded.unwrap_or_else(|error| Err(error.to_string()))
    }
}

/// Waits until a call is neither queued nor running.
async fn settled(mut state: watch::Receiver<State>) -> State {
    let settled = state.wait_for(|state| !matches!(state, State::Queued | State::Running)).await;
    settled.map_or_else(|_| State::Refused(lost()), |state| state.clone())
}

/// A call whose task is gone: a defect, but one that must not leave anybody waiting.
fn lost() -> Error {
    Error::new(ErrorCode::Internal, "the call was lost inside the hand; this is a defect of the hand")
}

fn same(id: &CallId, recorded: Option<u64>, asked: u64) -> Result<(), Error> {
    match recorded {
        Some(recorded) if recorded != asked => {
            let message = format!("the call {id} was made before with another tool, input or thread");
            Err(Error::new(ErrorCode::CallMismatch, message))
        }
        _ => Ok(()),
    }
}

/// A result as the JSON that is kept and sent.
fn raw(result: &ToolResult) -> Arc<RawValue> {
    match serde_json::value::to_raw_value(result) {
        Ok(raw) => raw.into(),
        // Texts and numbers can always be written; `null` would be an answer nobody understands.
        Err(_) => Arc::from(RawValue::NULL.to_owned()),
    }
}
