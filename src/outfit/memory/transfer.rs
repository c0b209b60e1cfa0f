//! Texts on their way between a copy and its store, each guarded by what was found where it goes.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::StreamExt as _;
use remuda_actors::ports::ControlError;
use sha2::{Digest as _, Sha256};

use super::replica::{Action, Hash};
use super::sync::{Scope, look};
use super::{Link, MAX_TEXT, MODE, relative};
use crate::cma::Memory;
use crate::hand::trees::hex;
use crate::hand::wire::{Change, Expect};
use crate::outfit::record::Page;
use crate::outfit::trouble::Trouble;

/// Texts fetched or sent at once, as the official workers have it.
const AT_ONCE: usize = 16;

/// Texts sent at once when the session is over, as the official workers have it.
const AT_ONCE_LAST: usize = 32;

/// Texts that are held here at once, before they go into the sandbox together.
const BATCH: usize = 64;

/// What is to be done, by kind.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) pulls: Vec<Action>,
    pub(super) removes: Vec<Action>,
    pub(super) uploads: Vec<Action>,
    pub(super) deletes: Vec<Action>,
}

impl Plan {
    /// The texts that will be sent.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &Hash)> {
        self.uploads.iter().filter_map(|action| match action {
            Action::Create { path, hash } | Action::Update { path, hash, .. } => Some((path.as_str(), hash)),
            _ => None,
        })
    }
}

/// Brings the server's texts into the sandbox, and takes out what the server no longer has.
pub(super) async fn pulled(
    page: &mut Page<'_>,
    link: &Link<'_>,
    pulls: Vec<Action>,
    removes: Vec<Action>,
) -> Result<(), Trouble> {
    let (store, folder) = (page.copy().store.clone(), page.copy().path.clone());
    for batch in pulls.chunks(BATCH) {
        let fetched = futures_util::stream::iter(batch.to_vec()).map(|action| fetch(link, &store, action));
        let fetched: Vec<_> =
            fetched.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
        let mut hashes: BTreeMap<String, Hash> = BTreeMap::new();
        let changes = fetched.into_iter().map(|(path, expect, text)| {
            hashes.insert(path.clone(), hex(&Sha256::digest(&text)));
            let size = Some(text.len() as u64);
            (Change { path: relative(&path).to_owned(), mode: MODE, size, expect }, text)
        });
        let changes: Vec<_> = changes.collect();
        let skipped = link.hand.change_tree(&folder, changes).await?;
        skipped.iter().for_each(|file| drop(hashes.remove(&format!("/{}", file.path))));
        for (path, hash) in hashes {
            page.copy().replica.agreed(&path, hash);
        }
    }
    let changes: Vec<_> = removes
        .iter()
        .filter_map(|action| {
            let Action::Remove { path, found } = action else { return None };
            let expect = Expect::Sha256(found.clone());
            Some((Change { path: relative(path).to_owned(), mode: MODE, size: None, expect }, Bytes::new()))
        })
        .collect();
    let paths: Vec<_> = changes.iter().map(|(change, _)| change.path.clone()).collect();
    let skipped = link.hand.change_tree(&folder, changes).await?;
    for path in paths {
        if !skipped.iter().any(|file| file.path == path) {
            page.copy().replica.gone(&format!("/{path}"));
        }
    }
    Ok(())
}

/// A memory's text and what must be found where it goes; none if it could not be had, which the next time will mend.
async fn fetch(link: &Link<'_>, store: &str, action: Action) -> Option<(String, Expect, Bytes)> {
    let Action::Pull { path, id, found } = action else { return None };
    let ask = || link.control.memory(link.patient.item(), store, &id);
    let memory = match link.patient.ask(ask).await {
        Ok(memory) => memory,
        Err(error) => {
            tracing::warn!(store, path, error = &error as &dyn std::error::Error, "a memory was not fetched");
            return None;
        }
    };
    // It may have been moved since it was listed.
    if memory.path != path {
        return None;
    }
    let expect = found.map_or(Expect::Absent, Expect::Sha256);
    Some((memory.path, expect, memory.content?.into()))
}

/// What became of a text that was to be sent.
enum Sent {
    /// The server has it.
    Taken(Hash),
    /// The server will never have it.
    Refused(Hash),
    /// It was not sent.
    Unsent,
    /// It may have been.
    Unknown,
}

