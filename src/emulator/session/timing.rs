//! When what happened to a session, by the emulator's monotonic clock.

use std::collections::VecDeque;
use std::time::Instant;

use remuda_actors::ids::{CallId, WorkId};

/// Claims and calls remembered for a session; the oldest go first.
const MAX_RECORDS: usize = 1000;

/// When what happened to a session.
#[derive(Clone, Debug)]
pub struct Timing {
    /// When it was created.
    pub created_at: Instant,
    /// Its work items, in the order they were queued; the last 1000.
    pub claims: VecDeque<Claim>,
    /// Its tool calls, in the order they were emitted; the last 1000.
    pub calls: VecDeque<CallTiming>,
    /// When it last went idle with nothing left to do, or was terminated.
    pub ended_at: Option<Instant>,
}

/// One work item of the session. Each instant is the first of its kind.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The item.
    pub work: WorkId,
    /// When it was queued.
    pub queued_at: Instant,
    /// When a poll returned it.
    pub offered_at: Option<Instant>,
    /// When it was acknowledged.
    pub acked_at: Option<Instant>,
    /// When its first heartbeat was accepted.
    pub first_heartbeat_at: Option<Instant>,
    /// When it was stopped or lapsed.
    pub released_at: Option<Instant>,
}

/// One tool call.
#[derive(Clone, Debug)]
pub struct CallTiming {
    /// The call.
    pub call: CallId,
    /// The tool's name.
    pub name: String,
    /// When its event was handed to the session's followers.
    pub emitted_at: Instant,
    /// When its result was accepted, or the emulator resolved it itself.
    pub resolved_at: Option<Instant>,
}

impl Timing {
    pub(super) fn new(created_at: Instant) -> Self {
        Self { created_at, claims: VecDeque::new(), calls: VecDeque::new(), ended_at: None }
    }

    pub(in crate::emulator) fn queued(&mut self, work: WorkId, now: Instant) {
        if self.claims.len() == MAX_RECORDS {
            self.claims.pop_front();
        }
        self.claims.push_back(Claim {
            work,
            queued_at: now,
            offered_at: None,
            acked_at: None,
            first_heartbeat_at: None,
            released_at: None,
        });
    }

    pub(in crate::emulator) fn offered(&mut self, work: &WorkId, now: Instant) {
        self.note(work, |claim| &mut claim.offered_at, now);
    }

    pub(in crate::emulator) fn acked(&mut self, work: &WorkId, now: Instant) {
        self.note(work, |claim| &mut claim.acked_at, now);
    }

    pub(in crate::emulator) fn beaten(&mut self, work: &WorkId, now: Instant) {
        self.note(work, |claim| &mut claim.first_heartbeat_at, now);
    }

    pub(in crate::emulator) fn released(&mut self, work: &WorkId, now: Instant) {
        self.note(work, |claim| &mut claim.released_at, now);
    }

    pub(super) fn emitted(&mut self, call: CallId, name: &str, now: Instant) {
        if self.calls.len() == MAX_RECORDS {
            self.calls.pop_front();
        }
        self.calls.push_back(CallTiming { call, name: name.to_owned(), emitted_at: now, resolved_at: None });
    }

    pub(super) fn resolved(&mut self, call: &CallId, now: Instant) {
        if let Some(timing) = self.calls.iter_mut().rev().find(|timing| timing.call == *call) {
            timing.resolved_at.get_or_insert(now);
        }
    }

    fn note(&mut self, work: &WorkId, field: fn(&mut Claim) -> &mut Option<Instant>, now: Instant) {
        if let Some(claim) = self.claims.iter_mut().rev().find(|claim| claim.work == *work) {
            field(claim).get_or_insert(now);
        }
    }
}
