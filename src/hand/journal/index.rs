//! The records of a journal: read from its file, appended to it, and rewritten without what is not needed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use remuda_actors::ids::CallId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{JournalError, Known, at};

/// Results kept on disk.
pub(super) const MAX_RESULTS: usize = 256;

/// Bytes of results kept on disk.
pub(super) const MAX_RESULT_BYTES: u64 = 64 << 20;

/// Ids remembered without a result; a few megabytes of memory, and more calls than a session makes.
pub(super) const MAX_ENDED: usize = 65_536;

/// Results kept in memory because the disk would not take them, and their bytes.
pub(super) const MAX_UNWRITTEN: usize = 16;
pub(super) const MAX_UNWRITTEN_BYTES: u64 = 32 << 20;

/// Bytes no longer needed that the journal may hold besides as many as are needed, before it is rewritten.
pub(super) const MAX_WASTE_BYTES: u64 = 1 << 20;

/// Ids in one record of ended calls, and the longest line that makes.
const ENDED_PER_LINE: usize = 256;
const MAX_LINE_BYTES: u64 = 64 << 10;

/// First line of the journal; another version has another one.
pub(super) const MAGIC: &str = "remuda-hand journal 1\n";

/// The line of a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Entry {
    Started {
        id: CallId,
        digest: u64,
    },
    Finished {
        id: CallId,
        /// Fingerprint of what was asked for; none for a call cancelled before it came.
        digest: Option<u64>,
        run_us: u64,
        /// Length of the result behind the line.
        bytes: u64,
    },
    /// Calls of which nothing else is kept.
    Ended {
        ids: Vec<CallId>,
    },
}

#[derive(Debug)]
pub(super) struct Index {
    /// The journal, and where its next record goes.
    pub(super) file: Arc<File>,
    end: u64,
    /// When it will be looked at again whether a rewrite is worth while.
    rewrite_at: u64,
    pub(super) calls: HashMap<CallId, Call>,
    /// Those of `calls` that are not started, oldest first.
    settled: VecDeque<CallId>,
    result_bytes: u64,
    unwritten_bytes: u64,
    pub(super) ended: HashSet<CallId>,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) known: Known,
    pub(super) run_us: u64,
    pub(super) result: Place,
}

/// Where a result is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Nowhere,
    Disk {
        offset: u64,
        bytes: u64,
    },
    /// The disk would not take it.
    Memory(Arc<RawValue>),
}

impl Place {
    fn on_disk(&self) -> u64 {
        if let Self::Disk { bytes, .. } = self { *bytes } else { 0 }
    }

    fn in_memory(&self) -> u64 {
        if let Self::Memory(result) = self { result.get().len() as u64 } else { 0 }
    }
}

