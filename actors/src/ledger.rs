//! What must outlive an actor: the work items we hold, their leases, sandboxes and open calls.
//!
//! An actor that fails never hands its state on, so what its successor needs is kept here, outside all
//! actors. Each entry is written by the actors of one session alone and may be read by anyone.
//!
//! # Invariants
//! - A work item has an entry from before its acknowledgement until nothing of it is ours any more.
//! - The entry holds the item's admission slot, so that a restart neither leaks one nor counts twice.
//! - A call that is in the hands of a sandbox has a record here, and one in the journal before that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use ractor::ActorCell;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::ids::{CallId, SandboxId, WorkId};
use crate::ports::{HeartbeatToken, Record, Replayed, WorkItem};
use crate::session::end::End;
use crate::session::machine::{Inheritance, InheritedLease};
use crate::session::run::Prior;
use crate::tool::ToolResult;

/// All work items we hold.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: DashMap<WorkId, Arc<Entry>>,
}

/// One work item we hold.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) item: WorkItem,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    slot: Option<OwnedSemaphorePermit>,
    /// The actors of the current incarnation.
    cells: Vec<ActorCell>,
    lease: Option<LeaseMemory>,
    sandbox: Option<(u32, SandboxId)>,
    calls: BTreeMap<CallId, CallMemory>,
    view: View,
    end: Option<End>,
}

#[derive(Clone, Debug)]
struct LeaseMemory {
    token: Option<HeartbeatToken>,
    ttl: Duration,
    expires: Instant,
}

#[derive(Clone, Debug)]
struct CallMemory {
    sandbox: SandboxId,
    result: Option<Arc<ToolResult>>,
}

/// What people see of a work item.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) since: Instant,
    pub(crate) session: &'static str,
    pub(crate) lease: &'static str,
    pub(crate) sandbox: &'static str,
    pub(crate) calls: u64,
    pub(crate) restarts: u32,
}

impl Default for View {
    fn default() -> Self {
        let (session, lease, sandbox) = ("claiming", "acking", "absent");
        Self { since: Instant::now(), session, lease, sandbox, calls: 0, restarts: 0 }
    }
}

impl Ledger {
    /// Makes an entry for a polled item, which takes the slot. None if we hold the item already.
    pub(crate) fn admit(&self, item: WorkItem, slot: Option<OwnedSemaphorePermit>) -> Option<Arc<Entry>> {
        match self.entries.entry(item.id.clone()) {
            Place::Occupied(_) => None,
            Place::Vacant(place) => {
                let memory = Mutex::new(Memory { slot, ..Memory::default() });
                let entry = Arc::new(Entry { item, memory });
                place.insert(Arc::clone(&entry));
                Some(entry)
            }
        }
    }

    /// The entry of a work item.
    pub(crate) fn get(&self, work: &WorkId) -> Option<Arc<Entry>> {
        self.entries.get(work).map(|entry| Arc::clone(&entry))
    }

    /// Forgets a work item and frees its slot.
    pub(crate) fn remove(&self, work: &WorkId) {
        if let Some((_, entry)) = self.entries.remove(work) {
            drop(entry.memory().slot.take());
        }
    }

    /// All entries, in the order of their work ids.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<_> = self.entries.iter().map(|entry| Arc::clone(&entry)).collect();
        all.sort_by(|a, b| a.item.id.cmp(&b.item.id));
        all
    }

    /// Makes the entries that the journal of an earlier process tells of; the slots are taken by the caller.
    pub(crate) fn restore(&self, replayed: Vec<Replayed>, now: Instant) -> Vec<Arc<Entry>> {
        let mut restored = Vec::new();
        for Replayed { work, age, record } in replayed {
            if let Record::Claimed { item } = &record {
                restored.extend(self.admit(item.clone(), None));
            }
            if let Some(entry) = self.get(&work) {
                entry.replay(record, now.checked_sub(age).unwrap_or(now));
            }
        }
        restored
    }
}

