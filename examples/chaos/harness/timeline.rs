//! What happened when, for people.

use std::fmt::{self, Display};
use std::time::Instant;

/// The clock of a run, and its printed account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    started: Instant,
}

/// Whom a line is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    /// The run as a whole.
    Run,
    /// One worker, or what is around it.
    Worker(usize),
}

impl Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run => f.pad("run"),
            Self::Worker(number) => f.pad(&format!("remuda {number}")),
        }
    }
}

impl Timeline {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Prints one line.
    pub(crate) fn note(&self, who: Who, what: impl Display) {
        println!("{:>8.2} s  {who:<9}  {what}", self.started.elapsed().as_secs_f64());
    }
}
