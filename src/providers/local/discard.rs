//! Removing a folder that an agent filled, whatever it made of it.
//!
//! An agent can nest folders deeper than a stack, a table of descriptors or the length of a path allows, close
//! them, and name them as it likes. So nothing here descends, and no path is ever put together:
//!
//! ```text
//! grave/a/b/c…   the folder `b` comes up ──►  grave/a, grave/1.0/c…   `a` is empty and goes; then it is the
//!                into the grave                                       turn of `1.0`, from which `c` comes up
//! ```
//!
//! # Invariants
//! - At most four descriptors are open and the memory in use does not grow, whatever the tree looks like.
//! - No link is followed, and nothing outside the grave is touched.
//! - What cannot be removed does not keep the rest from being removed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rand::RngExt as _;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, chmod, fstat, openat, renameat, unlinkat};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

/// What an owner needs to be able to do with a folder for its contents to be removed.
const ALL: u32 = 0o700;

/// Removes a folder and everything in it.
///
/// # Errors
/// The first thing that could not be removed; it and what it lies in are left, everything else is gone.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    clear(folder)?;
    Ok(unlinkat(CWD, folder, AtFlags::REMOVEDIR)?)
}

/// Removes everything in a folder.
///
/// # Errors
/// As [`remove`].
pub(super) fn clear(folder: &Path) -> io::Result<()> {
    let mut grave = Grave {
        dir: open(CWD, folder)?,
        // Nothing in the tree has such a name, for nobody could know it.
        prefix: format!("{:016x}.", rand::rng().random::<u64>()),
        raised: 0,
        problem: None,
    };
    let top = open(&grave.dir, ".")?;
    grave.empty(&top)?;
    // First come, first removed: so two numbers are all there is to remember.
    let mut next = 0;
    while next < grave.raised {
        let name = grave.name(next);
        if let Err(problem) = grave.bury(&name) {
            grave.problem.get_or_insert(problem);
        }
        next += 1;
    }
    grave.problem.map_or(Ok(()), |problem| Err(problem.into()))
}

struct Grave {
    dir: OwnedFd,
    /// How the names of the folders that came up begin; a number follows.
    prefix: String,
    raised: u64,
    /// The first thing that went wrong.
    problem: Option<Errno>,
}

impl Grave {
    fn name(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    /// Removes one of the folders that came up; those in it come up in turn.
    fn bury(&mut self, name: &str) -> Result<()> {
        self.empty(&open(&self.dir, name)?)?;
        unlinkat(&self.dir, name, AtFlags::REMOVEDIR)
    }

    /// Takes everything out of a folder.
    fn empty(&mut self, folder: &OwnedFd) -> Result<()> {
        // A folder that changes while it is read may keep entries back, so it is read until nothing comes.
        loop {
            let mut taken = false;
            for entry in Dir::read_from(folder)? {
                let entry = entry?;
                let name = entry.file_name();
                if matches!(name.to_bytes(), b"." | b"..")
                    || name.to_bytes().starts_with(self.prefix.as_bytes())
                {
                    continue;
                }
                match self.take(folder, name) {
                    Ok(()) => taken = true,
                    Err(problem) => {
                        self.problem.get_or_insert(problem);
                    }
                }
            }
            if !taken {
                return Ok(());
            }
        }
    }

    /// Removes an entry of a folder; a folder with something in it comes up instead.
    fn take(&mut self, folder: &OwnedFd, name: &CStr) -> Result<()> {
        let refused = match unlinkat(folder, name, AtFlags::empty()) {
            // How a kernel says that it is a folder depends on the file system.
            Err(refused @ (Errno::ISDIR | Errno::PERM)) => refused,
            done => return done,
        };
        match unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOTDIR) => return Err(refused),
            done => return done,
        }
        let raised = self.name(self.raised);
        if renameat(folder, name, &self.dir, &raised).is_err() {
            // A folder that its owner may not write to cannot be moved, since it knows where it is.
            open(folder, name)?;
            renameat(folder, name, &self.dir, &raised)?;
        }
        self.raised += 1;
        Ok(())
    }
}

/// Opens a folder, and lets us into it if it is ours and closed.
fn open(parent: impl AsFd, name: impl Arg) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags | OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    if fstat(&folder)?.st_mode & ALL != ALL {
        // By way of the descriptor, which cannot have become a link. If it fails, what needs it fails too.
        let _ = chmod(format!("/proc/self/fd/{}", folder.as_raw_fd()), Mode::from_raw_mode(ALL));
    }
    openat(&folder, ".", flags | OFlags::RDONLY, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use rustix::fs::{FileType, mkdirat, mknodat, symlinkat};

    use super::*;

    /// Nests folders, each with a file in it.
    fn nest(top: &Path, levels: u32) {
        let mut at = open(CWD, top).unwrap();
        for _ in 0..levels {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            mknodat(&at, "f", FileType::RegularFile, Mode::RWXU, 0).unwrap();
            at = open(&at, "d").unwrap();
        }
    }

    #[test]
    fn a_tree_deeper_than_any_stack_or_path_goes_with_few_descriptors() {
        let test = "providers::local::discard::tests::fifteen_thousand_levels";
        let limited = ["-c", r#"ulimit -n 16; exec "$0" --exact --ignored "$1""#];
        let output =
            Command::new("/bin/sh").args(limited).arg(std::env::current_exe().unwrap()).arg(test).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    #[ignore = "run by `a_tree_deeper_than_any_stack_or_path_goes_with_few_descriptors`"]
    fn fifteen_thousand_levels() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        nest(&tree, 15_000);
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_folder_wider_than_one_look_into_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..2_000 {
            std::fs::create_dir_all(dir.path().join(format!("{n}/deeper"))).unwrap();
            std::fs::write(dir.path().join(format!("{n}.txt")), "x").unwrap();
        }
        clear(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, tree) = (dir.path().join("kept"), dir.path().join("tree"));
        std::fs::create_dir_all(kept.join("sub")).unwrap();
        std::fs::create_dir_all(tree.join("a")).unwrap();
        std::fs::set_permissions(&kept, std::fs::Permissions::from_mode(0o500)).unwrap();
        let a = open(CWD, tree.join("a")).unwrap();
        symlinkat(&kept, &a, "to-a-folder").unwrap();
        symlinkat("..", &a, "up").unwrap();
        symlinkat("to-nowhere", &a, "to-nowhere").unwrap();
        remove(&tree).unwrap();
        assert!(kept.join("sub").exists() && !tree.exists());
        assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o500);
        let link = dir.path().join("link");
        symlinkat(&kept, CWD, &link).unwrap();
        assert!(clear(&link).is_err(), "not even the folder itself may be a link");
        assert!(kept.join("sub").exists());
    }

    #[test]
    fn closed_folders_odd_names_and_pipes_go() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let odd = tree.join(std::ffi::OsStr::from_bytes(b"new\nline \xff -rf")).join("x".repeat(255));
        std::fs::create_dir_all(odd.join("deeper/still")).unwrap();
        mknodat(open(CWD, &odd).unwrap(), "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
        for closed in [&odd.join("deeper"), &odd] {
            std::fs::set_permissions(closed, std::fs::Permissions::from_mode(0o0)).unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
