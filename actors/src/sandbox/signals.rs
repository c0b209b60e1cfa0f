//! What can happen to a sandbox, and what somebody must then do.

use std::time::Duration;

use super::idle::Jobs;
use crate::fault::Fault;
use crate::ids::CallId;
use crate::ports::{Care, Fitted};
use crate::session::run::Cancellation;

/// A call for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// Whether an earlier incarnation gave it to this instance.
    pub started: bool,
    /// Whether it may be run again in the next instance, should this one be lost before it answers.
    pub rerun: bool,
}

/// How a session lets go of its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The session never comes back: delete it, with everything that runs in it.
    Delete,
    /// The session may come back: cut what runs, freeze it and put it on the shelf.
    Park,
    /// Another work item of the session waits for it: put it on the shelf as it is, with what runs in it.
    HandOver,
    /// The next process takes it up where it is now: freeze it if nothing runs in it, and say no more.
    Leave,
}

/// What can happen to a sandbox.
#[derive(Clone, Debug)]
pub enum Event {
    /// A call is to be run.
    Call(Call),
    /// A call is to be cut short.
    Cancel {
        /// The call.
        call: CallId,
        /// What the agent shall read.
        why: Cancellation,
    },
    /// The instance was created, and its hand answers.
    Created,
    /// It was not.
    CreateFailed(Fault),
    /// It is known whether the instance exists.
    LookedUp {
        /// Whether it does.
        present: bool,
    },
    /// That could not be found out.
    LookUpFailed(Fault),
    /// The wait before the next create, look-up, thaw or delete is over.
    RetryDue {
        /// The attempt that had failed.
        attempt: u32,
    },
    /// The hand answered a call.
    Answered {
        /// The call.
        call: CallId,
    },
    /// The hand did not.
    CallFailed {
        /// The call.
        call: CallId,
        /// How.
        fault: Fault,
    },
    /// It is known whether the instance of a call whose hand was not heard still exists.
    Probed {
        /// The call.
        call: CallId,
        /// Whether it does; unknown counts as yes.
        present: bool,
    },
    /// The wait before a call is asked for again is over.
    CallDue {
        /// The call.
        call: CallId,
        /// The attempt that had failed.
        attempt: u32,
    },
    /// Cancelling a call failed.
    CancelFailed {
        /// The call.
        call: CallId,
        /// Which attempt.
        attempt: u32,
        /// What the agent was to read.
        why: Cancellation,
    },
    /// No call ran for a while.
    IdleDue {
        /// Which while.
        number: u32,
    },
    /// It is known what the jobs in it do.
    Inspected {
        /// The while that was over.
        number: u32,
        /// What they do.
        jobs: Jobs,
    },
    /// The model is likely to use a tool soon.
    Expected,
    /// It stands by.
    StoodBy,
    /// It could not be put in standby.
    StandbyFailed(Fault),
    /// It is furnished.
    Fitted(Fitted),
    /// It could not be.
    FitFailed(Unfit),
    /// It was looked after.
    Tended(Care),
    /// It runs again.
    Resumed,
    /// It could not be woken.
    ResumeFailed(Fault),
    /// The session lets go of it.
    Released(Release),
    /// It is on the shelf.
    Shelved,
    /// It could not be put there.
    ShelveFailed(Fault),
    /// The calls that had to be cut have taken as long as they may.
    PartDue,
    /// The instance is gone.
    Deleted,
    /// It could not be deleted.
    DeleteFailed(Fault),
}

