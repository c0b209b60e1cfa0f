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
//! from everywhere: StopRequested ──▶ (Abandoning: the create cannot be recalled) ──▶ Deleting ──▶ Gone
//! ```
//!
//! # Invariants
//! - A create whose outcome is unknown is looked up before anything else is done under its name.
//! - `Gone` follows a delete that the provider confirmed, or one that was given up and reported as leaked.
//! - A call that was given to an instance is never given to another one: it is answered as unknown.
//! - A call that comes while the sandbox freezes or stands by waits, and wakes it.
//!
//! # Not here
//! Delays and jitter ([`backoff`](crate::backoff)); sandboxes whose owner died ([`reaper`](crate::reaper)).

use std::collections::BTreeMap;

use super::policy::Policy;
use super::signals::{Effect, Event, Undone};
use crate::fault::{Fault, FaultClass};
use crate::ids::CallId;
use crate::machine::IllegalEvent;
use crate::session::run::Cancellation;

/// Where the sandbox stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// A create is in flight.
    Creating {
        /// Counted from 1 within a round.
        attempt: u32,
    },
    /// It is being found out whether the instance exists.
    LookingUp {
        /// Counted from 1 within a round, together with the creates.
        attempt: u32,
        /// Who may have created it.
        maker: Maker,
    },
    /// Waiting before the next attempt.
    BackingOff {
        /// The attempt that failed.
        attempt: u32,
        /// What to try.
        next: Next,
    },
    /// A create is in flight and nobody wants its result any more.
    Abandoning,
    /// It runs.
    Ready,
    /// It is being put in standby.
    Freezing,
    /// It stands by.
    Standby,
    /// It is being woken.
    Thawing {
        /// Counted from 1.
        attempt: u32,
    },
    /// It is of no use any more and is being deleted, to make room for the next instance.
    Replacing {
        /// Counted from 1.
        attempt: u32,
    },
    /// There is none; the next call gets one.
    Absent,
    /// There is none, and a whole round of creates failed; the next call starts another round.
    Failed {
        /// How the last create failed.
        fault: Fault,
    },
    /// The session is over and the sandbox is being deleted.
    Deleting {
        /// Counted from 1.
        attempt: u32,
    },
    /// Terminal.
    Gone,
}

impl State {
    /// One word for the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Creating { .. } => "creating",
            Self::LookingUp { .. } => "looking_up",
            Self::BackingOff { .. } => "backing_off",
            Self::Abandoning => "abandoning",
            Self::Ready => "ready",
            Self::Freezing => "freezing",
            Self::Standby => "standby",
            Self::Thawing { .. } => "thawing",
            Self::Replacing { .. } => "replacing",
            Self::Absent => "absent",
            Self::Failed { .. } => "failed",
            Self::Deleting { .. } => "deleting",
            Self::Gone => "gone",
        }
    }
}

/// Who may have created an instance that is being looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// An earlier incarnation: if there is none, it is lost.
    Earlier,
    /// We: if there is none, the create failed.
    Us,
}

/// What to try when a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To create the instance.
    Create,
    /// To look it up, since the answer of a create or of a look-up is missing.
    LookUp(Maker),
}

/// Where one call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Until the sandbox is ready. `started` says that it was given to this instance before, so that it can
    /// only be attached to.
    Waiting { started: bool, cut: Option<Cancellation> },
    /// With the hand.
    Running { attempt: u32 },
    /// The hand was not heard; it is being found out whether the instance still exists.
    Probing { attempt: u32, fault: Fault },
    /// Waiting before the hand is asked again.
    BackingOff { attempt: u32 },
}

/// One session's sandbox.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    state: State,
    instance: u32,
    rounds: u32,
    idles: u32,
    calls: BTreeMap<CallId, Stage>,
}

