//! The log: what was appended since the tables were last written.
//!
//! ```text
//! remuda-log 1 0123456789abcdef\n            format, version, and the id of the tables it belongs to
//! length u32 | check 8 bytes | sequence u64 | at u64 | fact, `length` bytes of JSON
//! length u32 | …
//! ```
//!
//! Numbers are little-endian, `check` is the start of the SHA-256 of the rest of the frame, and `at` is
//! wall-clock time in milliseconds.
//!
//! # Invariants
//! - The log ends before the first frame that is torn or whose sequence number does not follow. It is emptied
//!   by writing it from the start again: what is left of the round before has lower numbers.
//! - What was to be written and failed is cut off before the next write, so that it never becomes part of the
//!   log behind its writer's back.

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::error::StoreError;
use super::fact::Fact;
use super::files;

const NAME: &str = "remuda-log";
const VERSION: u64 = 1;
/// Name, version and id with what separates them.
const HEADER: usize = 30;
/// The longest fact, in bytes of JSON: the longest answer that is taken from a hand, and room for what is
/// said about it. A greater length is not the start of a frame.
pub(super) const MAX_FACT: usize = 65 << 20;

/// One appended fact. It has no `Debug`, for there may be a credential in the bytes.
pub(super) struct Entry {
    /// Its place among all facts ever appended, counted from 1.
    pub(super) sequence: u64,
    /// When it was appended, in milliseconds of wall-clock time.
    pub(super) at: u64,
    pub(super) fact: Fact,
    /// The fact as it is written, at most [`MAX_FACT`] bytes.
    pub(super) json: Vec<u8>,
}

impl Entry {
    /// The entry as a row of the tables.
    pub(super) fn row(&self) -> (u64, u64, &[u8]) {
        (self.sequence, self.at, &self.json)
    }

    /// Adds the entry's frame to what is to be written.
    pub(super) fn frame(&self, to: &mut Vec<u8>) {
        let length = u32::try_from(self.json.len()).unwrap_or(u32::MAX).to_le_bytes();
        let (sequence, at) = (self.sequence.to_le_bytes(), self.at.to_le_bytes());
        to.extend(length);
        to.extend(check([&length, &sequence, &at, &self.json]));
        to.extend(sequence);
        to.extend(at);
        to.extend(&self.json);
    }
}

/// The log, open for writing.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    end: u64,
    /// Whether what is behind the end must be cut off before the next write.
    cut: bool,
}

impl Log {
    /// Makes an empty log for the tables of this id.
    pub(super) fn create(path: &Path, id: u64) -> io::Result<()> {
        let mut file = files::prepare(path)?;
        file.write_all(format!("{NAME} {VERSION} {id:016x}\n").as_bytes())?;
        file.sync_all()?;
        files::publish(path)
    }

    /// Reads what the tables of this id, which hold everything up to `applied`, do not hold yet. Changes
    /// nothing.
    pub(super) fn read(path: &Path, id: u64, applied: u64) -> Result<Vec<Entry>, StoreError> {
        let failed = |source| StoreError::Io { path: path.to_owned(), source };
        let corrupt = |what| StoreError::Corrupt { path: path.to_owned(), what };
        let mut from = BufReader::new(File::open(path).map_err(failed)?);
        verify_header(path, id, &mut from)?;
        let mut entries = Vec::new();
        let mut last = None;
        while let Some((sequence, at, json)) = next_frame(&mut from).map_err(failed)? {
            if last.is_some_and(|last| last + 1 != sequence) {
                break;
            }
            last = Some(sequence);
            if sequence <= applied {
                continue;
            }
            if entries.is_empty() && sequence != applied + 1 {
                let what = format!("it begins at record {sequence}, and journal.redb ends at {applied}");
                return Err(corrupt(what));
            }
            let fact = serde_json::from_slice(&json)
                .map_err(|error| corrupt(format!("record {sequence} is unreadable: {error}")))?;
            entries.push(Entry { sequence, at, fact, json });
        }
        Ok(entries)
    }

    /// Opens a log that was created or read, to be written from its start.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: files::open(path)?, end: HEADER as u64, cut: true })
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Appends frames: all of them or, if it fails, none. When this returns they survive this process, and
    /// the host too if `sync`.
    pub(super) fn append(&mut self, frames: &[u8], sync: bool) -> io::Result<()> {
        if self.cut {
            self.file.set_len(self.end)?;
        }
        self.cut = true;
        self.file.write_all_at(frames, self.end)?;
        if sync {
            self.sync()?;
        }
        self.cut = false;
        self.end += frames.len() as u64;
        Ok(())
    }

    /// What was appended survives the host when this returns.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Empties the log, once the tables hold everything in it.
    pub(super) fn rewind(&mut self) {
        self.end = HEADER as u64;
    }

    /// Empties the log and gives its space back, which may take the file system some milliseconds.
    pub(super) fn truncate(&mut self) -> io::Result<()> {
        self.rewind();
        self.file.set_len(self.end)
    }
}

