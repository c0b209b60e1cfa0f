//! Whose request goes next.
//!
//! ```text
//! Lease   ────────────────────────────────▶ at once; charged, into debt if need be
//! Result  ─┐          ┌─ a token is there
//! Attach  ─┼─ lanes ──┤                   ▶ the highest lane that waits and is not paused,
//! Poll    ─┘          └─ or LEASES leases   unless a lower one was passed over PASSES times
//!                        went without one
//! ```
//!
//! # Bounds
//! - A request of class [`Lease`](Class::Lease) never waits: a lease that is lost for a rate's sake costs more
//!   than a request too many.
//! - Of the rest, every lane that waits and is not paused is served at least once in [`PASSES`] + 3 turns, so
//!   the first in line of the lowest waits for no more than that many tokens.
//! - Where leases alone use the rate up, every [`LEASES`]th of them lets one of the rest go. Their debt ends
//!   at one second's worth, so once they are done the rest wait for no more than that.
//! - In any span no more is granted than burst, rate and the leases of that span allow.
//!
//! # A server that asks for patience
//! pauses the class it asked and those below; the ones above go on and find out by themselves. When a pause
//! is over the burst is gone: what has queued up goes at the rate, not all at once at somebody who has just
//! complained.
//!
//! # Not here
//! Waking up whose turn it is, and giving up waiting: the shell around this.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::Policy;
use crate::bucket::Bucket;

/// Turns of others after which a lane that waits goes first.
pub const PASSES: u32 = 8;

/// Leases that went without a token after which one of the others goes without one, too.
pub const LEASES: u32 = 8;

/// How urgent a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It keeps or takes a lease. An acknowledgement counts as one: it is due within seconds, and there is one
    /// per poll at most.
    Lease,
    /// It ends something: an answer the agent waits for, or a stop.
    Result,
    /// It begins or repairs something: retrieving a session, opening its stream, reading its history.
    Attach,
    /// It asks for more.
    Poll,
}

impl Class {
    /// Those that wait, the first to be served first.
    pub const LANES: [Self; 3] = [Self::Result, Self::Attach, Self::Poll];

    /// One word, for labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Result => "result",
            Self::Attach => "attach",
            Self::Poll => "poll",
        }
    }
}

/// Names one request that waits; later ones are greater.
pub type Ticket = u64;

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Who waits, and what may go.
#[derive(Clone, Debug)]
pub struct Lanes {
    policy: Policy,
    /// None if the rate is unlimited.
    bucket: Option<Bucket>,
    lanes: [Lane; Class::LANES.len()],
    last: Ticket,
    /// Leases that went without a token since one of the others did.
    uncovered: u32,
}

#[derive(Clone, Debug)]
struct Lane {
    class: Class,
    waiting: BTreeSet<Ticket>,
    /// Turns of others since it waits.
    passed: u32,
    paused_until: Option<Instant>,
}

impl Lane {
    fn is_ready(&self) -> bool {
        self.paused_until.is_none() && !self.waiting.is_empty()
    }
}

impl Lanes {
    /// Nobody waits, and the burst is there.
    pub fn new(policy: Policy, now: Instant) -> Self {
        let lane = |class| Lane { class, waiting: BTreeSet::new(), passed: 0, paused_until: None };
        Self {
            policy,
            bucket: policy.rate.map(|rate| Bucket::full(rate, now)),
            lanes: Class::LANES.map(lane),
            last: 0,
            uncovered: 0,
        }
    }

    /// A request of class [`Lease`](Class::Lease) goes.
    pub fn lease(&mut self, now: Instant) {
        self.charge(1, now);
        if self.bucket.as_ref().is_some_and(Bucket::is_in_debt) {
            self.uncovered = (self.uncovered + 1).min(LEASES);
        }
    }

    /// A request that had its turn turned out to be so many more.
    pub fn charge(&mut self, requests: u32, now: Instant) {
        self.pass(now);
        if let Some(bucket) = &mut self.bucket {
            bucket.charge(requests);
        }
    }

