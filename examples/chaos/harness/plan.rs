//! What is to be done: how long, to how many, and with which faults.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The `remuda` that is tried.
    pub(crate) remuda: PathBuf,
    /// How long faults happen.
    pub(crate) faults_for: Duration,
    /// Where all dice of the run come from.
    pub(crate) seed: u64,
    /// Sessions that live at the same time.
    pub(crate) sessions: usize,
    /// Remudas that serve the environment.
    pub(crate) processes: usize,
    /// What may happen.
    pub(crate) faults: BTreeSet<Fault>,
    /// How long after the last fault everything may take to be answered, ended and quiet.
    pub(crate) settle: Duration,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL of remuda, which is started again after a while.
    Kill,
    /// SIGSTOP of remuda, and SIGCONT after a while.
    Pause,
    /// SIGKILL of a sandbox's hand.
    KillHand,
    /// SIGKILL of a sandbox's launcher.
    KillLauncher,
    /// SIGKILL of a process that a tool started.
    KillTool,
    /// SIGSTOP of everything in a sandbox but its launcher, and SIGCONT after a while.
    PauseSandbox,
    /// Every connection is reset at once.
    Cut,
    /// New connections are reset, and those that are there.
    Refuse,
    /// Nothing comes through, in either direction, and nobody is told.
    Partition,
    /// Every piece takes its time.
    Delay,
    /// Requests get through, and their connection is reset instead of an answer.
    LoseAnswers,
    /// The state directory of the last remuda is on a small disk, which is full for a while.
    FullDisk,
    /// A tool call starts as many processes as it can.
    Pids,
    /// A tool call takes as much memory as it can.
    Memory,
}

impl Fault {
    /// Every one.
    pub(crate) fn all() -> BTreeSet<Self> {
        <Self as clap::ValueEnum>::value_variants().iter().copied().collect()
    }

    /// How often it comes, against the others of a schedule. None for what tool calls do to themselves.
    pub(crate) fn weight(self) -> u32 {
        match self {
            Self::Kill => 4,
            Self::Pause | Self::LoseAnswers | Self::KillHand => 3,
            Self::Cut | Self::Partition | Self::Delay | Self::PauseSandbox => 2,
            Self::KillLauncher | Self::KillTool | Self::Refuse | Self::FullDisk => 2,
            Self::Pids | Self::Memory => 0,
        }
    }
}
