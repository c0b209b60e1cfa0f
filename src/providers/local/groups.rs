//! The control groups of one sandbox: how it is frozen, killed and measured as a whole.
//!
//! A sandbox may be in any number of them, in hierarchies of both generations. Each question is put to
//! whichever of them can answer it; one that none can answer is left to [`processes`](super::processes) and
//! [`signals`](super::signals).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::processes::send;

/// How long a group may take to freeze. It takes well under a millisecond unless a process is deep in the
/// kernel.
const FREEZE: Duration = Duration::from_secs(5);

/// How long a group is asked again and again whether it is frozen: most are by then.
const ASK_OFTEN: Duration = Duration::from_micros(200);

/// Time between two questions after that. The unified hierarchy would tell by itself, but up to 10 ms late
/// (`CGROUP_FILE_NOTIFY_MIN_INTV`).
const ASK_SELDOM: Duration = Duration::from_millis(1);

/// How long a group may take to become empty when everything in it was killed.
const EMPTY: Duration = Duration::from_secs(2);

/// The groups of one sandbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(Vec<PathBuf>);

impl Groups {
    /// The groups that a sandbox was put in.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        Self(paths.to_vec())
    }

    /// Adds one.
    pub(super) fn push(&mut self, group: PathBuf) {
        self.0.push(group);
    }

    /// Where they are.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.clone()
    }

    /// Stops everything in the sandbox, and returns when it has stopped. False if no group can do that.
    pub(super) async fn freeze(&self) -> io::Result<bool> {
        let Some(freezer) = self.freezer() else { return Ok(false) };
        let begun = Instant::now();
        freezer.set(Frozen::Yes)?;
        while !freezer.is_frozen()? {
            match begun.elapsed() {
                elapsed if elapsed < ASK_OFTEN => tokio::task::yield_now().await,
                elapsed if elapsed < FREEZE => {
                    tokio::time::sleep(ASK_SELDOM).await;
                    // The older freezer overlooks a process that was just lending its memory to a new child
                    // (`vfork`), and finds it when it is told again.
                    freezer.set(Frozen::Yes)?;
                }
                _ => {
                    let _ = freezer.set(Frozen::No);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the cgroup did not freeze in time"));
                }
            }
        }
        Ok(true)
    }

    /// Lets everything go on. False if no group can do that.
    pub(super) fn thaw(&self) -> io::Result<bool> {
        self.freezer().map_or(Ok(false), |freezer| freezer.set(Frozen::No).map(|()| true))
    }

    /// Whether everything in the sandbox stands still; none if no group can tell.
    pub(super) fn is_frozen(&self) -> Option<bool> {
        self.freezer()?.is_frozen().ok()
    }

    /// Kills everything in them at once, if the kernel can do that by itself.
    pub(super) fn kill(&self) {
        for group in &self.0 {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
    }

    /// Kills the processes in them one by one. One that was forked meanwhile may be left.
    pub(super) fn kill_each(&self) {
        for group in &self.0 {
            let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            processes.lines().filter_map(|pid| pid.parse().ok()).for_each(|pid| send(pid, Signal::KILL));
        }
    }

    /// Removes them once they are empty, killing whatever is left in them. What has been killed may take a
    /// moment to leave its group; a group that is still not empty after a while is left as it is.
    pub(super) async fn remove(&self) {
        let emptied = async {
            while !self.try_remove() {
                self.kill_each();
                let _ = self.thaw();
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = tokio::time::timeout(EMPTY, emptied).await;
    }

    /// Removes those that are empty. Whether none is left.
    pub(super) fn try_remove(&self) -> bool {
        let is_busy = |group: &PathBuf| {
            fs::remove_dir(group).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
        };
        self.0.iter().filter(|group| is_busy(group)).count() == 0
    }

    /// Processor time of everything that ever ran in them.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let unified = |group: &PathBuf| {
            let stat = fs::read_to_string(group.join("cpu.stat")).ok()?;
            field(&stat, "usage_usec").map(Duration::from_micros)
        };
        let older = |group: &PathBuf| number(&group.join("cpuacct.usage")).map(Duration::from_nanos);
        self.0.iter().find_map(|group| unified(group).or_else(|| older(group)))
    }

    /// Memory they hold, in bytes, without copies of files, which the kernel drops when it needs the room. What
    /// lies in a memory file system has no other place, and counts.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let held = |group: &PathBuf, current: &str, [cache, shared]: [&str; 2]| {
            let current = number(&group.join(current))?;
            let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
            let field = |name| field(&stat, name).unwrap_or_default();
            Some(current.saturating_sub(field(cache).saturating_sub(field(shared))))
        };
        self.0.iter().find_map(|group| {
            held(group, "memory.current", ["file", "shmem"])
                .or_else(|| held(group, "memory.usage_in_bytes", ["total_cache", "total_shmem"]))
        })
    }

    fn freezer(&self) -> Option<Freezer<'_>> {
        let unified = self.0.iter().find(|group| group.join("cgroup.freeze").exists());
        let older = || self.0.iter().find(|group| group.join("freezer.state").exists());
        unified.map(|group| Freezer::Unified(group)).or_else(|| older().map(|group| Freezer::Older(group)))
    }
}

