//! The work queue of one environment: order, offers, reclaim and counts.
//!
//! A poll does not claim an item. It offers it, and an item that nobody acknowledges is offered again once
//! the offer is older than the age the next poll names.
//!
//! # Not here
//! What may happen to an item ([`machine`](super::machine)); who is told of it ([`lease`](super::lease)).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use remuda_actors::ids::{EnvironmentId, SessionId, WorkId};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::machine::State;
use crate::emulator::clock::rfc3339;

/// How long a worker counts as polling after its last poll.
const POLLING: Duration = Duration::from_secs(30);

/// Distinct worker ids remembered; more would be a client that makes up a new one for every poll.
const MAX_WORKERS: usize = 10_000;

/// What a work item is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::emulator) enum Subject {
    /// A session.
    Session(SessionId),
    /// Something else, such as a `healthcheck`; workers run nothing for it.
    Other {
        /// Its `data.type`.
        kind: String,
        /// Its `data.id`.
        id: String,
    },
}

impl Subject {
    fn data(&self) -> Value {
        match self {
            Self::Session(id) => json!({"type": "session", "id": id}),
            Self::Other { kind, id } => json!({"type": kind, "id": id}),
        }
    }
}

/// One item of a queue.
#[derive(Debug)]
pub(in crate::emulator) struct WorkItem {
    pub(in crate::emulator) id: WorkId,
    pub(in crate::emulator) subject: Subject,
    pub(in crate::emulator) state: State,
    pub(in crate::emulator) metadata: BTreeMap<String, String>,
    pub(super) created_at: Timestamp,
    pub(super) acknowledged_at: Option<Timestamp>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) latest_heartbeat_at: Option<Timestamp>,
    pub(super) stop_requested_at: Option<Timestamp>,
    pub(super) stopped_at: Option<Timestamp>,
    /// The `secret` of poll answers.
    secret: String,
    /// When the timer armed for this item fires; it may be earlier than the deadline, never later.
    pub(super) timer: Option<Instant>,
}

impl WorkItem {
    pub(super) fn new(id: WorkId, subject: Subject, token: &str, created_at: Timestamp) -> Self {
        let payload = json!({"sessions_token": token});
        Self {
            id,
            subject,
            state: State::new(),
            metadata: BTreeMap::new(),
            created_at,
            acknowledged_at: None,
            started_at: None,
            latest_heartbeat_at: None,
            stop_requested_at: None,
            stopped_at: None,
            secret: URL_SAFE_NO_PAD.encode(payload.to_string()),
            timer: None,
        }
    }

    /// Back to what it was when queued, for a lapse that keeps the item.
    pub(super) fn clear_lease(&mut self) {
        self.acknowledged_at = None;
        self.started_at = None;
        self.latest_heartbeat_at = None;
    }

    /// The session it is about.
    pub(in crate::emulator) fn session(&self) -> Option<&SessionId> {
        match &self.subject {
            Subject::Session(session) => Some(session),
            Subject::Other { .. } => None,
        }
    }

    /// The work object, without its secret.
    pub(in crate::emulator) fn wire(&self, environment: &EnvironmentId) -> Value {
        let at = |at: Option<Timestamp>| at.map(rfc3339);
        json!({
            "id": self.id,
            "type": "work",
            "environment_id": environment,
            "data": self.subject.data(),
            "state": self.state.name(),
            "created_at": rfc3339(self.created_at),
            "acknowledged_at": at(self.acknowledged_at),
            "started_at": at(self.started_at),
            "latest_heartbeat_at": at(self.latest_heartbeat_at),
            "stop_requested_at": at(self.stop_requested_at),
            "stopped_at": at(self.stopped_at),
            "metadata": self.metadata,
            "secret": null,
        })
    }

    /// The work object as a poll returns it, secret included.
    pub(in crate::emulator) fn wire_with_secret(&self, environment: &EnvironmentId) -> Value {
        let mut wire = self.wire(environment);
        wire["secret"] = Value::from(&*self.secret);
        wire
    }
}

/// The items of one environment.
#[derive(Debug)]
pub(in crate::emulator) struct WorkQueue {
    items: HashMap<WorkId, WorkItem>,
    /// Queued and not offered since; may hold ids whose item has moved on.
    ready: VecDeque<WorkId>,
    /// Offered, oldest offer first; may hold offers that are history.
    offered: VecDeque<(Instant, WorkId)>,
    /// Finished items, oldest first.
    finished: VecDeque<WorkId>,
    max_finished: usize,
    /// Last poll of each worker.
    workers: HashMap<String, Instant>,
    /// Told once for each item that becomes ready.
    arrivals: Arc<Notify>,
}

