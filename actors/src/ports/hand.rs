//! The hand of one sandbox: what runs tool calls inside it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::event::Input;
use crate::fault::{Fault, FaultClass};
use crate::ids::{CallId, ThreadId};
use crate::tool::ToolResult;

/// Runs tool calls inside one sandbox.
///
/// A hand journals every call under its id: asking for the same call again never runs it twice.
///
/// # Cancel safety
/// Every method may be dropped at any await. A dropped [`call`](Self::call) goes on inside the sandbox; the
/// same call made again waits for the same end.
#[async_trait]
pub trait Hand: Send + Sync + 'static {
    /// Runs the call, or waits for its end if it runs already, or returns what it answered before.
    async fn call(&self, request: &CallRequest) -> Result<CallReply, HandError>;

    /// Ends a running call; it then answers with an error result that holds what it had printed, and the
    /// reason. A call that was not started yet never will be, and one that has ended keeps its answer.
    async fn cancel(&self, call: &CallId, reason: &str) -> Result<(), HandError>;

    /// Whether it is well and what goes on inside.
    async fn health(&self) -> Result<HandHealth, HandError>;
}

/// A call to run.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// Its id, under which it is journaled.
    pub call: CallId,
    /// The tool.
    pub tool: Arc<str>,
    /// Its arguments.
    pub input: Input,
    /// The thread whose shell it uses; none for the primary one.
    pub thread: Option<ThreadId>,
    /// Whether it may be run once more if a hand before this one started it and did not live to see its end.
    pub again: bool,
    /// The outer limit: whatever the tool's own limits say, the hand ends the call then.
    pub timeout: Duration,
}

/// What a call answered.
#[derive(Clone, Debug)]
pub struct CallReply {
    /// The answer.
    pub result: Arc<ToolResult>,
    /// How long the tool ran, without waiting for its shell.
    pub run: Duration,
    /// Whether this request started it.
    pub origin: Origin,
}

/// How a reply came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This request ran the call.
    Ran,
    /// The call was running already.
    Attached,
    /// The call had ended before.
    Journal,
}

/// How a hand is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandHealth {
    /// Calls queued or running, oldest first.
    pub running: Vec<CallId>,
    /// Processes that outlived the call that started them.
    pub background: u32,
    /// Resident memory of the hand, in bytes.
    pub rss_bytes: u64,
    /// The part of it that it shares with no other hand, in bytes.
    pub private_bytes: u64,
}

/// Why a hand did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandError {
    /// It could not be reached, so it was not asked.
    #[error("could not reach the sandbox's hand")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke after the request was sent.
    #[error("lost the connection to the sandbox's hand")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer from the sandbox's hand within {waited:?}")]
    TimedOut {
        /// How long we waited.
        waited: Duration,
    },
    /// It has too much to do.
    #[error("the sandbox's hand is busy: {message}")]
    Busy {
        /// What it said.
        message: String,
    },
    /// It refused this request.
    #[error("the sandbox's hand refused: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
}

impl HandError {
    /// What kind of failure this is.
    pub fn class(&self) -> FaultClass {
        match self {
            Self::Unreachable(_) | Self::Busy { .. } => FaultClass::Transient,
            Self::Broken(_) | Self::TimedOut { .. } => FaultClass::Ambiguous,
            Self::Refused { .. } => FaultClass::Permanent,
        }
    }

    /// The same, for the machines.
    pub fn fault(&self) -> Fault {
        Fault::of(self.class(), self)
    }
}
