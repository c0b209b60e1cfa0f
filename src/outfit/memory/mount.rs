//! How a copy comes into a sandbox.

use bytes::Bytes;

use super::{Copy, Link, MARKER, MODE, Stage, marker, relative};
use crate::cma::MemoryView;
use crate::hand::wire::{Change, Expect};
use crate::outfit::document::Store;
use crate::outfit::record::Page;
use crate::outfit::trouble::Trouble;

/// Refuses a place that is taken.
pub(in crate::outfit) async fn check_vacant(link: &Link<'_>, store: &Store) -> Result<(), Trouble> {
    let Store { id, path, .. } = store;
    if link.hand.list_tree(path, 0).await?.exists {
        let what = format!("the memory store {id} is to be at {path}, and something is there already");
        return Err(Trouble::supply(what));
    }
    Ok(())
}

/// Makes a copy whose record says that it is being made; what an attempt before this one has left is removed.
///
/// Dropped half-way or failed, it leaves a part, and the record still says so.
pub(in crate::outfit) async fn mount(mut page: Page<'_>, link: &Link<'_>) -> Result<(), Trouble> {
    let Copy { store, path, .. } = page.copy().clone();
    link.hand.remove_tree(&path).await?;
    let memories = link.memories(&store, MemoryView::Full).await?;
    let mut changes = vec![file(MARKER, marker(&store).into())];
    let mut agreed = Vec::with_capacity(memories.len());
    for memory in memories {
        changes.push(file(relative(&memory.path), memory.content.unwrap_or_default().into()));
        agreed.push((memory.path, memory.content_sha256));
    }
    let skipped = link.hand.change_tree(&path, changes).await?;
    for file in &skipped {
        tracing::warn!(
            store,
            path = file.path,
            why = file.why,
            "a memory could not be written into the sandbox"
        );
    }
    if skipped.iter().any(|file| file.path == MARKER) {
        return Err(Trouble::sandbox(format!("{path} could not be marked as the memory store {store}")));
    }
    let copy = page.copy();
    for (path, hash) in agreed {
        if !skipped.iter().any(|file| file.path == relative(&path)) {
            copy.replica.agreed(&path, hash);
        }
    }
    copy.stage = Stage::Made;
    page.save().await
}

/// A new file.
fn file(path: &str, contents: Bytes) -> (Change, Bytes) {
    let size = Some(contents.len() as u64);
    (Change { path: path.to_owned(), mode: MODE, size, expect: Expect::Absent }, contents)
}
