//! What `/proc` says about the processes around the hand.
//!
//! Two questions are asked of it: who belongs to a shell's session (to kill them, all or the latest), and which
//! descendants of the hand are alive (to know whether something still works in the background).
//!
//! # Not here
//! Waiting for children and their exit statuses ([`children`](super::children)).

use std::collections::{HashMap, HashSet};
use std::io;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

/// Passes over `/proc` that [`kill_session`] makes at most. Each pass ends what the last one left or what
/// was forked meanwhile; only a fork bomb needs more than three, and limits on processes are the
/// sandbox's to set.
const MAX_KILL_PASSES: usize = 100;

/// One line of `/proc/PID/stat`, as far as it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    zombie: bool,
    /// When it was started, in ticks since the machine was: what tells two bearers of a number apart.
    started: u64,
}

/// A process by its number and when it was started.
type Identity = (i32, u64);

impl Process {
    fn identity(self) -> Identity {
        (self.pid, self.started)
    }

    /// Reads the fields behind the command name, which may itself hold spaces and parentheses.
    fn parse(stat: &str) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(')')?;
        let pid = head.split_once(' ')?.0.parse().ok()?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        // The 22nd field of all; the session is the sixth.
        let started = fields.nth(15)?.parse().ok()?;
        Some(Self { pid, parent, session, zombie: matches!(state, "Z" | "X"), started })
    }

    fn read(pid: i32) -> Option<Self> {
        // The command name is whatever the program called itself, in any bytes.
        let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&stat))
    }
}

/// Every process that can be seen. One that ends while the list is made is left out.
fn processes() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            found.extend(Process::read(pid));
        }
    }
    Ok(found)
}

/// The descendants of a process, found by asking each for its children.
///
/// # Errors
/// When the kernel keeps no lists of children.
fn below(ancestor: i32) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(parent) = next.pop() {
        // Each thread has children of its own. A process that has ended meanwhile has none.
        for thread in std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
            let children = match std::fs::read_to_string(thread.path().join("children")) {
                Err(error) if parent == ancestor => return Err(error),
                children => children.unwrap_or_default(),
            };
            let children = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
            for child in children.filter_map(Process::read) {
                next.push(child.pid);
                found.push(child);
            }
        }
    }
    Ok(found)
}

/// Kills every process of the session `leader` started, until none is left.
///
/// A process that moved to a session of its own (`setsid`) is not part of it any more and lives on.
pub(crate) fn kill_session(leader: Pid) -> io::Result<()> {
    let session = leader.as_raw_nonzero().get();
    kill_all(|all| all.iter().filter(|process| process.session == session).copied().collect())
}

/// The present moment, in the ticks in which `/proc` tells when a process was started.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) =
        (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    let per_second = clock_ticks_per_second();
    seconds * per_second + nanoseconds * per_second / 1_000_000_000
}

/// What a shell had started at some moment.
#[derive(Debug)]
pub(crate) struct Jobs {
    session: i32,
    /// The moment, in the ticks in which `/proc` tells when a process was started.
    taken: u64,
    /// Those found. Ticks are 10 ms long, so the moment alone does not tell what came before it.
    found: HashSet<Identity>,
}

impl Jobs {
    /// Notes what is there of the session that the shell `leader` leads, besides that itself.
    pub(crate) fn of(leader: Pid) -> Self {
        let session = leader.as_raw_nonzero().get();
        let taken = now();
        // Few processes are below this one, but many may be on a host that it shares.
        let all = below(getpid().as_raw_nonzero().get()).or_else(|_| processes()).unwrap_or_default();
        let is_job = |process: &Process| process.session == session && process.pid != session;
        let found = all.into_iter().filter(is_job).map(Process::identity).collect();
        Self { session, taken, found }
    }

    /// Kills what is in the session now, until only these are left, and what they started since.
    ///
    /// What a job started before it ended itself cannot be told from the rest, and is killed.
    pub(crate) fn spare(mut self) -> io::Result<()> {
        kill_all(|all| self.others(all))
    }

    fn others(&mut self, all: &[Process]) -> Vec<Process> {
        let (session, taken) = (self.session, self.taken);
        let in_session = |process: &&Process| process.session == session && process.pid != session;
        // One that was missed because another ended while it was looked for.
        let older = all.iter().filter(in_session).filter(|process| process.started < taken);
        self.found.extend(older.map(|process| process.identity()));
        // Remembered from one look to the next: by then those above them may have ended.
        for job in all.iter().filter(|process| self.found.contains(&process.identity())).collect::<Vec<_>>() {
            self.found.extend(descendants(all, job.pid).into_iter().map(Process::identity));
        }
        let mut others: Vec<Process> =
            all.iter().filter(|process| process.session == session).copied().collect();
        others.retain(|process| !self.found.contains(&process.identity()));
        others
    }
}

/// Kills every descendant of this process, until none is left.
pub(crate) fn kill_descendants() -> io::Result<()> {
    let own = getpid().as_raw_nonzero().get();
    kill_all(|all| descendants(all, own))
}