impl Entry {
    /// What a new incarnation of the session must know.
    pub(crate) fn inheritance(&self, now: Instant) -> Inheritance {
        let memory = self.memory();
        let lease = memory.lease.clone().map(|LeaseMemory { token, ttl, expires }| InheritedLease {
            token,
            ttl,
            left: expires.saturating_duration_since(now),
        });
        let calls = memory.calls.iter().map(|(call, memory)| {
            let prior = memory.result.clone().map_or(Prior::Started, Prior::Finished);
            (call.clone(), prior)
        });
        Inheritance { lease, calls: calls.collect(), end: memory.end.clone() }
    }

    /// The lease was acknowledged or extended at `at`.
    pub(crate) fn keep_lease(&self, token: Option<HeartbeatToken>, ttl: Duration, at: Instant) {
        self.memory().lease = Some(LeaseMemory { token, ttl, expires: at + ttl });
    }

    /// Whether the lease may still be ours at `now`.
    pub(crate) fn holds_lease(&self, now: Instant) -> bool {
        self.memory().lease.as_ref().is_some_and(|lease| lease.expires > now)
    }

    /// The current instance of the sandbox, if there is or may be one.
    pub(crate) fn sandbox(&self) -> Option<(u32, SandboxId)> {
        self.memory().sandbox.clone()
    }

    /// An instance is about to be created.
    pub(crate) fn intend_sandbox(&self, instance: u32, sandbox: SandboxId) {
        self.memory().sandbox = Some((instance, sandbox));
    }

    /// A call is about to be given to a sandbox.
    pub(crate) fn start_call(&self, call: CallId, sandbox: SandboxId) {
        let mut memory = self.memory();
        memory.view.calls += 1;
        memory.calls.entry(call).or_insert(CallMemory { sandbox, result: None });
    }

    /// The sandbox that was given a call before, if it was.
    pub(crate) fn call_sandbox(&self, call: &CallId) -> Option<SandboxId> {
        self.memory().calls.get(call).map(|call| call.sandbox.clone())
    }

    /// A call has an answer that the control plane may not have.
    pub(crate) fn finish_call(&self, call: &CallId, result: Arc<ToolResult>) {
        if let Some(call) = self.memory().calls.get_mut(call) {
            call.result = Some(result);
        }
    }

    /// Nothing is left to do about a call.
    pub(crate) fn close_call(&self, call: &CallId) {
        self.memory().calls.remove(call);
    }

    /// The admission slot of an entry that was made without one.
    pub(crate) fn take_slot(&self, slot: OwnedSemaphorePermit) {
        self.memory().slot = Some(slot);
    }

    /// Remembers an actor of the current incarnation.
    pub(crate) fn add_cell(&self, cell: ActorCell) {
        self.memory().cells.push(cell);
    }

    /// The actors of the incarnation so far; the next one starts with none.
    pub(crate) fn take_cells(&self) -> Vec<ActorCell> {
        std::mem::take(&mut self.memory().cells)
    }

    /// How the session ended, once it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.memory().end.clone()
    }

    /// The session has ended.
    pub(crate) fn set_end(&self, end: End) {
        self.memory().end = Some(end);
    }

    /// What people see.
    pub(crate) fn view(&self) -> View {
        self.memory().view.clone()
    }

    /// Changes what people see.
    pub(crate) fn show(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.memory().view);
    }

    fn replay(&self, record: Record, at: Instant) {
        let mut memory = self.memory();
        match record {
            Record::Claimed { .. } | Record::Ended => {}
            Record::Beat { token, ttl } => {
                memory.lease = Some(LeaseMemory { token: Some(token), ttl, expires: at + ttl });
            }
            Record::SandboxIntended { instance, sandbox } => memory.sandbox = Some((instance, sandbox)),
            Record::CallStarted { call, sandbox } => {
                memory.calls.entry(call).or_insert(CallMemory { sandbox, result: None });
            }
            Record::CallFinished { call, result } => {
                if let Some(call) = memory.calls.get_mut(&call) {
                    call.result = Some(result);
                }
            }
            Record::CallPosted { call } => {
                memory.calls.remove(&call);
            }
        }
    }

    /// Every critical section here is a few assignments, none of which can panic half-way.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
