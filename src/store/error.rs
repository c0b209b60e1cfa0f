//! Why a journal cannot be opened, and why it could not be written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a journal cannot be opened. A file that is refused for what it is has not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process, or another store of this one, has it open.
    #[error("{} is in use by another remuda; give each one its own state directory", path.display())]
    InUse {
        /// Which file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("could not use {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is not a journal of remuda ({what}); {}", path.display(), mend(path))]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What was expected, and what is there.
        what: String,
    },
    /// A later remuda wrote it.
    #[error(
        "{} has format version {found}, this remuda reads {expected}; run the one that wrote it, or {}",
        path.display(), mend(path)
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        expected: u64,
    },
    /// It was a journal once.
    #[error("{} is damaged ({what}); {}", path.display(), mend(path))]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
}

impl StoreError {
    /// What redb says about a file that is to be opened.
    pub(super) fn of_redb(path: &Path, error: impl Into<redb::Error>) -> Self {
        use redb::Error as E;
        let path = path.to_owned();
        match error.into() {
            E::DatabaseAlreadyOpen => Self::InUse { path },
            E::Io(source) => Self::Io { path, source },
            error @ (E::TableDoesNotExist(_) | E::TableTypeMismatch { .. } | E::TableIsMultimap(_)) => {
                Self::Foreign { path, what: error.to_string() }
            }
            error => Self::Corrupt { path, what: error.to_string() },
        }
    }
}

/// What can be done about a journal that cannot be read, and what that costs.
pub(super) fn mend(path: &Path) -> String {
    let dir = path.parent().unwrap_or(path).display();
    format!(
        "move journal.redb and journal.log out of {dir}: remuda then starts anew, the work it held lapses to \
         other workers, and its sandboxes are deleted"
    )
}

/// Why something could not be written. One failure answers everything that was to be written together.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("could not write {}", path.display())]
    Log {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("could not write {}", path.display())]
    Tables {
        path: PathBuf,
        #[source]
        source: Box<redb::Error>,
    },
    #[error("{} has reached its {limit} bytes and cannot be emptied; see the log for why", path.display())]
    Full { path: PathBuf, limit: u64 },
    #[error("a record of {bytes} bytes is too large; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the record cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
    #[error("the writer of the journal has failed; restart remuda")]
    Stopped,
}