fn kill_all(mut chosen: impl FnMut(&[Process]) -> Vec<Process>) -> io::Result<()> {
    for _ in 0..MAX_KILL_PASSES {
        let mut left = chosen(&processes()?);
        left.retain(|process| !process.zombie);
        if left.is_empty() {
            break;
        }
        for process in left {
            kill(process);
        }
    }
    Ok(())
}

/// Kills one process, unless its number has come to mean another one.
fn kill(process: Process) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    // The descriptor is taken before the second look: from then on the number cannot change its meaning
    // under us. Whatever fails here has ended, or is not ours to end.
    if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
        && Process::read(process.pid).is_some_and(|now| now.started == process.started)
    {
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}

fn descendants(all: &[Process], ancestor: i32) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(parent) = next.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            next.push(process.pid);
            found.push(process);
        }
    }
    found
}

/// Counts the live descendants of this process that work in the background: neither one of `shells`
/// itself, nor in the session or below a shell of `busy`, whose call is running.
pub(crate) fn background(shells: &[Pid], busy: &[Pid]) -> io::Result<u32> {
    let all = processes()?;
    let own = getpid().as_raw_nonzero().get();
    let busy: HashSet<i32> = busy.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    let mut spared: HashSet<i32> = shells.iter().map(|pid| pid.as_raw_nonzero().get()).collect();
    for shell in &busy {
        spared.extend(descendants(&all, *shell).iter().map(|process| process.pid));
    }
    let counted = descendants(&all, own).into_iter().filter(|process| {
        !process.zombie && !spared.contains(&process.pid) && !busy.contains(&process.session)
    });
    Ok(u32::try_from(counted.count()).unwrap_or(u32::MAX))
}

/// Memory of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// What is resident, in bytes; 0 where `/proc` does not tell.
    pub(crate) resident: u64,
    /// What of it is not shared with a file, in bytes.
    pub(crate) private: u64,
}

/// How much memory this process holds.
pub(crate) fn memory() -> Memory {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).map(|pages| pages.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    let size = rustix::param::page_size() as u64;
    Memory { resident: resident * size, private: resident.saturating_sub(shared) * size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_cannot_shift_the_fields() {
        let rest = "7 42 41 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1000";
        let expected = Process { pid: 42, parent: 7, session: 41, zombie: false, started: 9876 };
        assert_eq!(Process::parse(&format!("42 (a) Z 1 (b)) S {rest}")), Some(expected));
        let zombie = Process::parse(&format!("42 (a) Z {rest}")).unwrap();
        assert!(zombie.zombie);
        assert_eq!(Process::parse("42 a S"), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_nobody_else() {
        let process = |pid, parent| Process { pid, parent, session: 1, zombie: false, started: 0 };
        let all = [process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 9)];
        let mut found: Vec<i32> = descendants(&all, 2).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn jobs_and_what_they_start_are_spared_and_the_rest_is_not() {
        let process = |pid, parent, started| Process { pid, parent, session: 2, zombie: false, started };
        let shell = process(2, 1, 50);
        let stranger = Process { session: 9, ..process(20, 1, 200) };
        let mut jobs = Jobs { session: 2, taken: 100, found: [(3, 100)].into() };
        // 3 was there in the tick of the beginning and has a child since; 4 was missed; 6 and 8 are the call's.
        let (old, its_child) = (process(3, 2, 100), process(5, 3, 150));
        let all =
            [shell, old, process(4, 2, 99), its_child, process(6, 2, 100), process(8, 6, 160), stranger];
        let killed = |jobs: &mut Jobs, all: &[Process]| {
            let mut pids: Vec<i32> = jobs.others(all).iter().map(|process| process.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(killed(&mut jobs, &all), [2, 6, 8]);
        // The next look: the job has ended and left its child to somebody else.
        assert_eq!(killed(&mut jobs, &[process(5, 1, 150), process(8, 1, 160)]), [8]);
        // A number that was a job's means another process now.
        assert_eq!(killed(&mut jobs, &[process(3, 1, 170)]), [3]);
    }

    #[test]
    fn what_is_below_is_found_as_by_looking_at_everything() {
        let mut shell = std::process::Command::new("/bin/sh")
            .args(["-c", "sleep 300 & (sleep 300 & exec sleep 300) & echo; wait"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        io::Read::read_exact(&mut shell.stdout.take().unwrap(), &mut line).unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let found = || {
            let mut found: Vec<i32> = below(pid).unwrap().iter().map(|process| process.pid).collect();
            found.sort_unstable();
            found
        };
        while found().len() < 3 {
            std::thread::yield_now();
        }
        let mut expected: Vec<i32> =
            descendants(&processes().unwrap(), pid).iter().map(|process| process.pid).collect();
        expected.sort_unstable();
        assert_eq!(found(), expected);
        expected.into_iter().filter_map(Process::read).for_each(kill);
        shell.wait().unwrap();
    }

    #[test]
    fn this_process_is_seen() {
        let own = getpid().as_raw_nonzero().get();
        assert!(processes().unwrap().iter().any(|process| process.pid == own));
        let memory = memory();
        assert!(memory.private > 0 && memory.resident > memory.private);
    }
}
