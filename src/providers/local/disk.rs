//! How much room files take, as `du` counts it.
//!
//! The sandbox may be changing them at the same time, and may not want to be measured. Every step is therefore
//! taken from an open folder by a single name that is not followed if it is a link: what is swapped for a link
//! leads nowhere.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

/// How many files and folders are counted; what is beyond that is left out. They take about a second.
const MAX_ENTRIES: usize = 1 << 20;

/// How many folders deep is counted. Each level is an open file.
const MAX_DEPTH: usize = 128;

/// The blocks of 512 bytes that `stat` counts in, whatever those of the file system are.
const BLOCK: u64 = 512;

/// The bytes that a folder and everything in it take on the disk. A file with several names counts once; what
/// cannot be looked into counts as empty.
///
/// # Errors
/// If the folder itself cannot be read.
pub(super) fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut open = vec![Dir::new(openat(CWD, folder, flags, Mode::empty())?)?];
    let (mut blocks, mut entries) = (0_u64, 0);
    let mut linked = HashSet::new();
    loop {
        let depth = open.len();
        let Some(folder) = open.last_mut() else { break };
        let Some(Ok(entry)) = folder.read() else {
            open.pop();
            continue;
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        entries += 1;
        if entries > MAX_ENTRIES {
            break;
        }
        let Ok(here) = folder.fd() else { continue };
        let Ok(found) = statat(here, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if is_folder || found.st_nlink < 2 || linked.insert((found.st_dev, found.st_ino)) {
            blocks = blocks.saturating_add(found.st_blocks.unsigned_abs());
        }
        if is_folder
            && depth < MAX_DEPTH
            && let Ok(below) = openat(here, name, flags, Mode::empty())
        {
            open.push(Dir::new(below)?);
        }
    }
    Ok(blocks.saturating_mul(BLOCK))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn counts_what_lies_below_once_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("large"), vec![1; 1 << 20]).unwrap();
        let files = dir.path().join("files");
        fs::create_dir_all(files.join("a/b")).unwrap();
        let empty = disk_bytes(&files).unwrap();

        fs::write(files.join("a/b/one"), vec![1; 64 << 10]).unwrap();
        let one = disk_bytes(&files).unwrap();
        assert!((64 << 10..80 << 10).contains(&(one - empty)), "{one} - {empty}");

        fs::hard_link(files.join("a/b/one"), files.join("a/two")).unwrap();
        symlink(&outside, files.join("a/link")).unwrap();
        symlink(outside.join("large"), files.join("file-link")).unwrap();
        symlink("..", files.join("a/up")).unwrap();
        assert!(disk_bytes(&files).unwrap() - one < 32 << 10, "links were followed or counted twice");
        // A hole takes no room.
        fs::File::create(files.join("sparse")).unwrap().set_len(1 << 30).unwrap();
        assert!(disk_bytes(&files).unwrap() - one < 32 << 10);

        assert!(disk_bytes(&files.join("a/up")).is_err(), "the folder itself is not followed either");
        assert!(disk_bytes(&dir.path().join("none")).is_err());
    }

    #[test]
    fn what_is_too_deep_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = dir.path().to_owned();
        for _ in 0..MAX_DEPTH + 10 {
            deep.push("d");
            fs::create_dir(&deep).unwrap();
        }
        fs::write(deep.join("file"), vec![1; 1 << 20]).unwrap();
        assert!(disk_bytes(dir.path()).unwrap() < 1 << 20);
    }
}
