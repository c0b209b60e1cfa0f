//! How an instance comes about: created, looked up, tried again, or given up for this round.

use std::time::Duration;

use super::Lifecycle;
use crate::fault::{Fault, FaultClass};
use crate::sandbox::policy::Policy;
use crate::sandbox::signals::Effect;
use crate::sandbox::state::{Maker, Next, State};

impl Lifecycle {
    pub(super) fn begin(&mut self, attempt: u32, effects: &mut Vec<Effect>) {
        effects.push(Effect::Create { instance: self.instance });
        self.state = State::Creating { attempt };
    }

    pub(super) fn look_up(&mut self, attempt: u32, maker: Maker, effects: &mut Vec<Effect>) {
        effects.push(Effect::LookUp { instance: self.instance });
        self.state = State::LookingUp { attempt, maker };
    }

    pub(super) fn create_failed(
        &mut self,
        attempt: u32,
        fault: Fault,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        let attempt = self.used(attempt, &fault, policy);
        if fault.class == FaultClass::Ambiguous {
            self.look_up(attempt, Maker::Us, effects);
        } else {
            self.back_off(attempt, Next::Create, fault, policy, effects);
        }
    }

    /// The attempts that are used up by a failed one: a request that an open circuit refused was none, unless
    /// that goes on for too long.
    pub(super) fn used(&mut self, attempt: u32, fault: &Fault, policy: &Policy) -> u32 {
        match fault.retry_after {
            Some(wait) if fault.class == FaultClass::Throttled && !wait.is_zero() => {
                self.refused = self.refused.saturating_add(wait);
                attempt.saturating_sub(u32::from(self.refused <= policy.refused_for))
            }
            _ => {
                self.refused = Duration::ZERO;
                attempt
            }
        }
    }

    /// Waits for the next attempt, or ends the round if there is none.
    pub(super) fn back_off(
        &mut self,
        attempt: u32,
        next: Next,
        fault: Fault,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        let attempts = match next {
            Next::LookUp(Maker::Earlier | Maker::Parked) => policy.adopt_attempts,
            Next::LookUp(Maker::Us) | Next::Create => policy.create_attempts,
        };
        if fault.class.is_retryable() && attempt < attempts {
            effects.push(Effect::ArmRetry { attempt, retry_after: fault.retry_after });
            self.state = State::BackingOff { attempt, next };
            return;
        }
        self.rounds += 1;
        effects.push(Effect::Unavailable(fault.clone()));
        self.calls.fail(&fault, effects);
        self.state = State::Failed { fault };
    }
}
