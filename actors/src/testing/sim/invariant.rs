//! What must hold whatever happens.

use std::fmt;
use std::time::Duration;

/// What must hold whatever happens. Checked at every request and answer, every few seconds, and at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No call is started twice in a sandbox, and none that may change something in two sandboxes of a host.
    Once,
    /// What is posted for a call is what its hand said, byte for byte; or it says that nobody knows, and then
    /// nobody does. Nothing that was accepted is posted again.
    Faithful,
    /// No two hosts act for one session at a time, unless the control plane broke its own promise.
    OneHolder,
    /// Whoever has lost a lease, or must think so, stops nothing, posts nothing and starts no call for it.
    NoActAfterLoss,
    /// At the end there is no sandbox that nobody owns.
    NoOrphan,
    /// No sandbox is deleted while a call runs in it that nobody has cut; and no stranger's ever.
    InUse,
    /// No session's call enters a sandbox in which another session's was.
    Isolated,
    /// No credential is in anything a provider or a hand receives.
    NoSecret,
    /// No call enters a sandbox that is not furnished, where sandboxes are; and none is looked after in standby.
    Furnished,
    /// Every item that was claimed ends or is given back, and every call is answered.
    Ends,
    /// Sessions, starts, calls at once, restarts and requests per second stay within their bounds.
    Bounded,
    /// When nothing goes wrong any more, all is quiet after the stated time.
    Quiet,
    /// No machine meets an event it cannot take, and no tree gives up unless its actors were made to fail.
    Sound,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Once,
        Self::Faithful,
        Self::OneHolder,
        Self::NoActAfterLoss,
        Self::NoOrphan,
        Self::InUse,
        Self::Isolated,
        Self::NoSecret,
        Self::Furnished,
        Self::Ends,
        Self::Bounded,
        Self::Quiet,
        Self::Sound,
    ];

    /// A few words, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Once => "no call started twice",
            Self::Faithful => "results posted as produced",
            Self::OneHolder => "one holder at a time",
            Self::NoActAfterLoss => "no act after a lost lease",
            Self::NoOrphan => "no sandbox without an owner",
            Self::InUse => "no sandbox deleted in use",
            Self::Isolated => "no sandbox shared",
            Self::NoSecret => "no credential in a sandbox",
            Self::Furnished => "furnished before use",
            Self::Ends => "every item ends",
            Self::Bounded => "bounds hold",
            Self::Quiet => "quiet in the end",
            Self::Sound => "machines and tree sound",
        }
    }
}

/// An invariant that broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: Invariant,
    /// When, since the beginning.
    pub at: Duration,
    /// How.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.3} s): {}", self.invariant.name(), self.at.as_secs_f64(), self.what)
    }
}
