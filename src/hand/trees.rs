//! Folders as a whole: what is in them, and changes to many of their files at once.
//!
//! Everything here is done through descriptors and follows no link below the folder it begins with: what an agent puts
//! in the way of a change makes that one change fail, and nothing outside is touched.
//!
//! # Invariants
//! - A file changes in one step, and only if it is still what the change expects; between the look and the step are
//!   microseconds.
//! - A folder that takes another's place does so in one step, too.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, mkdirat, renameat, statat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::confine::{Confinement, PathError, Place, open_inside, regular};
use super::replacement::{Bits, Replacement};
use super::tools::limits::{Cancel, Limits};
use super::tools::reason;
use super::tools::walk::{Next, Walked, walk};
use super::wire::{Change, Expect, Listed, Skipped, Tree};

/// Permission bits of the folders that are made here: they are for those who live in the sandbox alone.
const FOLDER: Mode = Mode::RWXU;

/// How long one folder may be looked through.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that are hashed for one listing, at most; the files after that have no hash.
const MAX_HASHED: u64 = 512 << 20;

/// Longest path of one file, in bytes, as the system has it.
const MAX_PATH: usize = 4096;

/// What is in a folder. Files of more than `hashed` bytes get no hash.
pub(super) fn list(confinement: &Confinement, given: &str, hashed: u64) -> Result<Tree, PathError> {
    let root = match confinement.at(Path::new(given), |place| place.open(OFlags::RDONLY | OFlags::DIRECTORY))
    {
        Ok(root) => root,
        Err(PathError::System(Errno::NOENT)) => return Ok(Tree::default()),
        Err(error) => return Err(error),
    };
    let mut tree = Tree { exists: true, complete: true, entries: Vec::new() };
    let mut budget = MAX_HASHED;
    let limits = Limits::start(Cancel::default(), Some(PATIENCE));
    let walked = walk(&root, "list", &limits, |entry| {
        // A name that is no text can be no file of ours, but it is there.
        let path = entry.relative.to_string_lossy().into_owned();
        let mut listed = Listed { path, file: false, size: 0, mode: 0, sha256: None };
        match entry.kind {
            FileType::Directory => return Ok(Next::Enter),
            FileType::RegularFile if entry.relative.to_str().is_some() => {
                listed.file = true;
                if let Ok((size, mode, sha256)) =
                    look(entry.folder, Path::new(entry.name), hashed.min(budget))
                {
                    budget -= sha256.as_ref().map_or(0, |_| size);
                    (listed.size, listed.mode, listed.sha256) = (size, mode, sha256);
                }
            }
            _ => {}
        }
        tree.entries.push(listed);
        Ok(Next::Pass)
    });
    tree.complete = matches!(walked, Ok(Walked::Done));
    Ok(tree)
}

