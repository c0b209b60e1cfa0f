//! The lease of one work item, from its acknowledgement until nothing of it is ours any more.
//!
//! Owned by a [`session`](crate::session). At most one request about the lease is in flight.
//!
//! ```text
//!            Acked              Beaten
//! Acking ───────────▶ Beating ◀────────▶ Resting      every failure that may pass: Resting, beat sooner
//!  │  ▲ AckFailed        │      BeatDue     │
//!  ▼  │ AckRetryDue      │ ┌────────────────┘
//! AckBackoff             ▼ ▼ Release
//!  │                  Stopping ◀──────▶ StopBackoff
//!  │ gives up            │    StopRetryDue
//!  ▼                     ▼
//! Over ◀──────────────────        and from everywhere: precondition failed, Expired, Forsake ──▶ Over
//! ```
//!
//! # Invariants
//! - After the lease is lost, stop is never called: the item may be another's.
//! - A beat echoes the token of the last accepted one; the very first sends none.
//! - A lease is over for us no later than one TTL after the *sending* of the last beat that was accepted.
//!
//! # A beat without an answer
//! When a beat's answer was lost, the server may hold a token we never saw, and the next beat fails its
//! precondition although nobody took the lease from us: nobody can have, because a lease lapses only a full
//! TTL after its last beat, and [`Event::Expired`] comes before that. In that one case, and only when the
//! refusal names the token and says that the lease is active, we take the token up and go on. For the first beat
//! this holds because an item is acknowledged only while the queue keeps it for us: several workers may
//! acknowledge one that was offered again.
//!
//! # An item that ends
//! The server compares no token once an item is to end, or has ended: such an item takes a beat from anyone. A
//! beat that is accepted and extends nothing says therefore nothing about whose the lease is, and does not
//! prolong it.
//!
//! # Not here
//! Delays and jitter ([`backoff`](crate::backoff)); what the session does about an [`Effect::Ended`].

mod signals;

use std::time::Duration;

pub use self::signals::{Effect, Ending, Event, Loss};
use super::state::InheritedLease;
use crate::fault::{Fault, FaultClass};
use crate::machine::IllegalEvent;
use crate::ports::{Heartbeat, HeartbeatToken, ItemState, LeaseState};

/// Longest time between two beats, whatever the TTL: what the official workers keep to.
pub const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// Shortest time between two beats, whatever the TTL: what the official workers keep to.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// How the lease is kept.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Acknowledgements tried, the first included. Default 3: together they stay within the 5 s after which
    /// an unacknowledged item is offered to others.
    pub ack_attempts: u32,
    /// Stops tried, the first included. Default 4; then the lease is left to lapse.
    pub stop_attempts: u32,
    /// How long a lease is assumed to run before the first answer says so. Default 30 s, the shortest that
    /// is known of any server.
    pub initial_ttl: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { ack_attempts: 3, stop_attempts: 4, initial_ttl: Duration::from_secs(30) }
    }
}

/// The time between two beats of a lease with this TTL.
pub fn interval(ttl: Duration) -> Duration {
    (ttl / 2).clamp(MIN_INTERVAL, MAX_INTERVAL)
}

/// Where the lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The acknowledgement is in flight.
    Acking {
        /// Counted from 1.
        attempt: u32,
    },
    /// Waiting before the next acknowledgement.
    AckBackoff {
        /// The attempt that failed last.
        attempt: u32,
    },
    /// A beat is in flight.
    Beating(Chain),
    /// Waiting for the next beat.
    Resting(Chain),
    /// The stop is in flight.
    Stopping {
        /// Counted from 1.
        attempt: u32,
    },
    /// Waiting before the next stop.
    StopBackoff {
        /// The attempt that failed last.
        attempt: u32,
    },
    /// Terminal: we hold nothing, and send nothing more about it.
    Over,
}

/// What is known of the heartbeats so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The token to echo; none before the first beat.
    pub token: Option<HeartbeatToken>,
    /// Beats sent since the last accepted one, whose answers we did not see or could not use.
    pub failures: u32,
    /// Number of the current beat or of the next one; names its timers.
    pub number: u32,
    /// How long the lease runs after an accepted beat.
    pub ttl: Duration,
    /// Names the timer of its end: the beat that extended it last.
    pub expiry: u32,
    /// Whether the server has said that it wants the item to end.
    pub standing: Standing,
}

/// Whether the server wants the item to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No beat was accepted yet.
    Unconfirmed,
    /// The lease is ours.
    Held,
    /// The server asked for the end; beats go on until the teardown is done.
    Ending,
}

