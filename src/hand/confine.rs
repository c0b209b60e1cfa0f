//! Keeps file tools inside the folders they were given.
//!
//! A path goes through four steps, and only the last one touches the file:
//!
//! ```text
//! given ──join──► absolute ──`.` and `..` collapsed──► spelled ──every link followed──► canonical
//!                                                                                          │
//!         openat2(root's descriptor, rest, beneath it, no links) ◄── longest root it lies in ◄┘
//! ```
//!
//! # Invariants
//! - No operation follows a link: links are followed by reading them, before the containment check. A
//!   component swapped for a link after the check makes `openat2` fail, and the path is looked up again.
//! - Containment is decided component by component, and by the most specific root, so a read-only root
//!   inside the working directory is read-only through every spelling.
//!
//! # Not here
//! What a shell does: the sandbox around the hand confines that. Where a folder itself is moved away while
//! it is open, operations follow the folder; only a process with rights over both places can do that.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use parking_lot::RwLock;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2};
use rustix::io::Errno;

/// Links that one lookup follows at most, as the official toolset has it.
const MAX_LINKS: usize = 40;

/// How often a path that changes under our hands is looked up again before the call fails.
const MAX_LOOKUPS: usize = 16;

/// No link of any kind, and nothing above the directory it starts from.
const INSIDE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// Why a path cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    /// It leads out of every root.
    #[error("outside the permitted directories")]
    Outside { other_roots: bool },
    /// It lies in a root that may only be read.
    #[error("inside read-only directory {}", root.display())]
    ReadOnly { root: Box<Path> },
    /// A directory, pipe, socket or device stands where a file was expected.
    #[error("not a regular file")]
    NotRegular,
    /// It became a link between lookup and use, [`MAX_LOOKUPS`] times in a row.
    #[error("changed while it was used")]
    Changed,
    /// The system's answer.
    #[error("{0}")]
    System(#[from] Errno),
}

/// Why the roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A root is missing, or is no directory, or may not be entered.
    #[error("could not open the directory {}", path.display())]
    Open {
        /// The root as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `openat2` is missing.
    #[error(
        "the kernel refuses openat2, which file tools need to stay inside their folders; \
         it takes Linux 5.6 or newer and a seccomp profile that lets it through"
    )]
    NoOpenat2,
}

/// What may be done in a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    /// Tools may not write; staging files through the files interface may.
    ReadOnly,
}

/// A folder whose contents may be used.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    dir: OwnedFd,
    access: Access,
}

/// The folders of one sandbox.
#[derive(Debug)]
pub(crate) struct Confinement {
    workdir: PathBuf,
    /// Longest path first, so that the first match is the most specific one.
    roots: Vec<Root>,
    /// Folders inside them that tools may not write, said later.
    closed: RwLock<Vec<PathBuf>>,
}

/// A canonical path inside a root.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) root: &'a Root,
    /// Canonical and absolute: what results show.
    pub(crate) path: PathBuf,
    /// The same from the root on; `.` for the root itself.
    pub(crate) relative: PathBuf,
    /// The folder that keeps tools from writing here, if one does.
    closed: Option<PathBuf>,
}

impl Confinement {
    /// Opens the roots. The working directory is always one that may be written.
    pub(crate) fn new(workdir: &Path, allowed: &[PathBuf], read_only: &[PathBuf]) -> Result<Self, RootError> {
        let mut roots = vec![Root::open(workdir, Access::ReadWrite)?];
        let workdir = roots[0].path.clone();
        for path in allowed {
            roots.push(Root::open(path, Access::ReadWrite)?);
        }
        for path in read_only {
            roots.push(Root::open(path, Access::ReadOnly)?);
        }
        // Of two roots with one path the stricter is found first.
        roots.sort_by_key(|root| (usize::MAX - depth(&root.path), root.access == Access::ReadWrite));
        Ok(Self { workdir, roots, closed: RwLock::default() })
    }

    /// The canonical working directory.
    pub(crate) fn workdir(&self) -> &Path {
        &self.workdir
    }

    /// Says which folders tools may not write, in place of what was said before. They need not exist yet.
    pub(crate) fn set_read_only(&self, paths: Vec<PathBuf>) {
        let canonical = |path: PathBuf| canonicalize(&collapse(&self.workdir.join(&path))).unwrap_or(path);
        *self.closed.write() = paths.into_iter().map(canonical).collect();
    }

    /// Looks `given` up and does `operation` there, again from the start when somebody changes the path
    /// in between.
    pub(crate) fn at<T>(
        &self,
        given: &Path,
        mut operation: impl FnMut(&Place<'_>) -> Result<T, PathError>,
    ) -> Result<T, PathError> {
        for _ in 0..MAX_LOOKUPS {
            match operation(&self.place(given)?) {
                Err(PathError::Changed) => {}
                done => return done,
            }
        }
        Err(PathError::Changed)
    }

    /// Where `given` leads. The leaf, and folders above it, need not exist.
    fn place(&self, given: &Path) -> Result<Place<'_>, PathError> {
        if given.as_os_str().as_bytes().contains(&0) {
            return Err(PathError::System(Errno::INVAL));
        }
        let path = canonicalize(&collapse(&self.workdir.join(given)))?;
        for root in &self.roots {
            if let Ok(rest) = path.strip_prefix(&root.path) {
                let relative = if rest.as_os_str().is_empty() { Path::new(".") } else { rest }.to_path_buf();
                let closed = self.closed.read().iter().find(|closed| path.starts_with(closed)).cloned();
                return Ok(Place { root, path, relative, closed });
            }
        }
        Err(PathError::Outside { other_roots: self.roots.len() > 1 })
    }
}

