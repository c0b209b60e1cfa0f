//! Keeps every ledger that ever was, whatever becomes of its sandbox.
//!
//! A ledger is opened as soon as it appears, and kept open until its last name is gone: then nobody can write to
//! it any more, and its contents are final. It is known by its inode, which stays the same when another sandbox
//! takes its files over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::credentials;
use super::ledger::Ledger;
use super::sandboxes;

/// Time between two looks. No sandbox that was used is gone sooner.
const LOOK: Duration = Duration::from_millis(50);

/// Looks between two searches for credentials, which take longer.
const SEARCH_EVERY: u32 = 20;

/// Sees everything that sandboxes leave in writing.
#[derive(Debug)]
pub(crate) struct Witness {
    /// The folder of each worker's sandboxes.
    watched: Vec<PathBuf>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// By device and inode.
    open: BTreeMap<(u64, u64), (usize, File)>,
    closed: Vec<Ledger>,
    /// Where credentials were found.
    leaks: Vec<String>,
    /// Processes and files that were searched.
    searched: usize,
}

impl Witness {
    /// Will watch these folders.
    pub(crate) fn new(watched: Vec<PathBuf>) -> Self {
        Self { watched, seen: Mutex::default() }
    }

    /// Watches for ever.
    pub(crate) async fn watch(&self) {
        let mut looks = 0_u32;
        loop {
            for (worker, folder) in self.watched.iter().enumerate() {
                self.look(worker, folder);
                if looks.is_multiple_of(SEARCH_EVERY) {
                    self.search(folder);
                }
                tokio::task::yield_now().await;
            }
            looks = looks.wrapping_add(1);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// All ledgers so far.
    pub(crate) fn ledgers(&self) -> Vec<Ledger> {
        for (worker, folder) in self.watched.iter().enumerate() {
            self.look(worker, folder);
        }
        let mut seen = self.seen();
        let mut ledgers = seen.closed.clone();
        ledgers.extend(seen.open.values_mut().map(|(worker, file)| read(*worker, file)));
        ledgers
    }

    /// Where credentials were found, and how many places were searched.
    pub(crate) fn leaks(&self) -> (Vec<String>, usize) {
        let seen = self.seen();
        (seen.leaks.clone(), seen.searched)
    }

    fn look(&self, worker: usize, folder: &Path) {
        let mut seen = self.seen();
        for sandbox in sandboxes::folders(folder) {
            let Ok(file) = File::open(sandbox.join("files/workspace/ledger")) else { continue };
            let Ok(metadata) = file.metadata() else { continue };
            seen.open.entry((metadata.dev(), metadata.ino())).or_insert((worker, file));
        }
        let Seen { open, closed, .. } = &mut *seen;
        open.retain(|_, (worker, file)| {
            let gone = file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
            if gone {
                closed.push(read(*worker, file));
            }
            !gone
        });
    }

    fn search(&self, folder: &Path) {
        for sandbox in sandboxes::folders(folder) {
            let found = credentials::search(&sandbox);
            let mut seen = self.seen();
            seen.searched += found.searched;
            seen.leaks.extend(found.leaks);
        }
    }

    /// Every critical section is a look at files, which leaves nothing half done.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(worker: usize, file: &mut File) -> Ledger {
    let mut text = Vec::new();
    // What cannot be read is missing, and missing lines are found by whoever expects them.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut text));
    Ledger::parse(worker, &String::from_utf8_lossy(&text))
}
