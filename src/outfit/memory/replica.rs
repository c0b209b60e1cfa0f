//! One store and its copy in a sandbox: what is to be done so that they agree again.
//!
//! ```text
//!            what is in the sandbox (L)
//!                      │
//!  baseline (B) ── Replica::plan ──► actions, each guarded by the hash it found
//!                      │
//!            what the server has (R)
//! ```
//!
//! The baseline says what both sides had when they last agreed. Whoever differs from it has changed; if both have, the
//! server's side is taken.
//!
//! # Invariants
//! - This is pure: no clock, no requests. Time comes in as what has passed since the copy was made.
//! - Nothing is deleted on the server unless one same file has been missing for [`PATIENCE`], or the session is over.
//! - A copy of which all is gone at once was not emptied by the agent: it is brought back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a file must be missing before its memory is deleted, as the official workers have it.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A hash of a text, in lower-case hexadecimal.
pub(super) type Hash = String;

/// What of a path is in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// A file with this hash.
    File(Hash),
    /// Something that cannot be a memory: too large, a link, a pipe.
    Other,
}

/// What the server has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) id: String,
    pub(super) hash: Hash,
}

/// What may be done, and when it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Nothing is sent.
    pub(super) read_only: bool,
    /// What happens to memories whose files are gone.
    pub(super) deletes: super::Deletes,
    /// Whether the session is over, and nothing can be put off.
    pub(super) last: bool,
    /// Whether the folder's own mark is there.
    pub(super) marked: bool,
    /// Time on any clock that does not go back.
    pub(super) now: Duration,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The server's text takes the place of the file, which must be as it was found: of that hash, or not there.
    Pull { path: String, id: String, found: Option<Hash> },
    /// The file is removed.
    Remove { path: String, found: Hash },
    /// The file's text becomes a new memory.
    Create { path: String, hash: Hash },
    /// The file's text takes the place of the memory's, which must be as it was found.
    Update { path: String, hash: Hash, id: String, expected: Hash },
    /// The memory is deleted, if it is as it was found.
    Delete { path: String, id: String, expected: Hash },
}

/// What is known of one copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replica {
    /// What both sides had when they last agreed.
    baseline: BTreeMap<String, Hash>,
    /// Texts that were sent without an answer having come.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sent: BTreeMap<String, Hash>,
    /// Texts that the server will not have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    refused: BTreeMap<String, Hash>,
    /// Since when files are missing.
    #[serde(skip)]
    missing: BTreeMap<String, Duration>,
}

impl Replica {
    /// Both sides have this text.
    pub(super) fn agreed(&mut self, path: &str, hash: Hash) {
        self.baseline.insert(path.to_owned(), hash);
        self.answered(path);
        self.refused.remove(path);
        self.missing.remove(path);
    }

    /// Neither side has it any more.
    pub(super) fn gone(&mut self, path: &str) {
        self.baseline.remove(path);
        self.missing.remove(path);
    }

    /// A text is about to be sent.
    pub(super) fn sending(&mut self, path: &str, hash: Hash) {
        self.sent.insert(path.to_owned(), hash);
    }

    /// An answer has come to what was sent.
    pub(super) fn answered(&mut self, path: &str) {
        self.sent.remove(path);
    }

    /// The server will never take this text.
    pub(super) fn refuse(&mut self, path: &str, hash: Hash) {
        self.answered(path);
        self.refused.insert(path.to_owned(), hash);
    }

    /// What is to be done about the differences.
    pub(super) fn plan(
        &mut self,
        local: &BTreeMap<String, Local>,
        remote: &BTreeMap<String, Remote>,
        rules: &Rules,
    ) -> Vec<Action> {
        for (path, hash) in std::mem::take(&mut self.sent) {
            if remote.get(&path).is_some_and(|remote| remote.hash == hash) {
                self.baseline.insert(path, hash);
            }
        }
        self.refused
            .retain(|path, hash| matches!(local.get(path), Some(Local::File(found)) if found == hash));
        if self.was_wiped(local, rules.marked) {
            (self.baseline, self.missing) = Default::default();
        }
        let paths: BTreeSet<&String> = local.keys().chain(remote.keys()).collect();
        self.baseline.retain(|path, _| paths.contains(path));
        self.missing.retain(|path, _| !local.contains_key(path) && remote.contains_key(path));
        let mut deletes = 8.max(50.min(self.baseline.len() / 4));
        let mut actions = Vec::new();
        for path in paths {
            let action = match (local.get(path), remote.get(path)) {
                (Some(Local::File(found)), remote) => self.present(path, found, remote, rules),
                (None, Some(remote)) => self.absent(path, remote, rules, &mut deletes),
                (Some(Local::Other), _) | (None, None) => None,
            };
            actions.extend(action);
        }
        actions
    }

    /// Whether the folder was lost rather than emptied.
    fn was_wiped(&self, local: &BTreeMap<String, Local>, marked: bool) -> bool {
        let none_left = self.baseline.keys().all(|path| !local.contains_key(path));
        (!marked && local.is_empty()) || (self.baseline.len() >= 2 && none_left)
    }

    fn present(
        &mut self,
        path: &str,
        found: &Hash,
        remote: Option<&Remote>,
        rules: &Rules,
    ) -> Option<Action> {
        let base = self.baseline.get(path);
        let changed = base != Some(found);
        let sendable = !rules.read_only && self.refused.get(path) != Some(found);
        let (path, hash) = (path.to_owned(), found.clone());
        match remote {
            Some(remote) if remote.hash == *found => {
                self.agreed(&path, hash);
                None
            }
            Some(remote) if base == Some(&remote.hash) => {
                let (id, expected) = (remote.id.clone(), remote.hash.clone());
                sendable.then_some(Action::Update { path, hash, id, expected })
            }
            Some(remote) => {
                if changed {
                    tracing::warn!(path, "a memory was changed on both sides; the server's text is kept");
                }
                Some(Action::Pull { path, id: remote.id.clone(), found: Some(hash) })
            }
            None if !changed => Some(Action::Remove { path, found: hash }),
            None => sendable.then_some(Action::Create { path, hash }),
        }
    }

    fn absent(&mut self, path: &str, remote: &Remote, rules: &Rules, deletes: &mut usize) -> Option<Action> {
        let (id, path) = (remote.id.clone(), path.to_owned());
        match self.baseline.get(&path) {
            Some(base) if *base == remote.hash => {
                if rules.read_only {
                    return None;
                }
                let since = *self.missing.entry(path.clone()).or_insert(rules.now);
                let due = rules.last || rules.now.saturating_sub(since) >= PATIENCE;
                if !due || rules.deletes == super::Deletes::Disabled {
                    return None;
                }
                if rules.deletes == super::Deletes::LogOnly {
                    tracing::warn!(path, "a memory's file is gone; the memory is left, as configured");
                    return None;
                }
                *deletes = deletes.checked_sub(1)?;
                Some(Action::Delete { path, id, expected: remote.hash.clone() })
            }
            base => {
                if base.is_some() {
                    tracing::warn!(
                        path,
                        "a memory's file is gone, but the memory has changed; it is brought back"
                    );
                }
                Some(Action::Pull { path, id, found: None })
            }
        }
    }
}

#[cfg(test)]
mod tests;
