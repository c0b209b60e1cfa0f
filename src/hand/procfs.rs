//! What `/proc` says about the processes around the hand.
//!
//! Two questions are asked of it: who belongs to a shell's session (to kill them, all or the latest), and which
//! descendants of the hand are alive (to know whether something still works in the background).
//!
//! # Not here
//! Waiting for children and their exit statuses ([`children`](super::children)).

use std::collections::HashSet;
use std::io;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

use crate::processes::{Identity, Process, State, all, below, descendants};

/// Passes over `/proc` that [`kill_session`] makes at most. Each pass ends what the last one left or what
/// was forked meanwhile; only a fork bomb needs more than three, and limits on processes are the
/// sandbox's to set.
const MAX_KILL_PASSES: usize = 100;

/// Kills every process of the session `leader` started, until none is left.
///
/// A process that moved to a session of its own (`setsid`) is not part of it any more and lives on.
pub(crate) fn kill_session(leader: Pid) -> io::Result<()> {
    let session = number(leader);
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
    session: u32,
    /// The moment, in the ticks in which `/proc` tells when a process was started.
    taken: u64,
    /// Those found. Ticks are 10 ms long, so the moment alone does not tell what came before it.
    found: HashSet<Identity>,
}

impl Jobs {
    /// Notes what is there of the session that the shell `leader` leads, besides that itself.
    pub(crate) fn of(leader: Pid) -> Self {
        let session = number(leader);
        let taken = now();
        // Few processes are below this one, but many may be on a host that it shares.
        let all = below(std::process::id());
        let is_job = |process: &&Process| process.session == session && process.pid != session;
        let found = all.iter().filter(is_job).map(Process::identity).collect();
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
            self.found.extend(descendants(all, job.pid).iter().map(Process::identity));
        }
        let mut others: Vec<Process> =
            all.iter().filter(|process| process.session == session).copied().collect();
        others.retain(|process| !self.found.contains(&process.identity()));
        others
    }
}

/// Kills every descendant of this process, until none is left.
pub(crate) fn kill_descendants() -> io::Result<()> {
    kill_all(|all| descendants(all, std::process::id()))
}

fn kill_all(mut chosen: impl FnMut(&[Process]) -> Vec<Process>) -> io::Result<()> {
    for _ in 0..MAX_KILL_PASSES {
        let mut left = chosen(&all()?);
        left.retain(|process| process.state != State::Dead);
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
    let Some(pid) = Pid::from_raw(process.pid.cast_signed()) else { return };
    // The descriptor is taken before the second look: from then on the number cannot change its meaning
    // under us. Whatever fails here has ended, or is not ours to end.
    if let Ok(handle) = pidfd_open(pid, PidfdFlags::empty())
        && Process::read(process.pid).is_some_and(|now| now.identity() == process.identity())
    {
        let _ = pidfd_send_signal(handle, Signal::KILL);
    }
}

/// Counts the live descendants of this process that work in the background: neither one of `shells`
/// itself, nor in the session or below a shell of `busy`, whose call is running.
pub(crate) fn background(shells: &[Pid], busy: &[Pid]) -> io::Result<u32> {
    let all = all()?;
    let busy: HashSet<u32> = busy.iter().copied().map(number).collect();
    let mut spared: HashSet<u32> = shells.iter().copied().map(number).collect();
    for shell in &busy {
        spared.extend(descendants(&all, *shell).iter().map(|process| process.pid));
    }
    let counted = descendants(&all, std::process::id()).into_iter().filter(|process| {
        process.state != State::Dead && !spared.contains(&process.pid) && !busy.contains(&process.session)
    });
    Ok(u32::try_from(counted.count()).unwrap_or(u32::MAX))
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
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
    fn jobs_and_what_they_start_are_spared_and_the_rest_is_not() {
        let process = |pid, parent, started| {
            let (session, state) = (2, State::Active);
            Process { pid, parent, session, state, started, is_exiting: false, ticks: 0 }
        };
        let shell = process(2, 1, 50);
        let stranger = Process { session: 9, ..process(20, 1, 200) };
        let mut jobs = Jobs { session: 2, taken: 100, found: [(3, 100)].into() };
        // 3 was there in the tick of the beginning and has a child since; 4 was missed; 6 and 8 are the call's.
        let (old, its_child) = (process(3, 2, 100), process(5, 3, 150));
        let all =
            [shell, old, process(4, 2, 99), its_child, process(6, 2, 100), process(8, 6, 160), stranger];
        let killed = |jobs: &mut Jobs, all: &[Process]| {
            let mut pids: Vec<u32> = jobs.others(all).iter().map(|process| process.pid).collect();
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
    fn this_process_has_memory() {
        let memory = memory();
        assert!(memory.private > 0 && memory.resident > memory.private);
    }
}
