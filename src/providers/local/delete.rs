//! Ending a sandbox: everything that runs in it, its groups, its folder.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use remuda_actors::ids::SandboxId;
use remuda_actors::ports::ProviderError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::cgroup::Groups;
use super::processes::{children, send, signal_below};
use super::provider::{LocalProvider, unavailable};
use crate::launch::{Folder, locked_by};

/// Where folders are put on the way out, so that their names are free at once.
pub(super) const OLD: &str = ".old";

impl LocalProvider {
    /// Ends a sandbox. Repeating it, or ending one that is not there, is a success.
    pub(super) async fn remove(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let folder = self.folder(id)?;
        let Some(spec) = Self::read(&folder)? else { return Ok(()) };
        let groups = Groups::of(&spec.cgroups);
        self.kill(&folder, &groups).await.map_err(|error| unavailable("kill the sandbox", error))?;
        groups.remove().await;
        let removed = tokio::task::spawn_blocking({
            let old = self.options.dir.join(OLD);
            move || discard(&folder, &old)
        });
        let removed = removed.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        removed.map_err(|error| unavailable("remove the sandbox's folder", error))
    }

    /// Kills everything in the sandbox and returns when it is dead.
    async fn kill(&self, folder: &Path, groups: &Groups) -> io::Result<()> {
        // Only we start launchers for this folder, so this comes to an end.
        while let Some(launcher) = locked_by(Folder(folder))? {
            // The launcher's child ends only when everything in its process namespace has.
            let inside = children(launcher);
            let watches =
                inside.iter().chain([&launcher]).map(|pid| watch(*pid)).collect::<io::Result<Vec<_>>>()?;
            groups.kill();
            signal_below(launcher, Signal::KILL);
            // Otherwise it ends by itself, after whatever it had to clear up.
            if inside.is_empty() {
                send(launcher, Signal::KILL);
            }
            ended(watches.into_iter().flatten().collect()).await?;
        }
        Ok(())
    }
}

/// Something that becomes readable when a process has ended; none if it has.
fn watch(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(watch) => Ok(Some(watch)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until all these processes have ended.
async fn ended(watches: Vec<OwnedFd>) -> io::Result<()> {
    let wait = move || -> io::Result<()> {
        for watch in &watches {
            rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(watch, PollFlags::IN)], None))?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(wait).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Removes a folder, whatever its owner did to it.
fn discard(folder: &Path, old: &Path) -> io::Result<()> {
    let grave = tempfile::Builder::new().prefix("").tempdir_in(old)?;
    let moved = grave.path().join("sandbox");
    match fs::rename(folder, &moved) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    discard_all(&moved)
}

/// Removes a folder and everything in it.
pub(super) fn discard_all(folder: &Path) -> io::Result<()> {
    if fs::remove_dir_all(folder).is_err() {
        // A folder that its owner may not enter cannot be emptied by an owner who is not root.
        open_up(folder);
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Lets us into every folder below.
fn open_up(folder: &Path) {
    let mut next: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = next.pop() {
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        next.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
}