impl Lease {
    /// A freshly polled item.
    pub fn claim(effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Ack);
        Self::Acking { attempt: 1 }
    }

    /// A lease of an earlier incarnation.
    pub fn resume(inherited: InheritedLease, effects: &mut Vec<Effect>) -> Self {
        let InheritedLease { token, ttl, left, is_unheard } = inherited;
        effects.push(Effect::ArmExpiry { number: 0, after: left });
        let (standing, failures) = (Standing::Unconfirmed, u32::from(is_unheard));
        Self::Resting(Chain { token, failures, number: 0, ttl, expiry: 0, standing }).beat(effects)
    }

    /// One word for the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Acking { .. } => "acking",
            Self::AckBackoff { .. } => "ack_backoff",
            Self::Beating(_) => "beating",
            Self::Resting(_) => "resting",
            Self::Stopping { .. } => "stopping",
            Self::StopBackoff { .. } => "stop_backoff",
            Self::Over => "over",
        }
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
        use {Event as E, Lease as S};
        let illegal = IllegalEvent { machine: "lease", state: self.name(), event: event.name() };
        let next = match (&*self, event) {
            (S::Acking { .. }, E::Acked) => acknowledged(policy, effects),
            (S::Acking { attempt }, E::AckFailed(fault)) => ack_failed(*attempt, fault, policy, effects),
            (S::AckBackoff { attempt: waiting }, E::AckRetryDue { attempt }) if *waiting == attempt => {
                effects.push(Effect::Ack);
                S::Acking { attempt: attempt + 1 }
            }
            (S::Beating(chain), E::Beaten { number, beat, took }) if chain.number == number => {
                beaten(chain.clone(), beat, took, effects)
            }
            (S::Beating(chain), E::PreconditionFailed { number, current }) if chain.number == number => {
                match taken_up(chain, current) {
                    Some(chain) => S::Resting(chain).beat(effects),
                    None => lost(Loss::Taken, effects),
                }
            }
            (S::Beating(chain), E::BeatFailed { number, fault }) if chain.number == number => {
                beat_failed(chain.clone(), fault, effects)
            }
            (S::Resting(chain), E::BeatDue { number }) if chain.number == number => {
                S::Resting(chain.clone()).beat(effects)
            }
            (S::Beating(chain) | S::Resting(chain), E::Expired { number }) if chain.expiry == number => {
                lost(Loss::Expired, effects)
            }
            // The stop needs no token, but it would end a stranger's item once ours has lapsed.
            (
                S::Stopping { .. } | S::StopBackoff { .. },
                E::Expired { .. } | E::PreconditionFailed { .. },
            ) => over(effects),
            (S::Acking { .. } | S::AckBackoff { .. } | S::Beating(_) | S::Resting(_), E::Release) => {
                effects.push(Effect::Stop);
                S::Stopping { attempt: 1 }
            }
            (S::Over, E::Release | E::Forsake) => S::Over,
            (_, E::Forsake) => over(effects),
            (S::Stopping { .. }, E::Stopped) => over(effects),
            (S::Stopping { attempt }, E::StopFailed(fault)) => {
                if fault.class.is_retryable() && *attempt < policy.stop_attempts {
                    effects.push(Effect::ArmStopRetry { attempt: *attempt, retry_after: fault.retry_after });
                    S::StopBackoff { attempt: *attempt }
                } else {
                    over(effects)
                }
            }
            (S::StopBackoff { attempt: waiting }, E::StopRetryDue { attempt }) if *waiting == attempt => {
                effects.push(Effect::Stop);
                S::Stopping { attempt: attempt + 1 }
            }
            // Late or repeated, and harmless: a timer or an answer that outlived its state.
            (
                _,
                E::AckRetryDue { .. }
                | E::Beaten { .. }
                | E::PreconditionFailed { .. }
                | E::BeatFailed { .. }
                | E::BeatDue { .. }
                | E::Expired { .. }
                | E::StopRetryDue { .. },
            )
            | (S::Stopping { .. } | S::StopBackoff { .. } | S::Over, E::Acked | E::AckFailed(_))
            | (S::Stopping { .. } | S::StopBackoff { .. }, E::Release)
            | (S::Over, E::Stopped | E::StopFailed(_)) => return Ok(()),
            (_, E::Acked | E::AckFailed(_) | E::Stopped | E::StopFailed(_)) => {
                return Err(illegal);
            }
        };
        *self = next;
        Ok(())
    }

    /// Sends the next beat of a resting lease.
    fn beat(self, effects: &mut Vec<Effect>) -> Self {
        match self {
            Self::Resting(chain) => {
                effects.push(Effect::Beat {
                    number: chain.number,
                    token: chain.token.clone(),
                    within: interval(chain.ttl),
                });
                Self::Beating(chain)
            }
            other => other,
        }
    }
}

