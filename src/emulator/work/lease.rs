//! What happens to work items in the world: offering, acknowledging, beating, stopping, lapsing.
//!
//! Each function settles what is overdue first, so that an answer never depends on whether the timer task has
//! come around, then takes one step of the machine and performs its effect.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use remuda_actors::ids::{EnvironmentId, SessionId, WorkId};
use serde_json::{Value, json};

use super::machine::{self, Effect, Event, Refusal, State};
use super::queue::{Subject, WorkItem};
use crate::emulator::auth::Identity;
use crate::emulator::clock::rfc3339;
use crate::emulator::http::ApiError;
use crate::emulator::world::{self, World};

/// When which items may be overdue. An entry may be early, since a heartbeat only moves the item's own
/// deadline; it is then armed anew when it comes up.
#[derive(Debug, Default)]
pub(in crate::emulator) struct Timers(BinaryHeap<Reverse<(Instant, EnvironmentId, WorkId)>>);

impl Timers {
    /// When the next entry comes up.
    pub(in crate::emulator) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    fn pop_due(&mut self, now: Instant) -> Option<(EnvironmentId, WorkId)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, environment, work))| (environment, work))
    }
}

impl World {
    /// Queues work about `subject` in `environment`.
    pub(in crate::emulator) fn enqueue(
        &mut self,
        environment: &EnvironmentId,
        subject: Subject,
    ) -> Option<WorkId> {
        let token = self.mint.sessions_token();
        let id = WorkId::from(self.mint.id("work"));
        let (now, wall) = (self.now, self.wall());
        let item = WorkItem::new(id.clone(), subject, &token, wall);
        let session = item.session().cloned();
        self.environments.get_mut(environment)?.queue.push(item);
        let identity = Identity::Session { session: session.clone(), environment: environment.clone() };
        self.credentials.insert(token, identity);
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
            session.live_work = Some(id.clone());
            session.timing.queued(id.clone(), now);
        }
        Some(id)
    }

    /// Queues work for a session that has none.
    pub(in crate::emulator) fn ensure_work(&mut self, session: &SessionId) {
        let Some(found) = self.sessions.get(session) else { return };
        if found.live_work.is_none() && !found.is_terminated() {
            let environment = found.environment.clone();
            self.enqueue(&environment, Subject::Session(session.clone()));
        }
    }

    /// Offers the next item of `environment`'s queue, secret included.
    pub(in crate::emulator) fn offer(
        &mut self,
        environment: &EnvironmentId,
        reclaim_age: Duration,
    ) -> Option<Value> {
        let now = self.now;
        let id = self.environments.get_mut(environment)?.queue.take(now, reclaim_age)?;
        // `take` returns queued items only, and those can always be offered.
        self.advance(environment, &id, Event::Offered).ok()?;
        let item = self.environments.get(environment)?.queue.get(&id)?;
        Some(item.wire_with_secret(environment))
    }

    /// Acknowledges an item; answers with the work object.
    pub(in crate::emulator) fn acknowledge(
        &mut self,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<Value, ApiError> {
        self.advance(environment, work, Event::Acked)?;
        Ok(self.work(environment, work)?.wire(environment))
    }

    /// Takes or extends a lease; answers with the heartbeat object.
    pub(in crate::emulator) fn heartbeat(
        &mut self,
        environment: &EnvironmentId,
        work: &WorkId,
        expected: &str,
        desired_ttl: Option<Duration>,
    ) -> Result<Value, ApiError> {
        let stamp = self.next_stamp();
        self.advance(environment, work, Event::Heartbeat { expected, stamp: &stamp, desired_ttl })?;
        let state = &self.work(environment, work)?.state;
        let ttl = match state {
            State::Active { ttl, .. } | State::Stopping { ttl, .. } => *ttl,
            _ => self.policy.ttl,
        };
        Ok(json!({
            "type": "work_heartbeat",
            "state": state.name(),
            "last_heartbeat": state.stamp().map_or("", |stamp| stamp),
            "lease_extended": matches!(state, State::Active { .. }),
            "ttl_seconds": ttl.as_secs(),
        }))
    }

    /// Stops an item, or asks its holder to.
    pub(in crate::emulator) fn stop(
        &mut self,
        environment: &EnvironmentId,
        work: &WorkId,
        force: bool,
    ) -> Result<(), ApiError> {
        self.advance(environment, work, Event::StopRequested { force })
    }

    /// Takes the lease of an item away, as if it had lapsed.
    pub(in crate::emulator) fn revoke_lease(
        &mut self,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<(), ApiError> {
        self.advance(environment, work, Event::Revoked)
    }

    /// Lets somebody else take over the work of `subject`: the lease is revoked, and what comes back is
    /// acknowledged and beaten at once by a holder that never beats again.
    pub(in crate::emulator) fn usurp(
        &mut self,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<(), ApiError> {
        let subject = self.work(environment, work)?.subject.clone();
        self.revoke_lease(environment, work)?;
        let live = match &subject {
            Subject::Session(session) => self.sessions.get(session).and_then(|found| found.live_work.clone()),
            Subject::Other { .. } => None,
        };
        let work = live.unwrap_or_else(|| work.clone());
        self.advance(environment, &work, Event::Acked)?;
        self.heartbeat(environment, &work, machine::NO_HEARTBEAT, None).map(drop)
    }

    /// Lapses whatever is overdue.
    pub(in crate::emulator) fn lapse_overdue(&mut self) {
        while let Some((environment, work)) = self.timers.pop_due(self.now) {
            let item = self.environments.get_mut(&environment).and_then(|found| found.queue.get_mut(&work));
            let Some(item) = item else { continue };
            item.timer = None;
            // Nothing overdue is refused; a step that changes nothing arms the timer again.
            drop(self.advance(&environment, &work, Event::Elapsed));
        }
    }

    /// One item, or the refusal that names it.
    pub(in crate::emulator) fn work(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<&WorkItem, ApiError> {
        let queue = &self.environment(environment)?.queue;
        let missing = || ApiError::not_found(format!("environment {environment} has no work item {work}"));
        queue.get(work).ok_or_else(missing)
    }

    /// Whether `identity` may touch an item: a key any item of its environment, a token those of its session.
    pub(in crate::emulator) fn check_work(
        &self,
        identity: &Identity,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<(), ApiError> {
        identity.check_environment(environment)?;
        let item = self.work(environment, work)?;
        match (identity, item.session()) {
            (Identity::Session { session: own, .. }, session) if own.as_ref() != session => {
                Err(ApiError::permission(format!("this sessions token is not one of work item {work}")))
            }
            _ => Ok(()),
        }
    }

    /// Settles what is overdue, then takes one step.
    fn advance(
        &mut self,
        environment: &EnvironmentId,
        work: &WorkId,
        event: Event<'_>,
    ) -> Result<(), ApiError> {
        if self.work(environment, work)?.state.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.take_step(environment, work, Event::Elapsed)?;
        }
        self.take_step(environment, work, event)
    }

    fn take_step(
        &mut self,
        environment: &EnvironmentId,
        work: &WorkId,
        event: Event<'_>,
    ) -> Result<(), ApiError> {
        let (now, wall) = (self.now, self.wall());
        let state = &self.work(environment, work)?.state;
        let (before, was_live) = (state.name(), state.is_live());
        let step = match machine::step(state, event, now, &self.policy) {
            Ok(step) => step,
            Err(refusal) => return Err(self.refuse(environment, work, &refusal)),
        };
        let Some(queue) = self.environments.get_mut(environment).map(|found| &mut found.queue) else {
            return Ok(());
        };
        let Some(item) = queue.get_mut(work) else { return Ok(()) };
        item.state = step.next;
        match event {
            Event::Acked => item.acknowledged_at = item.acknowledged_at.or(Some(wall)),
            Event::Heartbeat { .. } => item.latest_heartbeat_at = Some(wall),
            Event::StopRequested { .. } => item.stop_requested_at = item.stop_requested_at.or(Some(wall)),
            Event::Offered | Event::Elapsed | Event::Revoked => {}
        }
        if before != item.state.name() {
            match item.state {
                State::Active { .. } => item.started_at = Some(wall),
                State::Stopped { .. } | State::Lapsed => item.stopped_at = Some(wall),
                _ => {}
            }
        }
        if let Some(deadline) = item.state.deadline()
            && item.timer.is_none_or(|timer| deadline < timer)
        {
            item.timer = Some(deadline);
            let sooner = self.timers.next().is_none_or(|next| deadline < next);
            self.timers.0.push(Reverse((deadline, environment.clone(), work.clone())));
            if sooner {
                self.effects.push(world::Effect::WakeTimers);
            }
        }
        let (ended, session) = (was_live && !item.state.is_live(), item.session().cloned());
        let subject = item.subject.clone();
        match step.effect {
            Some(Effect::RequeueSame) => {
                item.clear_lease();
                queue.push_again(work);
            }
            Some(Effect::Dequeue | Effect::RequeueNew) | None => {}
        }
        if ended {
            queue.finish(work);
        }
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
            match event {
                Event::Offered => session.timing.offered(work, now),
                Event::Acked => session.timing.acked(work, now),
                Event::Heartbeat { .. } => session.timing.beaten(work, now),
                Event::StopRequested { .. } | Event::Elapsed | Event::Revoked => {}
            }
            if ended {
                session.timing.released(work, now);
                if session.live_work.as_ref() == Some(work) {
                    session.live_work = None;
                }
                session.changed.notify_waiters();
            }
        }
        if step.effect == Some(Effect::RequeueNew) {
            self.enqueue(environment, subject);
        }
        Ok(())
    }

    fn refuse(&self, environment: &EnvironmentId, work: &WorkId, refusal: &Refusal) -> ApiError {
        let Refusal::NotHolder { expected, actual } = refusal else {
            return ApiError::conflict(refusal.to_string());
        };
        let actual = actual.as_deref().unwrap_or("NULL");
        let item = self.work(environment, work).ok();
        // To its old holder a lapsed item is one that went back to the queue.
        let state = match item.map(|item| &item.state) {
            None | Some(State::Lapsed) => "queued",
            Some(state) => state.name(),
        };
        let current = json!({
            "state": state,
            "last_heartbeat": item.and_then(|item| item.state.stamp()).map(|stamp| &**stamp),
            "lease_updated_at": item
                .filter(|item| item.state != State::Lapsed)
                .and_then(|item| item.latest_heartbeat_at)
                .map(rfc3339),
            "lease_extended": false,
            "ttl_seconds": self.policy.ttl.as_secs(),
        });
        let message = format!("Heartbeat precondition failed: expected {expected}, actual was {actual}");
        ApiError::precondition(message, current)
    }
}
