//! One session's sandbox, from the first call to its provider until the provider holds nothing for us.
//!
//! Owned by a [`session`](crate::session). Over its life it may go through several *instances*: when one is
//! lost, the next call gets another. At most one instance exists at a time, and at most one request about it
//! is with the provider; calls to its hand run beside that.
//!
//! ```text
//!            Created                      IdleDue            StoodBy
//! Creating ───────────▶ Ready ◀────────────────────▶ Freezing ─────▶ Standby
//!  │  ▲  ▲ \              │ ▲                 Resumed               │ call
//!  │  │  │  \ ambiguous   │ └────────────────────────── Thawing ◀───┘
//!  │  │  │   ▼            │ hand silent                   │ cannot
//!  │  │  └ LookingUp      ▼                               ▼
//!  │  │      present ▶ Ready     Replacing ◀──────────────┘      Replacing, Absent, Failed: the next call
//!  │  │ RetryDue                  │ Deleted                      goes back to Creating
//!  ▼  │                           ▼
//! BackingOff ──gives up──▶ Failed, Absent (found to be gone)
//!
//! Released, from everywhere:      (Abandoning: the create cannot be recalled) ──▶ Deleting ──▶ Gone
//!   if the session may come back: (Parting: calls are cut) ──▶ Parking ──▶ Shelving ──▶ Parked
//!   if the next process goes on:  (Leaving: it is frozen if nothing runs) ──▶ Left
//! ```
//!
//! A sandbox without calls for a while is frozen, unless its jobs hold it ([`Background`]).
//!
//! Where sandboxes are furnished ([`Outfitter`](crate::ports::Outfitter)), three states come between:
//!
//! ```text
//! Creating, LookingUp, Thawing ──▶ Fitting ──Fitted──▶ Ready        before the first call of each instance
//! Ready ──IdleDue──▶ Ready, looked after ──Tended──▶ Freezing       so that what stands by is in step
//! Released: (Rousing: it is woken) ──▶ Tidying ──Tended──▶ Parking, Deleting
//! ```
//!
//! # Invariants
//! - A create whose outcome is unknown is looked up before anything else is done under its name.
//! - `Gone` follows a delete that the provider confirmed, or one that was given up and reported as leaked.
//! - A call that was given to an instance is never given to another one: it is answered as unknown. Only
//!   calls that change nothing are an exception.
//! - A call that comes while the sandbox freezes or stands by waits, and wakes it.
//! - No call is given to an instance that is not furnished, if it is to be, and nobody looks after one that stands by.
//!
//! # Not here
//! Delays and jitter ([`backoff`](crate::backoff)); sandboxes without a session ([`herd`](crate::herd)), and
//! those whose owner died ([`reaper`](crate::reaper)).

mod ending;
mod outfit;
mod provision;

use std::time::Duration;

use self::outfit::Outfit;
use super::calls::Calls;
use super::idle::Idle;
use super::policy::{Background, Policy};
use super::signals::{Call, Effect, Event, Undone};
use super::state::{Maker, Next, State};
use crate::fault::{Fault, FaultClass};
use crate::ids::CallId;
use crate::machine::IllegalEvent;
use crate::session::run::Cancellation;

/// One session's sandbox.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: State,
    instance: u32,
    rounds: u32,
    /// How long the open circuit before its provider has had it wait since it was let through.
    refused: Duration,
    idle: Idle,
    calls: Calls,
    outfit: Outfit,
}

