//! Files that are there whole or not at all, for their owner alone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Only the owner reads and writes: there are credentials inside.
const MODE: u32 = 0o600;

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) tables: PathBuf,
    pub(super) log: PathBuf,
}

impl Paths {
    pub(super) fn of(dir: &Path) -> Self {
        Self { tables: dir.join("journal.redb"), log: dir.join("journal.log") }
    }
}

/// A file under another name, so that a crash before [`publish`] leaves nothing half made under `path`.
pub(super) fn prepare(path: &Path) -> io::Result<File> {
    let path = unpublished(path);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::options().read(true).write(true).create_new(true).mode(MODE).open(path),
    }
}

/// Gives what was prepared and synced its name.
pub(super) fn publish(path: &Path) -> io::Result<()> {
    fs::rename(unpublished(path), path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// Opens a file for reading and writing, and takes it away from everyone but its owner.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut permissions = file.metadata()?.permissions();
    if permissions.mode() & 0o777 != MODE {
        permissions.set_mode(MODE);
        file.set_permissions(permissions)?;
    }
    Ok(file)
}

fn unpublished(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}
