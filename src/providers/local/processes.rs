//! The processes of a sandbox, seen from the host: to stop, continue or kill them all where no cgroup can.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// How often a tree is looked through for processes that came up while it was being signalled. Each pass
/// signals everything found, so a tree that still grows after that many is bound by its process limit.
const PASSES: u32 = 64;

/// Sends a signal to everything below a process, but not to itself.
pub(super) fn signal_below(root: u32, signal: Signal) {
    let mut signalled = BTreeSet::new();
    for _ in 0..PASSES {
        let fresh: Vec<u32> = below(root).into_iter().filter(|pid| signalled.insert(*pid)).collect();
        if fresh.is_empty() {
            return;
        }
        for pid in fresh {
            send(pid, signal);
        }
    }
}

/// Sends a signal to one process; one that is gone is a success.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The children of a process.
pub(super) fn children(pid: u32) -> Vec<u32> {
    families().remove(&pid).unwrap_or_default()
}

/// Every process of the host under its parent.
fn families() -> BTreeMap<u32, Vec<u32>> {
    let mut families: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = parent(pid) {
            families.entry(parent).or_default().push(pid);
        }
    }
    families
}

/// The descendants of a process, parents first.
fn below(root: u32) -> Vec<u32> {
    let mut families = families();
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let below = families.remove(&pid).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
}

/// The parent of a process; the name in front of it may hold anything, so the fields are counted from its end.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn finds_and_kills_what_a_process_started() {
        let script = "sleep 300 & (sleep 300 & exec sleep 300) & echo; wait";
        let mut shell = Command::new("/bin/sh")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // The line says that everything was started; the inner one may take a moment longer.
        let mut line = [0];
        std::io::Read::read_exact(&mut shell.stdout.take().unwrap(), &mut line).unwrap();
        while below(shell.id()).len() < 3 {
            std::thread::yield_now();
        }
        assert!(below(std::process::id()).contains(&shell.id()));
        signal_below(shell.id(), Signal::KILL);
        shell.wait().unwrap();
        assert_eq!(below(shell.id()), Vec::<u32>::new());
    }
}
