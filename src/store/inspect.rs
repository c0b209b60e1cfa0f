//! A look at the tables' file before it is opened for writing.
//!
//! redb repairs what it opens. So that a file which is then refused stays as it is, a copy of it in memory is
//! opened first, and the checksum of every page verified. That takes as much memory as the file has bytes,
//! for the moment: what is in it was in the memory of the process that wrote it.
//!
//! # Not here
//! The facts themselves, which are read when they are asked for.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::Path;

use redb::backends::InMemoryBackend;
use redb::{ReadableDatabase as _, StorageBackend as _};

use super::error::StoreError;
use super::tables::{FORMAT, RECORDS, SHELF, VERSION, builder};

/// How every redb file begins.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// What the tables say about themselves.
#[derive(Debug)]
pub(super) struct Identity {
    /// Which log belongs to them.
    pub(super) id: u64,
    /// The sequence number of the last fact in them.
    pub(super) applied: u64,
}

/// Makes sure that the file holds our tables, whole and unused. Changes nothing.
pub(super) fn inspect(path: &Path) -> Result<Identity, StoreError> {
    let failed = |source| StoreError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // redb holds this lock of what it has open, and what is being written cannot be judged.
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let copy = copy(&file).map_err(failed)?;
    // Closing it is not enough where a process was started meanwhile, which has it open until it is another
    // one.
    file.unlock().map_err(failed)?;
    let Some(copy) = copy else {
        let what = "expected a redb file".to_owned();
        return Err(StoreError::Foreign { path: path.to_owned(), what });
    };
    let corrupt = |what: String| StoreError::Corrupt { path: path.to_owned(), what };
    let (version, identity) = identify(copy).map_err(|error| match error {
        // What cannot be read of a copy in memory is missing from it.
        redb::Error::Io(error) => corrupt(error.to_string()),
        error => StoreError::of_redb(path, error),
    })?;
    match version {
        VERSION => Ok(identity),
        0 => Err(corrupt("it has no format version".to_owned())),
        found => Err(StoreError::Newer { path: path.to_owned(), found, expected: VERSION }),
    }
}

fn identify(copy: InMemoryBackend) -> Result<(u64, Identity), redb::Error> {
    let database = builder().set_check_integrity_on_open(true).create_with_backend(copy)?;
    let read = database.begin_read()?;
    let format = read.open_table(FORMAT)?;
    let number = |key| Ok::<_, redb::Error>(format.get(key)?.map_or(0, |number| number.value()));
    let (version, identity) =
        (number("version")?, Identity { id: number("id")?, applied: number("applied")? });
    if version == VERSION {
        read.open_table(RECORDS)?;
        read.open_table(SHELF)?;
    }
    Ok((version, identity))
}

/// The file in memory; none if it does not begin like one of redb's.
fn copy(file: &File) -> io::Result<Option<InMemoryBackend>> {
    let copy = InMemoryBackend::new();
    let mut chunk = Vec::new();
    let mut len = 0;
    while file.take(1 << 20).read_to_end(&mut chunk)? > 0 {
        if len == 0 && !chunk.starts_with(MAGIC) {
            return Ok(None);
        }
        copy.set_len(len + chunk.len() as u64)?;
        copy.write(len, &chunk)?;
        len += chunk.len() as u64;
        chunk.clear();
    }
    Ok((len > 0).then_some(copy))
}
