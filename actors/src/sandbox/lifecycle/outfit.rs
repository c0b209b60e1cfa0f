//! How a sandbox is furnished before its first call, looked after between calls, and seen to at the end.

use super::Lifecycle;
use crate::fault::Fault;
use crate::ports::{Care, Fitted};
use crate::sandbox::policy::Policy;
use crate::sandbox::signals::{Effect, Unfit};
use crate::sandbox::state::{State, Then};

/// What is known of what the present instance is furnished with.
#[derive(Clone, Debug, Default)]
pub(super) struct Outfit {
    /// None as long as it is not furnished.
    fitted: Option<Fitted>,
    /// What it is being looked after for.
    care: Option<Care>,
    /// Whether something may have changed since it was last looked after in peace.
    unsettled: bool,
}

impl Outfit {
    /// Whether there is anything to look after.
    pub(super) fn is_tended(&self) -> bool {
        self.fitted == Some(Fitted::Tended)
    }

    /// Whether somebody is looking after it.
    pub(super) fn is_cared_for(&self) -> bool {
        self.care.is_some()
    }

    /// Something may have changed.
    pub(super) fn unsettle(&mut self) {
        self.unsettled = true;
    }

    /// Whether it must be looked after before it is frozen.
    pub(super) fn is_unsettled(&self) -> bool {
        self.is_tended() && self.unsettled
    }

    /// Has it looked after before it is frozen.
    pub(super) fn settle(&mut self, effects: &mut Vec<Effect>) {
        self.unsettled = false;
        self.care(Care::Still, effects);
    }

    fn care(&mut self, care: Care, effects: &mut Vec<Effect>) {
        self.care = Some(care);
        effects.push(Effect::Tend(care));
    }
}

impl Lifecycle {
    /// Whether the present instance has yet to be furnished.
    pub(super) fn is_unfit(&self, policy: &Policy) -> bool {
        policy.outfits && self.outfit.fitted.is_none()
    }

    pub(super) fn fit(&mut self, attempt: u32, effects: &mut Vec<Effect>) {
        effects.push(Effect::Fit);
        self.state = State::Fitting { attempt };
    }

    pub(super) fn fitted(&mut self, fitted: Fitted, policy: &Policy, effects: &mut Vec<Effect>) {
        self.outfit.fitted = Some(fitted);
        self.ready(policy, effects);
    }

    pub(super) fn fit_failed(
        &mut self,
        attempt: u32,
        unfit: Unfit,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        let Unfit { fault, of_sandbox } = unfit;
        if fault.class.is_retryable() && attempt < policy.fit_attempts {
            effects.push(Effect::ArmRetry { attempt, retry_after: fault.retry_after });
        } else if of_sandbox && self.rounds < policy.create_rounds {
            self.rounds += 1;
            self.replace(&fault, policy, effects);
        } else {
            self.give_up(fault, effects);
        }
    }

    /// The session cannot be served without what is missing; its calls are answered with that.
    fn give_up(&mut self, fault: Fault, effects: &mut Vec<Effect>) {
        effects.push(Effect::Unavailable(fault.clone()));
        self.calls.fail(&fault, effects);
        effects.push(Effect::GiveUp(fault.clone()));
        self.state = State::Failed { fault };
    }

    /// A call has ended.
    pub(super) fn tend(&mut self, effects: &mut Vec<Effect>) {
        if self.state == State::Ready && self.outfit.is_tended() && !self.outfit.is_cared_for() {
            self.outfit.care(Care::CallEnded, effects);
        }
    }

    /// It was looked after.
    pub(super) fn tended(&mut self, care: Care, policy: &Policy, effects: &mut Vec<Effect>) {
        if self.outfit.care != Some(care) {
            return;
        }
        self.outfit.care = None;
        match (&self.state, care) {
            (State::Tidying { then }, Care::Farewell) => self.follow(*then, effects),
            // Its time had come before.
            (State::Ready, Care::Still) if self.calls.is_empty() && policy.standby_after.is_some() => {
                let number = self.idle.start();
                effects.push(Effect::ArmIdle { number, after: std::time::Duration::ZERO });
            }
            _ => self.rest(policy, effects),
        }
    }

    /// The session lets go of a sandbox that runs, stands by, or is on its way from one to the other. It is looked
    /// after a last time, for which it has to be awake.
    pub(super) fn tidy_up(&mut self, then: Then, effects: &mut Vec<Effect>) {
        self.calls.clear();
        match self.state {
            State::Ready | State::Parting => self.tidy(then, effects),
            State::Freezing => self.state = State::Rousing { then },
            State::Standby | State::Thawing { .. } => {
                effects.push(Effect::Resume);
                self.state = State::Rousing { then };
            }
            // There is nobody to look after.
            _ => self.follow(then, effects),
        }
    }

    pub(super) fn tidy(&mut self, then: Then, effects: &mut Vec<Effect>) {
        self.outfit.care(Care::Farewell, effects);
        self.state = State::Tidying { then };
    }

    /// The last look is over.
    pub(super) fn follow(&mut self, then: Then, effects: &mut Vec<Effect>) {
        match then {
            Then::Park => self.park(effects),
            Then::Delete => self.delete(effects),
        }
    }
}
