//! One session: its status, its turns, its calls and its logs.
//!
//! ```text
//!              message                    calls emitted
//!  Resting ───────────────▶ Running ───────────────────────▶ Paused (idle, requires_action)
//!     ▲                      │   ▲                             │ │
//!     │ rest, interrupt      │   └── last call resolved ───────┘ │ interrupt
//!     └──────────────────────┴───────────────────────────────────┘
//!  any ──terminate, archive──▶ Terminated
//! ```
//!
//! Everything here happens under the world's lock and at the moment the caller brings, so that what a client
//! reads is one consistent history.
//!
//! # Invariants
//! - At most one turn runs; messages that arrive meanwhile wait and start the next one together.
//! - `Paused` has at least one pending call, and no pending call survives the turn it belongs to.
//!
//! # Not here
//! What the agent does in a turn ([`brain`](crate::emulator::brain)); leases
//! ([`work`](crate::emulator::work)).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use remuda_actors::ids::{CallId, EnvironmentId, SessionId, ThreadId, WorkId};
use remuda_actors::tool::ToolResult;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;

use super::call::{Call, CallRequest, Gate, Permission, Resolution, Resolved, permission_fields};
use super::timing::Timing;
use crate::emulator::brain::Assigned;
use crate::emulator::clock::rfc3339;
use crate::emulator::events::{Event, EventLog, Item, Previews};
use crate::emulator::mint::Mint;

/// Threads a session may have.
const MAX_THREADS: usize = 256;

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
    pub(in crate::emulator) agent: Value,
    pub(in crate::emulator) title: Value,
    pub(in crate::emulator) metadata: BTreeMap<String, String>,
    pub(in crate::emulator) resources: Vec<Value>,
    pub(in crate::emulator) budget: Value,
    pub(in crate::emulator) vault_ids: Value,
    pub(in crate::emulator) brain: Assigned,
    pub(in crate::emulator) max_events: usize,
}

