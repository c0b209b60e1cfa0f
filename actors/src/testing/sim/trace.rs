//! What happened, in order: a digest of all of it, and the lines themselves where somebody wants to read them.

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Write};
use std::hash::Hasher;
use std::time::Duration;

use tokio::time::Instant;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// A request and what it came to.
    Detail,
    /// A step of a session.
    Step,
    /// Something that went wrong on purpose.
    Fault,
    /// An invariant broke.
    Broken,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Line {
    /// When, since the beginning.
    pub at: Duration,
    /// On which host, if on one.
    pub host: Option<usize>,
    /// How much it matters.
    pub weight: Weight,
    /// What.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.weight {
            Weight::Detail => ' ',
            Weight::Step => '·',
            Weight::Fault => '!',
            Weight::Broken => '✗',
        };
        let host = self.host.map_or_else(|| "world".to_owned(), |host| format!("host {host}"));
        write!(f, "{:>9.3} s  {host}  {mark} {}", self.at.as_secs_f64(), self.text)
    }
}

/// A history in the making.
#[derive(Debug)]
pub(super) struct Trace {
    begun: Instant,
    hasher: DefaultHasher,
    kept: Option<Vec<Line>>,
    buffer: String,
}

impl Trace {
    pub(super) fn new(begun: Instant, keep: bool) -> Self {
        let (hasher, buffer) = (DefaultHasher::new(), String::new());
        Self { begun, hasher, kept: keep.then(Vec::new), buffer }
    }

    pub(super) fn note(&mut self, weight: Weight, host: Option<usize>, what: fmt::Arguments<'_>) {
        let at = self.begun.elapsed();
        self.buffer.clear();
        // A string takes everything.
        let _ = self.buffer.write_fmt(what);
        self.hasher.write_u128(at.as_nanos());
        self.hasher.write_usize(host.map_or(0, |host| host + 1));
        self.hasher.write(self.buffer.as_bytes());
        if let Some(kept) = &mut self.kept {
            kept.push(Line { at, host, weight, text: self.buffer.clone() });
        }
    }

    pub(super) fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    pub(super) fn take(&mut self) -> Vec<Line> {
        self.kept.take().unwrap_or_default()
    }
}
