//! What must be remembered beyond the life of this process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::ids::{CallId, SandboxId, SessionId, WorkId};
use crate::ports::{HeartbeatToken, WorkItem};
use crate::tool::ToolResult;

/// An append-only record of what was claimed, made and run.
///
/// Intents are appended *before* the effect they announce and awaited, so that whatever may have happened is
/// written down; outcomes are appended after it.
///
/// Beside the records there is a *shelf*: the sandboxes that belong to no work item, blank or parked. A blank
/// one is known to be blank by its place there, and by nothing else. Recording
/// [`SandboxIntended`](Record::SandboxIntended) for a sandbox takes it off the shelf in the same step, so
/// that none is ever in two places.
///
/// # Cancel safety
/// An append that is dropped may or may not have been written. Records are facts and may be appended twice.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Appends one record about `work`. When this returns, a crash will not lose it.
    async fn append(&self, work: &WorkId, record: Record) -> Result<(), JournalError>;

    /// Puts a sandbox on the shelf, or replaces what is said about it there. When this returns, a crash will
    /// not lose it.
    async fn shelve(&self, shelved: &Shelved) -> Result<(), JournalError>;

    /// Takes a sandbox off the shelf, because it is about to be deleted. One that is not there is a success.
    async fn unshelve(&self, sandbox: &SandboxId) -> Result<(), JournalError>;

    /// Everything that is remembered.
    async fn replay(&self) -> Result<Replay, JournalError>;
}

/// What an earlier life left.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Everything appended about work that has not [`Record::Ended`], oldest first. What no longer tells
    /// anything may be missing: a claim or the start of a call that was appended again, an earlier beat, an
    /// earlier sandbox than the last two, what was said about a call that has been posted, and what was said
    /// about work that is not claimed; and of work that was [`Record::Left`], everything before that.
    pub work: Vec<Replayed>,
    /// The shelf, with the time since each sandbox was put there.
    pub shelf: Vec<(Shelved, Duration)>,
}

/// A sandbox that belongs to no work item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelved {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Whose it is to be again; none if it is blank and any session may have it.
    pub parked: Option<Parked>,
}

/// Whose a parked sandbox is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The session whose files and processes are in it.
    pub session: SessionId,
    /// Which of the session's sandboxes it is, counted from 1.
    pub instance: u32,
    /// What it uses, in bytes of files and of memory.
    pub disk_bytes: u64,
    /// See above.
    pub memory_bytes: u64,
}

/// One fact about a work item.
#[derive(Clone, Debug)]
pub enum Record {
    /// It was polled and is about to be acknowledged.
    Claimed {
        /// The item, with its credential.
        item: WorkItem,
    },
    /// It was acknowledged, or a heartbeat was accepted.
    Beat {
        /// What the next one must echo; none as long as no heartbeat was accepted. None is sent before this is
        /// written.
        token: Option<HeartbeatToken>,
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
    /// Nothing of it is ours any more but this: what a sandbox was given and has no answer, for all we know. The
    /// session may come back under another item, or under the same, and ask for it.
    Left {
        /// Whose calls they are.
        session: SessionId,
        /// The calls, and the sandbox that each was given to.
        calls: BTreeMap<CallId, SandboxId>,
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

    async fn shelve(&self, _: &Shelved) -> Result<(), JournalError> {
        Ok(())
    }

    async fn unshelve(&self, _: &SandboxId) -> Result<(), JournalError> {
        Ok(())
    }

    async fn replay(&self) -> Result<Replay, JournalError> {
        Ok(Replay::default())
    }
}
