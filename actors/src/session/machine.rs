//! One claimed work item, from its acknowledgement until it is stopped, lost or handed back.
//!
//! Owns the [lease] and the [run](super::run) of its calls, and decides what the two mean for
//! each other and for the sandbox.
//!
//! ```text
//! Claiming ──acknowledged──▶ Preparing ──held, session known──▶ Active
//!    │                          │                                 │ stop asked, handed back, no sandbox
//!    │ not claimed,             │ lost, stop asked, terminated,   ▼
//!    │ unknown type             │ cannot be retrieved          Settling
//!    │                          ▼                                 │ calls answered, or time is up
//!    └─────────────────────▶ Deleting ◀───────────────────────────┴─── Active: lost, idle, terminated
//!                               │ sandbox let go
//!                               ▼
//!                            Releasing ──lease over──▶ Done
//! ```
//!
//! # Invariants
//! - No call is dispatched before the lease is held, and none after it was lost.
//! - The lease is kept until the sandbox is gone; the item is stopped only then, and never after a loss.
//! - Every way out goes through `Done`, which is told once.
//!
//! # Not here
//! Which calls run and are answered ([`run`](super::run)); heartbeats ([`lease`]); delays
//! ([`backoff`](crate::backoff)); everything that touches the world, which is the actor's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::end::End;
use super::lease::{self, Lease};
use super::policy::Policy;
use super::run::{Life, Prior, Run};
use super::signals::{Effect, Event};
pub use super::state::{Awaits, Connection, Inheritance, InheritedLease, Mode, State, Stream};
use crate::ids::CallId;
use crate::machine::IllegalEvent;
use crate::ports::{SessionStatus, Target};

/// One claimed work item.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    lease: Lease,
    target: Target,
    prior: BTreeMap<CallId, Prior>,
    /// Signs of life of the session so far.
    signs: u64,
}