/// Size, permission bits and hash of a regular file.
fn look(
    folder: impl std::os::fd::AsFd,
    name: &Path,
    hashed: u64,
) -> Result<(u64, u32, Option<String>), PathError> {
    let file = open_inside(folder, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    let stat = fstat(&file)?;
    regular(&stat)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let sha256 = if size <= hashed { Some(hash(file.into(), size).map_err(system)?) } else { None };
    Ok((size, stat.st_mode & 0o7777, sha256))
}

fn system(error: io::Error) -> PathError {
    PathError::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The hash of a file, of which no more is read than it had.
fn hash(file: File, size: u64) -> io::Result<String> {
    let (mut hasher, mut file, mut piece) = (Sha256::new(), file.take(size), vec![0; 64 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(&piece[..read]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a folder if it is not there, and then the changes; those that cannot be made are told.
pub(super) fn change<'a>(
    confinement: &Confinement,
    given: &str,
    changes: impl Iterator<Item = (&'a Change, &'a [u8])>,
) -> Result<Vec<Skipped>, PathError> {
    let root = confinement.at(Path::new(given), open_folder)?;
    let mut skipped = Vec::new();
    for (change, contents) in changes {
        if let Err(why) = apply(&root, change, contents) {
            skipped.push(Skipped { path: change.path.clone(), why });
        }
    }
    Ok(skipped)
}

/// Opens the folder at a place, which is made with those above it where they are missing.
fn open_folder(place: &Place<'_>) -> Result<OwnedFd, PathError> {
    if place.relative != Path::new(".") {
        let (parent, name) = place.parent()?;
        match mkdirat(&parent, name, FOLDER) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    place.open(OFlags::RDONLY | OFlags::DIRECTORY)
}

fn apply(root: &OwnedFd, change: &Change, contents: &[u8]) -> Result<(), String> {
    let relative = plain(&change.path).ok_or("not a plain relative path")?;
    let made = change.size.is_some();
    match attempt(root, &relative, change, contents, made) {
        Ok(()) => Ok(()),
        Err(PathError::System(errno)) => Err(reason(errno).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The path, if it consists of names alone.
fn plain(path: &str) -> Option<PathBuf> {
    let is_plain = !path.is_empty()
        && path.len() <= MAX_PATH
        && !path.contains('\0')
        && path.split('/').all(|name| !matches!(name, "" | "." | ".."))
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    is_plain.then(|| PathBuf::from(path))
}

fn attempt(
    root: &OwnedFd,
    relative: &Path,
    change: &Change,
    contents: &[u8],
    made: bool,
) -> Result<(), PathError> {
    let name = relative.file_name().ok_or(PathError::System(Errno::INVAL))?;
    let above = relative.parent().unwrap_or(Path::new(""));
    let folder = if made { folder_in(root, above)? } else { open_above(root, above)? };
    if !made {
        expected(&folder, Path::new(name), &change.expect)?;
        return Ok(unlinkat(&folder, name, AtFlags::empty())?);
    }
    // An empty folder may be what is left of files that were there.
    if statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    {
        unlinkat(&folder, name, AtFlags::REMOVEDIR)?;
    }
    let mut replacement =
        Replacement::beside(folder.try_clone().map_err(system)?, name, Bits::Exactly(change.mode))?;
    replacement.file().write_all(contents).map_err(system)?;
    expected(&folder, Path::new(name), &change.expect)?;
    replacement.commit()
}

fn open_above(root: &OwnedFd, above: &Path) -> Result<OwnedFd, PathError> {
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    open_inside(root, above, OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens a folder below `root`, made with those above it where they are missing.
fn folder_in(root: &OwnedFd, folder: &Path) -> Result<OwnedFd, PathError> {
    let mut reached = open_above(root, Path::new(""))?;
    for name in folder {
        match mkdirat(&reached, name, FOLDER) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        reached = open_inside(&reached, Path::new(name), OFlags::PATH | OFlags::DIRECTORY)?;
    }
    Ok(reached)
}

fn expected(folder: &OwnedFd, name: &Path, expect: &Expect) -> Result<(), PathError> {
    let found = match look(folder, name, u64::MAX) {
        Ok((.., sha256)) => sha256,
        Err(PathError::System(Errno::NOENT)) => None,
        Err(error) if *expect != Expect::Anything => return Err(error),
        Err(_) => None,
    };
    let holds = match expect {
        Expect::Anything => true,
        Expect::Absent => found.is_none(),
        Expect::Sha256(hash) => found.as_ref() == Some(hash),
    };
    if holds { Ok(()) } else { Err(PathError::Changed) }
}

/// Removes what is at a place, a folder with all that is in it. What is not there is removed.
pub(super) fn remove(confinement: &Confinement, given: &str) -> Result<(), PathError> {
    confinement.at(Path::new(given), |place| {
        let (parent, name) = match place.parent() {
            Err(PathError::System(Errno::NOENT)) => return Ok(()),
            parent => parent?,
        };
        discard(&parent, Path::new(name))
    })
}

fn discard(parent: &OwnedFd, name: &Path) -> Result<(), PathError> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno.into()),
    }
    // The standard library goes down through descriptors, and follows no link either.
    let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system(error)),
        _ => Ok(()),
    }
}

/// Puts the folder at `from` in the place of whatever is at `to`.
pub(super) fn relocate(confinement: &Confinement, from: &str, to: &str) -> Result<(), PathError> {
    let (source, name) = confinement.at(Path::new(from), |place| {
        let (parent, name) = place.parent()?;
        Ok((parent, name.to_owned()))
    })?;
    confinement.at(Path::new(to), |place| {
        let (parent, to) = place.parent()?;
        let old = format!(".remuda-{:016x}.old", rand::random::<u64>());
        let had_one = match renameat(&parent, to, &parent, old.as_str()) {
            Ok(()) => true,
            Err(Errno::NOENT) => false,
            Err(errno) => return Err(errno.into()),
        };
        renameat(&source, &name, &parent, to)?;
        if had_one { discard(&parent, Path::new(&old)) } else { Ok(()) }
    })
}

#[cfg(test)]
mod tests;
