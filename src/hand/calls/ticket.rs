//! One call on its way: the right to begin, the running, the result.
//!
//! ```text
//! Ticket ──begin──► Running ──finish──► the journal, and everyone who waits
//!    └─ dropped: refused   └─ dropped: its fate is unknown
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuda_actors::ids::CallId;
use remuda_actors::tool::ToolResult;
use tokio::sync::watch;

use super::{Calls, Live, State, lost, raw};
use crate::hand::journal::Stored;
use crate::hand::lane::Sandbox;
use crate::hand::tools::FileTool;
use crate::hand::tools::limits::Limits;
use crate::hand::wire::{Error, ErrorCode};

/// How long after its end a file tool that does not look at its limits, stuck in the kernel, is waited for.
const STUCK_GRACE: Duration = Duration::from_secs(2);

/// The right to begin a call, unless it is cancelled first. Dropping it unused refuses the call.
#[derive(Debug)]
pub(crate) struct Ticket {
    calls: Calls,
    id: CallId,
    limit: Option<Duration>,
    live: Arc<Live>,
}

impl Ticket {
    pub(super) fn new(calls: Calls, id: CallId, limit: Option<Duration>, live: Arc<Live>) -> Self {
        Self { calls, id, limit, live }
    }

    /// Tells what becomes of the call.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.live.state.subscribe()
    }

    /// Records that the call runs from now on; none if it must not, which has been told then.
    pub(crate) fn begin(self) -> Option<Running> {
        if self.live.decided.swap(true, Ordering::AcqRel) {
            return None;
        }
        if let Err(error) = self.calls.0.journal.start(&self.id, self.live.digest) {
            let message =
                format!("the call was not started, because the journal could not be written: {error}");
            self.live.state.send_replace(State::Refused(Error::new(ErrorCode::JournalFull, message)));
            return None;
        }
        self.live.state.send_replace(State::Running);
        let limits = Limits::start(self.live.cancel.clone(), self.limit);
        Some(Running { ticket: Mutex::new(Some(self)), limits, started: Instant::now() })
    }

    fn finish(&self, stored: Stored) {
        self.calls.0.journal.finish(&self.id, Some(self.live.digest), stored.clone());
        self.live.state.send_replace(State::Finished(stored));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.live.state.send_if_modified(|state| {
            let unsettled = matches!(state, State::Queued | State::Running);
            if unsettled {
                *state = State::Refused(lost());
            }
            unsettled
        });
        // A cancelled call has left the table, and its id never comes back to it.
        self.calls.0.table.lock().remove(&self.id);
    }
}

/// A call that has begun. Dropping it unfinished leaves its fate unknown, as it is then.
#[derive(Debug)]
pub(crate) struct Running {
    ticket: Mutex<Option<Ticket>>,
    limits: Limits,
    started: Instant,
}

impl Running {
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Records the result and tells everyone who waits for it. Only the first result counts.
    pub(crate) fn finish(&self, result: ToolResult) {
        if let Some(ticket) = self.ticket.lock().take() {
            let run_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            ticket.finish(Stored { result: raw(&result), run_us });
        }
    }
}

/// Runs a file tool on a thread that may block, but not for longer than its limit says.
pub(crate) async fn run_blocking(running: Arc<Running>, tool: Box<FileTool>, sandbox: &Arc<Sandbox>) {
    let name = tool.name();
    let (worker, sandbox) = (Arc::clone(&running), Arc::clone(sandbox));
    let work = tokio::task::spawn_blocking(move || {
        worker.finish(tool.run(&sandbox.confinement, &worker.limits));
    });
    let stuck = async {
        running.limits.over().await;
        tokio::time::sleep(STUCK_GRACE).await;
    };
    tokio::select! {
        done = work => if done.is_err() {
            running.finish(ToolResult::error(format!("{name}: the tool broke down; this is a defect of the hand")));
        },
        () = stuck => running.finish(ToolResult::error(format!(
            "{name}: its time is up or it was cancelled, but it cannot be stopped; whether it still takes \
             effect is not known"
        ))),
    }
}