fn check(parts: [&[u8]; 4]) -> [u8; 8] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    [a, b, c, d, e, f, g, h]
}

fn verify_header(path: &Path, id: u64, from: &mut impl Read) -> Result<(), StoreError> {
    let foreign = |what: String| StoreError::Foreign { path: path.to_owned(), what };
    let mut header = [0; HEADER];
    let unexpected = || foreign(format!("expected it to begin with `{NAME} {VERSION} `"));
    from.read_exact(&mut header).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => unexpected(),
        _ => StoreError::Io { path: path.to_owned(), source: error },
    })?;
    let header = std::str::from_utf8(&header).map_err(|_| unexpected())?;
    let mut words = header.split_ascii_whitespace();
    if words.next() != Some(NAME) {
        return Err(unexpected());
    }
    let version = words.next().and_then(|version| version.parse().ok()).ok_or_else(unexpected)?;
    if version > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, expected: VERSION });
    }
    let owner = words.next().and_then(|id| u64::from_str_radix(id, 16).ok()).ok_or_else(unexpected)?;
    if owner != id {
        return Err(foreign(format!("it belongs to the tables {owner:016x}, journal.redb is {id:016x}")));
    }
    Ok(())
}

/// The next whole frame: sequence, time and fact. None where there is no such thing.
fn next_frame(from: &mut impl Read) -> io::Result<Option<(u64, u64, Vec<u8>)>> {
    let Some(length) = number::<4>(from)? else { return Ok(None) };
    let Some(claimed) = number::<8>(from)? else { return Ok(None) };
    let Some(sequence) = number::<8>(from)? else { return Ok(None) };
    let Some(at) = number::<8>(from)? else { return Ok(None) };
    let mut json = Vec::new();
    if u32::from_le_bytes(length) as usize <= MAX_FACT {
        from.take(u32::from_le_bytes(length).into()).read_to_end(&mut json)?;
    }
    let whole = claimed == check([&length, &sequence, &at, &json]);
    Ok(whole.then(|| (u64::from_le_bytes(sequence), u64::from_le_bytes(at), json)))
}

/// The next few bytes; none where the file ends before them.
fn number<const N: usize>(from: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match from.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn frames(sequences: impl IntoIterator<Item = u64>, kind: &str) -> Vec<u8> {
        let mut frames = Vec::new();
        for sequence in sequences {
            let json = format!(r#"{{"kind":"{kind}","work":"work_{sequence}"}}"#).into_bytes();
            Entry { sequence, at: 7, fact: Fact::Ended { work: "".into() }, json }.frame(&mut frames);
        }
        frames
    }

    /// What is read of a log with these frames, whose tables hold everything up to `applied`.
    fn read(frames: &[u8], applied: u64) -> Result<Vec<u64>, StoreError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Log::create(&path, 1).unwrap();
        Log::open(&path).unwrap().append(frames, true).unwrap();
        let before = fs::read(&path).unwrap();
        let entries = Log::read(&path, 1, applied);
        assert_eq!(fs::read(&path).unwrap(), before, "reading changes nothing");
        Ok(entries?.into_iter().map(|entry| entry.sequence).collect())
    }

    #[test]
    fn what_the_tables_hold_is_skipped_and_what_is_left_of_an_earlier_round_is_not_read() {
        assert_eq!(read(&frames(1..=3, "ended"), 0).unwrap(), [1, 2, 3]);
        assert_eq!(read(&frames(1..=3, "ended"), 2).unwrap(), [3]);
        assert!(read(&frames(1..=3, "ended"), 3).unwrap().is_empty());
        assert_eq!(read(&frames([4, 5, 3], "ended"), 3).unwrap(), [4, 5]);
        assert_eq!(read(&frames([4, 6], "ended"), 3).unwrap(), [4]);
    }

    #[test]
    fn what_could_only_be_written_in_part_is_cut_off_before_the_next_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Log::create(&path, 1).unwrap();
        let mut log = Log::open(&path).unwrap();
        log.append(&frames([1], "ended"), false).unwrap();
        let failed = frames([2, 3], "ended");
        log.file.write_all_at(&failed, log.end).unwrap();
        log.cut = true;
        log.append(&failed[..failed.len() / 2], false).unwrap();
        let entries = Log::read(&path, 1, 0).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_log_that_does_not_continue_the_tables_is_refused() {
        let refusal = read(&frames([5], "ended"), 3).unwrap_err();
        assert!(matches!(refusal, StoreError::Corrupt { .. }), "{refusal:?}");
        assert!(refusal.to_string().contains("begins at record 5, and journal.redb ends at 3"), "{refusal}");
    }

    #[test]
    fn an_unknown_kind_is_refused_by_its_name() {
        let refusal = read(&frames([4], "moved"), 3).unwrap_err().to_string();
        assert!(refusal.contains("record 4") && refusal.contains("unknown variant `moved`"), "{refusal}");
    }
}
