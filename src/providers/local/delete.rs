//! Ending a sandbox: everything that runs in it, its groups, its folder.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::ProviderError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::discard;
use super::groups::Groups;
use super::processes::{kill_below, send};
use super::provider::{LocalProvider, unavailable};
use crate::launch::{Folder, Seizure, seize};
use crate::processes::children;

/// Where folders are put on the way out, so that their names are free at once.
pub(super) const OLD: &str = ".old";

/// How long a sandbox may take to die. It takes milliseconds unless a process is deep in the kernel.
const DEATH: Duration = Duration::from_secs(10);

/// Time between two attempts to seize a lock whose holder is about to say who it is, or to let go.
const PAUSE: Duration = Duration::from_millis(1);

impl LocalProvider {
    /// Ends a sandbox. Repeating it, or ending one that is not there, is a success.
    pub(super) async fn remove(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let folder = self.folder(id)?;
        let (groups, spec) = match Self::read(&folder) {
            Ok(Some(spec)) => (Groups::of(&spec.cgroups), Some(spec)),
            Ok(None) => return Ok(()),
            // It can be ended and removed without what is written about it.
            Err(_) => (self.hierarchies.groups(&folder), None),
        };
        let Some(dead) = self.kill(&folder, &groups).await? else { return Ok(()) };
        if let Some(spec) = spec {
            // What it was about to take over is not its own yet.
            self.give_back(&folder, &spec)?;
        }
        self.discard(folder, dead).await
    }

    /// Kills everything in a sandbox and returns its lock when it is dead; none if there is no such sandbox any
    /// more.
    pub(super) async fn kill(&self, folder: &Path, groups: &Groups) -> Result<Option<File>, ProviderError> {
        let failed = |error| unavailable("kill the sandbox", error);
        let dead = tokio::time::timeout(DEATH, kill(folder, groups)).await;
        let late = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not die in time"));
        let dead = dead.unwrap_or_else(late).map_err(failed)?;
        groups.remove().await;
        Ok(dead)
    }

    /// Removes the folder of a dead sandbox, whose lock is held until it has lost its name.
    pub(super) async fn discard(&self, folder: PathBuf, dead: File) -> Result<(), ProviderError> {
        let old = self.options.dir.join(OLD);
        let removed = tokio::task::spawn_blocking(move || {
            let buried = bury(&folder, &old);
            drop(dead);
            buried
        });
        let removed = removed.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        removed.map_err(|error| unavailable("remove the sandbox's folder", error))
    }
}

async fn kill(folder: &Path, groups: &Groups) -> io::Result<Option<File>> {
    loop {
        let keeper = match seize(Folder(folder))? {
            Seizure::Seized(lock) => return Ok(Some(lock)),
            Seizure::Gone => return Ok(None),
            Seizure::Kept(keeper) => keeper,
            Seizure::Busy => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let launcher = keeper.launcher;
        // The launcher's child ends only when everything in its process namespace has.
        let inside = children(launcher);
        let watches =
            inside.iter().chain([&launcher]).map(|pid| watch(*pid)).collect::<io::Result<Vec<_>>>()?;
        groups.kill();
        kill_below(launcher);
        // The older freezer keeps even the killed from dying.
        let _ = groups.thaw();
        // Otherwise it ends by itself, after whatever it had to clear up.
        if inside.is_empty() {
            send(launcher, Signal::KILL);
        }
        let ended = tokio::task::spawn_blocking(move || ended(watches.into_iter().flatten().collect()));
        ended.await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
    }
}

/// Something that becomes readable when a process has ended; none if it has.
fn watch(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid.cast_signed()) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(watch) => Ok(Some(watch)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits until these processes have ended, or for as long as that may take.
fn ended(watches: Vec<OwnedFd>) -> io::Result<()> {
    let deadline = Instant::now() + DEATH;
    for watch in watches {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&left)))?;
    }
    Ok(())
}

/// Takes a sandbox's folder away from its name, at once, and then removes it.
fn bury(folder: &Path, old: &Path) -> io::Result<()> {
    let moved = old.join(format!("{:016x}", rand::rng().random::<u64>()));
    match fs::rename(folder, &moved) {
        Ok(()) => discard::remove(&moved),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
