//! Who held which item when, and who said what about it: the control plane's own account.

use std::collections::BTreeMap;
use std::time::Instant;

use remuda::emulator::{Operation, Record, SessionHandle};
use remuda_actors::ids::{SessionId, WorkId};

use super::proxy::worker_of;

/// One work item.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// What it is about.
    pub(crate) session: SessionId,
    /// The workers whose heartbeats were accepted, and when the first of each was.
    pub(crate) holders: BTreeMap<usize, Instant>,
    /// When it was stopped or lapsed.
    pub(crate) released: Option<Instant>,
    /// The requests to stop it: by whom, when, and the status of the answer.
    pub(crate) stops: Vec<(usize, Instant, Option<u16>)>,
}

impl Item {
    /// Whether it ended although nobody had asked for that.
    pub(crate) fn lapsed(&self) -> bool {
        let accepted = |status: Option<u16>| status.is_some_and(|status| (200..300).contains(&status));
        self.released.is_some() && !self.stops.iter().any(|(_, _, status)| accepted(*status))
    }

    /// Whether a worker held it at a time, or had until a moment before.
    pub(crate) fn was_held(&self, by: usize, at: Instant, moment: std::time::Duration) -> bool {
        let since = self.holders.get(&by).is_some_and(|since| *since <= at + moment);
        since && self.released.is_none_or(|released| at <= released + moment)
    }
}

/// A result that a worker sent.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    /// Who sent it.
    pub(crate) worker: usize,
    /// To which session.
    pub(crate) session: SessionId,
    /// When it arrived.
    pub(crate) at: Instant,
    /// The calls it answers.
    pub(crate) calls: Vec<String>,
    /// Whether it was accepted.
    pub(crate) is_accepted: bool,
}

/// The whole account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) items: BTreeMap<WorkId, Item>,
    pub(crate) posts: Vec<Post>,
    /// Requests that came from nowhere known.
    pub(crate) strangers: usize,
}

impl Account {
    /// Reads the control plane's log and its sessions.
    pub(crate) fn read(records: &[Record], sessions: &[SessionHandle], workers: usize) -> Self {
        let mut account = Self::default();
        for session in sessions {
            for claim in session.timing().into_iter().flat_map(|timing| timing.claims) {
                let (holders, stops) = (BTreeMap::new(), Vec::new());
                let item =
                    Item { session: session.id().clone(), holders, released: claim.released_at, stops };
                account.items.insert(claim.work, item);
            }
        }
        for record in records {
            let Some(worker) = worker_of(record.peer, workers) else {
                account.strangers += 1;
                continue;
            };
            account.add(worker, record);
        }
        account
    }

    fn add(&mut self, worker: usize, record: &Record) {
        // `/v1/environments/…/work/WORK/…` and `/v1/sessions/SESSION/…`.
        let mut parts = record.path.split('/').skip(3);
        let accepted = record.status().is_some_and(|status| (200..300).contains(&status));
        match record.operation {
            Operation::Heartbeat | Operation::Stop => {
                let work = parts.nth(2).map(WorkId::from);
                let Some(item) = work.and_then(|work| self.items.get_mut(&work)) else { return };
                if record.operation == Operation::Stop {
                    item.stops.push((worker, record.arrived_at, record.status()));
                } else if accepted {
                    item.holders.entry(worker).or_insert(record.arrived_at);
                }
            }
            Operation::PostEvents => {
                let Some(session) = parts.next().map(SessionId::from) else { return };
                let events = record.json()["events"].as_array().cloned().unwrap_or_default();
                let results = events.iter().filter(|event| event["type"] == "user.tool_result");
                let calls: Vec<_> =
                    results.filter_map(|event| event["tool_use_id"].as_str().map(str::to_owned)).collect();
                self.posts.push(Post {
                    worker,
                    session,
                    at: record.arrived_at,
                    calls,
                    is_accepted: accepted,
                });
            }
            _ => {}
        }
    }

    /// The items of a session that somebody held at some time between two.
    pub(crate) fn held_between(&self, session: &SessionId, from: Instant, to: Instant) -> usize {
        let overlaps = |item: &&Item| {
            item.session == *session
                && item.holders.values().any(|since| *since <= to)
                && item.released.is_none_or(|released| released >= from)
        };
        self.items.values().filter(overlaps).count()
    }
}
