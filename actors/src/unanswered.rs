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
//! What such a call came to: its sandbox knows that, as long as it is there. Nothing of this outlives the
//! process until the session has come back; then it is written into the journal under the new item.

use std::collections::BTreeMap;

use crate::ids::{CallId, SandboxId, SessionId};

/// Sessions that are remembered, at most. Few have such calls at all: those that were lost in the middle of one.
const SESSIONS: usize = 4_096;

/// Such calls, with the sandbox that each was given to, by their session.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    sessions: BTreeMap<SessionId, (u64, BTreeMap<CallId, SandboxId>)>,
    kept: u64,
}

impl Unanswered {
    /// A work item of the session is not ours any more.
    pub(crate) fn keep(&mut self, session: SessionId, calls: BTreeMap<CallId, SandboxId>) {
        if calls.is_empty() {
            return;
        }
        self.kept += 1;
        let (kept, known) = self.sessions.entry(session).or_default();
        *kept = self.kept;
        known.extend(calls);
        if self.sessions.len() > SESSIONS
            && let Some((oldest, _)) = self.sessions.iter().min_by_key(|(_, (kept, _))| *kept)
        {
            let oldest = oldest.clone();
            self.sessions.remove(&oldest);
        }
    }

    /// The session has come back.
    pub(crate) fn take(&mut self, session: &SessionId) -> BTreeMap<CallId, SandboxId> {
        self.sessions.remove(session).map(|(_, calls)| calls).unwrap_or_default()
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
            unanswered.keep(format!("s{n}").into(), calls("a"));
        }
        unanswered.keep("s0".into(), calls("b"));
        unanswered.keep("none".into(), BTreeMap::new());
        unanswered.keep("new".into(), calls("a"));
        assert_eq!(unanswered.sessions.len(), SESSIONS);
        assert!(unanswered.take(&"s1".into()).is_empty(), "it had ended first");
        assert_eq!(unanswered.take(&"s0".into()).len(), 2, "what it left each time");
        assert!(unanswered.take(&"s0".into()).is_empty());
    }
}