impl Event {
    /// One word, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Call(_) => "call",
            Self::Cancel { .. } => "cancel",
            Self::Created => "created",
            Self::CreateFailed(_) => "create_failed",
            Self::LookedUp { .. } => "looked_up",
            Self::LookUpFailed(_) => "look_up_failed",
            Self::RetryDue { .. } => "retry_due",
            Self::Answered { .. } => "answered",
            Self::CallFailed { .. } => "call_failed",
            Self::Probed { .. } => "probed",
            Self::CallDue { .. } => "call_due",
            Self::CancelFailed { .. } => "cancel_failed",
            Self::IdleDue { .. } => "idle_due",
            Self::Inspected { .. } => "inspected",
            Self::Expected => "expected",
            Self::StoodBy => "stood_by",
            Self::StandbyFailed(_) => "standby_failed",
            Self::Fitted(_) => "fitted",
            Self::FitFailed(_) => "fit_failed",
            Self::Tended(_) => "tended",
            Self::Resumed => "resumed",
            Self::ResumeFailed(_) => "resume_failed",
            Self::Released(_) => "released",
            Self::Shelved => "shelved",
            Self::ShelveFailed(_) => "shelve_failed",
            Self::PartDue => "part_due",
            Self::Deleted => "deleted",
            Self::DeleteFailed(_) => "delete_failed",
        }
    }
}

/// What somebody must now do about a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Get this instance: one that is blank, or a new one.
    Create {
        /// Counted from 1 within the session.
        instance: u32,
    },
    /// Find out whether this instance exists; it is the session's from now on.
    LookUp {
        /// Counted from 1 within the session.
        instance: u32,
    },
    /// Send [`Event::RetryDue`] after the backoff of the failed attempt.
    ArmRetry {
        /// The attempt that failed.
        attempt: u32,
        /// What the provider asked for.
        retry_after: Option<Duration>,
    },
    /// Give a call to the hand.
    Run {
        /// The call.
        call: CallId,
    },
    /// Find out whether the instance still exists, for the sake of this call.
    Probe {
        /// The call.
        call: CallId,
    },
    /// Send [`Event::CallDue`] after the backoff of the failed attempt.
    ArmCall {
        /// The call.
        call: CallId,
        /// The attempt that failed.
        attempt: u32,
    },
    /// Have the hand cut a call short; after a backoff, if it is not the first attempt.
    CancelRunning {
        /// The call.
        call: CallId,
        /// Counted from 1.
        attempt: u32,
        /// What the agent shall read.
        why: Cancellation,
    },
    /// Tell the session that a call has no answer from a hand.
    Undone {
        /// The call.
        call: CallId,
        /// Why.
        why: Undone,
    },
    /// Send [`Event::IdleDue`] after this time.
    ArmIdle {
        /// Which while.
        number: u32,
        /// How long.
        after: Duration,
    },
    /// Find out what the jobs in it do, and send [`Event::Inspected`].
    Inspect {
        /// The while that was over.
        number: u32,
    },
    /// Send [`Event::PartDue`] after this time.
    ArmPart {
        /// How long.
        after: Duration,
    },
    /// Put the instance, which stands by, on the shelf for its session.
    Shelve,
    /// Furnish the instance.
    Fit,
    /// Look after what it is furnished with, and send [`Event::Tended`].
    Tend(Care),
    /// Put the instance in standby.
    Standby,
    /// Wake it.
    Resume,
    /// Delete it, and the one before it if that is still there for its files.
    Delete,
    /// Tell people that a whole round of creates failed.
    Unavailable(Fault),
    /// Tell the session that it cannot be served.
    GiveUp(Fault),
    /// Tell people that an instance could not be deleted.
    Leaked(Fault),
    /// Tell the session that it has no sandbox any more; the last effect there is.
    Gone,
}

/// Why an instance could not be furnished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// How it failed.
    pub fault: Fault,
    /// Whether another instance may do.
    pub of_sandbox: bool,
}

/// Why a call has no answer from a hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It was never started, and never will be.
    Cancelled(Cancellation),
    /// It was never started: there is no sandbox to run it in.
    NoSandbox(Fault),
    /// The hand would not run it.
    Refused(Fault),
    /// It was started, and the sandbox was lost before it answered.
    Lost(Fault),
}