/// A file that holds one number.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// A number in a file that holds one with its name on each line.
fn field(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Frozen {
    Yes,
    No,
}

enum Freezer<'a> {
    Unified(&'a Path),
    Older(&'a Path),
}

impl Freezer<'_> {
    fn set(&self, frozen: Frozen) -> io::Result<()> {
        match (self, frozen) {
            (Self::Unified(group), Frozen::Yes) => fs::write(group.join("cgroup.freeze"), "1"),
            (Self::Unified(group), Frozen::No) => fs::write(group.join("cgroup.freeze"), "0"),
            (Self::Older(group), Frozen::Yes) => fs::write(group.join("freezer.state"), "FROZEN"),
            (Self::Older(group), Frozen::No) => fs::write(group.join("freezer.state"), "THAWED"),
        }
    }

    fn is_frozen(&self) -> io::Result<bool> {
        match self {
            Self::Unified(group) => {
                let events = fs::read_to_string(group.join("cgroup.events"))?;
                Ok(field(&events, "frozen") == Some(1))
            }
            // Asking is what makes it look whether it is done.
            Self::Older(group) => Ok(fs::read_to_string(group.join("freezer.state"))?.trim() == "FROZEN"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_group_has_a_figure_tells_it() {
        let dir = tempfile::tempdir().unwrap();
        let [unified, older, time] = ["unified", "older", "time"].map(|name| dir.path().join(name));
        let write = |group: &Path, files: &[(&str, &str)]| {
            fs::create_dir(group).unwrap();
            files.iter().for_each(|(name, text)| fs::write(group.join(name), text).unwrap());
        };
        write(&unified, &[("cpu.stat", "usage_usec 1500\nuser_usec 1000\n")]);
        let stat = "cache 1\ntotal_cache 600\ntotal_rss 1\ntotal_shmem 100\n";
        write(&older, &[("memory.usage_in_bytes", "4096\n"), ("memory.stat", stat)]);
        write(&time, &[("cpu.stat", "nr_periods 0\n"), ("cpuacct.usage", "2000000\n")]);

        let groups = Groups::of(&[unified.clone(), older, time.clone()]);
        assert_eq!(groups.cpu(), Some(Duration::from_micros(1500)));
        assert_eq!(groups.memory_bytes(), Some(4096 - 500));
        assert_eq!(Groups::of(&[time]).cpu(), Some(Duration::from_millis(2)));
        assert_eq!(Groups::default().cpu(), None);

        fs::write(unified.join("memory.current"), "8192\n").unwrap();
        fs::write(unified.join("memory.stat"), "anon 1\nfile 5000\nshmem 1000\n").unwrap();
        assert_eq!(groups.memory_bytes(), Some(8192 - 4000));
    }
}
