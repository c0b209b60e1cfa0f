//! Every call that was given, and what the control plane was told about it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use remuda::emulator::Resolved;
use remuda_actors::ids::{CallId, SessionId};

/// What a call does, as far as its answer has to be judged by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Writes lines to the ledger, and answers with its number and its nonce.
    Record,
    /// The same, and leaves a job that goes on to write.
    Job,
    /// The same, and tells how many credentials it found.
    Search,
    /// Its success is always this text.
    Fixed(String),
    /// Its success contains each of these texts, once.
    Contains(Vec<String>),
    /// Takes whatever it can get; any answer will do.
    Greed,
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// Whose it is.
    pub(crate) session: SessionId,
    /// Its id.
    pub(crate) call: CallId,
    /// Its number, which no other call has.
    pub(crate) number: u64,
    /// What it does.
    pub(crate) deed: Deed,
    /// The number of the first call of its round; those of a round were given together.
    pub(crate) round: u64,
    /// When they were given.
    pub(crate) at: Instant,
    /// What became of it, and when that was seen.
    pub(crate) resolved: Option<(Resolved, Instant)>,
}

/// A session whose item was ended while its calls waited. Nobody would have served it ever again, but that its
/// application spoke up.
#[derive(Clone, Debug)]
pub(crate) struct Stranded {
    /// The session.
    pub(crate) session: SessionId,
    /// When its turn began.
    pub(crate) at: Instant,
    /// When it was seen to be stranded.
    pub(crate) seen: Instant,
}

/// Every call.
#[derive(Debug, Default)]
pub(crate) struct Book {
    numbers: AtomicU64,
    calls: Mutex<Vec<Given>>,
    stranded: Mutex<Vec<Stranded>>,
}

impl Book {
    /// A number that nobody has.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Enters a call that is over, or was given up.
    pub(crate) fn enter(&self, call: Given) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// Enters a session that was stranded.
    pub(crate) fn strand(&self, stranded: Stranded) {
        self.stranded.lock().unwrap_or_else(PoisonError::into_inner).push(stranded);
    }

    /// Every session that was stranded, as often as it was.
    pub(crate) fn stranded(&self) -> Vec<Stranded> {
        self.stranded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every call entered so far.
    pub(crate) fn calls(&self) -> Vec<Given> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
