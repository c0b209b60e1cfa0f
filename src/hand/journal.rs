//! What became of every call, on disk, so that no call ever runs twice.
//!
//! ```text
//! (none) ──start──► started ──finish──► finished ──made room──► ended
//!    │                 └─ the hand died ─► unknown ──made room────┘
//!    └──finish (cancelled before it came)──► finished
//! ```
//!
//! In the state directory:
//!
//! | File | What |
//! |---|---|
//! | `lock` | held as long as a hand uses the directory |
//! | `calls/call-ID` | one line of JSON, the [`Header`]; once finished, the result as JSON behind it |
//! | `calls/new-ID` | a record on its way to become `call-ID`; removed at the next start |
//! | `ended` | one id a line: calls whose record was removed to make room |
//!
//! # Invariants
//! - A call is started only after its `started` record has been handed to the kernel, so the death of this
//!   process cannot lose it. (That of the machine ends the sandbox with it, so nothing is synced.)
//! - A record is replaced whole or not at all, and an id is noted in `ended` before its record goes.
//! - Files this module did not write are never changed. One under a call's name makes that call
//!   unanswerable; any other refuses the start.
//! - At most [`MAX_RECORDS`] records of [`MAX_RECORD_BYTES`] together, plus one call's worth, stay on disk,
//!   and [`MAX_ENDED`] ids in memory. Beyond that new calls are refused, never old ones forgotten.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use remuda_actors::ids::CallId;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::MAX_CALL_ID_BYTES;

/// Records kept on disk.
const MAX_RECORDS: usize = 256;

/// Bytes of records kept on disk.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// Ids remembered without a record; a few megabytes of memory, and more calls than a session makes.
const MAX_ENDED: usize = 65_536;

/// Results kept in memory because the disk would not take them, and their bytes.
const MAX_UNWRITTEN: usize = 16;
const MAX_UNWRITTEN_BYTES: usize = 32 << 20;

/// Longest first line of a record that is read; the longest written has some 300.
const MAX_HEADER_BYTES: u64 = 4096;

/// Version of the files' form.
const VERSION: u32 = 1;

const RECORD: &str = "call-";
const UNFINISHED: &str = "new-";

/// First line of a record.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    id: CallId,
    /// Fingerprint of what was asked for; none for a call cancelled before it came.
    digest: Option<u64>,
    finished: Option<Finish>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Finish {
    run_us: u64,
    /// Length of the result behind the header.
    bytes: u64,
}

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
    /// Something in it was not written by a hand of this version.
    #[error("{} is not a file of this journal ({why}); give the hand an empty state directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// What the journal knows of a call, without its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Started by this hand and not finished yet.
    Started,
    /// Its result can be loaded.
    Finished { digest: Option<u64> },
    /// Started by a hand that died before it finished.
    Unknown { digest: Option<u64> },
    /// It was started, or cancelled, some time ago; nothing else is kept.
    Ended,
    /// There is a record, but it cannot be read.
    Damaged { why: String },
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
    folder: PathBuf,
    ended_file: PathBuf,
    index: Mutex<Index>,
    /// Held for its lock.
    _lock: File,
}

#[derive(Debug, Default)]
struct Index {
    records: HashMap<CallId, Record>,
    /// Ids of records that may be removed to make room, oldest first.
    removable: VecDeque<CallId>,
    bytes: u64,
    ended: HashSet<CallId>,
    /// Ids in `removable` that hold their result in memory.
    unwritten: VecDeque<CallId>,
    unwritten_bytes: usize,
}

#[derive(Debug)]
struct Record {
    known: Known,
    bytes: u64,
    /// The result, if the disk would not take it.
    unwritten: Option<Stored>,
}

