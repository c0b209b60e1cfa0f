//! The one owner of the hand's child processes.
//!
//! The hand is process 1 of its sandbox, or makes itself the reaper of its subtree, so every orphan below
//! it becomes its child and must be waited for. That takes `waitpid(-1)`, which would also swallow the
//! status of a child someone else waits for; so all waiting is done here and nobody else ever does any.
//!
//! ```text
//! spawn ──lock──► fork+exec ► registered ──unlock──►            exit status
//!                                                                 ▲
//! SIGCHLD ─────lock──► waitpid(-1) until none ─ registered? ─ yes ┘
//!                                                    └─ no: an orphan, now gone
//! ```
//!
//! # Invariants
//! - Spawning and reaping exclude each other. A child that dies at once is therefore registered before it
//!   can be reaped, and std's own wait for a child whose exec failed finds it unreaped.
//! - A registered child has not been reaped, so its number still means it: [`Children::kill_group`] cannot
//!   hit a stranger.
//! - There is one [`Children`] in a process at a time; a second one is refused.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use process_wrap::std::{CommandWrap, ProcessSession};
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Whether this process has an owner of its children already.
static OWNED: AtomicBool = AtomicBool::new(false);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl From<WaitStatus> for Exit {
    fn from(status: WaitStatus) -> Self {
        match status.exit_status() {
            Some(code) => Self::Code(code),
            None => Self::Signal(status.terminating_signal().unwrap_or(0)),
        }
    }
}

/// A child of the hand, leader of a session and process group of its own.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number, valid until `exit` has spoken.
    pub(crate) pid: Pid,
    /// Holds how it ended once it has been reaped. Closed without a value: the owner of all children is gone.
    pub(crate) exit: watch::Receiver<Option<Exit>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Children {
    /// Children whose exit somebody waits for.
    registered: Mutex<HashMap<Pid, watch::Sender<Option<Exit>>>>,
}

/// Keeps the reaping going; dropping it ends it and lets another owner come.
#[derive(Debug)]
pub(crate) struct Reaping(AbortHandle);

impl Drop for Reaping {
    fn drop(&mut self) {
        self.0.abort();
        OWNED.store(false, Ordering::Release);
    }
}

impl Children {
    /// Takes over the children of this process, and the orphans among its descendants from now on.
    ///
    /// # Errors
    /// When the process has an owner of its children already, or signals cannot be received.
    pub(crate) fn own() -> io::Result<(Arc<Self>, Reaping)> {
        if OWNED.swap(true, Ordering::AcqRel) {
            return Err(io::Error::other("this process runs a hand already; one process can run one"));
        }
        let release = |error| {
            OWNED.store(false, Ordering::Release);
            error
        };
        let mut deaths = signal(SignalKind::child()).map_err(release)?;
        // Process 1 of a namespace is given its orphans anyway.
        if getpid() != Pid::INIT {
            set_child_subreaper(Some(getpid())).map_err(|error| release(error.into()))?;
        }
        let children = Arc::new(Self { registered: Mutex::default() });
        let owner = Arc::clone(&children);
        let task = tokio::spawn(async move {
            // Signals coalesce, so each one is taken to mean any number of deaths.
            while deaths.recv().await.is_some() {
                owner.reap();
            }
        });
        Ok((children, Reaping(task.abort_handle())))
    }

    /// Starts `command` as the leader of a session of its own.
    pub(crate) fn spawn(&self, command: Command) -> io::Result<Child> {
        let mut registered = self.registered.lock();
        let child = CommandWrap::from(command).wrap(ProcessSession).spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the child has no usable process number"))?;
        let (tell, exit) = watch::channel(None);
        registered.insert(pid, tell);
        Ok(Child { pid, exit })
    }

    /// Kills the process group that `leader` leads; nothing if the leader has been reaped.
    pub(crate) fn kill_group(&self, leader: Pid) {
        if self.registered.lock().contains_key(&leader) {
            // It may be dead and unreaped; then there is nobody to kill, which is what is wanted.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }

    /// Asks the process group that `leader` leads to end; nothing if the leader has been reaped.
    pub(crate) fn end_group(&self, leader: Pid) {
        if self.registered.lock().contains_key(&leader) {
            let _ = kill_process_group(leader, Signal::TERM);
        }
    }

    /// Kills one process; nothing if it has been reaped.
    pub(crate) fn kill(&self, child: Pid) {
        if self.registered.lock().contains_key(&child) {
            let _ = kill_process(child, Signal::KILL);
        }
    }

    fn reap(&self) {
        let mut registered = self.registered.lock();
        // The error at the end is ECHILD: there is no child at all.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(tell) = registered.remove(&pid) {
                tell.send_replace(Some(status.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Owning the children of the test process would take those of other tests from them, so this runs in a
    /// process of its own.
    #[test]
    fn exits_are_told_in_a_process_of_its_own() {
        let test = "hand::children::tests::no_exit_is_missed_however_early_and_no_other_owner_is_let_in";
        let mut command = Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", "--ignored", test]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "run by `exits_are_told_in_a_process_of_its_own`"]
    async fn no_exit_is_missed_however_early_and_no_other_owner_is_let_in() {
        let (children, reaping) = Children::own().unwrap();
        assert!(Children::own().is_err());
        let patience = Duration::from_secs(20);
        for code in (0..200).map(|number| number % 7) {
            let mut command = Command::new("/bin/bash");
            command.args(["-c", &format!("(exit 9) & exit {code}")]);
            let mut child = children.spawn(command).unwrap();
            // One whose start fails is waited for by std itself, while the reaper is at work.
            assert_eq!(
                children.spawn(Command::new("/does/not/exist")).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
            let exit = tokio::time::timeout(patience, child.exit.wait_for(Option::is_some)).await;
            assert_eq!(*exit.unwrap().unwrap(), Some(Exit::Code(code)));
        }
        let mut sleeping = Command::new("/bin/bash");
        sleeping.args(["-c", "sleep 300 & sleep 300"]);
        let mut child = children.spawn(sleeping).unwrap();
        children.kill_group(child.pid);
        let exit = tokio::time::timeout(patience, child.exit.wait_for(Option::is_some)).await;
        assert_eq!(*exit.unwrap().unwrap(), Some(Exit::Signal(9)));
        drop(reaping);
        assert!(Children::own().is_ok());
    }
}
