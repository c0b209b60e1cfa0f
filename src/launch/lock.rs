//! The lock on a sandbox's folder, which says whether the sandbox lives.
//!
//! ```text
//! free ──launcher starts──▶ kept (names the launcher, then process 1 too)
//!  ▲ └──────seize─────▶ seized (names nobody)      │
//!  └──────────dropped─────────┴──launcher ends─────┘
//! ```
//!
//! The kernel lets go of the lock when its holder ends, however that happens, and what the holder wrote stays. So a
//! launcher is named by its number and the moment of its start: by the time that somebody else holds the lock, if
//! only to look at it, the number may mean a process of the host's. Whoever means to move or remove what is in the
//! folder seizes the lock first, so that no launcher can start meanwhile.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::spec::Folder;
use crate::processes::{Process, is_there};

/// How long a launcher tries to get the lock. Those who only look hold it for microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longest content of a lock file, in bytes: two process ids, a moment and what is between them.
const MAX_CONTENT: u64 = 64;

/// Who keeps a sandbox, by their process ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// The launcher, which lives.
    pub launcher: u32,
    /// Process 1 of the sandbox, the launcher's child, which may have ended; none before it is started. The
    /// number means no other process as long as the launcher has not ended, too.
    pub first: Option<u32>,
}

/// What became of an attempt to seize the lock.
#[derive(Debug)]
pub enum Seizure {
    /// It is ours until this is dropped: the sandbox is dead, and stays so.
    Seized(File),
    /// A launcher holds it.
    Kept(Keeper),
    /// Somebody holds it who has not written down who it is: a launcher in its first moments, or one who
    /// seized it.
    Busy,
    /// There is no such folder (any more).
    Gone,
}

/// Who keeps the sandbox in a folder; none if no launcher does.
///
/// # Errors
/// If the lock cannot be looked at, which says nothing about the launcher.
pub fn keeper(folder: Folder<'_>) -> io::Result<Option<Keeper>> {
    let lock = match File::open(folder.lock()) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(Errno::WOULDBLOCK) => read(&lock),
        Err(error) => Err(error.into()),
    }
}

/// Seizes the lock of a folder unless it is held. Does not wait.
///
/// # Errors
/// If the lock cannot be looked at, which says nothing about its holder.
pub fn seize(folder: Folder<'_>) -> io::Result<Seizure> {
    let lock = match open(folder) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seizure::Gone),
        Err(error) => return Err(error),
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            // The one it names is dead, and its number may be another's by now.
            lock.set_len(0)?;
            Ok(Seizure::Seized(lock))
        }
        Err(Errno::WOULDBLOCK) => Ok(read(&lock)?.map_or(Seizure::Busy, Seizure::Kept)),
        Err(error) => Err(error.into()),
    }
}

/// The lock in a launcher's hands.
pub(super) struct Lock(File);

impl Lock {
    /// Takes it and writes down who we are.
    pub(super) fn take(folder: Folder<'_>) -> io::Result<Self> {
        let lock = open(folder)?;
        let until = Instant::now() + PATIENCE;
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != Errno::WOULDBLOCK {
                return Err(error.into());
            }
            if Instant::now() > until {
                return Err(io::Error::other("another launcher keeps it"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        lock.set_len(0)?;
        let own = Process::read(std::process::id());
        let (number, started) = own.ok_or_else(|| io::Error::other("we are not in /proc"))?.identity();
        writeln!(&lock, "{number} {started}")?;
        Ok(Self(lock))
    }

    /// Writes down who process 1 is.
    pub(super) fn first_is(&self, first: u32) -> io::Result<()> {
        writeln!(&self.0, "{first}")
    }
}

/// Opens the file without changing what its holder wrote.
fn open(folder: Folder<'_>) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(folder.lock())
}

/// Who holds the lock, as far as that is written down.
fn read(lock: &File) -> io::Result<Option<Keeper>> {
    let mut text = String::new();
    lock.take(MAX_CONTENT).read_to_string(&mut text)?;
    // A line without its end is being written.
    let mut lines = text.split_inclusive('\n').map_while(|line| line.strip_suffix('\n'));
    let launcher = lines.next().and_then(|line| {
        let (number, started) = line.split_once(' ')?;
        Some((number.parse().ok()?, started.parse().ok()?))
    });
    let first = lines.next().and_then(|line| line.parse().ok());
    // What a dead one left is not about whoever holds the lock.
    Ok(launcher.filter(|launcher| is_there(*launcher)).map(|(launcher, _)| Keeper { launcher, first }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_says_who_keeps_a_folder_and_whether_anybody_does() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder(dir.path());
        assert_eq!(keeper(folder).unwrap(), None, "there is no lock yet");
        let lock = Lock::take(folder).unwrap();
        let launcher = std::process::id();
        assert_eq!(keeper(folder).unwrap(), Some(Keeper { launcher, first: None }));
        lock.first_is(17).unwrap();
        assert_eq!(keeper(folder).unwrap(), Some(Keeper { launcher, first: Some(17) }));
        assert!(matches!(seize(folder).unwrap(), Seizure::Kept(Keeper { first: Some(17), .. })));
        drop(lock);
        assert_eq!(keeper(folder).unwrap(), None, "what is written counts only while it is locked");
    }

    #[test]
    fn what_a_dead_launcher_wrote_names_nobody_whoever_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder(dir.path());
        drop(Lock::take(folder).unwrap());
        // The number means us by now.
        let (number, started) = Process::read(std::process::id()).unwrap().identity();
        std::fs::write(folder.lock(), format!("{number} {}\n{number}\n", started - 1)).unwrap();
        for held in [FlockOperation::LockShared, FlockOperation::LockExclusive] {
            let holder = open(folder).unwrap();
            flock(&holder, held).unwrap();
            assert!(matches!(seize(folder).unwrap(), Seizure::Busy), "{held:?}");
            assert_eq!(keeper(folder).unwrap(), None, "{held:?}");
        }
    }

    #[test]
    fn a_seized_lock_names_nobody_and_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder(dir.path());
        drop(Lock::take(folder).unwrap());
        let Seizure::Seized(seized) = seize(folder).unwrap() else { panic!("nobody holds it") };
        assert_eq!(keeper(folder).unwrap(), None);
        assert!(matches!(seize(folder).unwrap(), Seizure::Busy));
        assert!(Lock::take(folder).is_err());
        drop(seized);
        assert!(Lock::take(folder).is_ok());
        drop(dir);
        assert!(matches!(seize(Folder(std::path::Path::new("/nonexistent"))).unwrap(), Seizure::Gone));
    }
}
