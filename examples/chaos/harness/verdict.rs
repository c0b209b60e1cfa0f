//! The invariants, and what a run says about them.

use std::fmt;

/// What must hold, whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    OneStart,
    OneAnswer,
    OneHolder,
    NoStopAfterLoss,
    NoneStranded,
    NoOrphan,
    NoCredential,
    EveryItemEnds,
    NobodyGivesUp,
    QuietInTime,
    NothingLeft,
}

impl Invariant {
    fn text(self) -> &'static str {
        match self {
            Self::OneStart => "no tool call is started twice in a sandbox",
            Self::OneAnswer => "every call is answered once: as its tool answered, or with an honest word",
            Self::OneHolder => "never two holders act on one item",
            Self::NoStopAfterLoss => "no item is stopped by who lost its lease",
            Self::NoneStranded => "no item is ended while calls of its session wait",
            Self::NoOrphan => "no sandbox is left without an owner",
            Self::NoCredential => "no credential in any sandbox",
            Self::EveryItemEnds => "every item ends or is returned",
            Self::NobodyGivesUp => "no remuda ends by itself",
            Self::QuietInTime => "after the last fault everything becomes quiet in time",
            Self::NothingLeft => "no process, control group or mount is left",
        }
    }
}

/// What was found about one invariant.
#[derive(Debug)]
pub(crate) struct Finding {
    invariant: Invariant,
    /// How much was looked at.
    looked_at: usize,
    /// What that was.
    of: &'static str,
    broken: Vec<String>,
}

impl Finding {
    /// Nothing looked at yet.
    pub(crate) fn about(invariant: Invariant, of: &'static str) -> Self {
        Self { invariant, looked_at: 0, of, broken: Vec::new() }
    }

    /// One more is looked at.
    pub(crate) fn look(&mut self) {
        self.looked_at += 1;
    }

    /// That many more are looked at.
    pub(crate) fn look_at(&mut self, many: usize) {
        self.looked_at += many;
    }

    /// The invariant is broken.
    pub(crate) fn broken(&mut self, how: impl Into<String>) {
        self.broken.push(how.into());
    }

    /// Whether it holds. What was never looked at does not.
    pub(crate) fn holds(&self) -> bool {
        self.broken.is_empty() && self.looked_at > 0
    }
}

/// Broken cases shown of each invariant.
const SHOWN: usize = 12;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match (self.holds(), self.looked_at) {
            (true, _) => "holds",
            (false, 0) => "VOID",
            (false, _) => "BROKEN",
        };
        write!(f, "  {word:<7} {} ({} {})", self.invariant.text(), self.looked_at, self.of)?;
        for how in self.broken.iter().take(SHOWN) {
            write!(f, "\n          - {}", how.replace('\n', "\n            "))?;
        }
        match self.broken.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n          … and {more} more"),
        }
    }
}

/// What a run says about all of them.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// One for each invariant.
    pub(crate) findings: Vec<Finding>,
    /// What happened, in figures.
    pub(crate) figures: Vec<(String, usize)>,
}

impl Verdict {
    /// Whether every invariant holds.
    pub(crate) fn holds(&self) -> bool {
        self.findings.iter().all(Finding::holds)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, many) in &self.figures {
            writeln!(f, "  {many:>7} {what}")?;
        }
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        Ok(())
    }
}
