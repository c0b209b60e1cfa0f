//! A control plane in memory: one queue with leases, sessions with logs and streams, and a scripted brain.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};

use super::Faults;
use crate::event::{Call, CallKind, Event, IdleReason, Input, Permission};
use crate::ids::{CallId, EnvironmentId, SessionId, WorkId};
use crate::ports::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, ItemState, LeaseState,
    Session, SessionStatus, StopMode, Target, WorkItem,
};
use crate::secret::Secret;
use crate::tool::ToolResult;

/// After this long without an acknowledgement an item is offered again.
const RECLAIM: Duration = Duration::from_secs(5);

/// A control plane in memory.
#[derive(Debug)]
pub struct FakeControl {
    world: Mutex<World>,
    queued: Notify,
    ttl: Duration,
    /// Faults to come; the operations are the names of the port's methods.
    pub faults: Faults<ControlError>,
}

#[derive(Debug, Default)]
struct World {
    items: BTreeMap<WorkId, Item>,
    sessions: BTreeMap<SessionId, FakeSession>,
    requests: Vec<Request>,
    tokens: u64,
}

#[derive(Debug)]
struct Item {
    environment: EnvironmentId,
    target: Target,
    stage: Stage,
}

/// Where an item stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting, and reserved until then if it was polled.
    Queued {
        /// When it is offered again.
        reserved: Option<Instant>,
    },
    /// Acknowledged and leased until then, by the holder of this token once it has beaten.
    Leased {
        /// The token of the last beat.
        token: Option<HeartbeatToken>,
        /// When the lease lapses.
        until: Instant,
        /// Whether its holder is asked to end it.
        stopping: bool,
    },
    /// Ended.
    Stopped,
}

#[derive(Debug, Default)]
struct FakeSession {
    status: Option<SessionStatus>,
    log: Vec<Event>,
    streams: Vec<mpsc::UnboundedSender<Result<Event, ControlError>>>,
    turns: VecDeque<Vec<Call>>,
    awaited: Vec<CallId>,
    answers: Vec<(CallId, CallKind, Arc<ToolResult>)>,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The port's method.
    pub operation: &'static str,
    /// The item.
    pub work: Option<WorkId>,
    /// When.
    pub at: Instant,
}

/// What the agent of a session will do: turns of calls that are made together, each after the one before
/// was answered, and then nothing.
#[derive(Clone, Debug, Default)]
pub struct Brain(VecDeque<Vec<Call>>);

impl Brain {
    /// One that ends its turn at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a turn.
    #[must_use]
    pub fn turn(mut self, calls: impl IntoIterator<Item = Call>) -> Self {
        self.0.push_back(calls.into_iter().collect());
        self
    }
}

/// A `bash` call that needs no confirmation.
#[expect(clippy::expect_used, reason = "an object of one string is JSON")]
pub fn call(id: &str, command: &str) -> Call {
    let input = serde_json::json!({ "command": command }).to_string();
    Call {
        id: id.into(),
        kind: CallKind::Toolset,
        name: "bash".into(),
        input: Input::Json(RawValue::from_string(input).expect("an object of one string").into()),
        permission: Permission::Allow,
        thread: None,
    }
}

impl FakeControl {
    /// A control plane whose leases run for `ttl`.
    pub fn new(ttl: Duration) -> Self {
        Self { world: Mutex::default(), queued: Notify::new(), ttl, faults: Faults::default() }
    }

    /// Creates a session and queues the work of serving it.
    pub fn queue(&self, environment: &str, session: &str, work: &str, brain: Brain) {
        {
            let mut world = self.world();
            let fake = world.sessions.entry(session.into()).or_default();
            fake.turns = brain.0;
            fake.log.push(Event::Running);
            fake.think();
        }
        self.queue_target(environment, work, Target::Session(session.into()));
    }

    /// Queues an item for a session that exists, or for something else. A session has one item at a time:
    /// an older one of its is gone then.
    pub fn queue_target(&self, environment: &str, work: &str, target: Target) {
        let stage = Stage::Queued { reserved: None };
        self.world().items.retain(|_, item| item.target != target);
        self.world().items.insert(work.into(), Item { environment: environment.into(), target, stage });
        self.queued.notify_waiters();
    }

