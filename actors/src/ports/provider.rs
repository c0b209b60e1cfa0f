//! Where sandboxes come from.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, FaultClass};
use crate::ids::{SandboxId, SessionId};
use crate::ports::Hand;

/// Creates, finds, freezes and deletes sandboxes.
///
/// A sandbox is known by the id *we* give it, so that one whose creation got no answer can be found again.
///
/// # Cancel safety
/// Every method may be dropped at any await. A dropped [`create`](Self::create) may leave a sandbox behind:
/// [`find`](Self::find) then reports it under its id, and [`list`](Self::list) with its owner.
#[async_trait]
pub trait SandboxProvider: Send + Sync + 'static {
    /// One word for labels, logs and people, for example `local`.
    fn name(&self) -> &'static str;

    /// What its sandboxes can do. The tree adapts; nothing is emulated silently.
    fn capabilities(&self) -> Capabilities;

    /// Creates a sandbox and returns when its hand answers.
    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError>;

    /// The sandbox of that id, if there is one that still lives, whoever created it. Never creates.
    async fn find(&self, id: &SandboxId) -> Result<Option<Sandbox>, ProviderError>;

    /// Every sandbox of `owner`, in whatever state. All or nothing: a listing of which a part failed is an
    /// error.
    async fn list(&self, owner: &OwnerId) -> Result<Vec<Sandbox>, ProviderError>;

    /// The way to the hand of a sandbox. Does not wake it and does not talk to it.
    fn hand(&self, id: &SandboxId) -> Arc<dyn Hand>;

    /// Stops all processes of a sandbox where they are. Repeating it is harmless.
    async fn standby(&self, id: &SandboxId) -> Result<(), ProviderError>;

    /// Lets them go on. Repeating it is harmless.
    async fn resume(&self, id: &SandboxId) -> Result<(), ProviderError>;

    /// What a sandbox uses. Does not wake it.
    async fn usage(&self, id: &SandboxId) -> Result<Usage, ProviderError>;

    /// Ends a sandbox and everything in it, files included. One that is not there is a success; when this
    /// returns, nothing of it runs any more.
    async fn delete(&self, id: &SandboxId) -> Result<(), ProviderError>;
}

/// What the sandboxes of a provider can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Whether they can stand by at all, and what survives that.
    pub standby: Standby,
    /// Whether a sandbox can take over the files of one that is of no use any more
    /// ([`SandboxSpec::files_of`]).
    pub keeps_files: bool,
}

/// What a sandbox uses, as far as its provider can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Processor time of everything that ever ran in it. Two of these and the time between them are its load.
    pub cpu: Duration,
    /// Memory it holds, in bytes; 0 if that cannot be told.
    pub memory_bytes: u64,
    /// Files it holds, in bytes; 0 if that cannot be told.
    pub disk_bytes: u64,
}

/// What survives a standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standby {
    /// There is none: a sandbox runs until it is deleted.
    #[default]
    None,
    /// Memory and processes, and so everything.
    Memory,
}

/// What to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The id it is to have.
    pub id: SandboxId,
    /// Whose it is: the process that will delete it, unless another adopts it.
    pub owner: OwnerId,
    /// The session it is for; none for a blank one, which gets a session later.
    pub session: Option<SessionId>,
    /// What to make it from, in the provider's own words; none for what it always takes. Only for providers
    /// that have a choice; others refuse it.
    pub image: Option<Arc<str>>,
    /// What it may use, where that is not what the provider always gives. Only for providers that can bound it;
    /// others refuse.
    pub limits: Limits,
    /// A sandbox of the same owner and session that is of no use any more, dead or not. If it is there, it
    /// is ended, and the new one gets its files together with what its hand knows of its calls: what was done
    /// to those files is not done again. If it is not there, the new one is empty. When this fails, the files
    /// are still where they were. Only for providers whose [`Capabilities`] say so.
    pub files_of: Option<SandboxId>,
}

/// What a sandbox may use. Whatever is none is as the provider always has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processes and threads at once.
    pub processes: Option<u64>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// The largest file that may be written, in bytes.
    pub file_bytes: Option<u64>,
    /// Whether it reaches whatever its host reaches, or only itself.
    pub network: Option<bool>,
}

/// Names one installation of remuda among those that share a provider: what carries another's name is never
/// touched. It outlives the process, so that a restarted one finds its own again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnerId(Arc<str>);

impl OwnerId {
    /// Wraps a name of at most 63 letters, digits and dashes.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A sandbox, as its provider knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Whose it is.
    pub owner: OwnerId,
    /// The session it was made for; none if it was made blank.
    pub session: Option<SessionId>,
    /// How long ago it was created.
    pub age: Duration,
}

/// Why a provider did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// There is a sandbox of that id already.
    #[error("a sandbox named {id} exists already")]
    AlreadyExists {
        /// The id.
        id: SandboxId,
    },
    /// There is none of that id (any more).
    #[error("there is no sandbox named {id}")]
    NotFound {
        /// The id.
        id: SandboxId,
    },
    /// No answer in time.
    #[error("no answer from the sandbox provider within {waited:?}")]
    TimedOut {
        /// How long we waited.
        waited: Duration,
    },
    /// It may work later.
    #[error("{what}")]
    Unavailable {
        /// What could not be done.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It was not asked, because it has failed too often in a row.
    #[error("{what}")]
    CircuitOpen {
        /// What failed, since when, and when it is tried again.
        what: String,
        /// How long to wait, at least.
        retry_after: Duration,
    },
    /// This request can never work, for example because the specification is wrong.
    #[error("{what}")]
    Refused {
        /// What is wrong, what was expected and how to mend it.
        what: String,
    },
    /// No request can work, for example because the host does not allow sandboxes.
    #[error("{what}")]
    Unusable {
        /// What is missing and how to enable it.
        what: String,
    },
}

impl ProviderError {
    /// What kind of failure this is.
    pub fn class(&self) -> FaultClass {
        match self {
            // Whoever is there must be looked at before anything is decided.
            Self::AlreadyExists { .. } | Self::TimedOut { .. } => FaultClass::Ambiguous,
            Self::Unavailable { .. } => FaultClass::Transient,
            Self::CircuitOpen { .. } => FaultClass::Throttled,
            Self::NotFound { .. } | Self::Refused { .. } => FaultClass::Permanent,
            Self::Unusable { .. } => FaultClass::Fatal,
        }
    }

    /// The same, for the machines.
    pub fn fault(&self) -> Fault {
        let retry_after = match self {
            Self::CircuitOpen { retry_after, .. } => Some(*retry_after),
            _ => None,
        };
        Fault { retry_after, ..Fault::of(self.class(), self) }
    }
}
