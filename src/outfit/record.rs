//! What sessions were furnished with, written down for the next process.
//!
//! By session rather than by sandbox: a sandbox that is lost may leave its files to the next one of its session.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use remuda_actors::fault::{Fault, FaultClass};
use remuda_actors::ids::{SandboxId, SessionId, WorkId};
use serde::{Deserialize, Serialize};

use super::memory::Copy;
use super::trouble::Trouble;

/// What a file's name keeps of a session's id.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Records that nobody has touched for so long are of no session that comes back.
const KEPT: Duration = Duration::from_secs(60 * 60 * 24 * 30);

/// What a session was furnished with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// What it is complete for; nothing before.
    pub(super) complete: Option<Complete>,
    /// Folders of skills.
    pub(super) skills: Vec<String>,
    /// Copies of memory stores.
    pub(super) copies: Vec<Copy>,
    /// Which sandbox has the inputs. They stay there when all else is taken out, and so this does.
    #[serde(default)]
    pub(super) staged: Option<SandboxId>,
}

/// What a record is complete for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Complete {
    pub(super) item: WorkId,
    pub(super) sandbox: SandboxId,
}

impl Record {
    /// Whether there is anything to look after, or to remove.
    pub(super) fn is_empty(&self) -> bool {
        self.skills.is_empty() && self.copies.is_empty()
    }

    /// Whether it says nothing.
    fn is_blank(&self) -> bool {
        self.is_empty() && self.complete.is_none() && self.staged.is_none()
    }
}

/// One copy in a record, as long as it is worked on.
pub(super) struct Page<'a> {
    pub(super) record: &'a mut Record,
    /// Which of its copies.
    pub(super) index: usize,
    pub(super) records: &'a Arc<Records>,
    pub(super) session: &'a SessionId,
}

impl Page<'_> {
    /// The copy.
    pub(super) fn copy(&mut self) -> &mut Copy {
        &mut self.record.copies[self.index]
    }

    /// Writes the record down.
    pub(super) async fn save(&self) -> Result<(), Trouble> {
        self.records.save(self.session, self.record).await
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

    fn path(&self, session: &SessionId) -> PathBuf {
        self.0.join(format!("{}.json", utf8_percent_encode(session.as_str(), NAME)))
    }

    /// What was written about a session; nothing if nothing was.
    pub(super) fn load(&self, session: &SessionId) -> io::Result<Record> {
        match fs::read(self.path(session)) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(error),
        }
    }

    /// The same, off the runtime's own threads. What cannot be understood counts as nothing: at worst a session is not
    /// given a store over what is there already.
    pub(super) async fn read(self: &Arc<Self>, session: &SessionId) -> Result<Record, Trouble> {
        let (records, id) = (Arc::clone(self), session.clone());
        let read = tokio::task::spawn_blocking(move || records.load(&id)).await;
        match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::error!(remuda.session.id = %session, %error, "the record of what the session is furnished with is damaged");
                Ok(Record::default())
            }
            read => read.map_err(|error| passing(&error, "read")),
        }
    }

    /// Writes it down, in one step.
    pub(super) fn store(&self, session: &SessionId, record: &Record) -> io::Result<()> {
        replace(&self.path(session), &serde_json::to_vec(record)?)
    }

    /// The same, off the runtime's own threads.
    pub(super) async fn save(self: &Arc<Self>, session: &SessionId, record: &Record) -> Result<(), Trouble> {
        let (records, session, record) = (Arc::clone(self), session.clone(), record.clone());
        let write = move || {
            if record.is_blank() { records.forget(&session) } else { records.store(&session, &record) }
        };
        let written =
            tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| passing(&error, "written"))
    }

    /// Forgets it.
    pub(super) fn forget(&self, session: &SessionId) -> io::Result<()> {
        match fs::remove_file(self.path(session)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn passing(error: &io::Error, what: &str) -> Trouble {
    let what = format!("the record of what the session is furnished with could not be {what}: {error}");
    Trouble::Supply(Fault::new(FaultClass::Transient, what))
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
        let session = SessionId::from("../odd name");
        assert_eq!(records.load(&session).unwrap(), Record::default());
        let record = Record { skills: vec!["/workspace/skills/a".to_owned()], ..Record::default() };
        records.store(&session, &record).unwrap();
        assert_eq!(Records::open(dir.path().join("outfits")).unwrap().load(&session).unwrap(), record);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "it is where it belongs");
        records.forget(&session).unwrap();
        records.forget(&session).unwrap();
        assert_eq!(records.load(&session).unwrap(), Record::default());
    }
}