/// Sends the sandbox's texts.
pub(super) async fn sent(
    page: &mut Page<'_>,
    link: &Link<'_>,
    uploads: Vec<Action>,
    scope: Scope,
) -> Result<(), Trouble> {
    let (store, folder) = (page.copy().store.clone(), page.copy().path.clone());
    let at_once = if scope == Scope::Flush { AT_ONCE_LAST } else { AT_ONCE };
    let sending = futures_util::stream::iter(uploads).map(|action| send(link, &store, &folder, action));
    let mut sending = std::pin::pin!(sending.buffer_unordered(at_once));
    while let Some((path, sent)) = sending.next().await {
        let replica = &mut page.copy().replica;
        match sent {
            Sent::Taken(hash) => replica.agreed(&path, hash),
            Sent::Refused(hash) => replica.refuse(&path, hash),
            Sent::Unsent => replica.answered(&path),
            Sent::Unknown => {}
        }
    }
    Ok(())
}

async fn send(link: &Link<'_>, store: &str, folder: &str, action: Action) -> (String, Sent) {
    let (path, hash, known) = match action {
        Action::Create { path, hash } => (path, hash, None),
        Action::Update { path, hash, id, expected } => (path, hash, Some((id, expected))),
        Action::Pull { path, .. } | Action::Remove { path, .. } | Action::Delete { path, .. } => {
            return (path, Sent::Unsent);
        }
    };
    let file = match link.hand.get_file(&format!("{folder}{path}"), MAX_TEXT).await {
        Ok(file) => file,
        Err(error) => {
            tracing::debug!(store, path, error = &error as &dyn std::error::Error, "a file was not read");
            return (path, Sent::Unsent);
        }
    };
    // It has changed since it was listed; the next time will see it as it is then.
    if hex(&Sha256::digest(&file)) != hash {
        return (path, Sent::Unsent);
    }
    let Ok(text) = std::str::from_utf8(&file) else {
        tracing::warn!(store, path, "a file is no UTF-8 text, so it cannot become a memory");
        return (path, Sent::Refused(hash));
    };
    let answer = match &known {
        Some((id, expected)) => match update(link, store, id, text, expected).await {
            Err(ControlError::Rejected { status: 404, .. }) => create(link, store, &path, text).await,
            answer => answer,
        },
        None => create(link, store, &path, text).await,
    };
    let sent = match answer {
        Ok(_) => Sent::Taken(hash),
        Err(error) => {
            tracing::warn!(store, path, error = &error as &dyn std::error::Error, "a memory was not sent");
            match error {
                ControlError::Rejected { status: 400 | 413, .. } => Sent::Refused(hash),
                ControlError::Rejected { .. } | ControlError::Unauthorized { .. } => Sent::Unsent,
                // A conflict may be with what we ourselves sent before an answer was lost.
                _ => Sent::Unknown,
            }
        }
    };
    (path, sent)
}

async fn create(link: &Link<'_>, store: &str, path: &str, text: &str) -> Result<Memory, ControlError> {
    link.patient.tell(|| link.control.create_memory(link.patient.item(), store, path, text)).await
}

async fn update(
    link: &Link<'_>,
    store: &str,
    id: &str,
    text: &str,
    expected: &str,
) -> Result<Memory, ControlError> {
    link.patient.tell(|| link.control.update_memory(link.patient.item(), store, id, text, expected)).await
}

/// Deletes the memories whose files are still gone.
pub(super) async fn deleted(
    page: &mut Page<'_>,
    link: &Link<'_>,
    deletes: Vec<Action>,
) -> Result<(), Trouble> {
    if deletes.is_empty() {
        return Ok(());
    }
    let (store, folder) = (page.copy().store.clone(), page.copy().path.clone());
    let here = look(link, &store, &folder).await?;
    for action in deletes {
        let Action::Delete { path, id, expected } = action else { continue };
        if !here.is_ours() || here.files.contains_key(&path) {
            continue;
        }
        let delete = || link.control.delete_memory(link.patient.item(), &store, &id, &expected);
        match link.patient.tell(delete).await {
            Ok(()) | Err(ControlError::Rejected { status: 404, .. }) => page.copy().replica.gone(&path),
            Err(error) => {
                tracing::warn!(
                    store,
                    path,
                    error = &error as &dyn std::error::Error,
                    "a memory was not deleted"
                );
            }
        }
    }
    Ok(())
}
