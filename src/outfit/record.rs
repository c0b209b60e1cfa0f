//! What sandboxes were furnished with, written down for the next process.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use remuda_actors::fault::{Fault, FaultClass};
use remuda_actors::ids::SandboxId;
use serde::{Deserialize, Serialize};

use super::memory::Copy;
use super::trouble::Trouble;

/// What a file's name keeps of a sandbox's.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Records of sandboxes that nobody has touched for so long are of none that exists.
const KEPT: Duration = Duration::from_secs(60 * 60 * 24 * 30);

/// What one sandbox was furnished with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The work item it is complete for; none before.
    pub(super) item: Option<String>,
    /// Folders of skills.
    pub(super) skills: Vec<String>,
    /// Copies of memory stores.
    pub(super) copies: Vec<Copy>,
}

impl Record {
    /// Whether there is anything to look after, or to remove.
    pub(super) fn is_empty(&self) -> bool {
        self.skills.is_empty() && self.copies.is_empty()
    }

    /// Whether it says nothing.
    fn is_blank(&self) -> bool {
        self.is_empty() && self.item.is_none()
    }
}

/// One copy in a record, as long as it is worked on.
pub(super) struct Page<'a> {
    pub(super) record: &'a mut Record,
    /// Which of its copies.
    pub(super) index: usize,
    pub(super) records: &'a Arc<Records>,
    pub(super) sandbox: &'a SandboxId,
}

impl Page<'_> {
    /// The copy.
    pub(super) fn copy(&mut self) -> &mut Copy {
        &mut self.record.copies[self.index]
    }

    /// Writes the record down.
    pub(super) async fn save(&self) -> Result<(), Trouble> {
        self.records.save(self.sandbox, self.record).await
    }
}

/// Where records are kept.
#[derive(Debug)]
pub(super) struct Records(PathBuf);

impl Records {
    /// Opens the folder, and lets go of what is too old to be of anything that exists.
    pub(super) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let age =
                entry.metadata().and_then(|found| found.modified()).ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > KEPT) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self(dir))
    }

    fn path(&self, sandbox: &SandboxId) -> PathBuf {
        self.0.join(format!("{}.json", utf8_percent_encode(sandbox.as_str(), NAME)))
    }

    /// What was written about a sandbox; nothing if nothing was.
    pub(super) fn load(&self, sandbox: &SandboxId) -> io::Result<Record> {
        match fs::read(self.path(sandbox)) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error),
        }
    }

    /// The same, off the runtime's own threads.
    pub(super) async fn read(self: &Arc<Self>, sandbox: &SandboxId) -> io::Result<Record> {
        let (records, sandbox) = (Arc::clone(self), sandbox.clone());
        let read = tokio::task::spawn_blocking(move || records.load(&sandbox)).await;
        read.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Writes it down, in one step.
    pub(super) fn store(&self, sandbox: &SandboxId, record: &Record) -> io::Result<()> {
        replace(&self.path(sandbox), &serde_json::to_vec(record)?)
    }

    /// The same, off the runtime's own threads.
    pub(super) async fn save(self: &Arc<Self>, sandbox: &SandboxId, record: &Record) -> Result<(), Trouble> {
        let (records, sandbox, record) = (Arc::clone(self), sandbox.clone(), record.clone());
        let write = move || {
            if record.is_blank() { records.forget(&sandbox) } else { records.store(&sandbox, &record) }
        };
        let written =
            tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| {
            let what = format!("what the sandbox is furnished with could not be written down: {error}");
            Trouble::Supply(Fault::new(FaultClass::Transient, what))
        })
    }

    /// Forgets it.
    pub(super) fn forget(&self, sandbox: &SandboxId) -> io::Result<()> {
        match fs::remove_file(self.path(sandbox)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Puts a file with these contents at `path`, in one step.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(contents)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_again_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(dir.path().join("outfits")).unwrap();
        let sandbox = SandboxId::from("../odd name");
        assert_eq!(records.load(&sandbox).unwrap(), Record::default());
        let record = Record { skills: vec!["/workspace/skills/a".to_owned()], ..Record::default() };
        records.store(&sandbox, &record).unwrap();
        assert_eq!(Records::open(dir.path().join("outfits")).unwrap().load(&sandbox).unwrap(), record);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "it is where it belongs");
        records.forget(&sandbox).unwrap();
        records.forget(&sandbox).unwrap();
        assert_eq!(records.load(&sandbox).unwrap(), Record::default());
    }
}
