//! The processes of a sandbox, seen from the host: ending them, and what they use.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{Process, State, below, is_taken};

/// How often a tree is looked through for processes that came up while it was being killed. Each pass kills
/// everything found, so a tree that still grows after that many is bound by its process limit.
const PASSES: u32 = 64;

/// Whether a process has ended, or cannot do anything but end. It must be known not to have been reaped, or
/// the number might be another's.
pub(super) fn is_dead(pid: u32) -> bool {
    match Process::read(pid) {
        Some(process) => process.is_exiting || process.state == State::Dead,
        None => !is_taken(pid),
    }
}

/// Kills everything below a process, but not itself.
pub(super) fn kill_below(root: u32) {
    let mut killed = BTreeSet::new();
    for _ in 0..PASSES {
        let fresh: Vec<_> = below(root).into_iter().filter(|process| killed.insert(process.pid)).collect();
        if fresh.is_empty() {
            return;
        }
        fresh.iter().for_each(|process| send(process.pid, Signal::KILL));
    }
}

/// Sends a signal to one process; one that is gone is a success.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// Processor time of a process and everything that ever ran below it.
pub(super) fn cpu(root: u32) -> Duration {
    let ticks: u64 = Process::read(root).iter().chain(&below(root)).map(|process| process.ticks).sum();
    Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second()).unwrap_or(100)
}

/// Memory that a process and everything below it hold, in bytes. What several share counts once, by parts,
/// where the kernel tells that.
pub(super) fn memory_bytes(root: u32) -> u64 {
    let pids = below(root).into_iter().map(|process| process.pid).chain([root]);
    pids.filter_map(|pid| proportional(pid).or_else(|| resident(pid))).sum()
}

fn proportional(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

fn resident(pid: u32) -> Option<u64> {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    Some(pages.split(' ').nth(1)?.parse::<u64>().ok()? * page_size() as u64)
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn family() -> Child {
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
        shell
    }

    #[test]
    fn finds_and_kills_what_a_process_started() {
        let mut shell = family();
        assert!(below(std::process::id()).iter().any(|process| process.pid == shell.id()));
        assert!(!is_dead(shell.id()));
        kill_below(shell.id());
        while below(shell.id()).iter().any(|process| process.state != State::Dead) {
            std::thread::yield_now();
        }
        shell.kill().unwrap();
        while !is_dead(shell.id()) {
            std::thread::yield_now();
        }
        shell.wait().unwrap();
        assert_eq!(below(shell.id()), []);
    }

    #[test]
    fn a_process_uses_time_and_memory() {
        let me = std::process::id();
        let before = cpu(me);
        while cpu(me) == before {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
        assert!(memory_bytes(me) > 1 << 20);
    }
}
