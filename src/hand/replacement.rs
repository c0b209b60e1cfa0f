//! A file written beside the one it is to replace, then moved over it in one step.
//!
//! Readers see the old contents or the new ones, never a part, and a failed write leaves the old file as
//! it was. An existing file keeps its permission bits, and its owner where the hand may set it; a new one
//! gets what the umask leaves.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, Stat, accessat, fchmod, fchown, fstat, openat, renameat, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::confine::{PathError, Place};

/// Names tried for the new file; they are random, so a second try is already a rare thing.
const MAX_NAMES: usize = 8;

/// What permission bits the file ends up with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    /// Those of the file it replaces, or what the umask leaves of `rw-rw-rw-`.
    Kept,
    /// Exactly these.
    Exactly(u32),
}

/// See the module's documentation. Dropping it without [`Replacement::commit`] removes the new file.
#[derive(Debug)]
pub(crate) struct Replacement {
    /// Where both files are.
    folder: OwnedFd,
    name: OsString,
    temporary: Option<String>,
    file: File,
}

impl Replacement {
    /// Starts a replacement of the file at `place`, creating the folders above it.
    pub(crate) fn create(place: &Place<'_>, bits: Bits) -> Result<Self, PathError> {
        let (folder, name) = place.parent()?;
        Self::beside(folder, name, bits)
    }

    /// Starts a replacement of the file of this name in a folder.
    pub(crate) fn beside(folder: OwnedFd, name: &OsStr, bits: Bits) -> Result<Self, PathError> {
        let existing = existing(&folder, name)?;
        let (temporary, file) = temporary(&folder, existing.as_ref())?;
        let this = Self { folder, name: name.to_owned(), temporary: Some(temporary), file };
        this.take_over(existing.as_ref(), bits)?;
        Ok(this)
    }

    /// The new file, open for writing.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    fn take_over(&self, existing: Option<&Stat>, bits: Bits) -> Result<(), Errno> {
        if let Some(existing) = existing {
            let new = fstat(&self.file)?;
            if (new.st_uid, new.st_gid) != (existing.st_uid, existing.st_gid) {
                let (uid, gid) = (Uid::from_raw(existing.st_uid), Gid::from_raw(existing.st_gid));
                // Only root may give files away. Others keep the file, which is what a copy would do too.
                let _ = fchown(&self.file, Some(uid), Some(gid));
            }
        }
        // After the owner, because changing that clears some bits.
        match (bits, existing) {
            (Bits::Exactly(bits), _) => fchmod(&self.file, Mode::from_raw_mode(bits & 0o7777)),
            (Bits::Kept, Some(existing)) => {
                fchmod(&self.file, Mode::from_raw_mode(existing.st_mode & 0o7777))
            }
            (Bits::Kept, None) => Ok(()),
        }
    }

    /// Puts the new file in the old one's place.
    pub(crate) fn commit(mut self) -> Result<(), PathError> {
        if let Some(temporary) = &self.temporary {
            renameat(&self.folder, temporary, &self.folder, &self.name)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // If even this fails the folder is gone, and the file with it.
            let _ = unlinkat(&self.folder, temporary, AtFlags::empty());
        }
    }
}

/// The file that is to be replaced, if there is one that may be.
fn existing(folder: impl AsFd, name: &OsStr) -> Result<Option<Stat>, PathError> {
    let stat = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(Errno::ISDIR.into()),
        // Links were followed before; this one is new.
        FileType::Symlink => return Err(PathError::Changed),
        _ => return Err(PathError::NotRegular),
    }
    // Moving a file over this one needs no right to write it, but the agent was not given any either.
    accessat(&folder, name, Access::WRITE_OK, AtFlags::EACCESS)?;
    Ok(Some(stat))
}

fn temporary(folder: impl AsFd, existing: Option<&Stat>) -> Result<(String, File), PathError> {
    // Never more open than the file it replaces, not even for a moment.
    let mode = existing.map_or(0o666, |stat| stat.st_mode & 0o666);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for _ in 0..MAX_NAMES {
        let name = format!(".remuda-{:016x}.tmp", rand::random::<u64>());
        match openat(&folder, name.as_str(), flags, Mode::from_raw_mode(mode)) {
            Ok(file) => return Ok((name, file.into())),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::EXIST.into())
}
