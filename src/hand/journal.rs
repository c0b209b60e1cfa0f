//! What became of every call, on disk, so that no call ever runs twice.
//!
//! ```text
//! (none) ──start──► started ──finish──► finished ──no room──► ended
//!    │  ▲              └─ the hand died ─► unknown ──no room────┘
//!    │  └ started again, if the caller allows it ┘
//!    └──finish (cancelled before it came)──► finished
//! ```
//!
//! In the state directory there is the file `journal`, to which records are appended; `journal.new`, for a
//! moment, while it is rewritten without what is no longer needed; and `lock`, held as long as a hand uses
//! the directory. The journal's first line is [`MAGIC`](index::MAGIC). A record is a line of JSON (an [`Entry`]); behind
//! that of a finished call stands its result, as JSON, and a line feed.
//!
//! # Invariants
//! - A call is started only after its record has been handed to the kernel, so the death of this process
//!   cannot lose it. (That of the machine ends the sandbox with it, so nothing is synced.)
//! - The journal is only appended to, or replaced whole. A record the disk did not take completely is cut
//!   off again; so is one at the end that a crash left incomplete, for what it told was never acted upon.
//! - Anything else that is not a record refuses the start, and the file stays as it is.
//! - At most [`MAX_RESULTS`](index::MAX_RESULTS) results of [`MAX_RESULT_BYTES`](index::MAX_RESULT_BYTES) together are kept, and [`MAX_ENDED`](index::MAX_ENDED) ids
//!   without one. Beyond that new calls are refused, never old ones forgotten.
//!
//! # Not here
//! A file for each call was tried first. Creating two and moving one takes a disk's file system a third of a
//! millisecond, which is more than all the rest of a call.

mod index;
#[cfg(test)]
mod tests;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use remuda_actors::ids::CallId;
use rustix::fs::{FlockOperation, fcntl_lock};
use serde_json::value::RawValue;

use self::index::{Call, Entry, Index, Place};
use super::wire::MAX_CALL_ID_BYTES;

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused something.
    #[error("could not use {} for the journal", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the state directory {} is in use by another hand; give each hand its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It is damaged, or was not written by a hand of this version.
    #[error(
        "{} is damaged or not a journal of this version: {why} (at byte {offset}); \
         move it away, and the calls in it are forgotten",
        path.display()
    )]
    Foreign {
        /// The journal.
        path: PathBuf,
        /// Where it stops making sense.
        offset: u64,
        /// What is wrong there.
        why: String,
    },
}

/// Whether the journal in a directory tells of any call, as far as can be seen from outside.
pub(crate) fn tells_of_calls(directory: &Path) -> bool {
    std::fs::metadata(directory.join("journal")).is_ok_and(|file| file.len() > index::MAGIC.len() as u64)
}

/// What the journal knows of a call, without its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Started by this hand and not finished yet.
    Started { digest: u64 },
    /// Its result can be loaded.
    Finished { digest: Option<u64> },
    /// Started by a hand that died before it finished.
    Unknown { digest: u64 },
    /// It was started, or cancelled, some time ago; nothing else is kept.
    Ended,
}

/// A finished call's result as JSON.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) result: Arc<RawValue>,
    pub(crate) run_us: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    index: Mutex<Index>,
    /// Held for its lock.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `directory`, which is created if missing, and reads what is there.
    pub(crate) fn open(directory: &Path) -> Result<Self, JournalError> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(at(directory))?;
        let lock_file = directory.join("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_file);
        let lock = lock.map_err(at(&lock_file))?;
        // This kind of lock belongs to the process: a child caught between fork and exec does not hold it on.
        if fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(JournalError::InUse { path: directory.to_path_buf() });
        }
        let path = directory.join("journal");
        let file = index::create(&path, OpenOptions::new().truncate(false)).map_err(at(&path))?;
        let index = Mutex::new(Index::read(file, &path)?);
        Ok(Self { path, index, _lock: lock })
    }

    /// What is known of `id`; none if it was never heard of.
    pub(crate) fn look_up(&self, id: &CallId) -> Option<Known> {
        let index = self.index.lock();
        match index.calls.get(id) {
            Some(call) => Some(call.known),
            None => index.ended.contains(id).then_some(Known::Ended),
        }
    }

    /// Records that `id` is about to run. It must not have been heard of so far, or its outcome be unknown.
    ///
    /// # Errors
    /// When the record cannot be made; the call must not run then, and stays unknown.
    pub(crate) fn start(&self, id: &CallId, digest: u64) -> io::Result<()> {
        let mut index = self.index.lock();
        index.check_room()?;
        index.tidy(&self.path);
        index.append(&Entry::Started { id: id.clone(), digest }, None)?;
        index.unsettle(id);
        index.insert(id, Call { known: Known::Started { digest }, run_us: 0, result: Place::Nowhere });
        Ok(())
    }

    /// Records that `id`, unknown so far, must never run, and what to answer instead.
    ///
    /// # Errors
    /// When it cannot be recorded any more.
    pub(crate) fn forbid(&self, id: &CallId, answer: Stored) -> io::Result<()> {
        self.index.lock().check_room()?;
        self.finish(id, None, answer);
        Ok(())
    }

    /// Records the result of `id`. Should the disk refuse it, memory keeps it as long as there is room.
    pub(crate) fn finish(&self, id: &CallId, digest: Option<u64>, stored: Stored) {
        let Stored { result, run_us } = stored;
        let bytes = result.get().len() as u64;
        let mut index = self.index.lock();
        let entry = Entry::Finished { id: id.clone(), digest, run_us, bytes };
        let result = match index.append(&entry, Some(&result)) {
            Ok(offset) => Place::Disk { offset, bytes },
            Err(error) => {
                tracing::warn!(%error, %id, "the journal could not take a result; it is kept in memory");
                Place::Memory(result)
            }
        };
        index.insert(id, Call { known: Known::Finished { digest }, run_us, result });
        index.settle(id);
    }

    /// The result of a finished call, from disk or memory.
    pub(crate) fn load(&self, id: &CallId) -> Result<Stored, String> {
        let (file, run_us, place) = {
            let index = self.index.lock();
            let call = index.calls.get(id).ok_or("it is no longer kept")?;
            // The file stays readable through this handle even if it is replaced now.
            (Arc::clone(&index.file), call.run_us, call.result.clone())
        };
        let result = match place {
            Place::Memory(result) => result,
            Place::Disk { offset, bytes } => index::read_result(&file, offset, bytes)?.into(),
            Place::Nowhere => return Err("there is none".to_owned()),
        };
        Ok(Stored { result, run_us })
    }
}

/// Whether a call may have this id.
pub(crate) fn is_valid(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    !id.is_empty() && id.len() <= MAX_CALL_ID_BYTES && id.bytes().all(allowed)
}

fn at(path: &Path) -> impl Fn(io::Error) -> JournalError {
    let path = path.to_path_buf();
    move |source| JournalError::Io { path: path.clone(), source }
}