impl Journal {
    /// Opens the journal in `directory`, which is created if missing, and reads what is there.
    pub(crate) fn open(directory: &Path) -> Result<Self, JournalError> {
        let folder = directory.join("calls");
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(at(&folder))?;
        let lock_file = directory.join("lock");
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock_file);
        let lock = lock.map_err(at(&lock_file))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(JournalError::InUse { path: directory.to_path_buf() });
        }
        let ended_file = directory.join("ended");
        let mut index = Index { ended: read_ended(&ended_file)?, ..Index::default() };
        index.read_records(&folder)?;
        Ok(Self { folder, ended_file, index: Mutex::new(index), _lock: lock })
    }

    /// What is known of `id`; none if it was never heard of.
    pub(crate) fn look_up(&self, id: &CallId) -> Option<Known> {
        let index = self.index.lock();
        match index.records.get(id) {
            Some(record) => Some(record.known.clone()),
            None => index.ended.contains(id).then_some(Known::Ended),
        }
    }

    /// Records that `id` is about to run. It must be unknown so far.
    ///
    /// # Errors
    /// When the record cannot be made; the call must not run then, and stays unknown.
    pub(crate) fn start(&self, id: &CallId, digest: u64) -> io::Result<()> {
        let mut index = self.index.lock();
        index.make_room(&self.folder, &self.ended_file)?;
        let header = Header { version: VERSION, id: id.clone(), digest: Some(digest), finished: None };
        let line = line(&header)?;
        let path = self.record(id);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = file.write_all(&line) {
            // A part of a header would make the call unanswerable, though it never ran.
            drop(fs::remove_file(&path));
            return Err(error);
        }
        index.insert(id, Record { known: Known::Started, bytes: line.len() as u64, unwritten: None });
        Ok(())
    }

    /// Records the result of `id`. Should the disk refuse it, memory keeps it as long as there is room.
    pub(crate) fn finish(&self, id: &CallId, digest: Option<u64>, stored: Stored) {
        let written = self.write_finished(id, digest, &stored);
        let mut index = self.index.lock();
        let known = Known::Finished { digest };
        match written {
            Ok(bytes) => index.insert(id, Record { known, bytes, unwritten: None }),
            Err(error) => {
                tracing::warn!(%error, %id, "the journal could not take a result; it is kept in memory");
                index.keep_unwritten(id, known, stored);
            }
        }
        index.removable.push_back(id.clone());
    }

    /// The result of a finished call, from disk or memory.
    pub(crate) fn load(&self, id: &CallId) -> Result<Stored, String> {
        let unwritten = self.index.lock().records.get(id).and_then(|record| record.unwritten.clone());
        match unwritten {
            Some(stored) => Ok(stored),
            None => read_result(&self.record(id), id),
        }
    }

    fn write_finished(&self, id: &CallId, digest: Option<u64>, stored: &Stored) -> io::Result<u64> {
        let result = stored.result.get().as_bytes();
        let finished = Some(Finish { run_us: stored.run_us, bytes: result.len() as u64 });
        let line = line(&Header { version: VERSION, id: id.clone(), digest, finished })?;
        let temporary = self.folder.join(format!("{UNFINISHED}{id}"));
        let written = (|| {
            let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
            let mut file = options.open(&temporary)?;
            file.write_all(&line)?;
            file.write_all(result)?;
            fs::rename(&temporary, self.record(id))
        })();
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written.map(|()| (line.len() + result.len()) as u64)
    }

    fn record(&self, id: &CallId) -> PathBuf {
        self.folder.join(format!("{RECORD}{id}"))
    }
}

impl Index {
    fn insert(&mut self, id: &CallId, record: Record) {
        self.bytes += record.bytes;
        if let Some(old) = self.records.insert(id.clone(), record) {
            self.bytes -= old.bytes;
        }
    }

    fn keep_unwritten(&mut self, id: &CallId, known: Known, stored: Stored) {
        self.unwritten_bytes += stored.result.get().len();
        self.unwritten.push_back(id.clone());
        let bytes = self.records.get(id).map_or(0, |record| record.bytes);
        self.insert(id, Record { known, bytes, unwritten: Some(stored) });
        while self.unwritten.len() > MAX_UNWRITTEN || self.unwritten_bytes > MAX_UNWRITTEN_BYTES {
            let Some(oldest) = self.unwritten.pop_front() else { break };
            if let Some(record) = self.records.get_mut(&oldest) {
                self.unwritten_bytes -= record.unwritten.take().map_or(0, |stored| stored.result.get().len());
                record.known = Known::Ended;
            }
        }
    }

    /// Removes the oldest records until one more fits.
    fn make_room(&mut self, folder: &Path, ended_file: &Path) -> io::Result<()> {
        while self.records.len() >= MAX_RECORDS || self.bytes >= MAX_RECORD_BYTES {
            let Some(oldest) = self.removable.front().cloned() else {
                return Err(io::Error::other("it is full of records that cannot be removed"));
            };
            if self.ended.len() >= MAX_ENDED {
                let limit = format!("{MAX_ENDED} calls have run here, which is the most it can remember");
                return Err(io::Error::other(limit));
            }
            let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(ended_file)?;
            let length = file.metadata()?.len();
            if let Err(error) = file.write_all(format!("{oldest}\n").as_bytes()) {
                // A part of an id would be a wrong id. Shortening a file needs no room.
                drop(file.set_len(length));
                return Err(error);
            }
            drop(fs::remove_file(folder.join(format!("{RECORD}{oldest}"))));
            self.removable.pop_front();
            self.unwritten.retain(|id| *id != oldest);
            if let Some(record) = self.records.remove(&oldest) {
                self.bytes -= record.bytes;
                self.unwritten_bytes -= record.unwritten.map_or(0, |stored| stored.result.get().len());
            }
            self.ended.insert(oldest);
        }
        Ok(())
    }

