//! Where a session stands, and what an earlier incarnation of it left.

use std::collections::BTreeMap;
use std::time::Duration;

use super::end::End;
use super::run::{Prior, Run};
use crate::ids::CallId;
use crate::ports::HeartbeatToken;

/// Where the session stands.
#[derive(Clone, Debug)]
pub enum State {
    /// The item is being acknowledged.
    Claiming {
        /// Whether it will be served at all.
        mode: Mode,
    },
    /// Two answers are awaited: that the lease is held, and what session it is for.
    Preparing {
        /// Which of them.
        awaits: Awaits,
        /// The attempt to retrieve the session, counted from 1.
        attempt: u32,
        /// Whether it will be served at all.
        mode: Mode,
    },
    /// Its calls are served.
    Active {
        /// Its calls.
        run: Run,
        /// Its live events.
        stream: Stream,
        /// Whether it takes up new turns.
        mode: Mode,
    },
    /// It ends; calls that run are cut and answered.
    Settling {
        /// Its calls.
        run: Run,
        /// Why.
        end: End,
    },
    /// It ends; its sandbox is being let go of.
    Deleting {
        /// Why.
        end: End,
    },
    /// It ends; its lease is being given up.
    Releasing {
        /// Why.
        end: End,
    },
    /// Terminal.
    Done,
}

/// What [`State::Preparing`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// Both.
    LeaseAndSession,
    /// The session is known.
    Lease,
    /// The lease is held.
    Session,
}

/// Whether a session takes up new turns, or new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Serving,
    /// It ends with the turn it is in.
    Draining,
    /// It ends with the calls that run, and the next process goes on.
    Leaving,
}

/// The live events of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Being opened, or open and the history not read yet.
    Opening(Connection),
    /// Open; what is missed by the history comes through it.
    Live(Connection),
    /// Opened anew, together with the history, because the idle time is over: unless that tells of a new turn, the
    /// session ends. A stream that only seems to be well may keep it from us.
    Checking(Connection),
    /// Waiting before it is opened again.
    Waiting(Connection),
}

/// One connection of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Names it: what an earlier one still had to say does not count.
    pub number: u32,
    /// Connections that failed since the last live event.
    pub failures: u32,
}

impl State {
    /// One word for the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Claiming { .. } => "claiming",
            Self::Preparing { .. } => "preparing",
            Self::Active { .. } => "active",
            Self::Settling { .. } => "settling",
            Self::Deleting { .. } => "deleting",
            Self::Releasing { .. } => "releasing",
            Self::Done => "done",
        }
    }
}

/// What an earlier incarnation of a session left, if there was one.
#[derive(Clone, Debug, Default)]
pub struct Inheritance {
    /// The lease, once the item was acknowledged.
    pub lease: Option<InheritedLease>,
    /// The calls that have no answer yet.
    pub calls: BTreeMap<CallId, Prior>,
    /// Why it was ending already.
    pub end: Option<End>,
}

/// A lease of an earlier incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InheritedLease {
    /// The token to echo, if a beat was accepted.
    pub token: Option<HeartbeatToken>,
    /// How long it runs after each beat.
    pub ttl: Duration,
    /// How much of that is left.
    pub left: Duration,
    /// Whether a beat was sent of which no answer was heard, or may have been.
    pub is_unheard: bool,
}