impl Machine {
    /// Starts to serve an item, or goes on where an earlier incarnation was cut off.
    pub fn start(target: Target, inherited: Inheritance, effects: &mut Vec<Effect>) -> Self {
        let mode = Mode::Serving;
        let mut about_lease = Vec::new();
        let lease = match (inherited.lease, &inherited.end) {
            (_, Some(end)) if end.is_loss() => Lease::Over,
            (None, None) => Lease::claim(&mut about_lease),
            (None, Some(_)) => Lease::Over,
            (Some(inherited), _) => Lease::resume(inherited, &mut about_lease),
        };
        effects.extend(about_lease.into_iter().map(Effect::Lease));
        let state = match (inherited.end, &lease) {
            (Some(end), _) => {
                effects.push(Effect::ReleaseSandbox(end.release()));
                State::Deleting { end }
            }
            (None, Lease::Acking { .. }) => State::Claiming { mode },
            (None, _) => {
                effects.push(Effect::Retrieve { attempt: 1 });
                State::Preparing { awaits: Awaits::LeaseAndSession, attempt: 1, mode }
            }
        };
        Self { state, lease, target, prior: inherited.calls, signs: 0 }
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where its lease stands.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`IllegalEvent`] if the event cannot occur in this state; nothing has changed then.
    pub fn step(
        &mut self,
        event: Event,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IllegalEvent> {
        match event {
            Event::Lease(event) => self.about_lease(event, policy, effects)?,
            event => {
                if let Some(end) = self.advance(event, policy, effects)? {
                    self.end(end, policy, effects);
                }
            }
        }
        self.rest(policy, effects);
        Ok(())
    }

    /// Lets the lease take an event, and acts on what that means for the session.
    fn about_lease(
        &mut self,
        event: lease::Event,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IllegalEvent> {
        let mut from_lease = Vec::new();
        self.lease.step(event, &policy.lease, &mut from_lease)?;
        for effect in from_lease {
            match effect {
                lease::Effect::Acknowledged => self.acknowledged(policy, effects),
                lease::Effect::Held => self.held(policy, effects),
                lease::Effect::Ended(ending) => self.end(ending.into(), policy, effects),
                lease::Effect::Over => {
                    if let State::Releasing { end } = &self.state {
                        let end = end.clone();
                        self.done(end, effects);
                    }
                }
                effect => effects.push(Effect::Lease(effect)),
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        let State::Claiming { mode } = self.state else { return };
        match &self.target {
            Target::Session(_) => {
                self.state = State::Preparing { awaits: Awaits::LeaseAndSession, attempt: 1, mode };
                effects.push(Effect::Retrieve { attempt: 1 });
            }
            Target::Other(kind) => self.end(End::Unsupported(Arc::clone(kind)), policy, effects),
        }
    }

    fn held(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        match &mut self.state {
            // Nothing has been begun, so nothing has to be brought to an end.
            State::Preparing { mode: Mode::Draining, .. } if self.prior.is_empty() => {
                self.end(End::HandedBack, policy, effects);
            }
            State::Preparing { awaits: Awaits::Lease, mode, .. } => {
                let mode = *mode;
                self.activate(mode, policy, effects);
            }
            State::Preparing { awaits, .. } => *awaits = Awaits::Session,
            _ => {}
        }
    }

    fn activate(&mut self, mode: Mode, policy: &Policy, effects: &mut Vec<Effect>) {
        let run = Run::new(std::mem::take(&mut self.prior));
        let stream = Stream::Opening(Connection { number: 1, failures: 0 });
        self.state = State::Active { run, stream, mode };
        effects.push(Effect::Attach { number: 1 });
        effects.push(Effect::Provision);
        self.listen(policy, effects);
    }

    /// Waits for the next sign of life.
    fn listen(&self, policy: &Policy, effects: &mut Vec<Effect>) {
        if let Some(after) = policy.max_silence {
            effects.push(Effect::ArmSilence { signs: self.signs, after });
        }
    }

    /// Takes an event that is not about the lease; the answer says whether the session ends because of it.
    fn advance(
        &mut self,
        event: Event,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<End>, IllegalEvent> {
        use {Event as E, State as S};
        let illegal = IllegalEvent { machine: "session", state: self.state.name(), event: event.name() };
        if matches!(event, E::History { .. } | E::Live { .. } | E::Finished { .. }) {
            self.signs += 1;
        }
        let life = match (&mut self.state, event) {
            (S::Preparing { .. }, E::Retrieved(SessionStatus::Terminated)) => Life::Terminated,
            (S::Preparing { awaits: Awaits::Session, mode, .. }, E::Retrieved(SessionStatus::Live)) => {
                let mode = *mode;
                self.activate(mode, policy, effects);
                Life::Live
            }
            (S::Preparing { awaits, .. }, E::Retrieved(SessionStatus::Live)) => {
                *awaits = Awaits::Lease;
                Life::Live
            }
            (S::Preparing { attempt: current, .. }, E::RetrieveFailed { attempt, fault })
                if *current == attempt =>
            {
                if !fault.class.is_retryable() || attempt >= policy.retrieve_attempts {
                    return Ok(Some(End::refused(fault)));
                }
                effects.push(Effect::ArmRetrieve { attempt, retry_after: fault.retry_after });
                Life::Live
            }
            (S::Preparing { attempt: current, .. }, E::RetrieveDue { attempt }) if *current == attempt => {
                *current += 1;
                effects.push(Effect::Retrieve { attempt: *current });
                Life::Live
            }
            (S::Active { run, stream, .. }, E::History { number, events }) => match *stream {
                Stream::Opening(connection) if connection.number == number => {
                    *stream = Stream::Live(connection);
                    run.reconcile(events, policy, effects)
                }
                Stream::Checking(connection) if connection.number == number => {
                    *stream = Stream::Live(connection);
                    let life = run.reconcile(events, policy, effects);
                    if life == Life::Live && run.is_at_rest() {
                        return Ok(Some(End::Idle));
                    }
                    life
                }
                _ => Life::Live,
            },
            (S::Active { run, stream, .. }, E::Live { number, event }) => match stream {
                Stream::Live(connection) if connection.number == number => {
                    connection.failures = 0;
                    run.observe(event, policy, effects)
                }
                _ => Life::Live,
            },
            (S::Active { stream, .. }, E::StreamFailed { number, fault }) => match *stream {
                Stream::Opening(connection) | Stream::Live(connection) | Stream::Checking(connection)
                    if connection.number == number =>
                {
                    if !fault.class.is_retryable() {
                        return Ok(Some(End::refused(fault)));
                    }
                    let (number, failures) = (number + 1, connection.failures + 1);
                    *stream = Stream::Waiting(Connection { number, failures });
                    effects.push(Effect::ArmStream { number, failures, retry_after: fault.retry_after });
                    Life::Live
                }
                _ => Life::Live,
            },
            (S::Active { stream, .. }, E::StreamDue { number }) => {
                if let Stream::Waiting(connection) = *stream
                    && connection.number == number
                {
                    *stream = Stream::Opening(connection);
                    effects.push(Effect::Attach { number });
                }
                Life::Live
            }
            (S::Active { run, .. } | S::Settling { run, .. }, E::Finished { call, result }) => {
                run.finished(&call, result, policy, effects);
                Life::Live
            }
            (S::Active { run, .. } | S::Settling { run, .. }, E::Posted { call }) => {
                run.posted(&call, policy, effects);
                Life::Live
            }
            (S::Active { run, .. } | S::Settling { run, .. }, E::PostFailed { call, fault }) => {
                run.post_failed(&call, &fault, policy, effects);
                Life::Live
            }
            (S::Active { run, .. } | S::Settling { run, .. }, E::PostDue { call, attempt }) => {
                run.post_due(&call, attempt, effects);
                Life::Live
            }
            (S::Active { .. }, E::SandboxFailed(fault)) => return Ok(Some(End::Failed(fault))),
            // While nothing is heard, a new turn may have begun; the history will tell.
            (S::Active { run, stream, .. }, E::IdleDue { number }) => {
                if let Stream::Live(connection) = *stream
                    && run.is_clock(number)
                {
                    let number = connection.number + 1;
                    *stream = Stream::Checking(Connection { number, failures: 0 });
                    effects.push(Effect::Attach { number });
                }
                Life::Live
            }
            (S::Active { run, .. }, E::SilenceDue { signs }) => {
                if signs == self.signs && run.is_quiet() && !run.is_at_rest() {
                    return Ok(Some(End::Silent));
                }
                self.listen(policy, effects);
                Life::Live
            }
            (S::Claiming { .. } | S::Preparing { .. }, E::Leave)
            | (S::Claiming { .. } | S::Preparing { .. } | S::Active { .. }, E::LeaveNow) => {
                return Ok(Some(End::Left));
            }
            (S::Active { run, mode, .. }, E::Leave) => {
                run.close();
                *mode = Mode::Leaving;
                Life::Live
            }
            (S::Settling { end, .. }, E::SettleDue) => {
                let end = end.clone();
                self.delete(end, effects);
                Life::Live
            }
            (S::Deleting { end }, E::SandboxGone) => {
                let end = end.clone();
                self.release(end, policy, effects)?;
                Life::Live
            }
            // An item that was acknowledged and never got a heartbeat may be stuck for good, so the first
            // beat is waited for even when the item will be handed back.
            (S::Claiming { mode }, E::Drain | E::HandBack)
            | (
                S::Preparing { mode, awaits: Awaits::LeaseAndSession | Awaits::Lease, .. },
                E::Drain | E::HandBack,
            ) => {
                *mode = Mode::Draining;
                Life::Live
            }
            // The session is being retrieved, and then has calls to bring to an end.
            (S::Preparing { mode, .. }, E::Drain) if !self.prior.is_empty() => {
                *mode = Mode::Draining;
                Life::Live
            }
            (S::Preparing { .. }, E::Drain | E::HandBack) | (S::Active { .. }, E::HandBack) => {
                return Ok(Some(End::HandedBack));
            }
            (S::Active { mode: mode @ Mode::Serving, .. }, E::Drain) => {
                *mode = Mode::Draining;
                Life::Live
            }
            (
                S::Claiming { .. } | S::Preparing { .. } | S::Active { .. } | S::Settling { .. },
                E::Supersede,
            ) => {
                return Ok(Some(End::Superseded));
            }
            (S::Claiming { .. } | S::Preparing { .. }, E::SandboxGone | E::SandboxFailed(_)) => {
                return Err(illegal);
            }
            // Late or repeated, and harmless: a timer or an answer that outlived its state.
            _ => Life::Live,
        };
        Ok((life != Life::Live).then_some(End::SessionOver))
    }

    /// Whether answers may be on their way.
    fn has_run(&self) -> bool {
        matches!(self.state, State::Active { .. } | State::Settling { .. } | State::Deleting { .. })
    }

    /// Goes on to the end of the session, from wherever it is.
    fn end(&mut self, end: End, policy: &Policy, effects: &mut Vec<Effect>) {
        if matches!(end, End::Lost(_)) && self.has_run() {
            effects.push(Effect::Withhold);
        }
        match &mut self.state {
            // An earlier incarnation may have left a sandbox.
            State::Claiming { .. } | State::Preparing { .. } => self.delete(end, effects),
            State::Active { run, .. } => {
                effects.push(Effect::Detach);
                if let Some(why) = end.cancellation() {
                    run.cut_all(why, effects);
                    let run = std::mem::take(run);
                    self.state = State::Settling { run, end };
                    effects.push(Effect::ArmSettle { after: policy.settle });
                } else {
                    self.delete(end, effects);
                }
            }
            // What is being settled is of no use once nothing may be posted any more.
            State::Settling { .. } if end.cancellation().is_none() => self.delete(end, effects),
            State::Deleting { end: current } if matches!(end, End::Lost(_)) => *current = end,
            State::Settling { .. } | State::Deleting { .. } | State::Releasing { .. } | State::Done => {}
        }
    }

    /// What follows from where an event has left the session.
    fn rest(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        match &self.state {
            State::Active { run, mode: Mode::Draining, stream: Stream::Live(_) } if run.is_at_rest() => {
                self.end(End::Idle, policy, effects);
            }
            State::Active { run, mode: Mode::Leaving, .. } if run.is_quiet() => {
                self.end(End::Left, policy, effects);
            }
            State::Settling { run, end } if run.outstanding() == 0 => {
                let end = end.clone();
                self.delete(end, effects);
            }
            _ => {}
        }
    }

    fn delete(&mut self, end: End, effects: &mut Vec<Effect>) {
        effects.push(Effect::ReleaseSandbox(end.release()));
        self.state = State::Deleting { end };
    }

    fn release(&mut self, end: End, policy: &Policy, effects: &mut Vec<Effect>) -> Result<(), IllegalEvent> {
        // The next process goes on with the lease where it is now.
        if self.lease == Lease::Over || end == End::Left {
            self.done(end, effects);
            return Ok(());
        }
        let farewell = end.farewell();
        self.state = State::Releasing { end };
        self.about_lease(farewell, policy, effects)
    }

    fn done(&mut self, end: End, effects: &mut Vec<Effect>) {
        self.state = State::Done;
        effects.push(Effect::Done(end));
    }
}

#[cfg(test)]
mod tests;