    fn read_records(&mut self, folder: &Path) -> Result<(), JournalError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).map_err(at(folder))? {
            let entry = entry.map_err(at(folder))?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            if name.starts_with(UNFINISHED) {
                fs::remove_file(&path).map_err(at(&path))?;
                continue;
            }
            let Some(id) = name.strip_prefix(RECORD).filter(|id| is_valid(id)) else {
                return Err(JournalError::Foreign {
                    path,
                    why: "its name is not that of a record".to_owned(),
                });
            };
            let metadata = entry.metadata().map_err(at(&path))?;
            let modified = metadata.modified().map_err(at(&path))?;
            found.push((modified, CallId::from(id), path, metadata.len()));
        }
        found.sort_unstable_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        for (_, id, path, bytes) in found {
            if self.ended.contains(&id) {
                // The hand died between noting the id and removing the record.
                fs::remove_file(&path).map_err(at(&path))?;
                continue;
            }
            let known = match read_header(&path, &id) {
                Ok((Header { version, .. }, _)) if version != VERSION => {
                    let why = format!("it is of version {version}, not {VERSION}");
                    return Err(JournalError::Foreign { path, why });
                }
                Ok((Header { digest, finished: Some(_), .. }, _)) => Known::Finished { digest },
                Ok((Header { digest, finished: None, .. }, _)) => Known::Unknown { digest },
                Err(why) => Known::Damaged { why },
            };
            if !matches!(known, Known::Damaged { .. }) {
                self.removable.push_back(id.clone());
            }
            self.insert(&id, Record { known, bytes, unwritten: None });
        }
        Ok(())
    }
}

/// Whether a call may have this id: it names a file.
pub(crate) fn is_valid(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    !id.is_empty() && id.len() <= MAX_CALL_ID_BYTES && id.bytes().all(allowed)
}

fn line(header: &Header) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(header)?;
    line.push(b'\n');
    Ok(line)
}

/// Reads a record's first line, and checks that what it announces is there; leaves `file` behind the line.
fn read_header(path: &Path, id: &CallId) -> Result<(Header, BufReader<File>), String> {
    let unreadable = |error: io::Error| format!("it cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let mut file = BufReader::new(file);
    let mut line = String::new();
    let count = file.by_ref().take(MAX_HEADER_BYTES).read_line(&mut line).map_err(unreadable)?;
    if !line.ends_with('\n') {
        return Err("its first line has no end".to_owned());
    }
    let header: Header = serde_json::from_str(&line).map_err(|error| format!("its first line: {error}"))?;
    if header.id != *id {
        return Err(format!("it is about the call {}", header.id));
    }
    let expected = header.finished.as_ref().map_or(0, |finish| finish.bytes);
    if length != count as u64 + expected {
        return Err(format!("its result has {} bytes, not {expected}", length - count as u64));
    }
    Ok((header, file))
}

/// Reads the result of a record.
fn read_result(path: &Path, id: &CallId) -> Result<Stored, String> {
    let (header, mut file) = read_header(path, id)?;
    let finish = header.finished.ok_or("it holds no result")?;
    let mut result = String::new();
    file.read_to_string(&mut result).map_err(|error| format!("its result cannot be read: {error}"))?;
    let result = RawValue::from_string(result).map_err(|error| format!("its result: {error}"))?;
    Ok(Stored { result: result.into(), run_us: finish.run_us })
}

fn read_ended(path: &Path) -> Result<HashSet<CallId>, JournalError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(at(path)(error)),
    };
    let foreign = |why: String| JournalError::Foreign { path: path.to_path_buf(), why };
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(foreign("its last line has no end".to_owned()));
    }
    if let Some(line) = text.lines().find(|line| !is_valid(line)) {
        return Err(foreign(format!("{line:?} is no call id")));
    }
    Ok(text.lines().map(CallId::from).collect())
}

fn at(path: &Path) -> impl Fn(io::Error) -> JournalError {
    let path = path.to_path_buf();
    move |source| JournalError::Io { path: path.clone(), source }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
