//! What can happen to an item that a worker of its own serves, and what somebody must then do.

use std::sync::Arc;
use std::time::Duration;

use crate::fault::Fault;
use crate::ports::Standing;
use crate::sandbox::signals::Release;
use crate::session::end::End;
use crate::session::run::Cancellation;

/// Where a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the session's sandbox, where it outlives this process.
    Sandbox,
    /// On this host, as a child of this process.
    Host,
}

/// By whom a session turns out to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By the tree.
    Brokered,
    /// By a worker.
    Worker(Place),
    /// By nobody: it ended for good.
    Terminated,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// The item is ours to give to a worker.
    Acked,
    /// It is not.
    AckFailed(Fault),
    /// The wait before the next acknowledgement is over.
    AckDue,
    /// The session is known, and by whom it is served.
    Routed(Verdict),
    /// It could not be retrieved.
    RouteFailed(Fault),
    /// The wait before the next attempt is over.
    RouteDue,
    /// The wait before the next start is over.
    StartDue,
    /// The worker ended.
    Exited {
        /// Which start it was.
        number: u32,
        /// Nothing, or how it failed.
        failure: Option<Arc<str>>,
    },
    /// It is known where the item stands.
    Looked {
        /// Which look it was.
        look: u32,
        /// Where it stands.
        standing: Standing,
    },
    /// That could not be found out.
    LookFailed {
        /// Which look it was.
        look: u32,
    },
    /// It is time for the next look.
    LookDue {
        /// Which one.
        look: u32,
    },
    /// A worker that was cut has taken as long as it may.
    CutDue,
    /// No sandbox could be had.
    SandboxFailed(Fault),
    /// There is no sandbox any more.
    SandboxGone,
    /// The item has been stopped.
    Stopped,
    /// It has not.
    StopFailed(Fault),
    /// The wait before the next stop is over.
    StopDue,
    /// Bring it to an end with what it is doing.
    Drain,
    /// End now; the item lapses to another.
    HandBack,
    /// The next process goes on.
    Leave,
    /// The next process goes on, and there is no time left.
    LeaveNow,
    /// The same session came back under another item.
    Supersede,
}

impl Event {
    /// One word, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::AckFailed(_) => "ack_failed",
            Self::AckDue => "ack_due",
            Self::Routed(_) => "routed",
            Self::RouteFailed(_) => "route_failed",
            Self::RouteDue => "route_due",
            Self::StartDue => "start_due",
            Self::Exited { .. } => "exited",
            Self::Looked { .. } => "looked",
            Self::LookFailed { .. } => "look_failed",
            Self::LookDue { .. } => "look_due",
            Self::CutDue => "cut_due",
            Self::SandboxFailed(_) => "sandbox_failed",
            Self::SandboxGone => "sandbox_gone",
            Self::Stopped => "stopped",
            Self::StopFailed(_) => "stop_failed",
            Self::StopDue => "stop_due",
            Self::Drain => "drain",
            Self::HandBack => "hand_back",
            Self::Leave => "leave",
            Self::LeaveNow => "leave_now",
            Self::Supersede => "supersede",
        }
    }
}

/// What somebody must now do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Acknowledge the item.
    Ack,
    /// Send [`Event::AckDue`] after the backoff of the failed attempt.
    ArmAck {
        /// The attempt that failed.
        attempt: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Retrieve the session and find out by whom it is served.
    Route,
    /// Send [`Event::RouteDue`] after the backoff of the failed attempt.
    ArmRoute {
        /// The attempt that failed.
        attempt: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Start the worker, or attach to it if it runs already.
    Start {
        /// Which start it is, counted from 1.
        number: u32,
    },
    /// Send [`Event::StartDue`] after the backoff of the failed start.
    ArmStart {
        /// The start that failed.
        failures: u32,
    },
    /// Find out where the item stands.
    Look {
        /// Names the answer.
        look: u32,
    },
    /// Send [`Event::LookDue`] after this time.
    ArmLook {
        /// Names it.
        look: u32,
        /// How long.
        after: Duration,
    },
    /// End the worker.
    Cut {
        /// Which start it was.
        number: u32,
        /// Why.
        why: Cancellation,
    },
    /// Send [`Event::CutDue`] after this time.
    ArmCut {
        /// How long.
        after: Duration,
    },
    /// Let go of the sandbox, if there is one, and send [`Event::SandboxGone`].
    ReleaseSandbox(Release),
    /// Stop the item.
    Stop,
    /// Send [`Event::StopDue`] after the backoff of the failed attempt.
    ArmStop {
        /// The attempt that failed.
        attempt: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// The tree serves the session itself; the last effect there is then.
    Broker,
    /// Nothing is left to do; the last effect there is.
    Done(End),
}
