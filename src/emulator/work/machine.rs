//! One work item, from the queue to its end: who may hold it, and until when.
//!
//! A pure function: no clock, no randomness, no I/O. The instant comes in with every event, the stamp of a
//! heartbeat comes in from the caller, and what must happen around the item leaves as [`Effect`]s.
//!
//! ```text
//!            Acked               Heartbeat (first)           Stop
//!  Queued ───────────▶ Starting ───────────────────▶ Active ──────▶ Stopping
//!   ▲ │ ▲ Offered ┐       │  │                        │  │             │
//!   │ │ └─────────┘       │  │ Stop                   │  │ Stop force  │ Stop force,
//!   │ │ Stop              │  ▼                        │  ▼             │ lapse
//!   │ └──────────────▶ Stopped ◀──────────────────────┼─ Stopped ◀─────┘
//!   │                     │ lapse                     │ lapse
//!   └─ (id kept) ◀────────┴───────────────────────────┴─▶ Lapsed (a new item takes its place)
//! ```
//!
//! # Invariants
//! - A lease has at most one holder: only the one whose `expected` equals the stored stamp byte for byte, and
//!   every accepted beat changes the stamp.
//! - `Stopped` and `Lapsed` are never left.
//! - A lapse asks for exactly one re-queueing.
//!
//! # Not here
//! Order of the queue and reclaim of offered items ([`queue`](super::queue)); timestamps on the wire.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// Sent by a holder that has not beaten yet.
pub(in crate::emulator) const NO_HEARTBEAT: &str = "NO_HEARTBEAT";

/// The shortest lease, because official workers never beat faster than once a second.
pub(in crate::emulator) const MIN_TTL: Duration = Duration::from_secs(2);

/// Where an item stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::emulator) enum State {
    /// Waiting to be acknowledged; `offered_at` is when a poll last returned it.
    Queued {
        /// The last poll that returned it, if any.
        offered_at: Option<Instant>,
    },
    /// Acknowledged; the first heartbeat must come before `deadline`.
    Starting {
        /// End of the startup lease.
        deadline: Instant,
    },
    /// Held by whoever knows `stamp`.
    Active {
        /// `last_heartbeat` as sent to the holder.
        stamp: Arc<str>,
        /// The lease granted by the last beat.
        ttl: Duration,
        /// When the lease lapses unless a beat comes.
        deadline: Instant,
    },
    /// Asked to stop; its holder learns of it at its next heartbeat.
    Stopping {
        /// `last_heartbeat` as last sent.
        stamp: Arc<str>,
        /// The lease granted by the last beat while active.
        ttl: Duration,
        /// When the server gives up waiting for the holder and calls it stopped.
        deadline: Instant,
    },
    /// Terminal: nothing more happens to it.
    Stopped {
        /// `last_heartbeat` as last sent; none if it never was active.
        stamp: Option<Arc<str>>,
    },
    /// Terminal: its lease lapsed and another item took its place. Late holders get a 412.
    Lapsed,
}

/// What happens to an item.
#[derive(Clone, Copy, Debug)]
pub(in crate::emulator) enum Event<'a> {
    /// A poll returned it.
    Offered,
    /// A worker acknowledged it.
    Acked,
    /// A heartbeat arrived.
    Heartbeat {
        /// What the sender believes to be the last stamp.
        expected: &'a str,
        /// The stamp this beat gets if it is accepted; must differ from every earlier one.
        stamp: &'a str,
        /// The lease the sender asks for, none for the default.
        desired_ttl: Option<Duration>,
    },
    /// A stop was requested.
    StopRequested {
        /// At once, or after the holder agreed.
        force: bool,
    },
    /// Time passed: whatever is overdue lapses.
    Elapsed,
    /// The lease is taken away although it is not overdue.
    Revoked,
}

/// What the caller must do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::emulator) enum Effect {
    /// Take it out of the queue.
    Dequeue,
    /// Put the same item at the end of the queue again.
    RequeueSame,
    /// Put a new item for the same work at the end of the queue.
    RequeueNew,
}

/// How long things last, and what a lapse does.
#[derive(Clone, Debug)]
pub(in crate::emulator) struct Policy {
    /// The lease granted by a heartbeat that asks for none.
    pub ttl: Duration,
    /// The longest lease a heartbeat can ask for.
    pub max_ttl: Duration,
    /// Time between acknowledgement and first heartbeat.
    pub startup: Duration,
    /// What a lapsed item comes back as.
    pub lapse: Lapse,
}

/// What a lapsed item comes back as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lapse {
    /// Another item with an id of its own.
    #[default]
    NewItem,
    /// The same item, queued again.
    SameItem,
}

/// An accepted event: the next state and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::emulator) struct Step {
    /// The state after the event.
    pub next: State,
    /// What the caller does about it.
    pub effect: Option<Effect>,
}

/// A refused event; the state stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::emulator) enum Refusal {
    /// The sender of a heartbeat does not hold the lease (412).
    #[error("the sender of the heartbeat does not hold the lease")]
    NotHolder {
        /// What the sender believed.
        expected: String,
        /// The stamp on record.
        actual: Option<Arc<str>>,
    },
    /// The item is past the point where this makes sense (409).
    #[error("the work item is {state} and cannot be {wanted}")]
    TooLate {
        /// The state it is in.
        state: &'static str,
        /// What was asked.
        wanted: &'static str,
    },
}

