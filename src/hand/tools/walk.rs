//! A walk over a folder tree through descriptors, in a fixed order, within bounds.
//!
//! The entries of a folder come sorted by name, and its folders are entered after the rest of it has been
//! seen. Links are never followed: each folder is opened beneath the root without links, so one swapped for
//! a link while the walk goes on is passed over. What cannot be opened is passed over too.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, statat};

use super::failure::Failure;
use super::limits::Limits;
use crate::hand::confine::open_inside;

/// Entries looked at in one walk, as the official toolset has it.
pub(crate) const MAX_ENTRIES: usize = 50_000;

/// What one system call may list at a time.
const LISTING_BYTES: usize = 32 << 10;

/// Something the walk came by.
pub(crate) struct Entry<'a> {
    /// The folder it is in, open.
    pub(crate) folder: BorrowedFd<'a>,
    /// Its name there.
    pub(crate) name: &'a OsStr,
    /// Its path from the root of the walk.
    pub(crate) relative: &'a Path,
    pub(crate) kind: FileType,
}

/// How to go on after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// With the rest; into the entry if it is a folder.
    Enter,
    /// With the rest, but not into the entry.
    Pass,
    /// Not at all.
    Stop,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// Everything was seen, or the visitor stopped it.
    Done,
    /// After [`MAX_ENTRIES`].
    CutShort,
}

/// Shows `visit` what is below `root`, but not the root itself.
pub(crate) fn walk(
    root: &OwnedFd,
    tool: &'static str,
    limits: &Limits,
    mut visit: impl FnMut(&Entry<'_>) -> Result<Next, Failure>,
) -> Result<Walked, Failure> {
    let mut budget = MAX_ENTRIES;
    let mut pending = vec![PathBuf::new()];
    let mut listing = Vec::with_capacity(LISTING_BYTES);
    let mut names: Vec<(OsString, FileType)> = Vec::new();
    while let Some(folder) = pending.pop() {
        limits.check(tool)?;
        let path = if folder.as_os_str().is_empty() { Path::new(".") } else { folder.as_path() };
        let Ok(open) = open_inside(root, path, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
        let complete = list(&open, &mut listing, budget, &mut names);
        budget -= names.len();
        names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let first_below = pending.len();
        for (name, kind) in names.drain(..) {
            let relative = folder.join(&name);
            let entry = Entry { folder: open.as_fd(), name: &name, relative: &relative, kind };
            match visit(&entry)? {
                Next::Enter if kind == FileType::Directory => pending.push(relative),
                Next::Enter | Next::Pass => {}
                Next::Stop => return Ok(Walked::Done),
            }
        }
        if !complete {
            return Ok(Walked::CutShort);
        }
        // The last one pushed is entered first.
        pending[first_below..].reverse();
    }
    Ok(Walked::Done)
}

/// Lists up to `most` entries of a folder into `names`; false if there are more.
fn list(folder: &OwnedFd, buffer: &mut Vec<u8>, most: usize, names: &mut Vec<(OsString, FileType)>) -> bool {
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    // An entry whose name does not fit the buffer cannot be: names have at most 255 bytes. An error ends
    // the folder early, as when it was removed meanwhile.
    while let Some(Ok(entry)) = entries.next() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        if names.len() == most {
            return false;
        }
        let mut kind = entry.file_type();
        // Some file systems keep no types in their folders.
        if kind == FileType::Unknown
            && let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        {
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        names.push((name.to_os_string(), kind));
    }
    true
}
