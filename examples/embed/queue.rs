//! A control plane of one's own: a queue of sessions with leases, and their logs.
//!
//! ```text
//! Waiting ──poll──► Reserved ──ack──► Leased ──stop──► Stopped
//!    ▲                 │ 5 s            │ ↻ heartbeat
//!    └─────────────────┴────────────────┘ lapses
//! ```
//!
//! # Invariants
//! - An item has at most one holder: who echoes the token of its last heartbeat.
//! - A call is answered once.
//!
//! # Not here
//! A model. The agent of a session wants its lines written down, one call each, all at once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use remuda_actors::event::{Call, CallKind, Event, IdleReason, Input, Permission};
use remuda_actors::ids::{EnvironmentId, SessionId, WorkId};
use remuda_actors::ports::{
    Answer, ControlError, ControlPlane, EventStream, Heartbeat, HeartbeatToken, ItemState, LeaseState,
    Session, SessionStatus, StopMode, Target, WorkItem,
};
use serde_json::json;
use serde_json::value::to_raw_value;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, timeout_at};

use super::notebooks::TOOL;

/// The name of the only queue.
pub(crate) const ENVIRONMENT: &str = "notebooks";

/// How long a polled item is kept for whoever polled it.
const RESERVED: Duration = Duration::from_secs(5);

/// How long a lease runs.
const TTL: Duration = Duration::from_secs(30);

/// Events that a follower may lag behind before its stream ends.
const LAG: usize = 256;

/// The queue and its sessions.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    world: Mutex<World>,
    /// Something was queued, or answered.
    changed: Notify,
}

#[derive(Debug, Default)]
struct World {
    /// By the session, which has one item.
    items: BTreeMap<SessionId, Item>,
    /// Numbers sessions and tokens.
    count: u64,
}

#[derive(Debug)]
struct Item {
    stage: Stage,
    log: Vec<Event>,
    followers: broadcast::Sender<Event>,
    /// By the call; none until it is answered.
    answers: BTreeMap<String, Option<String>>,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Reserved { until: Instant },
    Leased { token: Option<HeartbeatToken>, until: Instant },
    Stopped,
}

impl Queue {
    /// Queues a session that writes these lines down.
    pub(crate) fn submit(&self, lines: &[String]) -> SessionId {
        let mut world = self.world();
        world.count += 1;
        let session = SessionId::from(format!("session-{}", world.count));
        let call = |(n, line)| {
            let id = format!("{session}-call-{n:03}");
            let input = to_raw_value(&json!({ "text": line }));
            let input = input.map_or_else(
                |error| Input::Malformed(error.to_string().into()),
                |raw| Input::Json(raw.into()),
            );
            let (kind, permission) = (CallKind::Toolset, Permission::Allow);
            Call { id: id.into(), kind, name: TOOL.into(), input, permission, thread: None }
        };
        let calls: Vec<Call> = lines.iter().enumerate().map(call).collect();
        let answers = calls.iter().map(|call| (call.id.as_str().to_owned(), None)).collect();
        let mut log = vec![Event::Running];
        log.extend(calls.into_iter().map(Event::Call));
        log.push(Event::Idle { reason: IdleReason::RequiresAction });
        let item = Item { stage: Stage::Waiting, log, followers: broadcast::Sender::new(LAG), answers };
        world.items.insert(session.clone(), item);
        drop(world);
        self.changed.notify_waiters();
        session
    }

    /// The answers so far, in the order of the calls; none if there is no such session.
    pub(crate) fn answers(&self, session: &SessionId) -> Option<Vec<String>> {
        let world = self.world();
        Some(world.items.get(session)?.answers.values().flatten().cloned().collect())
    }

    /// Returns when every call of a session is answered, or there is no such session.
    ///
    /// # Cancel safety
    /// Waiting changes nothing.
    pub(crate) async fn finished(&self, session: &SessionId) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before the look, so that no answer falls between the two.
            changed.as_mut().enable();
            let waits = |item: &Item| item.answers.values().any(Option::is_none);
            if !self.world().items.get(session).is_some_and(waits) {
                return;
            }
            changed.await;
        }
    }

    /// Every critical section is short, and leaves nothing half done.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves the first item that waits.
    fn offer(&self) -> Option<WorkItem> {
        let now = Instant::now();
        let mut world = self.world();
        let waits = |item: &Item| match &item.stage {
            Stage::Waiting => true,
            Stage::Reserved { until } | Stage::Leased { until, .. } => *until <= now,
            Stage::Stopped => false,
        };
        let (session, item) = world.items.iter_mut().find(|(_, item)| waits(item))?;
        item.stage = Stage::Reserved { until: now + RESERVED };
        Some(WorkItem {
            id: WorkId::from(session.as_str()),
            environment: ENVIRONMENT.into(),
            target: Target::Session(session.clone()),
            credential: None,
        })
    }
}

