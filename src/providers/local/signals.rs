//! Standing by where no control group can freeze: by stopping every process with a signal.
//!
//! ```text
//! running ──note who is stopped already──▶ standing by ──continue all the others, drop the note──▶ running
//! ```
//!
//! The note is a file in the sandbox's folder, so that whoever resumes it, perhaps another remuda, leaves alone
//! what the sandbox's own processes had stopped. It is written before the first signal and removed after the
//! last, so a process can only be left stopped while there is a note.
//!
//! # What this cannot do
//! - A process sees that it was continued, and its parent that it was stopped if it asks for that while it
//!   runs. Parents are therefore stopped before their children, and continued after them.
//! - A process that another one stops while the sandbox is being stopped is continued with the rest.
//! - Processes of the sandbox's user can undo it from outside the sandbox, which none of ours is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::processes::send;
use crate::processes::{Identity, Process, State, below};

/// How long a tree may take to stop. It takes well under a millisecond unless a process is deep in the kernel,
/// or forks without end.
const STOP: Duration = Duration::from_secs(5);

/// Time between two looks at processes that are to stop.
const PAUSE: Duration = Duration::from_micros(200);

/// Stops everything below a process, but not itself, and returns when it has stopped. Does nothing if that is no longer
/// wanted when its turn comes: others may have had theirs since it was.
///
/// # Errors
/// If that cannot be noted, or it does not stop in time; it then goes on.
pub(super) fn stop(root: u32, note: &Path, wanted: &dyn Fn() -> bool) -> io::Result<()> {
    let _turn = turn(note)?;
    if !wanted() {
        return Ok(());
    }
    let until = Instant::now() + STOP;
    remember(note, &below(root))?;
    let (mut signalled, mut settled) = (BTreeSet::new(), None);
    loop {
        let tree = below(root);
        let mut is_still = true;
        for process in &tree {
            match process.state {
                State::Stopped | State::Dead => continue,
                // It stops as soon as it gets to do anything, which for a parent that waits for a stopped
                // child is never.
                State::Waiting if signalled.contains(&process.identity()) => continue,
                State::Active | State::Waiting => {}
            }
            is_still = false;
            send(process.pid, Signal::STOP);
            signalled.insert(process.identity());
        }
        let tree: BTreeSet<Identity> = tree.iter().map(Process::identity).collect();
        // A child that was forked before its parent stopped may have been missed by the look that saw the
        // parent stopped, but not by the one after it.
        if is_still && settled.as_ref() == Some(&tree) {
            return Ok(());
        }
        if Instant::now() > until {
            continue_all(root, note)?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its processes did not stop in time"));
        }
        if !is_still {
            std::thread::sleep(PAUSE);
        }
        settled = is_still.then_some(tree);
    }
}

/// Lets everything below a process go on, except what was not stopped by us, if that is still wanted.
///
/// # Errors
/// If the note cannot be read or removed.
pub(super) fn go_on(root: u32, note: &Path, wanted: &dyn Fn() -> bool) -> io::Result<()> {
    let _turn = turn(note)?;
    if wanted() { continue_all(root, note) } else { Ok(()) }
}

fn continue_all(root: u32, note: &Path) -> io::Result<()> {
    let Some(stopped) = noted(note)? else { return Ok(()) };
    for process in below(root).iter().rev().filter(|process| !stopped.contains(&process.identity())) {
        send(process.pid, Signal::CONT);
    }
    fs::remove_file(note)
}

/// Waits until nobody else stops or continues the sandbox. One who was told to may be at it although nobody
/// waits for the end of it any more.
fn turn(note: &Path) -> io::Result<File> {
    let folder = File::open(note.parent().unwrap_or(note))?;
    rustix::io::retry_on_intr(|| flock(&folder, FlockOperation::LockExclusive))?;
    Ok(folder)
}

