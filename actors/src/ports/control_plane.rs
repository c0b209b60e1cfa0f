//! The control plane: the work queue and the sessions behind its items.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::{CallKind, Event};
use crate::fault::{Fault, FaultClass};
use crate::ids::{CallId, EnvironmentId, SessionId, WorkId};
use crate::secret::Secret;
use crate::tool::ToolResult;

/// A session's live events. It ends, or yields one error and then ends, when the connection does.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<Event, ControlError>> + Send>>;

/// The control plane, seen by the tree.
///
/// # Cancel safety
/// Every method may be dropped at any await. What was on its way may or may not have happened; callers treat
/// it like [`FaultClass::Ambiguous`].
#[async_trait]
pub trait ControlPlane: Send + Sync + 'static {
    /// Asks for one item of `environment`'s queue, waiting at most `block` for one to come.
    ///
    /// A returned item is only reserved: unless it is acknowledged within a few seconds it is offered again.
    async fn poll(
        &self,
        environment: &EnvironmentId,
        block: Duration,
    ) -> Result<Option<WorkItem>, ControlError>;

    /// Takes a polled item off the queue.
    async fn ack(&self, item: &WorkItem) -> Result<(), ControlError>;

    /// Takes the item's lease (`expected` is none) or extends it (`expected` is the last token received).
    async fn heartbeat(
        &self,
        item: &WorkItem,
        expected: Option<&HeartbeatToken>,
    ) -> Result<Heartbeat, ControlError>;

    /// Ends the item. Stopping one that has stopped already, or is gone, is a success.
    async fn stop(&self, item: &WorkItem, mode: StopMode) -> Result<(), ControlError>;

    /// The session behind the item.
    async fn session(&self, item: &WorkItem) -> Result<Session, ControlError>;

    /// Opens the session's live events. When this returns, every later event will be in the stream.
    async fn stream(&self, item: &WorkItem) -> Result<EventStream, ControlError>;

    /// The session's whole log so far, oldest first. An error means that nothing is known: a log of which a
    /// page is missing is never returned.
    async fn history(&self, item: &WorkItem) -> Result<Vec<Event>, ControlError>;

    /// Sends the answer of one call.
    async fn post(&self, item: &WorkItem, answer: &Answer) -> Result<(), ControlError>;
}

/// One item of a work queue.
#[derive(Clone, Debug)]
pub struct WorkItem {
    /// The item.
    pub id: WorkId,
    /// The queue it came from.
    pub environment: EnvironmentId,
    /// What it asks for.
    pub target: Target,
    /// The credential for everything below the item, if one could be had. The adapter chose it.
    pub credential: Option<Secret>,
}

impl WorkItem {
    /// The session it asks to serve, if it asks for that.
    pub fn session(&self) -> Option<&SessionId> {
        match &self.target {
            Target::Session(session) => Some(session),
            Target::Other(_) => None,
        }
    }
}

/// What a work item asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// To serve this session.
    Session(SessionId),
    /// Something this version does not know, by its type's name. Such an item is given back.
    Other(Arc<str>),
}

/// Names a beat of a lease. Opaque: echoed byte for byte, never parsed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeartbeatToken(Arc<str>);

impl HeartbeatToken {
    /// Wraps a token as it came.
    pub fn new(token: impl Into<Arc<str>>) -> Self {
        Self(token.into())
    }

    /// The token as it came.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HeartbeatToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// To be sent with the next beat.
    pub token: HeartbeatToken,
    /// Where the item stands.
    pub state: ItemState,
    /// Whether the lease now runs for another [`ttl`](Self::ttl).
    pub extended: bool,
    /// How long the lease runs from this beat on; zero if the server did not say.
    pub ttl: Duration,
}

/// Where a work item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemState {
    /// Waiting, claimed or running.
    Live,
    /// Somebody asked for its end, or it has ended.
    Stopping,
}

/// What the server holds about a lease when it refuses a beat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseState {
    /// The token of the last beat it accepted, if the item is leased at all.
    pub token: Option<HeartbeatToken>,
    /// Whether the item is leased and running.
    pub active: bool,
}