impl Index {
    /// Reads a journal from its beginning.
    pub(super) fn read(file: File, path: &Path) -> Result<Self, JournalError> {
        let foreign = |offset, why: &str| {
            let (path, why) = (path.to_path_buf(), why.to_owned());
            JournalError::Foreign { path, offset, why }
        };
        let length = file.metadata().map_err(at(path))?.len();
        let mut index = Self::new(file);
        if length == 0 {
            index.write(MAGIC.as_bytes(), b"").map_err(at(path))?;
            return Ok(index);
        }
        let file = Arc::clone(&index.file);
        let mut reader = BufReader::new(&*file);
        let mut line = Vec::new();
        let mut read_line = |reader: &mut BufReader<&File>| {
            line.clear();
            reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).map_err(at(path))?;
            Ok::<_, JournalError>(line.clone())
        };
        if read_line(&mut reader)? != MAGIC.as_bytes() {
            return Err(foreign(0, "its first line is another"));
        }
        index.end = MAGIC.len() as u64;
        let mut torn_body = false;
        while index.end < length {
            let line = read_line(&mut reader)?;
            let body = index.end + line.len() as u64;
            if !line.ends_with(b"\n") {
                if body == length {
                    break;
                }
                return Err(foreign(index.end, "a line is too long"));
            }
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else {
                return Err(foreign(index.end, "a line is no record"));
            };
            let bytes = if let Entry::Finished { bytes, .. } = entry { Some(bytes) } else { None };
            let next = bytes.map_or(Some(body), |bytes| body.checked_add(bytes)?.checked_add(1));
            let Some(next) = next.filter(|next| *next <= length) else {
                torn_body = true;
                break;
            };
            if let Some(bytes) = bytes {
                reader.seek_relative(i64::try_from(bytes).unwrap_or(i64::MAX)).map_err(at(path))?;
                let mut after = [0];
                reader.read_exact(&mut after).map_err(at(path))?;
                if after != *b"\n" {
                    return Err(foreign(next - 1, "a result is longer or shorter than it should be"));
                }
            }
            index.replay(entry, body);
            index.end = next;
        }
        if index.end < length {
            // A result has no line feed in it. If there is one, this is not the end of the last record but
            // damage to an earlier one, and the calls behind it must not be forgotten.
            if torn_body && has_line_feed(reader).map_err(at(path))? {
                return Err(foreign(index.end, "a result should be longer than the rest of the file"));
            }
            tracing::warn!(path = %path.display(), offset = index.end, "cut off an incomplete last record");
            file.set_len(index.end).map_err(at(path))?;
        }
        index.give_up_started();
        Ok(index)
    }

    fn new(file: File) -> Self {
        Self {
            file: Arc::new(file),
            end: 0,
            rewrite_at: MAX_WASTE_BYTES,
            calls: HashMap::new(),
            settled: VecDeque::new(),
            result_bytes: 0,
            unwritten_bytes: 0,
            ended: HashSet::new(),
        }
    }

    fn replay(&mut self, entry: Entry, body: u64) {
        match entry {
            Entry::Started { id, digest } => {
                let known = Known::Started { digest };
                self.insert(&id, Call { known, run_us: 0, result: Place::Nowhere });
            }
            Entry::Finished { id, digest, run_us, bytes } => {
                let result = Place::Disk { offset: body, bytes };
                self.insert(&id, Call { known: Known::Finished { digest }, run_us, result });
                self.settle(&id);
            }
            Entry::Ended { ids } => self.ended.extend(ids),
        }
    }

    /// Whoever ran the calls that have not finished is gone.
    fn give_up_started(&mut self) {
        let started: Vec<(CallId, u64)> = self
            .calls
            .iter()
            .filter_map(|(id, call)| match call.known {
                Known::Started { digest } => Some((id.clone(), digest)),
                _ => None,
            })
            .collect();
        for (id, digest) in started {
            self.insert(&id, Call { known: Known::Unknown { digest }, run_us: 0, result: Place::Nowhere });
            self.settle(&id);
        }
    }

    /// A call is about to run once more.
    pub(super) fn unsettle(&mut self, id: &CallId) {
        if self.calls.contains_key(id) {
            self.settled.retain(|settled| settled != id);
        }
    }

    pub(super) fn insert(&mut self, id: &CallId, call: Call) {
        self.result_bytes += call.result.on_disk();
        self.unwritten_bytes += call.result.in_memory();
        if let Some(old) = self.calls.insert(id.clone(), call) {
            self.forget_bytes(&old);
        }
    }

    fn forget_bytes(&mut self, call: &Call) {
        self.result_bytes -= call.result.on_disk();
        self.unwritten_bytes -= call.result.in_memory();
    }

    /// Counts `id` among those whose results are kept, and lets go of the oldest if they are too many.
    pub(super) fn settle(&mut self, id: &CallId) {
        self.settled.push_back(id.clone());
        while self.settled.len() > MAX_RESULTS || self.result_bytes > MAX_RESULT_BYTES {
            let Some(oldest) = self.settled.pop_front() else { break };
            if let Some(call) = self.calls.remove(&oldest) {
                self.forget_bytes(&call);
            }
            self.ended.insert(oldest);
        }
        let in_memory = |index: &Self, id: &CallId| {
            index.calls.get(id).is_some_and(|call| matches!(call.result, Place::Memory(_)))
        };
        let unwritten: Vec<CallId> = self.settled.iter().filter(|id| in_memory(self, id)).cloned().collect();
        let mut excess = unwritten.len().saturating_sub(MAX_UNWRITTEN);
        for oldest in unwritten {
            if excess == 0 && self.unwritten_bytes <= MAX_UNWRITTEN_BYTES {
                break;
            }
            excess = excess.saturating_sub(1);
            self.insert(&oldest, Call { known: Known::Ended, run_us: 0, result: Place::Nowhere });
        }
    }

    pub(super) fn check_room(&self) -> io::Result<()> {
        if self.ended.len() < MAX_ENDED {
            return Ok(());
        }
        let limit = format!("{MAX_ENDED} calls have been made here, which is the most it can remember");
        Err(io::Error::other(limit))
    }

    /// Appends a record, all of it or nothing; answers where its result begins.
    pub(super) fn append(&mut self, entry: &Entry, result: Option<&RawValue>) -> io::Result<u64> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let body = self.end + line.len() as u64;
        let Some(result) = result else {
            return self.write(&line, b"").map(|()| body);
        };
        // One write for most records; a large result is not copied.
        let result = result.get().as_bytes();
        if result.len() <= MAX_LINE_BYTES as usize {
            line.extend_from_slice(result);
            line.push(b'\n');
            self.write(&line, b"")?;
        } else {
            self.write(&line, result)?;
        }
        Ok(body)
    }

    fn write(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let end = self.end;
        let written = self.file.write_all_at(head, end).and_then(|()| {
            if body.is_empty() {
                return Ok(head.len());
            }
            let after = end + head.len() as u64;
            self.file.write_all_at(body, after)?;
            self.file.write_all_at(b"\n", after + body.len() as u64)?;
            Ok(head.len() + body.len() + 1)
        });
        match written {
            Ok(count) => {
                self.end += count as u64;
                Ok(())
            }
            Err(error) => {
                // Shortening a file needs no room. If it fails all the same, the next record overwrites it.
                let _ = self.file.set_len(end);
                Err(error)
            }
        }
    }

    /// Rewrites the journal when most of it is no longer needed. It can wait: failing is no loss.
    pub(super) fn tidy(&mut self, path: &Path) {
        if self.end < self.rewrite_at {
            return;
        }
        if self.end > MAX_WASTE_BYTES + 2 * self.result_bytes
            && let Err(error) = self.rewrite(path)
        {
            tracing::warn!(%error, "the journal could not be rewritten");
        }
        self.rewrite_at = self.end + MAX_WASTE_BYTES;
    }

    fn rewrite(&mut self, path: &Path) -> io::Result<()> {
        let new_path = path.with_extension("new");
        let mut new = Self::new(create(&new_path, OpenOptions::new().truncate(true))?);
        let rewritten = self.copy_into(&mut new).and_then(|()| fs::rename(&new_path, path));
        if let Err(error) = rewritten {
            let _ = fs::remove_file(&new_path);
            return Err(error);
        }
        self.file = new.file;
        self.end = new.end;
        for (id, place) in new.calls.into_iter().map(|(id, call)| (id, call.result)) {
            if let Some(call) = self.calls.get_mut(&id) {
                self.unwritten_bytes -= call.result.in_memory();
                self.result_bytes -= call.result.on_disk();
                call.result = place;
                self.result_bytes += call.result.on_disk();
            }
        }
        Ok(())
    }

    fn copy_into(&self, new: &mut Self) -> io::Result<()> {
        new.write(MAGIC.as_bytes(), b"")?;
        let ended: Vec<CallId> = self.ended.iter().cloned().collect();
        for ids in ended.chunks(ENDED_PER_LINE) {
            new.append(&Entry::Ended { ids: ids.to_vec() }, None)?;
        }
        let started = self.calls.iter().filter(|(_, call)| matches!(call.known, Known::Started { .. }));
        let started = started.map(|(id, _)| id);
        for id in self.settled.iter().chain(started) {
            let Some(call) = self.calls.get(id) else { continue };
            let id = id.clone();
            match call.known {
                Known::Started { digest } | Known::Unknown { digest } => {
                    new.append(&Entry::Started { id, digest }, None)?;
                }
                Known::Ended => {
                    new.append(&Entry::Ended { ids: vec![id] }, None)?;
                }
                Known::Finished { digest } => {
                    let result: Arc<RawValue> = match &call.result {
                        Place::Memory(result) => Arc::clone(result),
                        Place::Disk { offset, bytes } => {
                            read_result(&self.file, *offset, *bytes).map_err(io::Error::other)?.into()
                        }
                        Place::Nowhere => continue,
                    };
                    let bytes = result.get().len() as u64;
                    let entry = Entry::Finished { id: id.clone(), digest, run_us: call.run_us, bytes };
                    let offset = new.append(&entry, Some(&result))?;
                    let result = Place::Disk { offset, bytes };
                    new.insert(&id, Call { known: call.known, run_us: call.run_us, result });
                }
            }
        }
        Ok(())
    }
}

pub(super) fn create(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.read(true).write(true).create(true).mode(0o600).open(path)
}

pub(super) fn read_result(file: &File, offset: u64, bytes: u64) -> Result<Box<RawValue>, String> {
    let mut result = vec![0; usize::try_from(bytes).map_err(|error| error.to_string())?];
    file.read_exact_at(&mut result, offset).map_err(|error| error.to_string())?;
    let result = String::from_utf8(result).map_err(|error| error.to_string())?;
    RawValue::from_string(result).map_err(|error| error.to_string())
}

/// Whether there is a line feed in what is left to read.
fn has_line_feed(mut reader: impl io::BufRead) -> io::Result<bool> {
    loop {
        let piece = reader.fill_buf()?;
        if piece.contains(&b'\n') || piece.is_empty() {
            return Ok(!piece.is_empty());
        }
        let count = piece.len();
        reader.consume(count);
    }
}
