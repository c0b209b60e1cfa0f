//! What a local sandbox is to be, as written in its folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use remuda_actors::ids::{SandboxId, SessionId};
use remuda_actors::ports::OwnerId;
use serde::{Deserialize, Serialize};

/// A local sandbox, as `sandbox.json` in its folder describes it. Holds no secret.
///
/// What a later version may have added is passed over: a sandbox outlives the remuda that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its id.
    pub id: SandboxId,
    /// Whose it is.
    pub owner: OwnerId,
    /// The session it was made for.
    pub session: Option<SessionId>,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: u64,
    /// How it is kept apart from the host.
    pub isolation: Isolation,
    /// What it can reach.
    pub network: Network,
    /// What it may use.
    pub limits: Limits,
    /// The id on the host that its processes run under; none for that of whoever started it.
    pub run_as: Option<u32>,
    /// The cgroups it is put in, if any could be had.
    pub cgroups: Vec<PathBuf>,
    /// The sandbox whose files it takes over. While that one's folder is there, taking them over has not been
    /// finished, and they are still that one's.
    pub files_of: Option<SandboxId>,
}

impl Spec {
    /// How long ago it was created; zero if the clock went back since.
    pub fn age(&self) -> Duration {
        let created = SystemTime::UNIX_EPOCH + Duration::from_millis(self.created_ms);
        created.elapsed().unwrap_or_default()
    }
}

/// How a sandbox is kept apart from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces of its own, a read-only system, no privileges.
    #[default]
    Namespaces,
    /// Not at all: tools run as plain processes of the host, with a folder of their own. They share the hand's
    /// user, so they can change its journal and take its socket's place (which is noticed), and if remuda is not
    /// root, all that is remuda's. For development on hosts that allow nothing better.
    None,
}

/// What a sandbox can reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Its own loopback, and nothing else.
    #[default]
    None,
    /// Whatever the host can reach by its network, the host's own services included.
    Host,
}

/// What a sandbox may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processes and threads at once. Default 512.
    pub processes: u64,
    /// Memory in bytes. For the sandbox as a whole where a memory cgroup can be had, else for each process.
    /// Default 2 GiB.
    pub memory_bytes: u64,
    /// The largest file that may be written, in bytes. Default 4 GiB.
    pub file_bytes: u64,
    /// Open files of each process. Default 4096.
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { processes: 512, memory_bytes: 2 << 30, file_bytes: 4 << 30, open_files: 4096 }
    }
}

/// Why a launcher could not start its sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Of what kind.
    pub kind: RefusalKind,
    /// What is missing, and how to mend it.
    pub message: String,
}

/// What a refusal means for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The host does not allow sandboxes.
    Unusable,
    /// It may work another time.
    Failed,
}

/// The files in a sandbox's folder.
#[derive(Clone, Copy, Debug)]
pub struct Folder<'a>(pub &'a Path);

impl Folder<'_> {
    /// What the sandbox is to be.
    pub fn spec(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }

    /// The token that its hand wants to see. Only whoever runs remuda can read it.
    pub fn token(&self) -> PathBuf {
        self.0.join("token")
    }

    /// [Locked](super::Keeper) by the launcher while it lives.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Where launcher and hand complain.
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// How it ended.
    pub fn exit(&self) -> PathBuf {
        self.0.join("exit")
    }

    /// There while it stands by by signals; names the processes that were stopped before.
    pub fn stopped(&self) -> PathBuf {
        self.0.join("stopped")
    }

    /// All of its files, the four folders below. One folder, so that another sandbox can take them over in one
    /// step.
    pub fn files(&self) -> PathBuf {
        self.0.join("files")
    }

    /// What the sandbox sees as `/workspace`.
    pub fn workspace(&self) -> PathBuf {
        self.files().join("workspace")
    }

    /// What it sees as `/mnt/memory`.
    pub fn memory(&self) -> PathBuf {
        self.files().join("memory")
    }

    /// What it sees as `/tmp`.
    pub fn tmp(&self) -> PathBuf {
        self.files().join("tmp")
    }

    /// The hand's journal: what was done to the files goes with them. The hand alone gets there: its tools see no
    /// such folder.
    pub fn calls(&self) -> PathBuf {
        self.files().join("calls")
    }

    /// The hand's socket. The hand alone gets there, too.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// The hand's socket.
    pub fn socket(&self) -> PathBuf {
        self.run().join("hand.sock")
    }

    /// An empty folder on which the sandbox's file system is built; only the sandbox sees what is there.
    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }
}
