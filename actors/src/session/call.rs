//! Where one tool call stands.

use std::sync::Arc;

use crate::event::{Call, Verdict};
use crate::ports::Answer;
use crate::tool::ToolResult;

/// What an earlier incarnation of the session knew about a call that was not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prior {
    /// It was given to a sandbox. Giving it to the same one again attaches to it.
    Started,
    /// It ended, and its answer may not have reached the control plane.
    Finished(Arc<ToolResult>),
}

/// Why a running call is cut short; the agent reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// `user.interrupt`.
    Interrupted,
    /// The control plane asked for the end of the work item.
    StopAsked,
    /// This process is going down and the grace period is over.
    ShuttingDown,
    /// No sandbox could be had for the session.
    NoSandbox,
    /// Nobody waits for the answer any more.
    Unwanted,
    /// It is a worker that does not beat.
    NoBeat,
}

impl Cancellation {
    /// The reason, as it completes "cancelled: …".
    pub fn reason(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted by the user",
            Self::StopAsked => "the session was asked to stop",
            Self::ShuttingDown => "the worker is shutting down",
            Self::NoSandbox => "no sandbox could be started for this session",
            Self::NoBeat => "no heartbeat came in time",
            Self::Unwanted => "the call was answered or dropped elsewhere",
        }
    }

    pub(super) fn result(self) -> Arc<ToolResult> {
        Arc::new(ToolResult::error(format!("not run: {}", self.reason())))
    }
}

/// Where one call stands.
#[derive(Clone, Debug)]
pub(super) enum CallState {
    /// Its decision came before the call itself.
    Decided(Verdict),
    /// Waiting for an `allow`.
    Held(Box<Call>),
    /// Waiting for its turn. One that an earlier incarnation had started may have been cut since: the
    /// sandbox still has to say how far it came.
    Queued { call: Box<Call>, cut: Option<Cancellation> },
    /// Given to the sandbox.
    Running(Box<Call>),
    /// Running, but its answer is of no use to anyone.
    Unwanted,
    /// Its answer is on its way to the control plane. `stands_in` says that it only tells why the real one
    /// cannot be had.
    Posting { answer: Answer, attempt: u32, stands_in: bool },
    /// Nothing is left to do about it.
    Closed,
}

impl CallState {
    /// Whether the end of the turn must wait for it.
    pub(super) fn is_outstanding(&self) -> bool {
        match self {
            Self::Held(_)
            | Self::Queued { .. }
            | Self::Running(_)
            | Self::Unwanted
            | Self::Posting { .. } => true,
            Self::Decided(_) | Self::Closed => false,
        }
    }

    /// Whether something is being done about it right now.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Unwanted | Self::Posting { .. })
    }

    /// Whether it waits for its turn or has it.
    pub(super) fn is_scheduled(&self) -> bool {
        matches!(self, Self::Queued { .. } | Self::Running(_) | Self::Unwanted)
    }

    /// The call, while it can still be cut short.
    pub(super) fn cuttable(&self) -> Option<&Call> {
        match self {
            Self::Held(call) | Self::Queued { call, .. } | Self::Running(call) => Some(call),
            Self::Decided(_) | Self::Unwanted | Self::Posting { .. } | Self::Closed => None,
        }
    }
}
