//! Copies of memory stores, as folders in a sandbox that are kept in step with their stores.

mod mount;
mod replica;
mod sync;
mod transfer;

use serde::{Deserialize, Serialize};

pub(super) use self::mount::{check_vacant, mount};
use self::replica::Replica;
pub(super) use self::sync::{Scope, Standing, standing, sync};
use super::document::Store;
use super::patient::Patient;
use super::trouble::Trouble;
use crate::cma::{Client, Memory, MemoryPage, MemoryView};
use crate::hand::client::HandClient;

/// Name of the file that says whose copy a folder is.
const MARKER: &str = ".anthropic-memory-store";

/// Largest text of one memory, in bytes, as the control plane documents it.
const MAX_TEXT: usize = 102_400;

/// Most memories of one store, as the official workers have it.
const MAX_MEMORIES: usize = 2_000;

/// Most pages of one listing, whatever they hold.
const MAX_PAGES: usize = 1_000;

/// Permission bits of the files in a copy.
const MODE: u32 = 0o600;

/// What happens to a memory whose file is deleted in the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Deletes {
    /// It is deleted, too, after half a minute.
    #[default]
    Enabled,
    /// It is left, and a line is logged.
    LogOnly,
    /// It is left.
    Disabled,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// It is being made; what is there may be a part.
    Making,
    /// It is there.
    Made,
}

/// A store's copy in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copy {
    pub(super) store: String,
    pub(super) path: String,
    pub(super) read_only: bool,
    pub(super) stage: Stage,
    replica: Replica,
}

impl Copy {
    /// One that is about to be made.
    pub(super) fn new(store: &Store) -> Self {
        Self {
            store: store.id.clone(),
            path: store.path.clone(),
            read_only: store.read_only,
            stage: Stage::Making,
            replica: Replica::default(),
        }
    }

    /// Whether it is this store's, in its place.
    pub(super) fn is_of(&self, store: &Store) -> bool {
        self.store == store.id && self.path == store.path
    }
}

/// What a copy is kept in step through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<'a> {
    pub(super) control: &'a Client,
    pub(super) hand: &'a HandClient,
    pub(super) patient: Patient<'a>,
}

impl Link<'_> {
    /// Every memory of a store.
    async fn memories(&self, store: &str, view: MemoryView) -> Result<Vec<Memory>, Trouble> {
        let item = self.patient.item();
        let (mut memories, mut page) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let ask = || self.control.memory_page(item, store, view, page.as_deref());
            let MemoryPage { memories: more, next } = self.patient.ask(ask).await?;
            memories.extend(more.into_iter().filter(is_usable));
            if memories.len() > MAX_MEMORIES {
                break;
            }
            match next {
                Some(_) => page = next,
                None => return Ok(memories),
            }
        }
        Err(Trouble::supply(format!("the memory store {store} holds more than {MAX_MEMORIES} memories")))
    }
}

/// Whether a memory can be a file. The server's rules for paths leave nothing else; they are checked all the same,
/// because a path leads to a file.
fn is_usable(memory: &Memory) -> bool {
    let names = memory.path.strip_prefix('/');
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    let usable = names.is_some_and(|names| names != MARKER && names.split('/').all(plain));
    if !usable {
        tracing::warn!(path = memory.path, "a memory cannot be a file by this name; it is left out");
    }
    usable
}

/// A memory's path from its store's folder on.
fn relative(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

/// What the marker of a copy of this store holds.
fn marker(store: &str) -> String {
    format!("version 1\n{store}")
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::hand::trees::hex;

    #[test]
    fn the_marker_is_what_the_official_workers_write() {
        assert_eq!(
            hex(&Sha256::digest(marker("memstore_01TEST"))),
            "548e8b2ab48d8609d795f99bde2d54088d2347994bcaba83de7f764f17389e2d"
        );
    }

    #[test]
    fn memories_that_are_no_files_are_left_out() {
        let memory = |path: &str| Memory {
            id: "m".to_owned(),
            path: path.to_owned(),
            content: None,
            content_sha256: String::new(),
        };
        for path in ["/a", "/a/b.md", "/.anthropic-memory-stores", "/a/.anthropic-memory-store"] {
            assert!(is_usable(&memory(path)), "{path}");
        }
        for path in ["a", "/", "/a//b", "/../a", "/a/.", "/.anthropic-memory-store", "/a\0"] {
            assert!(!is_usable(&memory(path)), "{path}");
        }
    }
}
