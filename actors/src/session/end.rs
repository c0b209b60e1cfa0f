//! Why a session's work item ends for us, and what that obliges us to.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::lease::{self, Ending, Loss};
use super::run::Cancellation;
use crate::fault::{Fault, FaultClass};
use crate::sandbox::signals::Release;

/// Why a session's item ended for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Its turn was over and nothing came for the idle time.
    Idle,
    /// The session was terminated, archived or deleted.
    SessionOver,
    /// The control plane asked for it.
    StopAsked,
    /// This process shuts down; the item is left to lapse, so that another worker goes on with it.
    HandedBack,
    /// This process ends, and the next one on the same journal goes on from here.
    Left,
    /// It was in a turn and gave no sign of life for too long.
    Silent,
    /// Another holds the item, or may.
    Lost(Loss),
    /// The same session came back under another item.
    Superseded,
    /// The item was not ours to begin with.
    NotClaimed(Fault),
    /// The control plane refused us for good.
    Rejected(Fault),
    /// The item asks for something we do not know.
    Unsupported(Arc<str>),
    /// Its own worker ended while that held the lease; the item is left to lapse, and comes again.
    Abandoned(Arc<str>),
    /// It cannot be served.
    Failed(Fault),
}

/// The same, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Served until nothing was left to do.
    Finished,
    /// Ended because the control plane asked for it.
    Stopped,
    /// Left for another worker.
    HandedBack,
    /// Left for the next process on the same journal.
    Left,
    /// Taken by another, or perhaps.
    Lost,
    /// Never ours.
    NotClaimed,
    /// Refused by the control plane.
    Rejected,
    /// Could not be served.
    Failed,
}

impl End {
    /// The outcome this amounts to.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Idle | Self::SessionOver | Self::Silent => Outcome::Finished,
            Self::Left => Outcome::Left,
            Self::StopAsked => Outcome::Stopped,
            Self::HandedBack => Outcome::HandedBack,
            Self::Lost(_) | Self::Superseded => Outcome::Lost,
            Self::NotClaimed(_) => Outcome::NotClaimed,
            Self::Rejected(_) => Outcome::Rejected,
            Self::Unsupported(_) | Self::Abandoned(_) | Self::Failed(_) => Outcome::Failed,
        }
    }

    /// What to tell the agent about calls that are cut because of this; none if nobody would read it.
    pub(super) fn cancellation(&self) -> Option<Cancellation> {
        match self {
            Self::StopAsked => Some(Cancellation::StopAsked),
            Self::HandedBack => Some(Cancellation::ShuttingDown),
            Self::Failed(_) => Some(Cancellation::NoSandbox),
            Self::Idle
            | Self::SessionOver
            | Self::Left
            | Self::Silent
            | Self::Lost(_)
            | Self::Superseded
            | Self::NotClaimed(_)
            | Self::Rejected(_)
            | Self::Unsupported(_)
            | Self::Abandoned(_) => None,
        }
    }

    /// Whether the item may be another's.
    pub(crate) fn is_loss(&self) -> bool {
        self.outcome() == Outcome::Lost
    }

    /// What becomes of the sandbox.
    pub(crate) fn release(&self) -> Release {
        match self {
            Self::SessionOver | Self::Unsupported(_) | Self::Failed(_) => Release::Delete,
            Self::Idle
            | Self::Silent
            | Self::StopAsked
            | Self::HandedBack
            | Self::Lost(_)
            | Self::NotClaimed(_)
            | Self::Abandoned(_)
            | Self::Rejected(_) => Release::Park,
            Self::Superseded => Release::HandOver,
            Self::Left => Release::Leave,
        }
    }

    /// How the lease is given up.
    pub(crate) fn farewell(&self) -> lease::Event {
        match self {
            // Neither may be stopped: the first belongs to whoever takes it next, the second has.
            // The lease of the third is nobody's that lives, and what is stopped does not come again.
            Self::HandedBack | Self::Superseded | Self::Abandoned(_) => lease::Event::Forsake,
            _ => lease::Event::Release,
        }
    }
}

impl End {
    /// The end that a request which cannot be repeated brings about.
    pub(crate) fn refused(fault: Fault) -> Self {
        match fault.class {
            FaultClass::Fatal => Self::Rejected(fault),
            _ => Self::Failed(fault),
        }
    }
}

impl From<Ending> for End {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::NotClaimed(fault) => Self::NotClaimed(fault),
            Ending::StopAsked => Self::StopAsked,
            Ending::Lost(loss) => Self::Lost(loss),
            Ending::Rejected(fault) => Self::Rejected(fault),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("its turn was over and no message came"),
            Self::SessionOver => f.write_str("the session has ended"),
            Self::StopAsked => f.write_str("the control plane asked for its end"),
            Self::HandedBack => f.write_str("handed back, because this process shuts down"),
            Self::Left => f.write_str("left for the next process"),
            Self::Silent => f.write_str("nothing was heard of it for too long in the middle of a turn"),
            Self::Lost(Loss::Taken) => f.write_str("the lease was lost to another holder"),
            Self::Lost(Loss::Expired) => f.write_str("the lease expired: no heartbeat was accepted in time"),
            Self::Superseded => f.write_str("the session came back under another work item"),
            Self::NotClaimed(fault) => write!(f, "could not acknowledge it: {fault}"),
            Self::Rejected(fault) => write!(f, "refused: {fault}"),
            Self::Unsupported(kind) => write!(f, "work of type `{kind}` is not known; expected `session`"),
            Self::Abandoned(why) => write!(f, "its worker ended while it held the lease: {why}"),
            Self::Failed(fault) => write!(f, "could not serve it: {fault}"),
        }
    }
}
