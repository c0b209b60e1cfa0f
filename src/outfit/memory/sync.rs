//! How a copy and its store are brought to agree again.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::replica::{Action, Local, Remote, Rules};
use super::transfer::{Plan, deleted, pulled, sent};
use super::{Copy, Deletes, Link, MARKER, MAX_TEXT, MODE, Stage, marker};
use crate::cma::MemoryView;
use crate::hand::trees::hex;
use crate::hand::wire::{Change, Expect};
use crate::outfit::record::Page;
use crate::outfit::trouble::Trouble;

/// How much is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::outfit) enum Scope {
    /// Everything, and nothing that can be put off.
    Between,
    /// Everything, for the last time.
    Last,
    /// Only what the sandbox has is sent.
    Flush,
}

/// What is in a copy's folder.
pub(super) struct Here {
    pub(super) files: BTreeMap<String, Local>,
    pub(super) mark: Mark,
}

/// Whose folder it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// This store's.
    Ours,
    /// Nothing says whose.
    Missing,
    /// Something says that it is not this store's.
    Foreign,
}

impl Here {
    /// Whether the folder may be touched: it is this store's, or nothing is left of it.
    pub(super) fn is_ours(&self) -> bool {
        self.mark == Mark::Ours || (self.mark == Mark::Missing && self.files.is_empty())
    }
}

/// Brings a copy and its store in step, as far as `scope` says. `now` is any time that does not go back.
///
/// # Cancel safety
/// It can be dropped at any time: what was agreed on is on the page, and what was sent without an answer, too.
pub(in crate::outfit) async fn sync(
    mut page: Page<'_>,
    link: &Link<'_>,
    deletes: Deletes,
    scope: Scope,
    now: Duration,
) -> Result<(), Trouble> {
    let Copy { store, path, read_only, stage, .. } = page.copy().clone();
    if stage != Stage::Made || (scope == Scope::Flush && read_only) {
        return Ok(());
    }
    let here = look(link, &store, &path).await?;
    if !here.is_ours() {
        tracing::warn!(store, path, mark = ?here.mark, "the folder is no longer marked as this memory store; it is left alone");
        return Ok(());
    }
    let marked = here.mark == Mark::Ours;
    if scope == Scope::Flush && !marked {
        return Ok(());
    }
    let there = link.memories(&store, MemoryView::Basic).await?;
    let there: BTreeMap<_, _> = there
        .into_iter()
        .map(|memory| (memory.path, Remote { id: memory.id, hash: memory.content_sha256 }))
        .collect();
    if !marked {
        mark(link, &store, &path).await?;
    }
    let rules = Rules { read_only, deletes, last: scope == Scope::Last, marked, now };
    let actions = page.copy().replica.plan(&here.files, &there, &rules);
    let plan = Plan::of(actions, scope);
    // Should this process die after something was sent, the next one knows what it was.
    for (path, hash) in plan.texts() {
        page.copy().replica.sending(path, hash.clone());
    }
    page.save().await?;
    pulled(&mut page, link, plan.pulls, plan.removes).await?;
    sent(&mut page, link, plan.uploads, scope).await?;
    deleted(&mut page, link, plan.deletes).await?;
    page.save().await
}

/// What is in a copy's folder, looked at as a whole or not at all.
pub(super) async fn look(link: &Link<'_>, store: &str, path: &str) -> Result<Here, Trouble> {
    let tree = link.hand.list_tree(path, MAX_TEXT as u64).await?;
    if tree.exists && !tree.complete {
        return Err(Trouble::sandbox(format!("{path} could not be looked through")));
    }
    let ours = hex(&Sha256::digest(marker(store)));
    let mut here = Here { files: BTreeMap::new(), mark: Mark::Missing };
    for entry in tree.entries {
        if entry.path == MARKER {
            here.mark = if entry.sha256.as_ref() == Some(&ours) { Mark::Ours } else { Mark::Foreign };
            continue;
        }
        let found = entry.sha256.filter(|_| entry.file).map_or(Local::Other, Local::File);
        here.files.insert(format!("/{}", entry.path), found);
    }
    Ok(here)
}

/// What has become of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::outfit) enum Standing {
    /// It is there, in whole or in part.
    There,
    /// Nothing is there.
    Gone,
    /// Something is there that is not known to be the copy any more.
    Foreign,
}

/// What has become of a copy.
pub(in crate::outfit) async fn standing(link: &Link<'_>, copy: &Copy) -> Result<Standing, Trouble> {
    let here = look(link, &copy.store, &copy.path).await?;
    Ok(match here.mark {
        Mark::Ours => Standing::There,
        Mark::Missing if here.files.is_empty() => Standing::Gone,
        // Its mark is the first thing that a copy gets.
        Mark::Missing | Mark::Foreign => Standing::Foreign,
    })
}

async fn mark(link: &Link<'_>, store: &str, path: &str) -> Result<(), Trouble> {
    let contents = Bytes::from(marker(store));
    let size = Some(contents.len() as u64);
    let change = Change { path: MARKER.to_owned(), mode: MODE, size, expect: Expect::Absent };
    link.hand.change_tree(path, [(change, contents)]).await?;
    Ok(())
}

/// The actions of one kind each.
impl Plan {
    fn of(actions: Vec<Action>, scope: Scope) -> Self {
        let mut plan = Self::default();
        for action in actions {
            match action {
                Action::Create { .. } | Action::Update { .. } => plan.uploads.push(action),
                _ if scope == Scope::Flush => {}
                Action::Pull { .. } => plan.pulls.push(action),
                Action::Remove { .. } => plan.removes.push(action),
                Action::Delete { .. } => plan.deletes.push(action),
            }
        }
        plan
    }
}