impl State {
    /// A fresh item.
    pub(in crate::emulator) fn new() -> Self {
        Self::Queued { offered_at: None }
    }

    /// One word, as on the wire. A lapsed item reads as stopped: the protocol has no word for it.
    pub(in crate::emulator) fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Starting { .. } => "starting",
            Self::Active { .. } => "active",
            Self::Stopping { .. } => "stopping",
            Self::Stopped { .. } | Self::Lapsed => "stopped",
        }
    }

    /// When [`Event::Elapsed`] is due.
    pub(in crate::emulator) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Starting { deadline } | Self::Active { deadline, .. } | Self::Stopping { deadline, .. } => {
                Some(*deadline)
            }
            Self::Queued { .. } | Self::Stopped { .. } | Self::Lapsed => None,
        }
    }

    /// The stamp on record.
    pub(in crate::emulator) fn stamp(&self) -> Option<&Arc<str>> {
        match self {
            Self::Active { stamp, .. } | Self::Stopping { stamp, .. } => Some(stamp),
            Self::Stopped { stamp } => stamp.as_ref(),
            Self::Queued { .. } | Self::Starting { .. } | Self::Lapsed => None,
        }
    }

    /// Whether a worker may still run for it or be given it.
    pub(in crate::emulator) fn is_live(&self) -> bool {
        !matches!(self, Self::Stopped { .. } | Self::Lapsed)
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// Applies `event` at `now`.
///
/// # Errors
/// A [`Refusal`] if the sender of a heartbeat is not the holder, or the item is past what was asked.
pub(in crate::emulator) fn step(
    state: &State,
    event: Event<'_>,
    now: Instant,
    policy: &Policy,
) -> Result<Step, Refusal> {
    use {Event as E, State as S};
    let stay = || Ok(Step { next: state.clone(), effect: None });
    let to = |next, effect| Ok(Step { next, effect });
    match (state, event) {
        (S::Queued { .. }, E::Offered) => to(S::Queued { offered_at: Some(now) }, None),
        (_, E::Offered) => Err(Refusal::TooLate { state: state.name(), wanted: "offered" }),

        (S::Queued { .. }, E::Acked) => {
            to(S::Starting { deadline: now + policy.startup }, Some(Effect::Dequeue))
        }
        // The answer to the first acknowledgement may have been lost on its way.
        (S::Starting { .. }, E::Acked) => stay(),
        (_, E::Acked) => Err(Refusal::TooLate { state: state.name(), wanted: "acknowledged" }),

        (S::Starting { .. }, E::Heartbeat { expected: NO_HEARTBEAT, stamp, desired_ttl }) => {
            to(active(stamp, desired_ttl, now, policy), None)
        }
        (S::Active { stamp: held, .. }, E::Heartbeat { expected, stamp, desired_ttl })
            if **held == *expected =>
        {
            to(active(stamp, desired_ttl, now, policy), None)
        }
        // Nothing is compared from here on, and the lease is not extended: the holder has to finish.
        (S::Stopping { ttl, deadline, .. }, E::Heartbeat { stamp, .. }) => {
            to(S::Stopping { stamp: stamp.into(), ttl: *ttl, deadline: *deadline }, None)
        }
        (S::Stopped { .. }, E::Heartbeat { .. }) => stay(),
        (
            S::Queued { .. } | S::Starting { .. } | S::Active { .. } | S::Lapsed,
            E::Heartbeat { expected, .. },
        ) => Err(Refusal::NotHolder { expected: expected.to_owned(), actual: state.stamp().cloned() }),

        (S::Active { stamp, ttl, deadline }, E::StopRequested { force: false }) => {
            to(S::Stopping { stamp: stamp.clone(), ttl: *ttl, deadline: *deadline }, None)
        }
        (S::Queued { .. }, E::StopRequested { .. }) => to(S::Stopped { stamp: None }, Some(Effect::Dequeue)),
        (S::Starting { .. }, E::StopRequested { .. })
        | (S::Active { .. } | S::Stopping { .. }, E::StopRequested { force: true }) => {
            to(S::Stopped { stamp: state.stamp().cloned() }, None)
        }
        (S::Stopping { .. } | S::Stopped { .. } | S::Lapsed, E::StopRequested { .. }) => {
            Err(Refusal::TooLate { state: state.name(), wanted: "stopped" })
        }

        (_, E::Elapsed) if state.deadline().is_none_or(|deadline| now < deadline) => stay(),
        (S::Starting { .. } | S::Active { .. }, E::Elapsed | E::Revoked) => match policy.lapse {
            Lapse::NewItem => to(S::Lapsed, Some(Effect::RequeueNew)),
            Lapse::SameItem => to(S::new(), Some(Effect::RequeueSame)),
        },
        (S::Stopping { stamp, .. }, E::Elapsed | E::Revoked) => {
            to(S::Stopped { stamp: Some(stamp.clone()) }, None)
        }
        (S::Queued { .. } | S::Stopped { .. } | S::Lapsed, E::Elapsed | E::Revoked) => stay(),
    }
}

fn active(stamp: &str, desired_ttl: Option<Duration>, now: Instant, policy: &Policy) -> State {
    let ttl = desired_ttl.unwrap_or(policy.ttl).clamp(MIN_TTL, policy.max_ttl.max(MIN_TTL));
    State::Active { stamp: stamp.into(), ttl, deadline: now + ttl }
}

#[cfg(test)]
mod tests;