impl WorkQueue {
    pub(in crate::emulator) fn new(max_finished: usize) -> Self {
        Self {
            items: HashMap::new(),
            ready: VecDeque::new(),
            offered: VecDeque::new(),
            finished: VecDeque::new(),
            max_finished,
            workers: HashMap::new(),
            arrivals: Arc::default(),
        }
    }

    /// Wakes one waiting poll per item that becomes ready.
    pub(in crate::emulator) fn arrivals(&self) -> Arc<Notify> {
        Arc::clone(&self.arrivals)
    }

    pub(in crate::emulator) fn get(&self, id: &WorkId) -> Option<&WorkItem> {
        self.items.get(id)
    }

    pub(in crate::emulator) fn get_mut(&mut self, id: &WorkId) -> Option<&mut WorkItem> {
        self.items.get_mut(id)
    }

    /// Items that are not mere memories of a lapse, in the order they were made.
    pub(in crate::emulator) fn list(&self) -> Vec<&WorkItem> {
        let mut items: Vec<&WorkItem> =
            self.items.values().filter(|item| item.state != State::Lapsed).collect();
        items.sort_unstable_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        items
    }

    pub(super) fn push(&mut self, item: WorkItem) {
        self.ready.push_back(item.id.clone());
        self.items.insert(item.id.clone(), item);
        self.arrivals.notify_one();
    }

    /// Puts a known item at the end of the queue again.
    pub(super) fn push_again(&mut self, id: &WorkId) {
        self.ready.push_back(id.clone());
        self.arrivals.notify_one();
    }

    /// Remembers a finished item, and forgets the oldest ones.
    pub(super) fn finish(&mut self, id: &WorkId) {
        self.finished.push_back(id.clone());
        if self.finished.len() > self.max_finished
            && let Some(oldest) = self.finished.pop_front()
        {
            self.items.remove(&oldest);
        }
    }

    /// The item a poll at `now` gets, if any: offers older than `reclaim_age` first, they are the oldest.
    pub(super) fn take(&mut self, now: Instant, reclaim_age: Duration) -> Option<WorkId> {
        while let Some((at, id)) = self.offered.front() {
            if !self.is_offered(id, *at) {
                self.offered.pop_front();
            } else if now.saturating_duration_since(*at) >= reclaim_age {
                let id = id.clone();
                self.offered.pop_front();
                self.offered.push_back((now, id.clone()));
                return Some(id);
            } else {
                break;
            }
        }
        while let Some(id) = self.ready.pop_front() {
            if matches!(self.items.get(&id), Some(WorkItem { state: State::Queued { offered_at: None }, .. }))
            {
                self.offered.push_back((now, id.clone()));
                return Some(id);
            }
        }
        None
    }

    /// When the oldest offer becomes old enough for a poll with this age.
    pub(in crate::emulator) fn next_reclaim(&self, reclaim_age: Duration) -> Option<Instant> {
        let live = self.offered.iter().find(|(at, id)| self.is_offered(id, *at));
        live.map(|(at, _)| *at + reclaim_age)
    }

    fn is_offered(&self, id: &WorkId, at: Instant) -> bool {
        let state = self.items.get(id).map(|item| &item.state);
        state == Some(&State::Queued { offered_at: Some(at) })
    }

    /// Notes that `worker` polled.
    pub(in crate::emulator) fn saw(&mut self, worker: &str, now: Instant) {
        if let Some(seen) = self.workers.get_mut(worker) {
            *seen = now;
            return;
        }
        if self.workers.len() >= MAX_WORKERS {
            self.workers.retain(|_, seen| now.saturating_duration_since(*seen) < POLLING);
        }
        if self.workers.len() < MAX_WORKERS {
            self.workers.insert(worker.to_owned(), now);
        }
    }

    /// The stats object.
    pub(in crate::emulator) fn stats(&self, now: Instant) -> Value {
        let queued = |item: &&WorkItem| matches!(item.state, State::Queued { .. });
        let offered = |item: &&WorkItem| matches!(item.state, State::Queued { offered_at: Some(_) });
        let waiting: Vec<&WorkItem> = self.items.values().filter(queued).collect();
        let pending = waiting.iter().copied().filter(offered).count();
        let polling =
            self.workers.values().filter(|seen| now.saturating_duration_since(**seen) < POLLING).count();
        json!({
            "type": "work_queue_stats",
            "depth": waiting.len() - pending,
            "pending": pending,
            "oldest_queued_at": waiting.iter().map(|item| item.created_at).min().map(rfc3339),
            "workers_polling": polling,
        })
    }

    /// Whether an item is left that a worker holds or may be given.
    pub(in crate::emulator) fn has_live(&self) -> bool {
        self.items.values().any(|item| item.state.is_live())
    }
}
