//! What must be remembered beyond the life of this process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::ids::{CallId, SandboxId, WorkId};
use crate::ports::{HeartbeatToken, WorkItem};
use crate::tool::ToolResult;

/// An append-only record of what was claimed, made and run.
///
/// Intents are appended *before* the effect they announce and awaited, so that whatever may have happened is
/// written down; outcomes are appended after it.
///
/// # Cancel safety
/// An append that is dropped may or may not have been written. Records are facts and may be appended twice.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Appends one record about `work`. When this returns, a crash will not lose it.
    async fn append(&self, work: &WorkId, record: Record) -> Result<(), JournalError>;

    /// Everything appended about work that has not [`Record::Ended`], oldest first, with its age.
    async fn replay(&self) -> Result<Vec<Replayed>, JournalError>;
}

/// One fact about a work item.
#[derive(Clone, Debug)]
pub enum Record {
    /// It was polled and is about to be acknowledged.
    Claimed {
        /// The item, with its credential.
        item: WorkItem,
    },
    /// A heartbeat was accepted.
    Beat {
        /// What the next one must echo.
        token: HeartbeatToken,
        /// How long the lease runs from then.
        ttl: Duration,
    },
    /// A sandbox of this id is about to be created for it.
    SandboxIntended {
        /// Which of the session's sandboxes it is, counted from 1.
        instance: u32,
        /// The sandbox.
        sandbox: SandboxId,
    },
    /// A call is about to be given to a sandbox.
    CallStarted {
        /// The call.
        call: CallId,
        /// The sandbox.
        sandbox: SandboxId,
    },
    /// A call ended.
    CallFinished {
        /// The call.
        call: CallId,
        /// What it answered.
        result: Arc<ToolResult>,
    },
    /// The control plane has the call's answer.
    CallPosted {
        /// The call.
        call: CallId,
    },
    /// Nothing of it is ours any more.
    Ended,
}

/// A record of an earlier life.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The work it is about.
    pub work: WorkId,
    /// How long ago it was appended.
    pub age: Duration,
    /// What was appended.
    pub record: Record,
}

/// Why a journal could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// It could not be written.
    #[error("could not write the journal")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It could not be read.
    #[error("could not read the journal: {what}")]
    Read {
        /// What is wrong with it, and how to mend that.
        what: String,
    },
}

/// A journal that remembers nothing: when the process ends, its leases lapse and its sandboxes are orphans.
#[derive(Debug, Default)]
pub struct Volatile;

#[async_trait]
impl Journal for Volatile {
    async fn append(&self, _: &WorkId, _: Record) -> Result<(), JournalError> {
        Ok(())
    }

    async fn replay(&self) -> Result<Vec<Replayed>, JournalError> {
        Ok(Vec::new())
    }
}
