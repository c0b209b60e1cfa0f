//! A small disk that can be filled: a tmpfs of our own.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Its size: room for the sandboxes of some dozen sessions.
const OPTIONS: &CStr = c"size=64m,mode=755";

/// Bytes written at once when it is filled.
const PIECE: usize = 64 << 10;

/// A mounted tmpfs, unmounted when this is dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    point: PathBuf,
}

impl Disk {
    /// Mounts one on a new folder. Needs the right to mount.
    pub(crate) fn mount(point: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(point)?;
        mount("remuda-chaos", point, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(OPTIONS))?;
        Ok(Self { point: point.to_owned() })
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let Ok(mut file) = File::create(self.filler()) else { return };
        for size in [PIECE, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Gives the room back.
    pub(crate) fn clear(&self) {
        let _ = fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still looks into it keeps it until it has looked away.
        let _ = unmount(&self.point, UnmountFlags::DETACH);
    }
}
