//! The processes of a sandbox, seen from the host through `/proc`: which there are, how they are, what they use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// How often a tree is looked through for processes that came up while it was being killed. Each pass kills
/// everything found, so a tree that still grows after that many is bound by its process limit.
const PASSES: u32 = 64;

/// The kernel's flag of a process that is on its way out (`PF_EXITING`), which may take as long as its slowest
/// child in the same namespace.
const EXITING: u64 = 4;

/// Whether the kernel lists the children of each thread, which depends on how it was built. Without that the
/// whole host has to be looked through for them.
static HAS_LISTS: LazyLock<bool> = LazyLock::new(|| Path::new("/proc/thread-self/children").exists());

/// A process, as far as it is needed here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) state: State,
    /// When it was started, in ticks since the host was: what tells two bearers of a number apart.
    pub(super) started: u64,
    parent: u32,
    is_exiting: bool,
    /// Its own time, and that of all below it that have ended and been reaped.
    ticks: u64,
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It runs, or waits for something that a signal interrupts.
    Active,
    /// It waits for something that no signal interrupts: a disk, or the child that it lent its memory to.
    Waiting,
    /// A signal or a debugger stopped it.
    Stopped,
    /// It has ended.
    Dead,
}

impl Process {
    /// Looks at one; none if there is no such process (any more).
    fn read(pid: u32) -> Option<Self> {
        // The name in it is whatever the program called itself, in any bytes.
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// The name may hold spaces and parentheses, so the fields are counted from its end.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // As proc(5) numbers them: the state, the first one behind the name, is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let state = match *fields.first()? {
            "D" => State::Waiting,
            "T" | "t" => State::Stopped,
            "Z" | "X" => State::Dead,
            _ => State::Active,
        };
        Some(Self {
            pid,
            state,
            started: field(22)?,
            parent: u32::try_from(field(4)?).ok()?,
            is_exiting: field(9)? & EXITING != 0,
            ticks: field(14)? + field(15)? + field(16)? + field(17)?,
        })
    }
}

/// Whether a process has ended, or cannot do anything but end. It must be known not to have been reaped, or
/// the number might be another's.
pub(super) fn is_dead(pid: u32) -> bool {
    match Process::read(pid) {
        Some(process) => process.is_exiting || process.state == State::Dead,
        // Where others' processes are hidden, it may be there all the same.
        None => Pid::from_raw(pid.cast_signed())
            .is_none_or(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH)),
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

/// The children of a process.
pub(super) fn children(pid: u32) -> Vec<u32> {
    if *HAS_LISTS {
        return listed_children(pid);
    }
    families().remove(&pid).unwrap_or_default().iter().map(|process| process.pid).collect()
}

/// The descendants of a process, parents before their children.
pub(super) fn below(root: u32) -> Vec<Process> {
    let mut families = if *HAS_LISTS { BTreeMap::new() } else { families() };
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let below: Vec<Process> = if *HAS_LISTS {
            listed_children(pid).into_iter().filter_map(Process::read).collect()
        } else {
            families.remove(&pid).unwrap_or_default()
        };
        next.extend(below.iter().map(|process| process.pid));
        found.extend(below);
    }
    found
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

/// The children of a process as the kernel lists them. A list that is read while a child ends may lack others.
fn listed_children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Every process of the host under its parent.
fn families() -> BTreeMap<u32, Vec<Process>> {
    let mut families: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for process in pids.filter_map(Process::read) {
        families.entry(process.parent).or_default().push(process);
    }
    families
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
    fn a_kernel_without_lists_of_children_is_asked_for_everything() {
        let mut shell = family();
        let listed = listed_children(shell.id());
        let searched = families().remove(&shell.id()).unwrap();
        let searched: Vec<u32> = searched.iter().map(|process| process.pid).collect();
        assert_eq!(BTreeSet::from_iter(listed), BTreeSet::from_iter(searched));
        kill_below(shell.id());
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn a_name_of_any_bytes_hides_nothing() {
        let stat = "7 (a) S 1 \u{fffd}) T 3 7 7 0 -1 4194308 1 2 3 4 10 20 30 40 20 0 1 0 555 9 9";
        let process = Process::parse(7, stat).unwrap();
        let expected =
            Process { pid: 7, state: State::Stopped, started: 555, parent: 3, is_exiting: true, ticks: 100 };
        assert_eq!(process, expected);
        assert_eq!(Process::parse(7, "7 (x"), None);
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