/// How to end an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Ask its holder to end it.
    Graceful,
    /// End it now.
    Force,
}

/// A session, as far as the one who serves it must know it.
#[derive(Clone, Debug)]
pub struct Session {
    /// The session.
    pub id: SessionId,
    /// Whether it can still be served.
    pub status: SessionStatus,
    /// The whole of it as it came, for whoever furnishes its sandbox; the tree does not look into it.
    pub document: Option<Arc<RawValue>>,
}

/// Whether a session can still be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// It can.
    Live,
    /// It ended for good or was archived.
    Terminated,
}

/// The answer of one call, ready to be sent.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The call.
    pub call: CallId,
    /// Which kind of result answers it.
    pub kind: CallKind,
    /// The result.
    pub result: Arc<ToolResult>,
}

/// Why the control plane did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// 401 or 403: the credential is unknown, revoked, or not for this.
    #[error("the control plane refused our credential (HTTP {status}): {message}")]
    Unauthorized {
        /// The status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// Another 4xx that repeating cannot mend.
    #[error("the control plane refused the request (HTTP {status}): {message}")]
    Rejected {
        /// The status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// 412: somebody else's beat, or a lost one of ours, came before.
    #[error("the lease has moved on since our last heartbeat")]
    PreconditionFailed {
        /// What the server holds now, if it said so.
        current: Option<LeaseState>,
    },
    /// 409: the request contradicts the state of things.
    #[error("the request conflicts with the state of the item: {message}")]
    Conflict {
        /// What the server said.
        message: String,
    },
    /// 429: too many requests.
    #[error("the control plane asked us to slow down")]
    Throttled {
        /// How long it asked us to wait, if it did.
        retry_after: Option<Duration>,
    },
    /// It was not sent: it would have been more than may be asked of the control plane at a time.
    #[error("the request was held back: {what}")]
    HeldBack {
        /// What it waited for in vain.
        what: String,
        /// How long the server is left alone at its own request, if it is.
        retry_after: Option<Duration>,
    },
    /// 408 or 5xx.
    #[error("the control plane could not answer (HTTP {status}): {message}")]
    Unavailable {
        /// The status.
        status: u16,
        /// How long it asked us to wait, if it did.
        retry_after: Option<Duration>,
        /// What the server said.
        message: String,
    },
    /// No connection came about, so nothing was sent.
    #[error("could not connect to the control plane")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection broke or timed out after the request was sent.
    #[error("the connection to the control plane broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer from the control plane within {waited:?}")]
    TimedOut {
        /// How long we waited.
        waited: Duration,
    },
    /// An answer that does not follow the protocol.
    #[error("the control plane sent something unreadable: {what}")]
    Malformed {
        /// What was expected, and what came.
        what: String,
    },
    /// The request could not even be formed.
    #[error("the request could not be formed: {what}")]
    Unsendable {
        /// What is wrong with it.
        what: String,
    },
    /// The item came without a credential and there is none to fall back on.
    #[error("the work item carries no session token and there is no environment key to use instead")]
    NoCredential,
}

impl ControlError {
    /// What kind of failure this is.
    pub fn class(&self) -> FaultClass {
        match self {
            Self::Unauthorized { .. } => FaultClass::Fatal,
            Self::Rejected { .. }
            | Self::PreconditionFailed { .. }
            | Self::Unsendable { .. }
            | Self::NoCredential => FaultClass::Permanent,
            Self::Conflict { .. } | Self::Unavailable { .. } | Self::Unreachable(_) => FaultClass::Transient,
            Self::Throttled { .. } | Self::HeldBack { .. } => FaultClass::Throttled,
            Self::Broken(_) | Self::TimedOut { .. } | Self::Malformed { .. } => FaultClass::Ambiguous,
        }
    }

    /// The same, for the machines.
    pub fn fault(&self) -> Fault {
        let retry_after = match self {
            Self::Throttled { retry_after }
            | Self::HeldBack { retry_after, .. }
            | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        Fault { retry_after, ..Fault::of(self.class(), self) }
    }
}