/// Notes which processes are stopped already.
fn remember(note: &Path, tree: &[Process]) -> io::Result<()> {
    let stopped = tree.iter().filter(|process| process.state == State::Stopped).map(Process::identity);
    let stopped: BTreeSet<Identity> = match noted(note)? {
        // It stands by already, or somebody died on the way: who is stopped now may be so because of us.
        Some(noted) => stopped.filter(|process| noted.contains(process)).collect(),
        None => stopped.collect(),
    };
    let new = note.with_extension("new");
    fs::write(&new, serde_json::to_vec(&stopped)?)?;
    fs::rename(new, note)
}

/// What was noted; none if there is no note, so that nothing was stopped by us.
fn noted(note: &Path) -> io::Result<Option<BTreeSet<Identity>>> {
    match fs::read(note) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::processes::children;

    /// A shell with children of which some fork all the time, and one that leaves its session.
    fn busy() -> Child {
        let script = "(while :; do /bin/true; done) & setsid sh -c 'while :; do /bin/true; done' & wait";
        let shell = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        // Its own two, and not one and what that has started: the shell itself is not stopped, so the second one
        // could still come after the rest has been.
        while children(shell.id()).len() < 2 {
            std::thread::yield_now();
        }
        shell
    }

    fn end(mut shell: Child) {
        super::super::processes::kill_below(shell.id());
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn a_tree_that_forks_all_the_time_is_stopped_whole() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("stopped");
        let shell = busy();
        for _ in 0..20 {
            stop(shell.id(), &note, &|| true).unwrap();
            let before: BTreeSet<Identity> = below(shell.id()).iter().map(Process::identity).collect();
            std::thread::sleep(Duration::from_millis(5));
            let tree = below(shell.id());
            assert!(tree.iter().all(|process| process.state != State::Active), "{tree:?}");
            assert_eq!(tree.iter().map(Process::identity).collect::<BTreeSet<_>>(), before);
            go_on(shell.id(), &note, &|| true).unwrap();
        }
        end(shell);
    }

    /// Whoever stops waiting for a standby may resume the sandbox before the standby has had its turn.
    #[test]
    fn what_nobody_wants_any_more_is_not_done() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("stopped");
        let shell = busy();
        stop(shell.id(), &note, &|| false).unwrap();
        assert!(!note.exists());
        stop(shell.id(), &note, &|| true).unwrap();
        go_on(shell.id(), &note, &|| false).unwrap();
        assert!(note.exists());
        go_on(shell.id(), &note, &|| true).unwrap();
        end(shell);
    }

    #[test]
    fn what_was_stopped_before_stays_so() {
        let dir = tempfile::tempdir().unwrap();
        let note = dir.path().join("stopped");
        let shell = Command::new("/bin/sh").args(["-c", "sleep 300 & sleep 300 & wait"]).spawn().unwrap();
        while below(shell.id()).len() < 2 {
            std::thread::yield_now();
        }
        let active = || {
            let tree = below(shell.id()).into_iter();
            tree.filter(|process| process.state == State::Active)
                .map(|process| process.pid)
                .collect::<Vec<_>>()
        };
        let all = active();
        go_on(shell.id(), &note, &|| true).unwrap();
        send(all[0], Signal::STOP);
        while active().len() == 2 {
            std::thread::yield_now();
        }
        go_on(shell.id(), &note, &|| true).unwrap();
        assert_eq!(active(), [all[1]], "nothing was stopped by us, so nothing is continued");
        stop(shell.id(), &note, &|| true).unwrap();
        stop(shell.id(), &note, &|| true).unwrap();
        assert_eq!(active(), Vec::<u32>::new());
        go_on(shell.id(), &note, &|| true).unwrap();
        while active() != [all[1]] {
            std::thread::yield_now();
        }
        assert!(!note.exists());

        // Whoever resumed it died before the note was removed, and the sandbox went on.
        stop(shell.id(), &note, &|| true).unwrap();
        all.iter().for_each(|pid| send(*pid, Signal::CONT));
        while active().len() < 2 {
            std::thread::yield_now();
        }
        stop(shell.id(), &note, &|| true).unwrap();
        go_on(shell.id(), &note, &|| true).unwrap();
        while active().len() < 2 {
            std::thread::yield_now();
        }
        end(shell);
    }
}
