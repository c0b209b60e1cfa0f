//! Calls that were given to a sandbox for a work item we do not hold any more, and that have no answer for all
//! we know.
//!
//! When their session comes back under another item, its history shows them as new. Whether they may be run is
//! decided by the sandbox that had them: in that one they are attached to, and in any other they are not run
//! but reported as unknown, unless they change nothing.
//!
//! # Bounds
//! Sessions that are remembered, at most: [`SESSIONS`]; the one that ended first is forgotten first.
//!
//! # Not here
//! What such a call came to: its sandbox knows that, as long as it is there. And the journal, which has all of
//! this as [`Record::Left`](crate::ports::Record::Left) until the session has come back and its new item has
//! ended.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{CallId, SandboxId, SessionId, WorkId};

/// Sessions that are remembered, at most. Few have such calls at all: those that were lost in the middle of one.
const SESSIONS: usize = 4_096;

/// Such calls, by their session.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    sessions: BTreeMap<SessionId, (u64, Left)>,
    kept: u64,
}

/// What the items of one session have left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The items, under which the journal has it.
    pub(crate) works: BTreeSet<WorkId>,
    /// The calls, and the sandbox that each was given to.
    pub(crate) calls: BTreeMap<CallId, SandboxId>,
}

impl Unanswered {
    /// A work item of the session is not ours any more. Returns the items that are forgotten for it.
    #[must_use]
    pub(crate) fn keep(
        &mut self,
        session: SessionId,
        work: WorkId,
        calls: BTreeMap<CallId, SandboxId>,
    ) -> BTreeSet<WorkId> {
        if calls.is_empty() {
            return BTreeSet::new();
        }
        self.kept += 1;
        let (kept, known) = self.sessions.entry(session).or_default();
        *kept = self.kept;
        known.works.insert(work);
        known.calls.extend(calls);
        if self.sessions.len() <= SESSIONS {
            return BTreeSet::new();
        }
        let oldest = self.sessions.iter().min_by_key(|(_, (kept, _))| *kept);
        let oldest = oldest.map(|(session, _)| session.clone());
        oldest.map(|session| self.take(&session).works).unwrap_or_default()
    }

    /// The session has come back.
    pub(crate) fn take(&mut self, session: &SessionId) -> Left {
        self.sessions.remove(session).map(|(_, left)| left).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(id: &str) -> BTreeMap<CallId, SandboxId> {
        BTreeMap::from([(id.into(), "sandbox".into())])
    }

    #[test]
    fn the_session_that_ended_first_is_forgotten_first() {
        let mut unanswered = Unanswered::default();
        for n in 0..SESSIONS {
            assert!(unanswered.keep(format!("s{n}").into(), format!("w{n}").into(), calls("a")).is_empty());
        }
        assert!(unanswered.keep("s0".into(), "w".into(), calls("b")).is_empty());
        assert!(unanswered.keep("none".into(), "w".into(), BTreeMap::new()).is_empty());
        let forgotten = unanswered.keep("new".into(), "w".into(), calls("a"));
        assert_eq!(forgotten, BTreeSet::from(["w1".into()]), "its session had ended first");
        assert_eq!(unanswered.sessions.len(), SESSIONS);
        assert!(unanswered.take(&"s1".into()).calls.is_empty());
        let left = unanswered.take(&"s0".into());
        assert_eq!((left.calls.len(), left.works.len()), (2, 2), "what it left each time");
        assert!(unanswered.take(&"s0".into()).calls.is_empty());
    }
}
