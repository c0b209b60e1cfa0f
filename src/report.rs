//! How an ending is told: the chain of causes, a hint, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Clean = 0,
    /// A demonstration or check did not end as it should.
    Failed = 1,
    /// The arguments make no sense.
    Usage = 64,
    /// The control plane or the provider could not be reached at the start.
    Unreachable = 69,
    /// The tree gave up.
    GaveUp = 70,
    /// The grace period ran out, and sessions were handed back in the middle of a turn.
    HandedBack = 75,
    /// The configuration is wrong, or the credentials are refused.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An ending that somebody has to do something about.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// An ending for this reason.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hint: None }
    }

    /// An ending for a reason that is only words.
    pub fn say(exit: Exit, what: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::new(exit, anyhow::Error::msg(what))
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Prints it, and says how the process ends.
    pub fn report(&self) -> Exit {
        eprint!("{self}");
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.error)?;
        for cause in self.error.chain().skip(1) {
            writeln!(f, "  caused by: {cause}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_its_causes_and_what_to_do() {
        let cause = std::io::Error::other("no such file");
        let error = anyhow::Error::new(cause).context("could not read the key");
        let failure = Failure::new(Exit::Configuration, error).hint("create it");
        let expected = "error: could not read the key\n  caused by: no such file\nhint: create it\n";
        assert_eq!(failure.to_string(), expected);
    }
}