    /// A message for a session: its agent does this after what it does already. If nobody serves the session,
    /// that is queued under this item. Returns whether it was.
    pub fn say(&self, environment: &str, session: &str, work: &str, brain: Brain) -> bool {
        let is_served = {
            let mut world = self.world();
            let fake = world.sessions.entry(session.into()).or_default();
            fake.turns.extend(brain.0);
            if fake.awaited.is_empty() {
                fake.emit(Event::Running);
                fake.think();
            }
            world.serves(&session.into())
        };
        if !is_served {
            self.queue_target(environment, work, Target::Session(session.into()));
        }
        !is_served
    }

    /// The calls of a session that wait for an answer.
    pub fn awaited(&self, session: &str) -> Vec<CallId> {
        self.world().sessions.get(&session.into()).map(|fake| fake.awaited.clone()).unwrap_or_default()
    }

    /// The calls of a session that wait for somebody's decision.
    pub fn asking(&self, session: &str) -> Vec<CallId> {
        let world = self.world();
        let Some(fake) = world.sessions.get(&session.into()) else { return Vec::new() };
        let is_awaited = |call: &CallId| fake.awaited.contains(call);
        let decided: Vec<_> = fake
            .log
            .iter()
            .filter_map(|event| match event {
                Event::Confirmed { call, .. } => Some(call),
                _ => None,
            })
            .collect();
        let asking = fake.log.iter().filter_map(|event| match event {
            Event::Call(call) if call.permission == Permission::Ask && is_awaited(&call.id) => Some(&call.id),
            _ => None,
        });
        asking.filter(|call| !decided.contains(call)).cloned().collect()
    }

    /// Whether there is an item for a session that has not ended.
    pub fn is_served(&self, session: &str) -> bool {
        self.world().serves(&session.into())
    }

    /// The item of a session, and where it stands.
    pub fn work_of(&self, session: &str) -> Option<(WorkId, Stage)> {
        let mut world = self.world();
        world.lapse(Instant::now());
        let mut items = world.items.iter();
        let (work, item) =
            items.find(|(_, item)| matches!(&item.target, Target::Session(of) if of.as_str() == session))?;
        Some((work.clone(), item.stage.clone()))
    }

    /// Every item, and where it stands.
    pub fn stages(&self) -> Vec<(WorkId, Stage)> {
        let mut world = self.world();
        world.lapse(Instant::now());
        world.items.iter().map(|(work, item)| (work.clone(), item.stage.clone())).collect()
    }

    /// Lets the lease of an item lapse before its time.
    pub fn lapse(&self, work: &str) {
        if let Some(item) = self.world().items.get_mut(&work.into())
            && matches!(item.stage, Stage::Leased { .. })
        {
            item.stage = Stage::Queued { reserved: None };
        }
        self.queued.notify_waiters();
    }

    /// Appends an event to a session's log and streams.
    pub fn emit(&self, session: &str, event: Event) {
        self.world().sessions.entry(session.into()).or_default().emit(event);
    }

    /// Fails every open stream of a session.
    pub fn cut_streams(&self, session: &str) {
        for stream in self.world().sessions.entry(session.into()).or_default().streams.drain(..) {
            let _ = stream.send(Err(ControlError::Broken("cut".into())));
        }
    }

    /// Sets what a session's retrieval says.
    pub fn set_status(&self, session: &str, status: SessionStatus) {
        self.world().sessions.entry(session.into()).or_default().status = Some(status);
    }

    /// Asks the holder of an item to end it.
    pub fn ask_stop(&self, work: &str) {
        if let Some(Item { stage: Stage::Leased { stopping, .. }, .. }) =
            self.world().items.get_mut(&work.into())
        {
            *stopping = true;
        }
    }

    /// Lets another holder take an item.
    pub fn steal(&self, work: &str) {
        let mut world = self.world();
        let token = world.token();
        let until = Instant::now() + self.ttl;
        if let Some(item) = world.items.get_mut(&work.into()) {
            item.stage = Stage::Leased { token: Some(token), until, stopping: false };
        }
    }

