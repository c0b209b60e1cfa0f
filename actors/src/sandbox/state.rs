//! Where a sandbox stands.

use crate::fault::Fault;

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
    /// It runs, and is being furnished before it is given calls.
    Fitting {
        /// Counted from 1.
        attempt: u32,
    },
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
    /// The session is over, and the calls that still run are being cut, so that the sandbox can be parked.
    Parting,
    /// The session is over, and the sandbox is being woken to be looked after a last time.
    Rousing {
        /// What becomes of it then.
        then: Then,
    },
    /// The session is over, and the sandbox is being looked after a last time.
    Tidying {
        /// What becomes of it then.
        then: Then,
    },
    /// The session is over, and the sandbox is being put in standby for good.
    Parking,
    /// It stands by, and is being put on the shelf for the session's next work item.
    Shelving,
    /// It is being frozen, and left to the next process.
    Leaving,
    /// The session is over and the sandbox is being deleted.
    Deleting {
        /// Counted from 1.
        attempt: u32,
    },
    /// Terminal: it is on the shelf.
    Parked,
    /// Terminal: it is left to the next process.
    Left,
    /// Terminal: there is nothing any more.
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
            Self::Fitting { .. } => "fitting",
            Self::Ready => "ready",
            Self::Freezing => "freezing",
            Self::Standby => "standby",
            Self::Thawing { .. } => "thawing",
            Self::Replacing { .. } => "replacing",
            Self::Absent => "absent",
            Self::Failed { .. } => "failed",
            Self::Parting => "parting",
            Self::Rousing { .. } => "rousing",
            Self::Tidying { .. } => "tidying",
            Self::Parking | Self::Shelving => "parking",
            Self::Leaving => "leaving",
            Self::Deleting { .. } => "deleting",
            Self::Parked => "parked",
            Self::Left => "left",
            Self::Gone => "gone",
        }
    }
}

/// Who may have created an instance that is being looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// An earlier incarnation: if there is none, it is lost.
    Earlier,
    /// An earlier work item of the session, at whose end it was parked.
    Parked,
    /// We: if there is none, the create failed.
    Us,
}

/// What becomes of a sandbox that was looked after a last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It is parked.
    Park,
    /// It is deleted.
    Delete,
}

/// What to try when a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To create the instance.
    Create,
    /// To look it up, since the answer of a create or of a look-up is missing.
    LookUp(Maker),
}