/// One thread of a session.
#[derive(Debug)]
pub(in crate::emulator) struct Thread {
    pub(in crate::emulator) id: ThreadId,
    pub(in crate::emulator) name: String,
    pub(in crate::emulator) log: EventLog,
    status: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// One session.
#[derive(Debug)]
pub(in crate::emulator) struct Session {
    pub(in crate::emulator) id: SessionId,
    pub(in crate::emulator) environment: EnvironmentId,
    pub(in crate::emulator) agent: Value,
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
    usage: (u64, u64),
    max_events: usize,
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
    fn child_mut(&mut self, id: &ThreadId) -> Option<&mut Thread> {
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
    fn append(
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

    /// Starts a turn if messages wait and none runs.
    pub(in crate::emulator) fn begin_turn(&mut self, at: &mut Moment<'_>) -> Option<Turn> {
        if self.status != Status::Resting || self.queued.is_empty() {
            return None;
        }
        let mut messages = Vec::new();
        for event in std::mem::take(&mut self.queued) {
            let event = Arc::new(event.processed(at.wall));
            self.primary.log.append(Arc::clone(&event));
            messages.push(event);
        }
        self.count_turn();
        self.timing.ended_at = None;
        self.run(at);
        Some(Turn { number: self.turns, messages })
    }

    /// Forgets old calls. Those of the turn just over stay: its brain may not have looked at them yet.
    fn count_turn(&mut self) {
        self.turns += 1;
        let last = self.turns - 1;
        self.calls.retain(|call| call.turn >= last);
    }

    /// Whether turn `number` still runs.
    pub(in crate::emulator) fn in_turn(&self, number: u64) -> bool {
        self.turns == number && matches!(self.status, Status::Running | Status::Paused)
    }

    fn run(&mut self, at: &mut Moment<'_>) {
        self.status = Status::Running;
        self.emit(at, "session.status_running", json!({}));
        self.name_primary(at, "running", None);
    }

    /// Emits a call, and resolves it at once if it needs no client.
    ///
    /// A session at rest starts a turn for it: that is how a test plays the model.
    pub(in crate::emulator) fn call(&mut self, at: &mut Moment<'_>, request: CallRequest) -> CallId {
        if self.status == Status::Resting {
            self.count_turn();
            self.run(at);
        }
        let id = at.mint.id("sevt");
        let call_id = CallId::from(id.as_str());
        let kind = if request.custom { "agent.custom_tool_use" } else { "agent.tool_use" };
        let (permission, mut fields) = if request.custom {
            (Permission::Allow, Map::new())
        } else {
            permission_fields(request.permission, &self.agent, &request.name)
        };
        fields.insert("name".into(), Value::from(&*request.name));
        fields.insert("input".into(), Value::Object(request.input));
        self.emitted += 1;
        self.timing.emitted(call_id.clone(), &request.name, at.now);
        self.calls.push(Call {
            id: call_id.clone(),
            name: request.name.clone(),
            custom: request.custom,
            thread: request.thread.clone(),
            gate: if permission == Permission::Ask { Gate::Asked } else { Gate::Open },
            for_client: request.for_client,
            turn: self.turns,
            resolved: None,
        });
        self.append(at, id, kind, request.thread.as_ref(), fields);
        let own = match (permission, request.server_result) {
            (Permission::Deny, _) => {
                let text = format!("The permission policy denied the use of {}.", request.name);
                Some((Resolution::Denied, ToolResult::error(text)))
            }
            (_, result) => result.map(|result| (Resolution::Server, result)),
        };
        if let Some((how, result)) = own {
            self.resolve_here(at, &call_id, how, result);
        }
        call_id
    }

    /// Pauses the turn if calls wait for clients.
    pub(in crate::emulator) fn pause(&mut self, at: &mut Moment<'_>) {
        if self.status == Status::Running && self.calls.iter().any(Call::is_pending) {
            self.announce_pause(at);
        }
    }

    fn announce_pause(&mut self, at: &mut Moment<'_>) {
        self.status = Status::Paused;
        let pending = self.calls.iter().filter(|call| call.is_pending());
        let ids: Vec<&CallId> = pending.map(|call| &call.id).collect();
        let reason = json!({"type": "requires_action", "event_ids": ids});
        self.name_primary(at, "idle", Some(&reason));
        self.emit(at, "session.status_idle", json!({"stop_details": null, "stop_reason": reason}));
    }

    /// After calls were resolved by a client: goes on, or says what still waits.
    pub(super) fn after_resolutions(&mut self, at: &mut Moment<'_>) {
        if self.status != Status::Paused {
            return;
        }
        if self.calls.iter().any(Call::is_pending) {
            self.announce_pause(at);
        } else {
            self.run(at);
        }
    }

    /// Ends the turn. Calls that still wait are closed first.
    pub(in crate::emulator) fn rest(&mut self, at: &mut Moment<'_>, reason: StopReason) {
        if matches!(self.status, Status::Terminated | Status::Resting) {
            return;
        }
        self.close_pending(at, None);
        self.status = Status::Resting;
        self.timing.ended_at = Some(at.now);
        let stop = json!({"type": reason.name()});
        let details = match reason {
            StopReason::Refusal => json!({"type": "refusal", "category": null, "explanation": null}),
            _ => Value::Null,
        };
        // The thread's event goes first: workers start their idle clock at the session's and stop it at any
        // other.
        self.name_primary(at, "idle", Some(&stop));
        self.emit(at, "session.status_idle", json!({"stop_details": details, "stop_reason": stop}));
    }

    /// Ends the session for good.
    pub(in crate::emulator) fn terminate(&mut self, at: &mut Moment<'_>) {
        if self.is_terminated() {
            return;
        }
        self.close_pending(at, None);
        self.status = Status::Terminated;
        self.timing.ended_at = Some(at.now);
        self.emit(at, "session.status_terminated", json!({}));
    }

    /// Resolves pending calls, those of one thread or all, with an error result of the server.
    pub(in crate::emulator) fn close_pending(&mut self, at: &mut Moment<'_>, thread: Option<&ThreadId>) {
        let wanted = |call: &&Call| {
            call.is_pending() && thread.is_none_or(|thread| call.thread.as_ref() == Some(thread))
        };
        let ids: Vec<CallId> = self.calls.iter().filter(wanted).map(|call| call.id.clone()).collect();
        for id in ids {
            let result = ToolResult::error("The tool call was interrupted.");
            self.resolve_here(at, &id, Resolution::Interrupted, result);
        }
    }

    /// Resolves a call on the server's side, with an `agent.tool_result` of its own.
    pub(super) fn resolve_here(
        &mut self,
        at: &mut Moment<'_>,
        id: &CallId,
        how: Resolution,
        result: ToolResult,
    ) {
        let thread = self.calls.iter().find(|call| call.id == *id).and_then(|call| call.thread.clone());
        let content = serde_json::to_value(&result.content).unwrap_or_default();
        let fields = json!({"tool_use_id": id, "is_error": result.is_error, "content": content});
        let event_id = at.mint.id("sevt");
        self.append(at, event_id, "agent.tool_result", thread.as_ref(), as_object(fields));
        self.resolve(at, id, Resolved { how, result });
    }

    /// Notes what became of a call.
    pub(super) fn resolve(&mut self, at: &Moment<'_>, id: &CallId, resolved: Resolved) {
        self.timing.resolved(id, at.now);
        if let Some(call) = self.calls.iter_mut().rev().find(|call| call.id == *id) {
            call.resolved.get_or_insert(resolved);
        }
        self.changed.notify_waiters();
    }

    /// Counts what the made-up model used.
    pub(in crate::emulator) fn count_usage(&mut self, input: u64, output: u64) {
        self.usage.0 += input;
        self.usage.1 += output;
    }

    /// Makes a child thread. None if there are too many.
    pub(in crate::emulator) fn create_thread(&mut self, at: &mut Moment<'_>, name: &str) -> Option<ThreadId> {
        if self.children.len() >= MAX_THREADS {
            return None;
        }
        if self.children.is_empty() {
            // The first status of any thread names the primary one.
            let fields = json!({"session_thread_id": self.primary.id, "agent_name": self.primary.name});
            self.emit(at, "session.thread_status_running", fields);
        }
        let id = ThreadId::from(at.mint.id("sthr"));
        self.children.push(Thread::new(id.clone(), name.to_owned(), self.max_events, at.wall));
        self.emit(
            at,
            "session.thread_created",
            json!({"session_thread_id": id, "agent_name": name, "workflow_run_id": null}),
        );
        self.set_thread_status(at, &id, "running", "session.thread_status_running");
        Some(id)
    }

    /// Ends a child thread. Its pending calls are closed: nobody answers for it any more.
    pub(in crate::emulator) fn terminate_thread(&mut self, at: &mut Moment<'_>, id: &ThreadId) {
        self.set_thread_status(at, id, "terminated", "session.thread_status_terminated");
        self.close_pending(at, Some(id));
    }

    /// Lets a child thread rest.
    pub(in crate::emulator) fn rest_thread(&mut self, at: &mut Moment<'_>, id: &ThreadId) {
        self.set_thread_status(at, id, "idle", "session.thread_status_idle");
    }

    fn set_thread_status(
        &mut self,
        at: &mut Moment<'_>,
        id: &ThreadId,
        status: &'static str,
        kind: &'static str,
    ) {
        let Some(thread) = self.child_mut(id) else { return };
        thread.status = status;
        thread.updated_at = at.wall;
        let mut fields = json!({"session_thread_id": id, "agent_name": thread.name});
        if status == "idle" {
            fields["stop_reason"] = json!({"type": "end_turn"});
            fields["stop_details"] = Value::Null;
        }
        let event = Arc::new(Event::new(at.mint.id("sevt"), kind, Some(at.wall), as_object(fields)));
        thread.log.append(Arc::clone(&event));
        self.primary.log.append(event);
        self.changed.notify_waiters();
    }

    /// In a session with child threads, says what the primary one does.
    fn name_primary(&mut self, at: &mut Moment<'_>, status: &'static str, stop_reason: Option<&Value>) {
        self.primary.status = status;
        self.primary.updated_at = at.wall;
        if self.children.is_empty() {
            return;
        }
        let mut fields = json!({"session_thread_id": self.primary.id, "agent_name": self.primary.name});
        let kind = match stop_reason {
            None => "session.thread_status_running",
            Some(reason) => {
                fields["stop_reason"] = reason.clone();
                fields["stop_details"] = Value::Null;
                "session.thread_status_idle"
            }
        };
        self.emit(at, kind, fields);
    }
}

impl Thread {
    fn new(id: ThreadId, name: String, max_events: usize, at: Timestamp) -> Self {
        let log = EventLog::new(max_events);
        Self { id, name, log, status: "idle", created_at: at, updated_at: at }
    }

    /// The thread object.
    pub(in crate::emulator) fn wire(&self, session: &Session) -> Value {
        let parent = (self.id != session.primary.id).then_some(&session.primary.id);
        json!({
            "id": self.id,
            "type": "session_thread",
            "session_id": session.id,
            "parent_thread_id": parent,
            "agent": session.agent,
            "status": if session.is_terminated() { "terminated" } else { self.status },
            "stats": null,
            "usage": null,
            "workflow_run_id": null,
            "archived_at": null,
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
        })
    }
}

/// The fields of an event, written as an object.
fn as_object(fields: Value) -> Map<String, Value> {
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