    /// Where an item stands.
    pub fn stage(&self, work: &str) -> Option<Stage> {
        self.world().items.get(&work.into()).map(|item| item.stage.clone())
    }

    /// The answers that a session got, in order.
    pub fn answers(&self, session: &str) -> Vec<(CallId, CallKind, Arc<ToolResult>)> {
        self.world().sessions.get(&session.into()).map(|fake| fake.answers.clone()).unwrap_or_default()
    }

    /// The text of the answers that a session got, in order.
    pub fn texts(&self, session: &str) -> Vec<String> {
        self.answers(session).iter().map(|(_, _, result)| result.text()).collect()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.world().requests.clone()
    }

    /// How many requests of an operation there were.
    pub fn count(&self, operation: &str) -> usize {
        self.world().requests.iter().filter(|request| request.operation == operation).count()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, operation: &'static str, work: Option<&WorkId>) {
        let request = Request { operation, work: work.cloned(), at: Instant::now() };
        self.world().requests.push(request);
    }
}

impl World {
    fn token(&mut self) -> HeartbeatToken {
        self.tokens += 1;
        HeartbeatToken::new(format!("hb-{}", self.tokens))
    }

    /// Puts lapsed items back.
    fn lapse(&mut self, now: Instant) {
        for item in self.items.values_mut() {
            let lapsed = match &item.stage {
                Stage::Queued { reserved } => reserved.is_some_and(|until| until <= now),
                Stage::Leased { until, .. } => *until <= now,
                Stage::Stopped => false,
            };
            if lapsed {
                item.stage = Stage::Queued { reserved: None };
            }
        }
    }

    fn serves(&self, session: &SessionId) -> bool {
        let is_for = |item: &&Item| matches!(&item.target, Target::Session(of) if of == session);
        self.items.values().filter(is_for).any(|item| item.stage != Stage::Stopped)
    }

    fn item(&mut self, work: &WorkId) -> Result<&mut Item, ControlError> {
        let message = format!("no work item {work}");
        self.items.get_mut(work).ok_or(ControlError::Rejected { status: 404, message })
    }

    fn session(&mut self, item: &WorkItem) -> Result<&mut FakeSession, ControlError> {
        let found = item.session().and_then(|session| self.sessions.get_mut(session));
        found.ok_or_else(|| ControlError::Rejected { status: 404, message: "no such session".to_owned() })
    }
}

impl FakeSession {
    fn emit(&mut self, event: Event) {
        self.streams.retain(|stream| stream.send(Ok(event.clone())).is_ok());
        self.log.push(event);
    }

    /// Makes the calls of the next turn, or ends the last one.
    fn think(&mut self) {
        match self.turns.pop_front() {
            Some(calls) => {
                self.awaited = calls.iter().map(|call| call.id.clone()).collect();
                for call in calls {
                    self.emit(Event::Call(call));
                }
                self.emit(Event::Idle { reason: IdleReason::RequiresAction });
            }
            None => self.emit(Event::Idle { reason: IdleReason::TurnEnded }),
        }
    }

    fn answer(&mut self, answer: &Answer) -> Result<(), ControlError> {
        if self.answers.iter().any(|(call, ..)| *call == answer.call) {
            let message = format!("{} is answered already", answer.call);
            return Err(ControlError::Rejected { status: 400, message });
        }
        self.answers.push((answer.call.clone(), answer.kind, Arc::clone(&answer.result)));
        self.emit(Event::Answered { call: answer.call.clone() });
        let before = self.awaited.len();
        self.awaited.retain(|call| *call != answer.call);
        if before > 0 && self.awaited.is_empty() {
            self.emit(Event::Running);
            self.think();
        }
        Ok(())
    }
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn poll(
        &self,
        environment: &EnvironmentId,
        block: Duration,
    ) -> Result<Option<WorkItem>, ControlError> {
        self.request("poll", None);
        let poll = async {
            let until = Instant::now() + block;
            loop {
                let queued = self.queued.notified();
                if let Some(item) = self.offer(environment) {
                    return Ok(Some(item));
                }
                if timeout(until - Instant::now(), queued).await.is_err() {
                    return Ok(None);
                }
            }
        };
        self.faults.around("poll", poll).await
    }

