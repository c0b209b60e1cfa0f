//! Whose turn it is when there are fewer slots than takers.
//!
//! Every environment has a weight. The next free slot goes to the one that holds the fewest for its weight,
//! and among equals to the one that has waited longest.
//!
//! # Why that is enough
//! - *Shares*: whoever holds less than its part of all slots holds fewer for its weight than somebody who
//!   holds more than its own, so it is served first; under load what each holds converges to its weight, off
//!   by one slot.
//! - *Nothing lies idle*: what one does not ask for another gets, at the latest when the next poll is over.
//! - *Nobody starves*: who holds nothing comes before everyone who holds something, and after at most all
//!   the others who hold nothing either.
//!
//! # Looking costs a slot, too
//! A poller needs a slot merely to *ask* a queue, and most queues are empty most of the time. Two pollers of
//! empty queues, which hold nothing, would hand the last slot to each other for ever while a third, whose
//! queue is long, waits. So each says whether it has reason to expect work ([`Demand`]), and of two grants in
//! a row at most one passes over somebody who has. Each free slot is then used for one look at most before
//! it goes to where work is known to be.
//!
//! # Who is just claiming
//! A poller claims one item at a time, so while its poll is in flight it does not wait, however much it is
//! owed. When several slots come free at once, what is owed to it must not go to whoever happens to wait. So
//! for each environment that claims known work, as many free slots as it takes to bring it level are left
//! over by those who hold more for their weight. Its poll is over within a second, and then it has asked
//! again or has nothing to ask for.
//!
//! # Not here
//! Waking up who was granted a slot, and the host's memory: the gate around this.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::Environment;
use crate::ids::EnvironmentId;

/// Names one request for a slot; later ones are greater.
pub type Ticket = u64;

/// Whether there is reason to expect work in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It had work when it was asked last, or something said that it has.
    Known,
    /// It must be asked to find out.
    Unknown,
}

/// The slots and who holds them.
#[derive(Clone, Debug)]
pub struct Shares {
    total: usize,
    environments: BTreeMap<EnvironmentId, Share>,
    waiting: BTreeMap<Ticket, (EnvironmentId, Demand)>,
    last: Ticket,
    /// Whether the last grant passed over somebody with known demand.
    looked: bool,
}

/// One environment's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its weight.
    pub weight: NonZeroU32,
    /// Slots it holds.
    pub held: usize,
    /// The grant with which it is claiming known work at present.
    claiming: Option<Ticket>,
}

impl Share {
    /// Slots held for the weight, times the other's weight so that both sides can be compared.
    fn scaled(&self, other: &Self) -> u128 {
        self.held as u128 * u128::from(other.weight.get())
    }

    /// Slots it would take more to hold as many for its weight as the other.
    fn behind(&self, other: &Self) -> usize {
        let level = other.scaled(self).div_ceil(u128::from(other.weight.get()));
        usize::try_from(level).unwrap_or(usize::MAX).saturating_sub(self.held)
    }

    fn new(weight: NonZeroU32) -> Self {
        Self { weight, held: 0, claiming: None }
    }
}

impl Shares {
    /// So many slots, all free.
    pub fn new(total: usize, environments: &[Environment]) -> Self {
        let share = |environment: &Environment| (environment.id.clone(), Share::new(environment.weight));
        Self {
            total,
            environments: environments.iter().map(share).collect(),
            waiting: BTreeMap::new(),
            last: 0,
            looked: false,
        }
    }

    /// Somebody wants a slot for an environment.
    pub fn ask(&mut self, environment: EnvironmentId, demand: Demand) -> Ticket {
        self.last += 1;
        if let Some(share) = self.environments.get_mut(&environment) {
            share.claiming = None;
        }
        self.waiting.insert(self.last, (environment, demand));
        self.last
    }

    /// Somebody does not want one any more. One that was granted already is not affected.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// Grants a slot, if one is free and somebody waits for it to whom nobody who is just claiming is to be
    /// preferred.
    pub fn grant(&mut self) -> Option<(Ticket, EnvironmentId)> {
        let is_known = |demand| demand == Demand::Known;
        let somebody_knows = self.waiting.values().any(|(_, demand)| is_known(*demand));
        let must_know = somebody_knows && self.looked;
        let candidates = self.waiting.iter().filter(|(_, (_, demand))| !must_know || is_known(*demand));
        // Of equals the first is taken, which has waited longest.
        let (&ticket, _) = candidates.min_by(|(_, (one, _)), (_, (other, _))| {
            let (one, other) = (self.share(one), self.share(other));
            one.scaled(&other).cmp(&other.scaled(&one))
        })?;
        let (environment, _) = self.waiting.get(&ticket)?;
        let share = self.share(environment);
        let claiming = self.environments.values().filter(|other| other.claiming.is_some());
        let owed = claiming.fold(0usize, |owed, other| owed.saturating_add(other.behind(&share)));
        if self.free() <= owed {
            return None;
        }
        let (environment, demand) = self.waiting.remove(&ticket)?;
        self.looked = somebody_knows && !is_known(demand);
        let claiming = Some(ticket).filter(|_| is_known(demand));
        self.environments.insert(environment.clone(), Share { held: share.held + 1, claiming, ..share });
        Some((ticket, environment))
    }

    /// An environment holds one slot more, whether there is one or not: what was claimed in an earlier life
    /// is served.
    pub fn occupy(&mut self, environment: EnvironmentId) {
        let mut share = self.share(&environment);
        share.held += 1;
        self.environments.insert(environment, share);
    }

    /// An environment gives a slot back, and with which ticket it had come, if it did.
    pub fn release(&mut self, environment: &EnvironmentId, ticket: Option<Ticket>) {
        if let Some(share) = self.environments.get_mut(environment) {
            share.held = share.held.saturating_sub(1);
            // Given back before the claim was over: there was nothing to claim.
            share.claiming = share.claiming.filter(|claiming| Some(*claiming) != ticket);
        }
    }

    /// Slots that nobody holds.
    pub fn free(&self) -> usize {
        let held: usize = self.environments.values().map(|share| share.held).sum();
        self.total.saturating_sub(held)
    }

    /// Whether somebody waits.
    pub fn is_crowded(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether somebody waits for a slot for this environment.
    pub fn waits(&self, environment: &EnvironmentId) -> bool {
        self.waiting.values().any(|(of, _)| of == environment)
    }

    /// All environments.
    pub fn all(&self) -> impl Iterator<Item = (&EnvironmentId, Share)> {
        self.environments.iter().map(|(environment, share)| (environment, *share))
    }

    /// One that is not in the settings may still be in the journal; it weighs 1.
    fn share(&self, environment: &EnvironmentId) -> Share {
        self.environments.get(environment).copied().unwrap_or(Share::new(NonZeroU32::MIN))
    }
}

#[cfg(test)]
mod tests;
