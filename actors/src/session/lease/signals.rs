//! What can happen to a lease, and what somebody must then do.

use std::time::Duration;

use crate::fault::Fault;
use crate::ports::{Heartbeat, HeartbeatToken, LeaseState};

/// What can happen to a lease.
#[derive(Clone, Debug)]
pub enum Event {
    /// The acknowledgement was accepted.
    Acked,
    /// It was not.
    AckFailed(Fault),
    /// The wait before acknowledgement `attempt + 1` is over.
    AckRetryDue {
        /// The attempt that had failed.
        attempt: u32,
    },
    /// A beat was accepted.
    Beaten {
        /// Which.
        number: u32,
        /// The answer.
        beat: Heartbeat,
        /// Time from sending the beat to this answer.
        took: Duration,
    },
    /// A beat was refused because the lease has moved on.
    PreconditionFailed {
        /// Which.
        number: u32,
        /// What the server holds, if it said so.
        current: Option<LeaseState>,
    },
    /// A beat failed otherwise.
    BeatFailed {
        /// Which.
        number: u32,
        /// How.
        fault: Fault,
    },
    /// It is time for a beat.
    BeatDue {
        /// Which.
        number: u32,
    },
    /// A full TTL has passed since the last accepted beat was sent.
    Expired {
        /// The beat that was accepted last.
        number: u32,
    },
    /// The session is done: end the item.
    Release,
    /// The session is done, and the item shall be left to lapse so that another worker gets it.
    Forsake,
    /// The stop was accepted, or there was nothing to stop.
    Stopped,
    /// It was not.
    StopFailed(Fault),
    /// The wait before stop `attempt + 1` is over.
    StopRetryDue {
        /// The attempt that had failed.
        attempt: u32,
    },
}

impl Event {
    /// One word, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::AckFailed(_) => "ack_failed",
            Self::AckRetryDue { .. } => "ack_retry_due",
            Self::Beaten { .. } => "beaten",
            Self::PreconditionFailed { .. } => "precondition_failed",
            Self::BeatFailed { .. } => "beat_failed",
            Self::BeatDue { .. } => "beat_due",
            Self::Expired { .. } => "expired",
            Self::Release => "release",
            Self::Forsake => "forsake",
            Self::Stopped => "stopped",
            Self::StopFailed(_) => "stop_failed",
            Self::StopRetryDue { .. } => "stop_retry_due",
        }
    }
}

/// What somebody must now do about a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the acknowledgement.
    Ack,
    /// Send [`Event::AckRetryDue`] after the backoff of this attempt.
    ArmAckRetry {
        /// The attempt that failed.
        attempt: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Send a beat, and give it up after `within`.
    Beat {
        /// Its number.
        number: u32,
        /// The token to echo.
        token: Option<HeartbeatToken>,
        /// The current interval.
        within: Duration,
    },
    /// Send [`Event::BeatDue`] after exactly this time.
    ArmBeat {
        /// Which beat.
        number: u32,
        /// When.
        after: Duration,
    },
    /// Send [`Event::BeatDue`] after the backoff of this many failures, but not later than `at_most`.
    ArmBeatRetry {
        /// Which beat.
        number: u32,
        /// Beats failed in a row.
        failures: u32,
        /// The current interval.
        at_most: Duration,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Send [`Event::Expired`] after this time, in place of the one armed before.
    ArmExpiry {
        /// The beat accepted last.
        number: u32,
        /// When.
        after: Duration,
    },
    /// Send a forced stop.
    Stop,
    /// Send [`Event::StopRetryDue`] after the backoff of this attempt.
    ArmStopRetry {
        /// The attempt that failed.
        attempt: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Remember this: whoever goes on with the lease needs it.
    Keep {
        /// The token to echo; none before the first beat.
        token: Option<HeartbeatToken>,
        /// How long the lease runs from then on.
        ttl: Duration,
        /// Time since that beat was sent, or since the acknowledgement.
        ago: Duration,
    },
    /// The item is off the queue and ours.
    Acknowledged,
    /// The first beat was accepted: act.
    Held,
    /// The session must end for this reason. A loss may still follow one of the other reasons.
    Ended(Ending),
    /// The lease is over; the last effect there is.
    Over,
}

/// Why a lease ends without its session having asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The acknowledgement failed: the item is not ours, or not any more.
    NotClaimed(Fault),
    /// The server asked for the end of the item.
    StopAsked,
    /// Another holds it, or may. Nothing may be sent for it any more.
    Lost(Loss),
    /// The server refused a beat for good, for example because the session's token has expired.
    Rejected(Fault),
}

/// How a lease was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The server said that it had moved on.
    Taken,
    /// No beat was accepted for a whole TTL.
    Expired,
}