    async fn ack(&self, item: &WorkItem) -> Result<(), ControlError> {
        self.request("ack", Some(&item.id));
        let ack = async {
            let until = Instant::now() + self.ttl;
            let mut world = self.world();
            let found = world.item(&item.id)?;
            match found.stage {
                Stage::Queued { .. } => {
                    found.stage = Stage::Leased { token: None, until, stopping: false };
                    Ok(())
                }
                Stage::Leased { token: None, .. } => Ok(()),
                _ => Err(ControlError::Conflict { message: "it is another's".to_owned() }),
            }
        };
        self.faults.around("ack", ack).await
    }

    async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        self.request("heartbeat", Some(&item.id));
        let beat = async {
            let (ttl, until) = (self.ttl, Instant::now() + self.ttl);
            let mut world = self.world();
            world.lapse(Instant::now());
            let next = world.token();
            let found = world.item(&item.id)?;
            match &mut found.stage {
                Stage::Leased { stopping: true, .. } | Stage::Stopped => {
                    Ok(Heartbeat { token: next, state: ItemState::Stopping, extended: false, ttl })
                }
                Stage::Leased { token, until: lapses, .. } if token.as_ref() == expected => {
                    *token = Some(next.clone());
                    *lapses = until;
                    Ok(Heartbeat { token: next, state: ItemState::Live, extended: true, ttl })
                }
                Stage::Leased { token, .. } => {
                    let current = LeaseState { token: token.clone(), active: token.is_some() };
                    Err(ControlError::PreconditionFailed { current: Some(current) })
                }
                Stage::Queued { .. } => {
                    let current = LeaseState { token: None, active: false };
                    Err(ControlError::PreconditionFailed { current: Some(current) })
                }
            }
        };
        self.faults.around("heartbeat", beat).await
    }

    async fn stop(&self, item: &WorkItem, _: StopMode) -> Result<(), ControlError> {
        self.request("stop", Some(&item.id));
        let stop = async {
            self.world().item(&item.id)?.stage = Stage::Stopped;
            Ok(())
        };
        self.faults.around("stop", stop).await
    }

    async fn session(&self, item: &WorkItem) -> Result<Session, ControlError> {
        self.request("session", Some(&item.id));
        let session = async {
            let mut world = self.world();
            let status = world.session(item)?.status.unwrap_or(SessionStatus::Live);
            let id = item.session().cloned().unwrap_or_else(|| "".into());
            Ok(Session { id, status, document: None })
        };
        self.faults.around("session", session).await
    }

    async fn stream(&self, item: &WorkItem) -> Result<EventStream, ControlError> {
        self.request("stream", Some(&item.id));
        let stream = async {
            let (sender, mut receiver) = mpsc::unbounded_channel();
            self.world().session(item)?.streams.push(sender);
            let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
            Ok(Box::pin(stream) as EventStream)
        };
        self.faults.around("stream", stream).await
    }

    async fn history(&self, item: &WorkItem) -> Result<Vec<Event>, ControlError> {
        self.request("history", Some(&item.id));
        let history = async { Ok(self.world().session(item)?.log.clone()) };
        self.faults.around("history", history).await
    }

    async fn post(&self, item: &WorkItem, answer: &Answer) -> Result<(), ControlError> {
        self.request("post", Some(&item.id));
        let post = async { self.world().session(item)?.answer(answer) };
        self.faults.around("post", post).await
    }
}

impl FakeControl {
    /// Reserves the first item that waits.
    fn offer(&self, environment: &EnvironmentId) -> Option<WorkItem> {
        let now = Instant::now();
        let mut world = self.world();
        world.lapse(now);
        let waiting = world.items.iter_mut().find(|(_, item)| {
            item.environment == *environment && item.stage == Stage::Queued { reserved: None }
        });
        let (id, item) = waiting?;
        item.stage = Stage::Queued { reserved: Some(now + RECLAIM) };
        Some(WorkItem {
            id: id.clone(),
            environment: environment.clone(),
            target: item.target.clone(),
            credential: Some(Secret::new("fake-session-token")),
        })
    }
}
