//! What must outlive an actor: the work items we hold, their leases, sandboxes and open calls.
//!
//! An actor that fails never hands its state on, so what its successor needs is kept here, outside all
//! actors. Each entry is written by the actors of one session alone and may be read by anyone.
//!
//! # Invariants
//! - A work item has an entry from before its acknowledgement until nothing of it is ours any more.
//! - The entry holds the item's admission slot, so that a restart neither leaks one nor counts twice.
//! - A call that is in the hands of a sandbox has a record here, and one in the journal before that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use ractor::ActorCell;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::admission::Slot;
use crate::fault::{Fault, FaultClass};
use crate::ids::{CallId, SandboxId, SessionId, WorkId};
use crate::ports::{HeartbeatToken, Record, Replayed, WorkItem};
use crate::session::end::{End, Outcome};
use crate::session::machine::{Inheritance, InheritedLease};
use crate::session::run::Prior;
use crate::tool::ToolResult;
use crate::unanswered::{Left, Unanswered};

/// All work items we hold.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: DashMap<WorkId, Arc<Entry>>,
    admitted: AtomicU64,
    /// What items that we do not hold any more have left.
    unanswered: Mutex<Unanswered>,
}

/// How long an item that was offered is kept for whoever asked: the shortest time after which the server offers it
/// to others, if nobody says otherwise.
const RESERVED: Duration = Duration::from_secs(5);

/// One work item we hold.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) item: WorkItem,
    /// Counts the items in the order in which they came.
    pub(crate) number: u64,
    /// When it was asked for: the queue offered it no earlier.
    asked: Instant,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    slot: Option<Slot>,
    /// The actors of the current incarnation.
    cells: Vec<ActorCell>,
    lease: Option<LeaseMemory>,
    sandbox: Option<Instance>,
    /// The instance before, while its files may still be wanted.
    previous: Option<SandboxId>,
    calls: BTreeMap<CallId, CallMemory>,
    view: View,
    end: Option<End>,
    /// The items whose unanswered calls are this one's now.
    heir_of: BTreeSet<WorkId>,
    /// Whether the server may hold a token of ours that nobody here knows.
    is_unheard: bool,
    /// The session as the control plane described it.
    document: Option<Arc<RawValue>>,
}

#[derive(Clone, Debug)]
struct LeaseMemory {
    token: Option<HeartbeatToken>,
    ttl: Duration,
    expires: Instant,
}

/// An instance of the sandbox.
#[derive(Clone, Debug)]
struct Instance {
    number: u32,
    sandbox: SandboxId,
    /// Whether it is written down that it is this item's.
    is_written: bool,
}

#[derive(Clone, Debug)]
struct CallMemory {
    sandbox: SandboxId,
    stage: CallStage,
}

/// How far a call has come.
#[derive(Clone, Debug)]
enum CallStage {
    /// It is being written down that the sandbox is given it, and no hand has it before that is done.
    Intended,
    /// That is written down, so the hand may have it.
    Given,
    /// It has ended.
    Finished(Arc<ToolResult>),
}

impl CallMemory {
    fn result(&self) -> Option<Arc<ToolResult>> {
        match &self.stage {
            CallStage::Intended | CallStage::Given => None,
            CallStage::Finished(result) => Some(Arc::clone(result)),
        }
    }

    fn is_written(&self) -> bool {
        !matches!(self.stage, CallStage::Intended)
    }
}

impl Memory {
    fn intend(&mut self, instance: u32, sandbox: SandboxId) {
        match self.sandbox.take() {
            Some(old) if old.number < instance && old.sandbox != sandbox => self.previous = Some(old.sandbox),
            _ => {}
        }
        self.sandbox = Some(Instance { number: instance, sandbox, is_written: false });
    }

