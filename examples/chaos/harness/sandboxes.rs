//! The sandboxes of a worker and the processes in them, as the host sees them.
//!
//! Every process is held by its pidfd and looked at again before it is sent anything: what was read about it may
//! be about another by then.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The folders of the sandboxes that are there.
pub(crate) fn folders(sandboxes: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(sandboxes).into_iter().flatten().flatten();
    let named = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let mut folders: Vec<_> = named.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// A process that is sure to be the one it was when it was found.
#[derive(Debug)]
pub(crate) struct Process {
    /// Its number on the host.
    pub(crate) pid: u32,
    handle: OwnedFd,
}

impl Process {
    fn open(pid: u32) -> Option<Self> {
        let handle = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, handle })
    }

    /// Sends it a signal; one that has ended needs none.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.handle, signal);
    }
}

/// A sandbox that lives.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Started by remuda; keeps the sandbox.
    pub(crate) launcher: Process,
    /// The hand, process 1 of the sandbox.
    pub(crate) hand: Process,
}

impl Sandbox {
    /// The sandbox in a folder, if it lives.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        let lock = fs::read_to_string(folder.join("lock")).ok()?;
        let mut pids = lock.split_whitespace().map_while(|pid| pid.parse().ok());
        let (launcher, hand) = (Process::open(pids.next()?)?, Process::open(pids.next()?)?);
        // The file outlives whom it names, so they have to be who it says.
        let is_launcher = fs::read_link(format!("/proc/{}/cwd", launcher.pid)).is_ok_and(|cwd| cwd == folder);
        (is_launcher && children(launcher.pid).contains(&hand.pid)).then_some(Self { launcher, hand })
    }

    /// What the tools have started, and shells.
    pub(crate) fn tools(&self) -> Vec<Process> {
        below(self.hand.pid).into_iter().filter_map(Process::open).collect()
    }
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The descendants of a process.
pub(crate) fn below(root: u32) -> Vec<u32> {
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        let children = children(pid);
        next.extend(&children);
        found.extend(children);
    }
    found
}
