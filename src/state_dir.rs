//! The folder that outlives the process.
//!
//! | Entry | What it is |
//! |---|---|
//! | `lock` | locked by the remuda that uses the folder; a second one refuses to start |
//! | `owner` | names this installation on everything it makes |
//! | `journal.log`, `journal.redb` | what the tree must know after a crash |
//! | `sandboxes/` | one folder for each local sandbox |
//! | `outfits/` | what each sandbox was furnished with |
//! | `skills/` | archives of skills |

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rand::RngExt as _;
use remuda_actors::ports::OwnerId;

/// A state directory in use.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    owner: OwnerId,
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateDirError {
    /// Another remuda uses it.
    #[error("the state directory {} is in use by another remuda; give each one its own", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("could not use the state directory {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its owner file holds something else.
    #[error(
        "{} does not name an owner: expected one line of 1 to 63 letters, digits and dashes; restore it, or remove \
         it together with the sandboxes beside it", path.display()
    )]
    Owner {
        /// Which file.
        path: PathBuf,
    },
}

impl StateDir {
    /// Takes the folder into use, which is made if it is not there. Only its user may look into it.
    ///
    /// # Errors
    /// [`StateDirError`]; nothing in it has changed then.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let failed = |source| StateDirError::Io { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateDirError::InUse { path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let owner = owner(&path.join("owner")).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => StateDirError::Owner { path: path.join("owner") },
            _ => failed(error),
        })?;
        Ok(Self { path, owner, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who we are.
    pub fn owner(&self) -> &OwnerId {
        &self.owner
    }

    /// Where local sandboxes have their folders.
    pub fn sandboxes(&self) -> PathBuf {
        self.path.join("sandboxes")
    }

    /// Where is written down what sandboxes were furnished with.
    pub fn outfits(&self) -> PathBuf {
        self.path.join("outfits")
    }

    /// Where archives of skills are kept.
    pub fn skills(&self) -> PathBuf {
        self.path.join("skills")
    }
}

/// The name in the owner file, which is given once and then kept.
fn owner(path: &Path) -> io::Result<OwnerId> {
    match fs::read_to_string(path) {
        Ok(name) => {
            let name = name.trim();
            let is_name = (1..=63).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if is_name { Ok(OwnerId::new(name)) } else { Err(io::ErrorKind::InvalidData.into()) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = format!("{:016x}", rand::rng().random::<u64>());
            // Written whole or not at all: half a name would be another's.
            let new = path.with_extension("new");
            fs::write(&new, format!("{name}\n"))?;
            fs::rename(new, path)?;
            Ok(OwnerId::new(name))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_kept_and_a_second_user_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(&dir.path().join("a/b")).unwrap();
        let owner = first.owner().clone();
        let second = StateDir::open(first.path()).unwrap_err();
        assert!(second.to_string().contains("in use by another remuda"), "{second}");
        let path = first.path().to_owned();
        drop(first);
        assert_eq!(*StateDir::open(&path).unwrap().owner(), owner);
    }

    #[test]
    fn a_foreign_owner_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "two words", "x/../y", &"a".repeat(64)] {
            fs::write(dir.path().join("owner"), text).unwrap();
            let refused = StateDir::open(dir.path()).unwrap_err();
            assert!(refused.to_string().contains("does not name an owner"), "{refused}");
            assert_eq!(fs::read_to_string(dir.path().join("owner")).unwrap(), text);
        }
    }
}
