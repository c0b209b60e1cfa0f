//! How a session's scenario went.

use serde::Serialize;

/// How a session's scenario went, or how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The scenario's name.
    pub scenario: String,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a scenario went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It has not come to its end.
    Running {
        /// The turn it is at, counted from 1.
        turn: usize,
    },
    /// Everything was as expected.
    Passed,
    /// Something was not.
    Failed(Mismatch),
}

/// The first thing that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The turn, counted from 1.
    pub turn: usize,
    /// The call, as step and tool, if it was about one.
    pub call: Option<String>,
    /// What was expected.
    pub expected: String,
    /// What came instead.
    pub got: String,
}

impl Verdict {
    pub(in crate::emulator) fn new(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), outcome: Outcome::Running { turn: 1 } }
    }

    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.outcome == Outcome::Passed
    }

    /// Whether it has come to its end, well or not.
    pub fn is_final(&self) -> bool {
        !matches!(self.outcome, Outcome::Running { .. })
    }

    /// Notes a mismatch; only the first one counts.
    pub(in crate::emulator) fn fail(&mut self, mismatch: Mismatch) {
        if !matches!(self.outcome, Outcome::Failed(_)) {
            self.outcome = Outcome::Failed(mismatch);
        }
    }

    /// Notes that turn `turn`, counted from 1, is next, or that none is left.
    pub(in crate::emulator) fn advance(&mut self, next: Option<usize>) {
        if let Outcome::Running { .. } = self.outcome {
            self.outcome = next.map_or(Outcome::Passed, |turn| Outcome::Running { turn });
        }
    }
}