    fn write_sandbox(&mut self, sandbox: &SandboxId) {
        if let Some(instance) = self.sandbox.as_mut().filter(|instance| instance.sandbox == *sandbox) {
            instance.is_written = true;
        }
    }
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
    /// Makes an entry for an item that a poll asked for at `asked` has brought, which takes the slot. None if we
    /// hold the item already.
    pub(crate) fn admit(&self, item: WorkItem, asked: Instant, slot: Option<Slot>) -> Option<Arc<Entry>> {
        match self.entries.entry(item.id.clone()) {
            Place::Occupied(_) => None,
            Place::Vacant(place) => {
                let memory = Mutex::new(Memory { slot, ..Memory::default() });
                let number = self.admitted.fetch_add(1, Ordering::Relaxed);
                let entry = Arc::new(Entry { item, number, asked, memory });
                place.insert(Arc::clone(&entry));
                Some(entry)
            }
        }
    }

    /// The entry of a work item.
    pub(crate) fn get(&self, work: &WorkId) -> Option<Arc<Entry>> {
        self.entries.get(work).map(|entry| Arc::clone(&entry))
    }

    /// Forgets a work item and frees its slot. What its session may still ask about is kept. Returns the items of
    /// which that is forgotten instead.
    #[must_use]
    pub(crate) fn remove(&self, work: &WorkId) -> BTreeSet<WorkId> {
        let Some((_, entry)) = self.entries.remove(work) else { return BTreeSet::new() };
        drop(entry.memory().slot.take());
        let Some((session, calls)) = entry.left() else { return BTreeSet::new() };
        self.unanswered().keep(session, work.clone(), calls)
    }

    /// Gives an item what earlier items of its session have left.
    pub(crate) fn inherit(&self, entry: &Entry) {
        let Some(session) = entry.item.session() else { return };
        let Left { works, calls } = self.unanswered().take(session);
        let mut memory = entry.memory();
        memory.heir_of.extend(works);
        for (call, sandbox) in calls {
            memory.calls.entry(call).or_insert(CallMemory { sandbox, stage: CallStage::Given });
        }
    }

