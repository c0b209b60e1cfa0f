//! How the session lets go of its sandbox: deleted, parked on the shelf, or left to the next process.

use super::Lifecycle;
use crate::sandbox::policy::Policy;
use crate::sandbox::signals::{Effect, Release};
use crate::sandbox::state::{Maker, Next, State, Then};

impl Lifecycle {
    pub(super) fn delete(&mut self, effects: &mut Vec<Effect>) {
        self.calls.clear();
        effects.push(Effect::Delete);
        self.state = State::Deleting { attempt: 1 };
    }

    pub(super) fn release(&mut self, how: Release, policy: &Policy, effects: &mut Vec<Effect>) {
        use {Release as R, State as S};
        match (&self.state, how) {
            // Whatever was said first is being done; only a delete goes further.
            (S::Abandoning | S::Deleting { .. } | S::Parked | S::Left | S::Gone, _)
            | (
                S::Parting | S::Rousing { .. } | S::Tidying { .. } | S::Parking | S::Shelving | S::Leaving,
                R::Park | R::HandOver | R::Leave,
            ) => {}
            (S::Rousing { .. }, R::Delete) => self.state = S::Rousing { then: Then::Delete },
            (S::Tidying { .. }, R::Delete) => self.state = S::Tidying { then: Then::Delete },
            (S::Ready, R::Leave) if self.calls.is_empty() => {
                effects.push(Effect::Standby);
                self.state = S::Leaving;
            }
            (_, R::Leave) => self.left(effects),
            (S::Ready, R::Park) => {
                self.calls.part(effects);
                effects.push(Effect::ArmPart { after: policy.part_within });
                self.part(effects);
            }
            // What runs in it goes on; one in which nothing runs must not stay awake there.
            (S::Ready, R::HandOver) if self.calls.is_empty() => self.park(effects),
            (S::Freezing | S::Standby | S::Thawing { .. }, R::Park) if self.outfit.is_tended() => {
                self.tidy_up(Then::Park, effects);
            }
            (S::Ready | S::Freezing | S::Standby | S::Thawing { .. }, R::Delete)
                if self.outfit.is_tended() =>
            {
                self.tidy_up(Then::Delete, effects);
            }
            (S::Ready | S::Standby, R::HandOver) | (S::Standby, R::Park) => {
                self.calls.clear();
                self.shelve(effects);
            }
            (S::Freezing, R::Park | R::HandOver) => {
                self.calls.clear();
                self.state = S::Parking;
            }
            (S::Fitting { .. } | S::Thawing { .. }, R::Park | R::HandOver) => {
                self.calls.clear();
                self.park(effects);
            }
            // Whether it is there turns out soon enough.
            (
                S::LookingUp { maker: Maker::Earlier | Maker::Parked, .. }
                | S::BackingOff { next: Next::LookUp(Maker::Earlier | Maker::Parked), .. },
                R::Park | R::HandOver,
            ) => {
                self.calls.clear();
                self.park(effects);
            }
            (S::Creating { .. }, _) => self.state = S::Abandoning,
            // The delete that is under way will do.
            (S::Replacing { attempt }, _) => {
                let attempt = *attempt;
                self.calls.clear();
                self.state = S::Deleting { attempt };
            }
            _ => self.delete(effects),
        }
    }

    /// Parks the sandbox once no call is left.
    pub(super) fn part(&mut self, effects: &mut Vec<Effect>) {
        if !self.calls.is_empty() {
            self.state = State::Parting;
        } else if self.outfit.is_tended() {
            self.tidy_up(Then::Park, effects);
        } else {
            self.park(effects);
        }
    }

    pub(super) fn park(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Standby);
        self.state = State::Parking;
    }

    pub(super) fn shelve(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Shelve);
        self.state = State::Shelving;
    }

    pub(super) fn left(&mut self, effects: &mut Vec<Effect>) {
        self.calls.clear();
        effects.push(Effect::Gone);
        self.state = State::Left;
    }

    pub(super) fn gone(&mut self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Gone);
        self.state = State::Gone;
    }
}