impl Root {
    fn open(given: &Path, access: Access) -> Result<Self, RootError> {
        let failed = |source: io::Error| RootError::Open { path: given.to_path_buf(), source };
        let path = std::fs::canonicalize(given).map_err(failed)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        match openat2(&dir, ".", flags, Mode::empty(), INSIDE) {
            Ok(_) => Ok(Self { path, dir, access }),
            // Older seccomp profiles answer a system call they do not know with EPERM.
            Err(Errno::NOSYS | Errno::PERM) => Err(RootError::NoOpenat2),
            Err(errno) => Err(failed(errno.into())),
        }
    }
}

impl Place<'_> {
    /// Refuses a place that tools may not write.
    pub(crate) fn writable(&self) -> Result<(), PathError> {
        if let Some(closed) = &self.closed {
            return Err(PathError::ReadOnly { root: closed.as_path().into() });
        }
        match self.root.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(PathError::ReadOnly { root: self.root.path.as_path().into() }),
        }
    }

    /// Opens it for reading, as the regular file it must be.
    ///
    /// What it is, is found out before it is opened: opening a pipe or a device can wait or have effects.
    pub(crate) fn open_regular(&self) -> Result<(File, Stat), PathError> {
        regular(&fstat(self.open(OFlags::PATH)?)?)?;
        // It may have been replaced since; without NONBLOCK a pipe would now keep us waiting.
        let file = self.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = fstat(&file)?;
        regular(&stat)?;
        Ok((file.into(), stat))
    }

    /// Opens it with these flags.
    pub(crate) fn open(&self, flags: OFlags) -> Result<OwnedFd, PathError> {
        open_inside(&self.root.dir, &self.relative, flags)
    }

    /// The folder it is in, created with all folders above it where missing, and its name there.
    pub(crate) fn parent(&self) -> Result<(OwnedFd, &OsStr), PathError> {
        // The root itself has no name in here.
        let name = self.relative.file_name().ok_or(PathError::System(Errno::ISDIR))?;
        let folder = self.relative.parent().filter(|folder| !folder.as_os_str().is_empty());
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let folder = folder.unwrap_or(Path::new("."));
        match open_inside(&self.root.dir, folder, flags) {
            Err(PathError::System(Errno::NOENT)) => {}
            opened => return Ok((opened?, name)),
        }
        let mut reached = open_inside(&self.root.dir, Path::new("."), flags)?;
        for component in folder {
            let component = Path::new(component);
            reached = match open_inside(&reached, component, flags) {
                Err(PathError::System(Errno::NOENT)) => {
                    match rustix::fs::mkdirat(&reached, component, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => open_inside(&reached, component, flags)?,
                        Err(errno) => return Err(errno.into()),
                    }
                }
                opened => opened?,
            };
        }
        Ok((reached, name))
    }
}

/// Opens `path` below `dir` without following any link.
pub(crate) fn open_inside(dir: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, PathError> {
    match openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), INSIDE) {
        Ok(opened) => Ok(opened),
        // The path was free of links when it was looked up, so these say that it no longer is.
        Err(Errno::LOOP | Errno::XDEV | Errno::AGAIN) => Err(PathError::Changed),
        Err(errno) => Err(errno.into()),
    }
}

/// Refuses everything but a regular file.
pub(crate) fn regular(stat: &Stat) -> Result<(), PathError> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        // Only a swap can put a link where links have been followed.
        FileType::Symlink => Err(PathError::Changed),
        _ => Err(PathError::NotRegular),
    }
}

fn depth(path: &Path) -> usize {
    path.components().count()
}

/// Removes `.` and `..` by spelling alone, before any link is looked at, as the official toolset does.
fn collapse(path: &Path) -> PathBuf {
    let mut collapsed = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                collapsed.pop();
            }
            Component::CurDir => {}
            other => collapsed.push(other),
        }
    }
    collapsed
}

/// Follows every link of an absolute path, the last component and dangling ones included.
///
/// A component that does not exist, or cannot be looked at, stays as spelled.
fn canonicalize(path: &Path) -> Result<PathBuf, PathError> {
    let mut pending: VecDeque<OsString> = path.iter().map(OsStr::to_os_string).collect();
    let mut reached = PathBuf::from("/");
    let mut links = 0;
    while let Some(component) = pending.pop_front() {
        if component == ".." {
            // Only links bring these here; what stands before them has been resolved already.
            reached.pop();
            continue;
        }
        let next = reached.join(&component);
        let Ok(target) = rustix::fs::readlink(&next, Vec::new()) else {
            reached = next;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(PathError::System(Errno::LOOP));
        }
        let target = PathBuf::from(OsStr::from_bytes(target.as_bytes()));
        if target.is_absolute() {
            reached = PathBuf::from("/");
        }
        for component in target.iter().rev().filter(|component| *component != ".") {
            pending.push_front(component.to_os_string());
        }
    }
    Ok(reached)
}

#[cfg(test)]
mod tests;
