//! One session: what it is made of, what it looks like, and how events get into its logs.
//!
//! Everything here happens under the world's lock and at the moment the caller brings, so that what a client
//! reads is one consistent history.
//!
//! # Not here
//! Turns and calls ([`turn`](super::turn)); child threads ([`thread`](super::thread)); what the agent does in
//! a turn ([`brain`](crate::emulator::brain)); leases ([`work`](crate::emulator::work)).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use remuda_actors::ids::{EnvironmentId, SessionId, ThreadId, WorkId};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;

use super::call::Call;
use super::thread::Thread;
use super::timing::Timing;
use crate::emulator::brain::Assigned;
use crate::emulator::clock::rfc3339;
use crate::emulator::events::{Event, EventLog, Item, Previews};
use crate::emulator::mint::Mint;

/// When something happens, and what makes its ids.
#[derive(Debug)]
pub(in crate::emulator) struct Moment<'a> {
    pub(in crate::emulator) now: Instant,
    pub(in crate::emulator) wall: Timestamp,
    pub(in crate::emulator) mint: &'a mut Mint,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::emulator) enum Status {
    /// Idle: no turn runs.
    Resting,
    /// The agent is at work.
    Running,
    /// Idle within a turn: calls wait for clients.
    Paused,
    /// Over.
    Terminated,
}

impl Status {
    /// The word on the wire.
    pub(in crate::emulator) fn name(self) -> &'static str {
        match self {
            Self::Resting | Self::Paused => "idle",
            Self::Running => "running",
            Self::Terminated => "terminated",
        }
    }
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopReason {
    /// The agent has said what it had to say, or was interrupted.
    #[default]
    EndTurn,
    /// The model could not be reached.
    RetriesExhausted,
    /// The session's budget is spent.
    BudgetReached,
    /// The model refused.
    Refusal,
}

impl StopReason {
    pub(in crate::emulator) fn name(self) -> &'static str {
        match self {
            Self::EndTurn => "end_turn",
            Self::RetriesExhausted => "retries_exhausted",
            Self::BudgetReached => "budget_reached",
            Self::Refusal => "refusal",
        }
    }
}

/// Which turn a brain runs, and the messages that started it.
#[derive(Clone, Debug)]
pub(in crate::emulator) struct Turn {
    pub(in crate::emulator) number: u64,
    pub(in crate::emulator) messages: Vec<Arc<Event>>,
}

/// What a session is made from.
#[derive(Debug)]
pub(in crate::emulator) struct SessionSetup {
    pub(in crate::emulator) environment: EnvironmentId,
    pub(in crate::emulator) agent: Arc<Value>,
    pub(in crate::emulator) title: Value,
    pub(in crate::emulator) metadata: BTreeMap<String, String>,
    pub(in crate::emulator) resources: Vec<Value>,
    pub(in crate::emulator) budget: Value,
    pub(in crate::emulator) vault_ids: Value,
    pub(in crate::emulator) brain: Assigned,
    pub(in crate::emulator) max_events: usize,
}

/// One session.
#[derive(Debug)]
pub(in crate::emulator) struct Session {
    pub(in crate::emulator) id: SessionId,
    pub(in crate::emulator) environment: EnvironmentId,
    pub(in crate::emulator) agent: Arc<Value>,
    pub(in crate::emulator) title: Value,
    pub(in crate::emulator) metadata: BTreeMap<String, String>,
    pub(in crate::emulator) resources: Vec<Value>,
    budget: Value,
    vault_ids: Value,
    pub(in crate::emulator) created_at: Timestamp,
    pub(in crate::emulator) updated_at: Timestamp,
    pub(in crate::emulator) archived_at: Option<Timestamp>,
    pub(in crate::emulator) status: Status,
    pub(in crate::emulator) primary: Thread,
    pub(in crate::emulator) children: Vec<Thread>,
    /// Messages nobody has taken notice of yet.
    pub(in crate::emulator) queued: VecDeque<Arc<Event>>,
    /// The calls of the current turn and the one before.
    pub(in crate::emulator) calls: Vec<Call>,
    /// Calls emitted so far.
    pub(in crate::emulator) emitted: u64,
    /// Turns started so far.
    pub(in crate::emulator) turns: u64,
    pub(in crate::emulator) live_work: Option<WorkId>,
    pub(in crate::emulator) brain: Assigned,
    pub(in crate::emulator) timing: Timing,
    /// Told of every change.
    pub(in crate::emulator) changed: Arc<Notify>,
    /// Tokens the made-up model has used: in, out.
    pub(super) usage: (u64, u64),
    pub(super) max_events: usize,
}

impl Session {
    pub(in crate::emulator) fn new(id: SessionId, setup: SessionSetup, at: &mut Moment<'_>) -> Self {
        let name = setup.agent["name"].as_str().unwrap_or("agent").to_owned();
        let primary = Thread::new(ThreadId::from(at.mint.id("sthr")), name, setup.max_events, at.wall);
        Self {
            id,
            environment: setup.environment,
            agent: setup.agent,
            title: setup.title,
            metadata: setup.metadata,
            resources: setup.resources,
            budget: setup.budget,
            vault_ids: setup.vault_ids,
            created_at: at.wall,
            updated_at: at.wall,
            archived_at: None,
            status: Status::Resting,
            primary,
            children: Vec::new(),
            queued: VecDeque::new(),
            calls: Vec::new(),
            emitted: 0,
            turns: 0,
            live_work: None,
            brain: setup.brain,
            timing: Timing::new(at.now),
            changed: Arc::default(),
            usage: (0, 0),
            max_events: setup.max_events,
        }
    }