impl Lifecycle {
    /// A sandbox that does not exist yet; its first instance is to have this number.
    pub fn create(instance: u32, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Create { instance });
        Self::new(State::Creating { attempt: 1 }, instance)
    }

    /// A sandbox that an earlier incarnation intended to create, and may have.
    pub fn adopt(instance: u32, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::LookUp { instance });
        Self::new(State::LookingUp { attempt: 1, maker: Maker::Earlier }, instance)
    }

    /// A sandbox that was parked.
    pub fn unpark(instance: u32, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::LookUp { instance });
        Self::new(State::LookingUp { attempt: 1, maker: Maker::Parked }, instance)
    }

    fn new(state: State, instance: u32) -> Self {
        let (idle, calls, outfit) = (Idle::default(), Calls::default(), Outfit::default());
        Self { state, instance, rounds: 0, refused: Duration::ZERO, idle, calls, outfit }
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The number of the current instance.
    pub fn instance(&self) -> u32 {
        self.instance
    }

    /// One word for the state, in which a sandbox that runs a call is busy.
    pub fn name(&self) -> &'static str {
        if self.calls.any_given() && self.state == State::Ready { "busy" } else { self.state.name() }
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
        use {Event as E, State as S};
        let illegal = IllegalEvent { machine: "sandbox", state: self.state.name(), event: event.name() };
        match (&self.state, event) {
            (_, E::Call(call)) => self.submit(call, policy, effects),
            (_, E::Cancel { call, why }) => self.calls.cancel(call, why, effects),

            (S::Creating { .. }, E::Created) => self.ready(policy, effects),
            (S::Creating { attempt }, E::CreateFailed(fault)) => {
                let attempt = *attempt;
                self.create_failed(attempt, fault, policy, effects);
            }
            (S::Abandoning, E::Created | E::CreateFailed(_)) => self.delete(effects),
            (S::LookingUp { maker: Maker::Us, .. }, E::LookedUp { present: true }) => {
                self.ready(policy, effects)
            }
            (S::LookingUp { maker: Maker::Parked, .. }, E::LookedUp { present: true })
                if self.calls.is_empty() =>
            {
                self.state = S::Standby;
            }
            // It may stand by.
            (S::LookingUp { .. }, E::LookedUp { present: true }) => self.thaw(1, effects),
            (S::LookingUp { maker: Maker::Earlier | Maker::Parked, .. }, E::LookedUp { present: false }) => {
                let fault = Fault::new(FaultClass::Ambiguous, "it was gone when we came back");
                self.lose(&fault, effects);
            }
            (S::LookingUp { attempt, maker: Maker::Us }, E::LookedUp { present: false }) => {
                let attempt = *attempt;
                let fault = Fault::new(FaultClass::Transient, "the provider did not create it");
                self.back_off(attempt, Next::Create, fault, policy, effects);
            }
            (S::LookingUp { attempt, maker }, E::LookUpFailed(fault)) => {
                let (attempt, next) = (*attempt, Next::LookUp(*maker));
                self.back_off(attempt, next, fault, policy, effects);
            }
            (S::BackingOff { attempt: waiting, next }, E::RetryDue { attempt }) if *waiting == attempt => {
                match *next {
                    Next::Create => self.begin(attempt + 1, effects),
                    Next::LookUp(maker) => self.look_up(attempt + 1, maker, effects),
                }
            }

            (S::Fitting { .. }, E::Fitted(fitted)) => self.fitted(fitted, policy, effects),
            (S::Fitting { attempt }, E::FitFailed(unfit)) => {
                let attempt = *attempt;
                self.fit_failed(attempt, unfit, policy, effects);
            }
            (S::Fitting { attempt: waiting }, E::RetryDue { attempt }) if *waiting == attempt => {
                self.fit(attempt + 1, effects);
            }
            (_, E::Tended(care)) => self.tended(care, policy, effects),
            (S::Ready, E::IdleDue { number }) if self.idle.is_current(number) && self.outfit.is_unsettled() => {
                self.outfit.settle(effects);
            }
            (S::Ready, E::IdleDue { number }) if self.idle.is_current(number) => match policy.background {
                Background::Freeze => self.freeze(effects),
                Background::Hold | Background::HoldWhileBusy => effects.push(Effect::Inspect { number }),
            },
            (S::Ready, E::Inspected { number, jobs }) if self.idle.is_current(number) => {
                match self.idle.hold(jobs, policy) {
                    Some(after) => {
                        self.outfit.unsettle();
                        effects.push(Effect::ArmIdle { number, after });
                    }
                    None => self.freeze(effects),
                }
            }
            (S::Standby, E::Expected) if policy.thaw_early => self.thaw(1, effects),
            (S::Freezing, E::StoodBy) if self.calls.is_empty() => self.state = S::Standby,
            (S::Freezing, E::StoodBy) => self.thaw(1, effects),
            // It may be frozen all the same, and resuming one that is not is harmless.
            (S::Freezing, E::StandbyFailed(_)) => self.thaw(1, effects),
            (S::Thawing { .. }, E::Resumed) => self.ready(policy, effects),
            (S::Thawing { attempt }, E::ResumeFailed(fault)) => {
                let attempt = self.used(*attempt, &fault, policy);
                if fault.class.is_retryable() && attempt < policy.thaw_attempts {
                    effects.push(Effect::ArmRetry { attempt, retry_after: fault.retry_after });
                    self.state = S::Thawing { attempt };
                } else {
                    self.replace(&fault, policy, effects);
                }
            }
            (S::Thawing { attempt: waiting }, E::RetryDue { attempt }) if *waiting == attempt => {
                self.thaw(attempt + 1, effects);
            }

            (S::Parting, E::Answered { call } | E::CallFailed { call, .. }) => {
                self.calls.remove(&call);
                self.part(effects);
            }
            (_, E::Answered { call }) => {
                self.calls.remove(&call);
                self.tend(effects);
                self.rest(policy, effects);
            }
            (_, E::CallFailed { call, fault }) => self.call_failed(call, fault, policy, effects),
            (_, E::Probed { call, present }) => self.probed(call, present, effects),
            (S::Ready, E::CallDue { call, attempt }) => self.calls.due(&call, attempt, effects),
            (_, E::CancelFailed { call, attempt, why }) => {
                if self.calls.contains(&call) && attempt < policy.cancel_attempts {
                    let attempt = attempt + 1;
                    effects.push(Effect::CancelRunning { call, attempt, why });
                }
            }

            (_, E::Released(how)) => self.release(how, policy, effects),
            (S::Rousing { .. }, E::StoodBy | E::StandbyFailed(_)) => effects.push(Effect::Resume),
            (S::Rousing { then }, E::Resumed) => {
                let then = *then;
                self.tidy(then, effects);
            }
            (S::Rousing { then }, E::ResumeFailed(_)) => {
                let then = *then;
                self.follow(then, effects);
            }
            (S::Parting, E::PartDue) => self.delete(effects),
            (S::Leaving, E::StoodBy | E::StandbyFailed(_)) => self.left(effects),
            (S::Parking, E::StoodBy) => self.shelve(effects),
            (S::Shelving, E::Shelved) => {
                effects.push(Effect::Gone);
                self.state = S::Parked;
            }
            (S::Parking, E::StandbyFailed(_)) | (S::Shelving, E::ShelveFailed(_)) => self.delete(effects),
            (S::Deleting { .. }, E::Deleted) => self.gone(effects),
            (S::Replacing { .. }, E::Deleted) => self.absent(effects),
            (S::Deleting { attempt } | S::Replacing { attempt }, E::DeleteFailed(fault)) => {
                if fault.class.is_retryable() && *attempt < policy.delete_attempts {
                    effects.push(Effect::ArmRetry { attempt: *attempt, retry_after: fault.retry_after });
                } else {
                    effects.push(Effect::Leaked(fault));
                    if matches!(self.state, S::Deleting { .. }) {
                        self.gone(effects);
                    } else {
                        self.absent(effects);
                    }
                }
            }
            (
                S::Deleting { attempt: waiting } | S::Replacing { attempt: waiting },
                E::RetryDue { attempt },
            ) if *waiting == attempt => {
                effects.push(Effect::Delete);
                let attempt = attempt + 1;
                self.state = match self.state {
                    S::Deleting { .. } => S::Deleting { attempt },
                    _ => S::Replacing { attempt },
                };
            }
            // Late or repeated, and harmless: a timer or an answer that outlived its state.
            (S::Left, E::Created | E::CreateFailed(_) | E::Deleted | E::DeleteFailed(_)) => {}
            (
                _,
                E::RetryDue { .. }
                | E::CallDue { .. }
                | E::IdleDue { .. }
                | E::Inspected { .. }
                | E::Expected
                | E::PartDue
                | E::Fitted(_)
                | E::FitFailed(_),
            )
            // What the request came to that was given up for the sake of parking.
            | (
                S::Parking | S::Shelving,
                E::LookedUp { .. } | E::LookUpFailed(_) | E::Resumed | E::ResumeFailed(_),
            )
            | (
                S::Deleting { .. } | S::Parked | S::Left | S::Gone,
                E::LookedUp { .. }
                | E::Shelved
                | E::ShelveFailed(_)
                | E::LookUpFailed(_)
                | E::StoodBy
                | E::StandbyFailed(_)
                | E::Resumed
                | E::ResumeFailed(_),
            ) => {}
            (
                _,
                E::Created
                | E::CreateFailed(_)
                | E::LookedUp { .. }
                | E::LookUpFailed(_)
                | E::StoodBy
                | E::StandbyFailed(_)
                | E::Resumed
                | E::ResumeFailed(_)
                | E::Shelved
                | E::ShelveFailed(_)
                | E::Deleted
                | E::DeleteFailed(_),
            ) => return Err(illegal),
        }
        Ok(())
    }

    fn submit(&mut self, call: Call, policy: &Policy, effects: &mut Vec<Effect>) {
        if self.calls.contains(&call.id) {
            return;
        }
        self.idle.stop();
        self.outfit.unsettle();
        let call = match self.is_attachable() {
            true => call,
            false if call.started && !call.rerun => {
                let fault = Fault::new(FaultClass::Ambiguous, "its sandbox is gone");
                effects.push(Effect::Undone { call: call.id, why: Undone::Lost(fault) });
                return;
            }
            false => Call { started: false, ..call },
        };
        match &self.state {
            State::Ready => self.calls.run(call, effects),
            State::Standby => {
                self.calls.wait(call);
                self.thaw(1, effects);
            }
            State::Absent => {
                self.calls.wait(call);
                self.begin(1, effects);
            }
            State::Failed { fault } if fault.class.is_retryable() && self.rounds < policy.create_rounds => {
                self.calls.wait(call);
                self.begin(1, effects);
            }
            // The agent is told every time, so that it can come to an end by itself, but not for ever.
            State::Failed { fault } => {
                self.rounds += 1;
                effects.push(Effect::Undone { call: call.id, why: Undone::NoSandbox(fault.clone()) });
                if self.rounds > policy.create_rounds {
                    effects.push(Effect::GiveUp(fault.clone()));
                }
            }
            State::Abandoning
            | State::Parting
            | State::Rousing { .. }
            | State::Tidying { .. }
            | State::Parking
            | State::Shelving
            | State::Leaving
            | State::Deleting { .. }
            | State::Parked
            | State::Left
            | State::Gone => {
                let why = Undone::Cancelled(Cancellation::Unwanted);
                effects.push(Effect::Undone { call: call.id, why });
            }
            State::Creating { .. }
            | State::LookingUp { .. }
            | State::BackingOff { .. }
            | State::Fitting { .. }
            | State::Freezing
            | State::Thawing { .. }
            | State::Replacing { .. } => self.calls.wait(call),
        }
    }

    /// Whether a call that was given to the instance before this moment can be attached to. Once that instance
    /// is known to be gone or of no use, the call must not be taken for one of the next.
    fn is_attachable(&self) -> bool {
        use State as S;
        match &self.state {
            S::Absent | S::Failed { .. } | S::Creating { .. } | S::Replacing { .. } => false,
            S::LookingUp { maker, .. } | S::BackingOff { next: Next::LookUp(maker), .. } => {
                *maker != Maker::Us
            }
            S::BackingOff { next: Next::Create, .. } => false,
            S::Fitting { .. }
            | S::Ready
            | S::Freezing
            | S::Standby
            | S::Thawing { .. }
            | S::Abandoning
            | S::Parting
            | S::Rousing { .. }
            | S::Tidying { .. }
            | S::Parking
            | S::Shelving
            | S::Leaving
            | S::Deleting { .. }
            | S::Parked
            | S::Left
            | S::Gone => true,
        }
    }

    /// The sandbox runs: so do the calls that waited for it.
    fn ready(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        if self.is_unfit(policy) {
            return self.fit(1, effects);
        }
        self.outfit.unsettle();
        self.state = State::Ready;
        (self.rounds, self.refused) = (0, Duration::ZERO);
        self.calls.run_waiting(effects);
        self.rest(policy, effects);
    }

    /// Starts the idle clock if no call is left.
    fn rest(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        if self.state == State::Ready
            && self.calls.is_empty()
            && !self.outfit.is_cared_for()
            && let Some(after) = policy.standby_after
        {
            effects.push(Effect::ArmIdle { number: self.idle.start(), after });
        }
    }

    fn freeze(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Standby);
        self.state = State::Freezing;
    }

    fn thaw(&mut self, attempt: u32, effects: &mut Vec<Effect>) {
        effects.push(Effect::Resume);
        self.state = State::Thawing { attempt };
    }

    fn call_failed(&mut self, call: CallId, fault: Fault, policy: &Policy, effects: &mut Vec<Effect>) {
        let Some(attempt) = self.calls.running(&call) else { return };
        if !fault.class.is_retryable() {
            self.calls.remove(&call);
            effects.push(Effect::Undone { call, why: Undone::Refused(fault) });
            self.rest(policy, effects);
        } else if attempt * if fault.class == FaultClass::Ambiguous { 2 } else { 1 } < policy.call_attempts {
            self.calls.probe(&call, attempt, fault, effects);
        } else {
            // It is there and does not answer: whatever is wrong with it will not pass.
            self.replace(&fault, policy, effects);
        }
    }

    fn probed(&mut self, call: CallId, present: bool, effects: &mut Vec<Effect>) {
        let Some((attempt, fault)) = self.calls.probed(&call) else { return };
        if present {
            self.calls.back_off(&call, attempt, effects);
        } else if self.state == State::Parting {
            self.delete(effects);
        } else {
            self.lose(&fault, effects);
        }
    }

    /// The instance is gone.
    fn lose(&mut self, fault: &Fault, effects: &mut Vec<Effect>) {
        self.calls.lose(fault, effects);
        self.absent(effects);
    }

    /// The instance is of no use any more. If the next one takes over its files, it is ended then.
    fn replace(&mut self, fault: &Fault, policy: &Policy, effects: &mut Vec<Effect>) {
        self.calls.lose(fault, effects);
        if policy.keep_files {
            return self.absent(effects);
        }
        effects.push(Effect::Delete);
        self.state = State::Replacing { attempt: 1 };
    }

    /// There is no instance: make the next one if a call waits for it.
    fn absent(&mut self, effects: &mut Vec<Effect>) {
        self.instance += 1;
        self.outfit = Outfit::default();
        self.state = State::Absent;
        if !self.calls.is_empty() {
            self.begin(1, effects);
        }
    }
}

#[cfg(test)]
mod tests;
