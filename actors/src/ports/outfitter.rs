//! What a sandbox is furnished with beside its tools: files that must be there before the first call, and kept in
//! step with somewhere else while the session lasts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::governor::Turns;
use crate::ids::SandboxId;
use crate::ports::WorkItem;
use crate::session::end::Outcome;

/// Furnishes sandboxes for their sessions.
///
/// The tree asks for it before the first call of a work item runs in a sandbox, tells when calls have ended, and
/// asks once more before it lets go of the sandbox. For one sandbox at most one of these runs at a time, and never
/// while the sandbox stands by.
///
/// # Cancel safety
/// Every method may be dropped at any await, since the tree bounds them and its process may die. What was done so
/// far must be found again by the next [`fit`](Self::fit), also by another process on the same host.
#[async_trait]
pub trait Outfitter: fmt::Debug + Send + Sync + 'static {
    /// Brings a sandbox to the state in which the session's calls may run. It may have been furnished before: by
    /// this work item in an earlier life of the process, or by an earlier one of the session if it was parked.
    async fn fit(&self, outfit: &Outfit) -> Result<Fitted, OutfitError>;

    /// Looks after a sandbox that was fitted. Its failures are its own affair: a session does not end by them.
    async fn tend(&self, outfit: &Outfit, care: Care);

    /// The sandbox was deleted, and with it what was in it.
    async fn forget(&self, outfit: &Outfit);
}

/// What is to be furnished, and for whom.
#[derive(Clone, Debug)]
pub struct Outfit {
    /// The work item, with its credential.
    pub item: WorkItem,
    /// The session as the control plane described it; none if an earlier process began with it and this one only
    /// ends it.
    pub document: Option<Arc<RawValue>>,
    /// The sandbox.
    pub sandbox: SandboxId,
    /// How the session has ended, once it has.
    pub outcome: Option<Outcome>,
    /// Where every request to the control plane has to wait for its turn.
    pub turns: Turns,
}

/// Whether there is anything to look after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitted {
    /// Nothing: [`tend`](Outfitter::tend) need not be called.
    Plain,
    /// There is.
    Tended,
}

/// Why a sandbox is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// A call has ended. Others may run, and more may follow at once.
    CallEnded,
    /// No call runs, and the sandbox is about to be put in standby, perhaps for long.
    Still,
    /// The session lets go of it.
    Farewell,
}

/// Why a sandbox could not be furnished.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OutfitError {
    /// Its hand was not heard or could not do it: another sandbox may do.
    #[error("{0}")]
    Sandbox(Fault),
    /// What it is to be furnished with cannot be had, or must not be used: no sandbox will do.
    #[error("{0}")]
    Supply(Fault),
}

/// How long one look after a sandbox may take.
#[derive(Clone, Copy, Debug)]
pub struct CareLimits {
    /// After a call, and before standby. Default 60 s.
    pub between: Duration,
    /// At the end. Default 75 s: 30 s to compare everything, 30 s to send what is left, and some to spare, as the
    /// official workers have it.
    pub farewell: Duration,
}

impl Default for CareLimits {
    fn default() -> Self {
        Self { between: Duration::from_secs(60), farewell: Duration::from_secs(75) }
    }
}
