//! The processes that `/proc` shows: which there are, how they are, and which come from which.
//!
//! The hand looks at those around it this way, and whoever keeps sandboxes at those in them. A number alone names a
//! process only while somebody holds on to it; with the moment of its start it does so for good.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::LazyLock;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// The kernel's flag of a process that is on its way out (`PF_EXITING`), which may take as long as its slowest
/// child in the same namespace.
const EXITING: u64 = 4;

/// Whether the kernel lists the children of each thread, which depends on how it was built. Without that the
/// whole host has to be looked through for them.
static HAS_LISTS: LazyLock<bool> = LazyLock::new(|| Path::new("/proc/thread-self/children").exists());

/// A process, as far as it is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    pub(crate) state: State,
    /// When it was started, in ticks since the host was: what tells two bearers of a number apart.
    pub(crate) started: u64,
    pub(crate) is_exiting: bool,
    /// Its own time, and that of all below it that have ended and been reaped.
    pub(crate) ticks: u64,
}

/// A process by its number and when it was started.
pub(crate) type Identity = (u32, u64);

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
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
    /// Looks at one; none if there is no such process (any more), or it is hidden from us.
    pub(crate) fn read(pid: u32) -> Option<Self> {
        // The name in it is whatever the program called itself, in any bytes.
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(pid, &String::from_utf8_lossy(&stat))
    }

    /// The name may hold spaces and parentheses, so the fields are counted from its end.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // As proc(5) numbers them: the state, the first one behind the name, is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let id = |number| u32::try_from(field(number)?).ok();
        let state = match *fields.first()? {
            "D" => State::Waiting,
            "T" | "t" => State::Stopped,
            "Z" | "X" => State::Dead,
            _ => State::Active,
        };
        Some(Self {
            pid,
            parent: id(4)?,
            session: id(6)?,
            state,
            started: field(22)?,
            is_exiting: field(9)? & EXITING != 0,
            ticks: field(14)? + field(15)? + field(16)? + field(17)?,
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        (self.pid, self.started)
    }
}

/// Whether a process is there, dead or alive, and is the one that was started at that moment.
pub(crate) fn is_there((pid, started): Identity) -> bool {
    Process::read(pid).map_or_else(|| is_taken(pid), |process| process.started == started)
}

/// Whether a number means a process. Where others' processes are hidden, that is all there is to know.
pub(crate) fn is_taken(pid: u32) -> bool {
    Pid::from_raw(pid.cast_signed()).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// Every process that can be seen. One that ends while the list is made is left out.
///
/// # Errors
/// If there is no list.
pub(crate) fn all() -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(pid.and_then(Process::read));
    }
    Ok(found)
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    if *HAS_LISTS {
        return listed_children(pid);
    }
    let all = all().unwrap_or_default();
    all.iter().filter(|process| process.parent == pid).map(|process| process.pid).collect()
}

/// The descendants of a process, parents before their children.
pub(crate) fn below(root: u32) -> Vec<Process> {
    if !*HAS_LISTS {
        return descendants(&all().unwrap_or_default(), root);
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        let below: Vec<Process> = listed_children(pid).into_iter().filter_map(Process::read).collect();
        next.extend(below.iter().map(|process| process.pid));
        found.extend(below);
    }
    found
}

/// The same, of the processes in a list.
pub(crate) fn descendants(all: &[Process], root: u32) -> Vec<Process> {
    let mut families: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for process in all {
        families.entry(process.parent).or_default().push(*process);
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        let below = families.remove(&pid).unwrap_or_default();
        next.extend(below.iter().map(|process| process.pid));
        found.extend(below);
    }
    found
}

/// The children of a process as the kernel lists them. A list that is read while a child ends may lack others.
fn listed_children(pid: u32) -> Vec<u32> {
    // Each thread has children of its own. A process that has ended meanwhile has none.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_of_any_bytes_hides_nothing() {
        let stat = "7 (a) S 1 \u{fffd}) T 3 7 6 0 -1 4194308 1 2 3 4 10 20 30 40 20 0 1 0 555 9 9";
        let expected = Process {
            pid: 7,
            parent: 3,
            session: 6,
            state: State::Stopped,
            started: 555,
            is_exiting: true,
            ticks: 100,
        };
        assert_eq!(Process::parse(7, stat), Some(expected));
        assert_eq!(Process::parse(7, "7 (x"), None);
    }

    #[test]
    fn a_number_and_a_moment_mean_one_process() {
        let own = Process::read(std::process::id()).unwrap();
        assert!(is_there(own.identity()));
        assert!(!is_there((own.pid, own.started + 1)), "its number was another's before");
        let mut child = Command::new("/bin/true").spawn().unwrap();
        child.wait().unwrap();
        assert!(!is_there((child.id(), own.started)));
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_nobody_else() {
        let (state, started) = (State::Active, 0);
        let process =
            |pid, parent| Process { pid, parent, session: 1, state, started, is_exiting: false, ticks: 0 };
        let all = [process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 9)];
        let found: BTreeSet<u32> = descendants(&all, 2).iter().map(|process| process.pid).collect();
        assert_eq!(found, [3, 4].into());
    }

    #[test]
    fn a_kernel_without_lists_of_children_is_asked_for_everything() {
        let script = "sleep 300 & (sleep 300 & exec sleep 300) & echo; wait";
        let mut shell = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        // The line says that everything was started; the inner one may take a moment longer.
        shell.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let pids = |found: Vec<Process>| found.iter().map(|process| process.pid).collect::<BTreeSet<_>>();
        while below(shell.id()).len() < 3 {
            std::thread::yield_now();
        }
        assert_eq!(pids(below(shell.id())), pids(descendants(&all().unwrap(), shell.id())));
        assert!(children(shell.id()).len() >= 2);
        assert!(pids(all().unwrap()).contains(&std::process::id()));
        for process in below(shell.id()) {
            let pid = Pid::from_raw(process.pid.cast_signed()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        shell.wait().unwrap();
    }
}