fn acknowledged(policy: &Policy, effects: &mut Vec<Effect>) -> Lease {
    let (ttl, standing) = (policy.initial_ttl, Standing::Unconfirmed);
    effects.push(Effect::Keep { token: None, ttl, ago: Duration::ZERO });
    effects.push(Effect::ArmExpiry { number: 0, after: ttl });
    let chain = Chain { token: None, failures: 0, number: 0, ttl, expiry: 0, standing };
    let lease = Lease::Resting(chain).beat(effects);
    // Told last: the beat comes before everything that the session does because of it.
    effects.push(Effect::Acknowledged);
    lease
}

fn ack_failed(attempt: u32, fault: Fault, policy: &Policy, effects: &mut Vec<Effect>) -> Lease {
    if fault.class.is_retryable() && attempt < policy.ack_attempts {
        effects.push(Effect::ArmAckRetry { attempt, retry_after: fault.retry_after });
        return Lease::AckBackoff { attempt };
    }
    // It is not stopped: an unacknowledged item is offered again by itself, and may be another's by now.
    effects.push(Effect::Ended(Ending::NotClaimed(fault)));
    over(effects)
}

fn beaten(chain: Chain, beat: Heartbeat, took: Duration, effects: &mut Vec<Effect>) -> Lease {
    let ttl = if beat.ttl.is_zero() { chain.ttl } else { beat.ttl };
    let left = ttl.saturating_sub(took);
    let expiry = if beat.extended { chain.number } else { chain.expiry };
    if beat.extended {
        effects.push(Effect::Keep { token: Some(beat.token.clone()), ttl, ago: took });
        effects.push(Effect::ArmExpiry { number: expiry, after: left });
    }
    let number = chain.number + 1;
    // The next one may take as long as this one did, and must be answered before the lease ends.
    let after = interval(ttl).min(left.saturating_sub(took)).max(MIN_INTERVAL.saturating_sub(took));
    effects.push(Effect::ArmBeat { number, after });
    // Told last, since the session may end because of it.
    let wanted = beat.extended && beat.state == ItemState::Live;
    let standing = match (chain.standing, wanted) {
        (Standing::Ending, _) => Standing::Ending,
        (Standing::Unconfirmed | Standing::Held, false) => {
            effects.push(Effect::Ended(Ending::StopAsked));
            Standing::Ending
        }
        (Standing::Unconfirmed, true) => {
            effects.push(Effect::Held);
            Standing::Held
        }
        (Standing::Held, true) => Standing::Held,
    };
    Lease::Resting(Chain { token: Some(beat.token), failures: 0, number, ttl, expiry, standing })
}

/// The chain to go on with after a failed precondition, if the server's token can only be our own.
fn taken_up(chain: &Chain, current: Option<LeaseState>) -> Option<Chain> {
    let may_be_ours = chain.failures > 0;
    let current = current.filter(|current| current.active && may_be_ours)?;
    let token = current.token.filter(|token| Some(token) != chain.token.as_ref())?;
    Some(Chain { token: Some(token), failures: 0, number: chain.number + 1, ..chain.clone() })
}

fn beat_failed(chain: Chain, fault: Fault, effects: &mut Vec<Effect>) -> Lease {
    match fault.class {
        FaultClass::Transient | FaultClass::Throttled | FaultClass::Ambiguous => {
            let (number, failures) = (chain.number + 1, chain.failures + 1);
            let (at_most, retry_after) = (interval(chain.ttl), fault.retry_after);
            effects.push(Effect::ArmBeatRetry { number, failures, at_most, retry_after });
            Lease::Resting(Chain { number, failures, ..chain })
        }
        FaultClass::Permanent | FaultClass::Fatal => {
            if chain.standing != Standing::Ending {
                effects.push(Effect::Ended(Ending::Rejected(fault)));
            }
            // No beat is armed: the server will not take another.
            Lease::Resting(Chain { number: chain.number + 1, standing: Standing::Ending, ..chain })
        }
    }
}

fn lost(loss: Loss, effects: &mut Vec<Effect>) -> Lease {
    effects.push(Effect::Ended(Ending::Lost(loss)));
    over(effects)
}

fn over(effects: &mut Vec<Effect>) -> Lease {
    effects.push(Effect::Over);
    Lease::Over
}

#[cfg(test)]
mod tests;