    /// All entries, in the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<_> = self.entries.iter().map(|entry| Arc::clone(&entry)).collect();
        all.sort_by_key(|entry| entry.number);
        all
    }

    /// Makes the entries that the journal of an earlier process tells of; the slots are taken by the caller.
    pub(crate) fn restore(&self, replayed: Vec<Replayed>, now: Instant) -> Vec<Arc<Entry>> {
        let mut restored = Vec::new();
        for Replayed { work, age, record } in replayed {
            if let Record::Left { session, calls } = record {
                self.entries.remove(&work);
                restored.retain(|entry: &Arc<Entry>| entry.item.id != work);
                // There were no more before.
                let _ = self.unanswered().keep(session, work, calls);
                continue;
            }
            if let Record::Claimed { item } = &record {
                // It was offered no longer before that than a poll takes.
                let asked = now.checked_sub(age + Duration::from_secs(1)).unwrap_or(now);
                restored.extend(self.admit(item.clone(), asked, None));
            }
            if let Some(entry) = self.get(&work) {
                entry.replay(record, now.checked_sub(age).unwrap_or(now));
            }
        }
        restored
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
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
            is_unheard: memory.is_unheard,
        });
        let calls = memory.calls.iter().map(|(call, memory)| {
            let prior = memory.result().map_or(Prior::Started, Prior::Finished);
            (call.clone(), prior)
        });
        Inheritance { lease, calls: calls.collect(), end: memory.end.clone() }
    }

    /// Whether the queue keeps it for us at `now`, if it was not acknowledged.
    pub(crate) fn is_reserved(&self, now: Instant) -> bool {
        now < self.asked + RESERVED
    }

    /// A beat is sent. Until its answer is kept, the server may hold a token that nobody here knows.
    pub(crate) fn send_beat(&self) {
        self.memory().is_unheard = true;
    }

    /// The lease was acknowledged or extended at `at`.
    pub(crate) fn keep_lease(&self, token: Option<HeartbeatToken>, ttl: Duration, at: Instant) {
        let mut memory = self.memory();
        memory.lease = Some(LeaseMemory { token, ttl, expires: at + ttl });
        memory.is_unheard = false;
    }

    /// How long the lease runs after an accepted beat, for all that is known so far.
    pub(crate) fn lease_ttl(&self) -> Option<Duration> {
        self.memory().lease.as_ref().map(|lease| lease.ttl)
    }

    /// Whether the lease may still be ours at `now`.
    pub(crate) fn holds_lease(&self, now: Instant) -> bool {
        self.memory().lease.as_ref().is_some_and(|lease| lease.expires > now)
    }

    /// Whether there was a lease and it has run out by `now`, whatever timers have fired.
    pub(crate) fn has_expired(&self, now: Instant) -> bool {
        self.memory().lease.as_ref().is_some_and(|lease| lease.expires <= now)
    }

    /// Whether something may be done for the item at `now`.
    ///
    /// The timer that ends the session when its lease is over is not enough: a process that was suspended wakes
    /// up with that timer and everything else due at once, in any order.
    ///
    /// # Errors
    /// A passing fault if the lease has run out, of which the session is about to be told, or was lost while
    /// something was being written down.
    pub(crate) fn fence(&self, now: Instant) -> Result<(), Fault> {
        let memory = self.memory();
        let is_over = memory.lease.as_ref().is_some_and(|lease| lease.expires <= now)
            || memory.end.as_ref().is_some_and(End::is_loss);
        let message = "the lease is over, and the item may be another's";
        if is_over { Err(Fault::new(FaultClass::Transient, message)) } else { Ok(()) }
    }

    /// The current instance of the sandbox, if there is or may be one.
    pub(crate) fn sandbox(&self) -> Option<(u32, SandboxId)> {
        self.memory().sandbox.as_ref().map(|instance| (instance.number, instance.sandbox.clone()))
    }

    /// Whether it is written down that the current instance is this item's.
    pub(crate) fn is_sandbox_written(&self) -> bool {
        self.memory().sandbox.as_ref().is_some_and(|instance| instance.is_written)
    }

    /// It is written down that this instance is this item's.
    pub(crate) fn write_sandbox(&self, sandbox: &SandboxId) {
        self.memory().write_sandbox(sandbox);
    }

    /// The instance before the current one, while there may be something of it.
    pub(crate) fn previous_sandbox(&self) -> Option<SandboxId> {
        self.memory().previous.clone()
    }

    /// Every sandbox of which there may be something.
    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = SandboxId> + use<> {
        let memory = self.memory();
        let current = memory.sandbox.as_ref().map(|instance| instance.sandbox.clone());
        current.into_iter().chain(memory.previous.clone())
    }

    /// An instance is about to be created, or is taken from the shelf.
    pub(crate) fn intend_sandbox(&self, instance: u32, sandbox: SandboxId) {
        self.memory().intend(instance, sandbox);
    }

    /// Nothing is left of the instance before.
    pub(crate) fn forget_previous_sandbox(&self) {
        self.memory().previous = None;
    }

    /// Nothing of any instance is ours any more.
    pub(crate) fn forget_sandbox(&self) {
        let mut memory = self.memory();
        (memory.sandbox, memory.previous) = (None, None);
    }

    /// A call is about to be given to a sandbox. One that may run again is given to one instance after another,
    /// and the last one counts.
    pub(crate) fn intend_call(&self, call: CallId, sandbox: SandboxId) {
        let mut memory = self.memory();
        if memory.calls.get(&call).is_none_or(|known| known.sandbox != sandbox) {
            memory.view.calls += 1;
            memory.calls.insert(call, CallMemory { sandbox, stage: CallStage::Intended });
        }
    }

    /// Whether it is written down which sandbox has the call.
    pub(crate) fn is_call_written(&self, call: &CallId) -> bool {
        self.memory().calls.get(call).is_some_and(CallMemory::is_written)
    }

    /// It is written down which sandbox has the call.
    pub(crate) fn write_call(&self, call: &CallId) {
        if let Some(call) = self.memory().calls.get_mut(call)
            && matches!(call.stage, CallStage::Intended)
        {
            call.stage = CallStage::Given;
        }
    }

    /// The calls that a hand may have and whose results are not known.
    pub(crate) fn given_calls(&self) -> Vec<(CallId, SandboxId)> {
        let memory = self.memory();
        let given = memory.calls.iter().filter(|(_, call)| matches!(call.stage, CallStage::Given));
        given.map(|(id, call)| (id.clone(), call.sandbox.clone())).collect()
    }

    /// The sandbox that was given a call before, if it was.
    pub(crate) fn call_sandbox(&self, call: &CallId) -> Option<SandboxId> {
        self.memory().calls.get(call).map(|call| call.sandbox.clone())
    }

    /// A call has an answer that the control plane may not have.
    pub(crate) fn finish_call(&self, call: &CallId, result: Arc<ToolResult>) {
        if let Some(call) = self.memory().calls.get_mut(call) {
            call.stage = CallStage::Finished(result);
        }
    }

    /// What the session may still ask about when nothing else of the item is ours any more.
    pub(crate) fn left(&self) -> Option<(SessionId, BTreeMap<CallId, SandboxId>)> {
        let memory = self.memory();
        let given = memory.calls.iter().filter(|(_, call)| call.is_written());
        let calls: BTreeMap<_, _> = given.map(|(id, call)| (id.clone(), call.sandbox.clone())).collect();
        // One that was served to its end has asked for all of them.
        let is_served = memory.end.as_ref().is_some_and(|end| end.outcome() == Outcome::Finished);
        let session = self.item.session().filter(|_| !calls.is_empty() && !is_served)?;
        Some((session.clone(), calls))
    }

    /// The other items whose unanswered calls are this one's now.
    pub(crate) fn heir_of(&self) -> BTreeSet<WorkId> {
        let memory = self.memory();
        memory.heir_of.iter().filter(|work| **work != self.item.id).cloned().collect()
    }

    /// The calls that were given to a sandbox and are not known to be answered, with what they came to.
    pub(crate) fn open_calls(&self) -> Vec<(CallId, Option<Arc<ToolResult>>)> {
        let memory = self.memory();
        memory.calls.iter().map(|(call, memory)| (call.clone(), memory.result())).collect()
    }

    /// Nothing is left to do about a call.
    pub(crate) fn close_call(&self, call: &CallId) {
        self.memory().calls.remove(call);
    }

    /// The admission slot of an entry that was made without one.
    pub(crate) fn take_slot(&self, slot: Slot) {
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

    /// The session as the control plane described it.
    pub(crate) fn document(&self) -> Option<Arc<RawValue>> {
        self.memory().document.clone()
    }

    /// The session was retrieved.
    pub(crate) fn set_document(&self, document: Option<Arc<RawValue>>) {
        self.memory().document = document;
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
            // Its process may have died while a beat was on its way.
            Record::Claimed { .. } => memory.is_unheard = true,
            Record::Left { .. } | Record::Ended => {}
            Record::Beat { token, ttl } => {
                memory.lease = Some(LeaseMemory { token, ttl, expires: at + ttl });
            }
            Record::SandboxIntended { instance, sandbox } => {
                memory.intend(instance, sandbox.clone());
                memory.write_sandbox(&sandbox);
            }
            // It may have been appended again after the call had ended.
            Record::CallStarted { call, sandbox } => match memory.calls.get(&call) {
                Some(known) if known.sandbox == sandbox => {}
                _ => drop(memory.calls.insert(call, CallMemory { sandbox, stage: CallStage::Given })),
            },
            Record::CallFinished { call, result } => {
                if let Some(call) = memory.calls.get_mut(&call) {
                    call.stage = CallStage::Finished(result);
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