impl Lifecycle {
    /// A sandbox that does not exist yet.
    pub fn create(effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Create { instance: 1 });
        Self::new(State::Creating { attempt: 1 }, 1)
    }

    /// A sandbox that an earlier incarnation intended to create, and may have.
    pub fn adopt(instance: u32, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::LookUp { instance });
        Self::new(State::LookingUp { attempt: 1, maker: Maker::Earlier }, instance)
    }

    fn new(state: State, instance: u32) -> Self {
        Self { state, instance, rounds: 0, idles: 0, calls: BTreeMap::new() }
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
        let busy = self.calls.values().any(|stage| !matches!(stage, Stage::Waiting { .. }));
        if busy && self.state == State::Ready { "busy" } else { self.state.name() }
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
            (_, E::Call { call, started }) => self.submit(call, started, policy, effects),
            (_, E::Cancel { call, why }) => self.cancel(call, why, effects),

            (S::Creating { .. }, E::Created) => self.ready(policy, effects),
            (S::Creating { attempt }, E::CreateFailed(fault)) => {
                let attempt = *attempt;
                self.create_failed(attempt, fault, policy, effects);
            }
            (S::Abandoning, E::Created | E::CreateFailed(_)) => self.delete(effects),
            (S::LookingUp { .. }, E::LookedUp { present: true }) => self.ready(policy, effects),
            (S::LookingUp { maker: Maker::Earlier, .. }, E::LookedUp { present: false }) => {
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

            (S::Ready, E::IdleDue { number }) if number == self.idles && self.calls.is_empty() => {
                effects.push(Effect::Standby);
                self.state = S::Freezing;
            }
            (S::Freezing, E::StoodBy) if self.calls.is_empty() => self.state = S::Standby,
            (S::Freezing, E::StoodBy) => self.thaw(1, effects),
            // It may be frozen all the same, and resuming one that is not is harmless.
            (S::Freezing, E::StandbyFailed(_)) => self.thaw(1, effects),
            (S::Thawing { .. }, E::Resumed) => self.ready(policy, effects),
            (S::Thawing { attempt }, E::ResumeFailed(fault)) => {
                if fault.class.is_retryable() && *attempt < policy.thaw_attempts {
                    effects.push(Effect::ArmRetry { attempt: *attempt, retry_after: fault.retry_after });
                } else {
                    self.replace(&fault, effects);
                }
            }
            (S::Thawing { attempt: waiting }, E::RetryDue { attempt }) if *waiting == attempt => {
                self.thaw(attempt + 1, effects);
            }

            (_, E::Answered { call }) => {
                self.calls.remove(&call);
                self.idle(policy, effects);
            }
            (_, E::CallFailed { call, fault }) => self.call_failed(call, fault, policy, effects),
            (_, E::Probed { call, present }) => self.probed(call, present, effects),
            (S::Ready, E::CallDue { call, attempt }) => {
                if let Some(stage) = self.calls.get_mut(&call)
                    && *stage == (Stage::BackingOff { attempt })
                {
                    *stage = Stage::Running { attempt: attempt + 1 };
                    effects.push(Effect::Run { call });
                }
            }
            (_, E::CancelFailed { call, attempt, why }) => {
                if self.calls.contains_key(&call) && attempt < policy.cancel_attempts {
                    let attempt = attempt + 1;
                    effects.push(Effect::CancelRunning { call, attempt, why });
                }
            }

            (S::Creating { .. }, E::StopRequested) => self.state = S::Abandoning,
            (S::Abandoning | S::Deleting { .. } | S::Gone, E::StopRequested) => {}
            // The delete that is under way will do.
            (S::Replacing { attempt }, E::StopRequested) => self.state = S::Deleting { attempt: *attempt },
            (_, E::StopRequested) => self.delete(effects),
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
            (_, E::RetryDue { .. } | E::CallDue { .. } | E::IdleDue { .. })
            | (
                S::Deleting { .. } | S::Gone,
                E::LookedUp { .. }
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
                | E::Deleted
                | E::DeleteFailed(_),
            ) => return Err(illegal),
        }
        Ok(())
    }

    fn submit(&mut self, call: CallId, started: bool, policy: &Policy, effects: &mut Vec<Effect>) {
        if self.calls.contains_key(&call) {
            return;
        }
        self.idles += 1;
        let stage = Stage::Waiting { started, cut: None };
        match &self.state {
            State::Ready => {
                effects.push(Effect::Run { call: call.clone() });
                self.calls.insert(call, Stage::Running { attempt: 1 });
            }
            State::Standby => {
                self.calls.insert(call, stage);
                self.thaw(1, effects);
            }
            State::Absent | State::Failed { .. } if started => {
                let fault = Fault::new(FaultClass::Ambiguous, "its sandbox is gone");
                effects.push(Effect::Undone { call, why: Undone::Lost(fault) });
            }
            State::Absent => {
                self.calls.insert(call, stage);
                self.begin(1, effects);
            }
            State::Failed { fault } if fault.class.is_retryable() && self.rounds < policy.create_rounds => {
                self.calls.insert(call, stage);
                self.begin(1, effects);
            }
            // The agent is told every time, so that it can come to an end by itself, but not for ever.
            State::Failed { fault } => {
                self.rounds += 1;
                effects.push(Effect::Undone { call, why: Undone::NoSandbox(fault.clone()) });
                if self.rounds > policy.create_rounds {
                    effects.push(Effect::GiveUp(fault.clone()));
                }
            }
            State::Abandoning | State::Deleting { .. } | State::Gone => {
                effects.push(Effect::Undone { call, why: Undone::Cancelled(Cancellation::Unwanted) });
            }
            State::Creating { .. }
            | State::LookingUp { .. }
            | State::BackingOff { .. }
            | State::Freezing
            | State::Thawing { .. }
            | State::Replacing { .. } => {
                self.calls.insert(call, stage);
            }
        }
    }

    fn cancel(&mut self, call: CallId, why: Cancellation, effects: &mut Vec<Effect>) {
        match self.calls.get_mut(&call) {
            Some(Stage::Waiting { started: false, .. }) => {
                self.calls.remove(&call);
                effects.push(Effect::Undone { call, why: Undone::Cancelled(why) });
            }
            Some(Stage::Waiting { cut, .. }) => *cut = Some(why),
            Some(_) => effects.push(Effect::CancelRunning { call, attempt: 1, why }),
            None => {}
        }
    }

    fn begin(&mut self, attempt: u32, effects: &mut Vec<Effect>) {
        effects.push(Effect::Create { instance: self.instance });
        self.state = State::Creating { attempt };
    }

    fn look_up(&mut self, attempt: u32, maker: Maker, effects: &mut Vec<Effect>) {
        effects.push(Effect::LookUp { instance: self.instance });
        self.state = State::LookingUp { attempt, maker };
    }

    fn create_failed(&mut self, attempt: u32, fault: Fault, policy: &Policy, effects: &mut Vec<Effect>) {
        if fault.class == FaultClass::Ambiguous {
            self.look_up(attempt, Maker::Us, effects);
        } else {
            self.back_off(attempt, Next::Create, fault, policy, effects);
        }
    }

    /// Waits for the next attempt, or ends the round if there is none.
    fn back_off(
        &mut self,
        attempt: u32,
        next: Next,
        fault: Fault,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        if fault.class.is_retryable() && attempt < policy.create_attempts {
            effects.push(Effect::ArmRetry { attempt, retry_after: fault.retry_after });
            self.state = State::BackingOff { attempt, next };
            return;
        }
        self.rounds += 1;
        effects.push(Effect::Unavailable(fault.clone()));
        for (call, stage) in std::mem::take(&mut self.calls) {
            let why = match stage {
                Stage::Waiting { started: false, .. } => Undone::NoSandbox(fault.clone()),
                _ => Undone::Lost(fault.clone()),
            };
            effects.push(Effect::Undone { call, why });
        }
        self.state = State::Failed { fault };
    }

    /// The sandbox runs: so do the calls that waited for it.
    fn ready(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        self.state = State::Ready;
        self.rounds = 0;
        for (call, stage) in &mut self.calls {
            if let Stage::Waiting { cut, .. } = *stage {
                *stage = Stage::Running { attempt: 1 };
                effects.push(Effect::Run { call: call.clone() });
                if let Some(why) = cut {
                    effects.push(Effect::CancelRunning { call: call.clone(), attempt: 1, why });
                }
            }
        }
        self.idle(policy, effects);
    }

    fn idle(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        if self.state == State::Ready
            && self.calls.is_empty()
            && let Some(after) = policy.standby_after
        {
            self.idles += 1;
            effects.push(Effect::ArmIdle { number: self.idles, after });
        }
    }

    fn thaw(&mut self, attempt: u32, effects: &mut Vec<Effect>) {
        effects.push(Effect::Resume);
        self.state = State::Thawing { attempt };
    }

    fn call_failed(&mut self, call: CallId, fault: Fault, policy: &Policy, effects: &mut Vec<Effect>) {
        let Some(Stage::Running { attempt }) = self.calls.get(&call) else { return };
        let attempt = *attempt;
        if !fault.class.is_retryable() {
            self.calls.remove(&call);
            effects.push(Effect::Undone { call, why: Undone::Refused(fault) });
            self.idle(policy, effects);
        } else if attempt < policy.call_attempts {
            effects.push(Effect::Probe { call: call.clone() });
            self.calls.insert(call, Stage::Probing { attempt, fault });
        } else {
            // It is there and does not answer: whatever is wrong with it will not pass.
            self.replace(&fault, effects);
        }
    }

    fn probed(&mut self, call: CallId, present: bool, effects: &mut Vec<Effect>) {
        let Some(Stage::Probing { attempt, fault }) = self.calls.get(&call) else { return };
        let (attempt, fault) = (*attempt, fault.clone());
        if present {
            effects.push(Effect::ArmCall { call: call.clone(), attempt });
            self.calls.insert(call, Stage::BackingOff { attempt });
        } else {
            self.lose(&fault, effects);
        }
    }

    /// The instance is gone.
    fn lose(&mut self, fault: &Fault, effects: &mut Vec<Effect>) {
        self.forget(fault, effects);
        self.absent(effects);
    }

    /// The instance is of no use any more.
    fn replace(&mut self, fault: &Fault, effects: &mut Vec<Effect>) {
        self.forget(fault, effects);
        effects.push(Effect::Delete);
        self.state = State::Replacing { attempt: 1 };
    }

    /// Calls that this instance was given have no answer any more.
    fn forget(&mut self, fault: &Fault, effects: &mut Vec<Effect>) {
        self.calls.retain(|call, stage| {
            let kept = matches!(stage, Stage::Waiting { started: false, .. });
            if !kept {
                effects.push(Effect::Undone { call: call.clone(), why: Undone::Lost(fault.clone()) });
            }
            kept
        });
    }

    /// There is no instance: make the next one if a call waits for it.
    fn absent(&mut self, effects: &mut Vec<Effect>) {
        self.instance += 1;
        self.state = State::Absent;
        if !self.calls.is_empty() {
            self.begin(1, effects);
        }
    }

    fn delete(&mut self, effects: &mut Vec<Effect>) {
        self.calls.clear();
        effects.push(Effect::Delete);
        self.state = State::Deleting { attempt: 1 };
    }

    fn gone(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Gone);
        self.state = State::Gone;
    }
}

#[cfg(test)]
mod tests;