impl World {
    fn item(&mut self, work: &WorkItem) -> Result<&mut Item, ControlError> {
        let missing =
            || ControlError::Rejected { status: 404, message: format!("there is no item {}", work.id) };
        work.session().and_then(|session| self.items.get_mut(session)).ok_or_else(missing)
    }
}

impl Item {
    fn emit(&mut self, event: Event) {
        // Nobody may follow right now; the log has it.
        let _ = self.followers.send(event.clone());
        self.log.push(event);
    }
}

#[async_trait]
impl ControlPlane for Queue {
    async fn poll(&self, _: &EnvironmentId, block: Duration) -> Result<Option<WorkItem>, ControlError> {
        let until = Instant::now() + block;
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(item) = self.offer() {
                return Ok(Some(item));
            }
            if timeout_at(until, changed).await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn ack(&self, work: &WorkItem) -> Result<(), ControlError> {
        let mut world = self.world();
        let item = world.item(work)?;
        match item.stage {
            Stage::Waiting | Stage::Reserved { .. } => {
                item.stage = Stage::Leased { token: None, until: Instant::now() + TTL };
                Ok(())
            }
            // The answer to the first one may have been lost.
            Stage::Leased { token: None, .. } => Ok(()),
            _ => Err(ControlError::Conflict { message: "it is another's, or over".to_owned() }),
        }
    }

    async fn heartbeat(
        &self,
        work: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError> {
        let mut world = self.world();
        world.count += 1;
        let next = HeartbeatToken::new(world.count.to_string());
        match &mut world.item(work)?.stage {
            Stage::Leased { token, until } if token.as_ref() == expected => {
                (*token, *until) = (Some(next.clone()), Instant::now() + TTL);
                Ok(Heartbeat { token: next, state: ItemState::Live, extended: true, ttl: TTL })
            }
            Stage::Stopped => {
                Ok(Heartbeat { token: next, state: ItemState::Stopping, extended: false, ttl: TTL })
            }
            Stage::Leased { token, .. } => {
                let current = LeaseState { token: token.clone(), active: token.is_some() };
                Err(ControlError::PreconditionFailed { current: Some(current) })
            }
            Stage::Waiting | Stage::Reserved { .. } => Err(ControlError::PreconditionFailed {
                current: Some(LeaseState { token: None, active: false }),
            }),
        }
    }

    async fn stop(&self, work: &WorkItem, _: StopMode) -> Result<(), ControlError> {
        self.world().item(work)?.stage = Stage::Stopped;
        Ok(())
    }

    async fn session(&self, work: &WorkItem) -> Result<Session, ControlError> {
        self.world().item(work)?;
        let id = work.session().cloned().unwrap_or_else(|| "".into());
        Ok(Session { id, status: SessionStatus::Live, document: None })
    }

    async fn stream(&self, work: &WorkItem) -> Result<EventStream, ControlError> {
        let follower = self.world().item(work)?.followers.subscribe();
        Ok(Box::pin(futures_util::stream::unfold(follower, async |mut follower| {
            // One that lags too far behind ends; the tree opens the next and reads the history.
            let event = follower.recv().await.ok()?;
            Some((Ok(event), follower))
        })))
    }

    async fn history(&self, work: &WorkItem) -> Result<Vec<Event>, ControlError> {
        Ok(self.world().item(work)?.log.clone())
    }

    async fn post(&self, work: &WorkItem, answer: &Answer) -> Result<(), ControlError> {
        {
            let mut world = self.world();
            let item = world.item(work)?;
            match item.answers.get_mut(answer.call.as_str()) {
                Some(place @ None) => *place = Some(answer.result.text()),
                _ => {
                    let message = format!("{} does not wait for an answer", answer.call);
                    return Err(ControlError::Rejected { status: 400, message });
                }
            }
            item.emit(Event::Answered { call: answer.call.clone() });
            if item.answers.values().all(Option::is_some) {
                item.emit(Event::Idle { reason: IdleReason::TurnEnded });
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }
}