    pub(in crate::emulator) fn is_terminated(&self) -> bool {
        self.status == Status::Terminated
    }

    /// The session object.
    pub(in crate::emulator) fn wire(&self, now: Timestamp) -> Value {
        let duration = now.duration_since(self.created_at).as_millis_f64() / 1000.0;
        json!({
            "id": self.id,
            "type": "session",
            "status": self.status.name(),
            "environment_id": self.environment,
            "agent": self.agent,
            "resources": self.resources,
            "metadata": self.metadata,
            "title": self.title,
            "vault_ids": self.vault_ids,
            "budget": self.budget,
            "outcome_evaluations": [],
            "stats": {"duration_seconds": duration},
            "usage": {"input_tokens": self.usage.0, "output_tokens": self.usage.1, "cache_read_input_tokens": 0},
            "archived_at": self.archived_at.map(rfc3339),
            "deployment_id": null,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
        })
    }

    /// A thread by id, the primary one included.
    pub(in crate::emulator) fn thread(&self, id: &ThreadId) -> Option<&Thread> {
        std::iter::once(&self.primary).chain(&self.children).find(|thread| thread.id == *id)
    }

    /// A child thread by id.
    pub(super) fn child_mut(&mut self, id: &ThreadId) -> Option<&mut Thread> {
        self.children.iter_mut().find(|thread| thread.id == *id)
    }

    /// Follows a thread's log; none if there is no such thread.
    pub(in crate::emulator) fn follow(
        &mut self,
        thread: Option<&ThreadId>,
        buffer: usize,
        previews: Previews,
    ) -> Option<(u64, Receiver<Item>)> {
        let followed = self.log_mut(thread)?.follow(buffer, previews);
        self.changed.notify_waiters();
        Some(followed)
    }

    /// Ends what `follow` began.
    pub(in crate::emulator) fn unfollow(&mut self, thread: Option<&ThreadId>, follower: u64) {
        if let Some(log) = self.log_mut(thread) {
            log.unfollow(follower);
        }
        self.changed.notify_waiters();
    }

    fn log_mut(&mut self, id: Option<&ThreadId>) -> Option<&mut EventLog> {
        match id {
            None => Some(&mut self.primary.log),
            Some(id) if *id == self.primary.id => Some(&mut self.primary.log),
            Some(id) => self.child_mut(id).map(|thread| &mut thread.log),
        }
    }

    /// Appends an event to the primary log.
    pub(in crate::emulator) fn emit(
        &mut self,
        at: &mut Moment<'_>,
        kind: &'static str,
        fields: Value,
    ) -> Arc<Event> {
        let id = at.mint.id("sevt");
        self.append(at, id, kind, None, as_object(fields))
    }

    /// Appends an event to a child thread's log alone.
    pub(in crate::emulator) fn emit_on(
        &mut self,
        at: &mut Moment<'_>,
        thread: &ThreadId,
        kind: &'static str,
        fields: Value,
    ) {
        let event = Arc::new(Event::new(at.mint.id("sevt"), kind, Some(at.wall), as_object(fields)));
        if let Some(thread) = self.child_mut(thread) {
            thread.log.append(event);
        }
        self.changed.notify_waiters();
    }

    /// Appends one event: to the primary log and, without the thread's name, to the log of its child thread.
    pub(super) fn append(
        &mut self,
        at: &Moment<'_>,
        id: String,
        kind: &'static str,
        thread: Option<&ThreadId>,
        mut fields: Map<String, Value>,
    ) -> Arc<Event> {
        self.updated_at = at.wall;
        if let Some(id_of_thread) = thread {
            if let Some(thread) = self.child_mut(id_of_thread) {
                let own = Event::new(id.as_str(), kind, Some(at.wall), fields.clone());
                thread.log.append(Arc::new(own));
            }
            fields.insert("session_thread_id".into(), Value::from(id_of_thread.as_str()));
        }
        let event = Arc::new(Event::new(id, kind, Some(at.wall), fields));
        self.primary.log.append(Arc::clone(&event));
        self.changed.notify_waiters();
        event
    }

    /// Stores an event a client sent.
    pub(super) fn accept(
        &mut self,
        at: &mut Moment<'_>,
        kind: &'static str,
        thread: Option<&ThreadId>,
        fields: Map<String, Value>,
    ) -> Arc<Event> {
        let id = at.mint.id("sevt");
        self.append(at, id, kind, thread, fields)
    }

    /// Keeps a message for the next turn.
    pub(super) fn enqueue(
        &mut self,
        at: &mut Moment<'_>,
        kind: &'static str,
        fields: Map<String, Value>,
    ) -> Arc<Event> {
        let event = Arc::new(Event::new(at.mint.id("sevt"), kind, None, fields));
        self.queued.push_back(Arc::clone(&event));
        self.changed.notify_waiters();
        event
    }
}

/// The fields of an event, written as an object.
pub(super) fn as_object(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
