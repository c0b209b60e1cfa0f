//! What a process that died was in the middle of making or removing.
//!
//! It is in nobody's way, and an agent may have filled it with millions of files: sandboxes that live must not wait
//! until all of that is gone, least of all for somebody to go on with their leases. So it is found when the provider
//! is set up, and removed meanwhile.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use super::delete::OLD;
use super::discard;
use super::start::NEW;

/// Finds them, and makes the folders that they are in where those are not there yet.
///
/// # Errors
/// If those cannot be made or read.
pub(super) fn find(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for place in [NEW, OLD] {
        let place = dir.join(place);
        match fs::DirBuilder::new().mode(0o700).create(&place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
        for entry in fs::read_dir(&place)? {
            found.push(entry?.path());
        }
    }
    Ok(found)
}

/// Removes them on a thread that nobody waits for. What comes into their place from now on has another name.
pub(super) fn remove(found: Vec<PathBuf>) {
    if found.is_empty() {
        return;
    }
    let removing = thread::Builder::new().name("leftovers".to_owned()).spawn(move || remove_all(&found));
    if let Err(error) = removing {
        tracing::warn!(%error, "what removed sandboxes left is not removed before the next start");
    }
}

fn remove_all(found: &[PathBuf]) {
    for folder in found {
        if let Err(error) = discard::remove(folder) {
            tracing::warn!(%error, folder = %folder.display(), "a removed sandbox's files are left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_removed_and_nothing_that_came_later() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path()).unwrap(), Vec::<PathBuf>::new());
        let [made, removed, later] = [".new/a", ".old/b", ".new/c"].map(|name| dir.path().join(name));
        fs::create_dir_all(made.join("deeper")).unwrap();
        fs::create_dir_all(removed.join("deeper")).unwrap();
        let found = find(dir.path()).unwrap();
        assert_eq!(found, [made.clone(), removed.clone()]);
        assert!(made.exists() && removed.exists(), "whoever finds them does not wait for their end");
        fs::create_dir(&later).unwrap();
        remove_all(&found);
        assert!(!made.exists() && !removed.exists() && later.exists());
    }
}