    /// A request waits for its turn.
    ///
    /// # Errors
    /// [`Full`] if too many of its class wait.
    pub fn ask(&mut self, class: Class) -> Result<Ticket, Full> {
        // One that never waits has no lane: nobody asks for its turn.
        let lane = self.lanes.iter_mut().find(|lane| lane.class == class).ok_or(Full)?;
        if lane.waiting.len() >= self.policy.waiting {
            return Err(Full);
        }
        self.last += 1;
        lane.waiting.insert(self.last);
        Ok(self.last)
    }

    /// A request does not wait any more. Whether it did, that is, had not had its turn.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.lanes.iter_mut().any(|lane| {
            let waited = lane.waiting.remove(&ticket);
            if lane.waiting.is_empty() {
                lane.passed = 0;
            }
            waited
        })
    }

    /// A request that had its turn was not made.
    pub fn refund(&mut self) {
        if let Some(bucket) = &mut self.bucket {
            bucket.give(1_000);
        }
    }

    /// The next request that may go now.
    pub fn serve(&mut self, now: Instant) -> Option<Ticket> {
        self.pass(now);
        let overdue = |lane: &&Lane| lane.is_ready() && lane.passed >= PASSES;
        // Of lanes that were passed over equally often the higher one goes.
        let overdue = self.lanes.iter().rev().filter(overdue).max_by_key(|lane| lane.passed);
        let next = overdue.or_else(|| self.lanes.iter().find(|lane| lane.is_ready()))?.class;
        if self.bucket.as_mut().is_some_and(|bucket| !bucket.take()) {
            if self.uncovered < LEASES {
                return None;
            }
            self.uncovered = 0;
        }
        let mut ticket = None;
        for lane in &mut self.lanes {
            if lane.class == next {
                (ticket, lane.passed) = (lane.waiting.pop_first(), 0);
            } else if lane.is_ready() {
                lane.passed += 1;
            }
        }
        ticket
    }

    /// Time until [`serve`](Self::serve), which has just found nobody, may find somebody; none if nobody waits.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let token = self.bucket.as_ref().map_or(Duration::ZERO, Bucket::wait);
        let waiting = self.lanes.iter().filter(|lane| !lane.waiting.is_empty());
        let ready = waiting.map(|lane| {
            lane.paused_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)).max(token)
        });
        ready.min()
    }

    /// The server asked for patience. Returns the pause, if it is a new one.
    pub fn throttled(
        &mut self,
        class: Class,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        self.pass(now);
        let pause = retry_after.unwrap_or(self.policy.pause).min(self.policy.max_pause);
        let mut begins = false;
        for lane in self.lanes.iter_mut().filter(|lane| lane.class >= class) {
            begins |= lane.paused_until.is_none();
            lane.paused_until = lane.paused_until.max(Some(now + pause));
        }
        begins.then_some(pause)
    }

    /// Time until a class is not paused any more; none if it is not.
    pub fn paused(&self, class: Class, now: Instant) -> Option<Duration> {
        let until = self.lanes.iter().find(|lane| lane.class == class)?.paused_until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// How many of a class wait.
    pub fn waiting(&self, class: Class) -> usize {
        self.lanes.iter().find(|lane| lane.class == class).map_or(0, |lane| lane.waiting.len())
    }

    /// Requests that may go at once; none if there is no limit.
    pub fn tokens(&self) -> Option<u32> {
        self.bucket.as_ref().map(Bucket::tokens)
    }

    /// Lets time pass.
    fn pass(&mut self, now: Instant) {
        let over: BTreeSet<_> = self.lanes.iter().filter_map(|lane| lane.paused_until).collect();
        for until in over.into_iter().filter(|until| *until <= now) {
            if let Some(bucket) = &mut self.bucket {
                bucket.refill(until);
                bucket.limit(1);
            }
        }
        for lane in &mut self.lanes {
            lane.paused_until = lane.paused_until.filter(|until| *until > now);
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.refill(now);
        }
    }
}

#[cfg(test)]
mod tests;
