//! Control groups, where they can be had: limits for a sandbox as a whole, and the freezer.
//!
//! Two generations of them are in use, often side by side. Each sandbox gets a group in the unified hierarchy
//! if we may make one there (freezing and killing need no controller), and one in each of the older
//! hierarchies that we can write and that has something to offer. A host that allows none of that has
//! sandboxes all the same: limits then hold for single processes, and freezing is done by signals.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::launch::Limits;

/// The older controllers that are of use.
const CONTROLLERS: [&str; 3] = ["freezer", "memory", "pids"];

/// How long a group may take to freeze. It takes well under a millisecond unless a process is deep in the
/// kernel.
const FREEZE: Duration = Duration::from_secs(5);

/// Processes and threads that the launcher and the hand may have besides those of the tools.
const HAND: u64 = 64;

/// How long a group may take to become empty when everything in it was killed.
const EMPTY: Duration = Duration::from_secs(2);

/// Where groups can be made.
#[derive(Clone, Debug, Default)]
pub(super) struct Hierarchies {
    /// Our folder in each hierarchy that we can use.
    parents: Vec<PathBuf>,
}

/// The groups of one sandbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(Vec<PathBuf>);

impl Hierarchies {
    /// Finds out where groups for `owner` can be made, and makes a folder for them there.
    pub(super) fn find(owner: &str) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (mounts, membership) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let parents = bases(&mounts, &membership).into_iter().filter_map(|base| {
            let parent = base.join(format!("remuda-{owner}"));
            // Whether we may is most surely found out by doing it.
            fs::create_dir_all(&parent).ok()?;
            for level in [&base, &parent] {
                // In the unified hierarchy a group has the controllers that its parent passes down.
                for controller in ["+memory", "+pids"] {
                    let _ = fs::write(level.join("cgroup.subtree_control"), controller);
                }
            }
            Some(parent)
        });
        Self { parents: parents.collect() }
    }

    /// Removes our folders where they are empty; they are made again when they are needed.
    pub(super) fn remove(&self) {
        for parent in &self.parents {
            let _ = fs::remove_dir(parent);
        }
    }

    /// What they offer, for people.
    pub(super) fn describe(&self) -> String {
        if self.parents.is_empty() {
            return "no cgroup can be made here: memory is limited per process, and freezing is done by signals"
                .to_owned();
        }
        let paths = self.parents.iter().map(|parent| parent.display().to_string());
        paths.collect::<Vec<_>>().join(", ")
    }

    /// Makes a sandbox's groups and sets its limits. What a group does not have is left out.
    pub(super) fn create(&self, name: &str, limits: &Limits) -> io::Result<Groups> {
        let mut groups = Groups::default();
        for parent in &self.parents {
            let group = parent.join(name);
            match fs::create_dir_all(parent).and_then(|()| fs::create_dir(&group)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    groups.try_remove();
                    return Err(error);
                }
            }
            for (file, value) in [
                ("memory.max", limits.memory_bytes),
                ("memory.swap.max", 0),
                ("memory.limit_in_bytes", limits.memory_bytes),
                // The hand's own threads come on top.
                ("pids.max", limits.processes + HAND),
            ] {
                let file = group.join(file);
                if file.exists() {
                    let _ = fs::write(file, value.to_string());
                }
            }
            groups.0.push(group);
        }
        Ok(groups)
    }
}

impl Groups {
    /// The groups that a sandbox was put in.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        Self(paths.to_vec())
    }

    /// Where they are.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.0.clone()
    }

    /// Stops everything in the sandbox, and returns when it has stopped. False if no group can do that.
    pub(super) async fn freeze(&self) -> io::Result<bool> {
        let Some(freezer) = self.freezer() else { return Ok(false) };
        freezer.set(Frozen::Yes)?;
        let settled = async {
            while !freezer.is_frozen()? {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(true)
        };
        tokio::time::timeout(FREEZE, settled).await.unwrap_or_else(|_| {
            let _ = freezer.set(Frozen::No);
            Err(io::Error::new(io::ErrorKind::TimedOut, "the cgroup did not freeze in time"))
        })
    }

    /// Lets everything go on. False if no group can do that.
    pub(super) fn thaw(&self) -> io::Result<bool> {
        self.freezer().map_or(Ok(false), |freezer| freezer.set(Frozen::No).map(|()| true))
    }

    /// Kills everything in them, if the kernel can do that by itself.
    pub(super) fn kill(&self) {
        for group in &self.0 {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        // The older freezer keeps even the killed from dying.
        let _ = self.thaw();
    }

    /// Removes them once they are empty. What has been killed may take a moment to leave its group; one that
    /// is still not empty after that is left as it is.
    pub(super) async fn remove(&self) {
        let emptied = async {
            while !self.try_remove() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(EMPTY, emptied).await;
    }

    /// Removes those that are empty. Whether none is left.
    fn try_remove(&self) -> bool {
        let is_busy = |group: &PathBuf| {
            fs::remove_dir(group).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
        };
        self.0.iter().filter(|group| is_busy(group)).count() == 0
    }

    fn freezer(&self) -> Option<Freezer<'_>> {
        let unified = self.0.iter().find(|group| group.join("cgroup.freeze").exists());
        let older = || self.0.iter().find(|group| group.join("freezer.state").exists());
        unified.map(|group| Freezer::Unified(group)).or_else(|| older().map(|group| Freezer::Older(group)))
    }
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
                Ok(events.lines().any(|line| line == "frozen 1"))
            }
            Self::Older(group) => Ok(fs::read_to_string(group.join("freezer.state"))?.trim() == "FROZEN"),
        }
    }
}

/// Where in each usable hierarchy our own group is.
fn bases(mountinfo: &str, membership: &str) -> Vec<PathBuf> {
    let own = |controller: &str| {
        membership.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let found = if controller.is_empty() {
                names.is_empty()
            } else {
                names.split(',').any(|n| n == controller)
            };
            found.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ');
            let (root, point) = (fields.nth(3)?, fields.next()?);
            let (kind, options) = (after.split(' ').next()?, after.rsplit(' ').next()?);
            let controller = match kind {
                "cgroup2" => "",
                "cgroup" => {
                    *CONTROLLERS.iter().find(|name| options.split(',').any(|option| option == **name))?
                }
                _ => return None,
            };
            let own = own(controller)?;
            // In a container the hierarchy is mounted from our own group on.
            let below = Path::new(&own).strip_prefix(root.trim_start_matches('/')).unwrap_or(Path::new(""));
            Some(Path::new(point).join(below))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str, membership: &str) -> Vec<String> {
        bases(mountinfo, membership).iter().map(|base| base.display().to_string()).collect()
    }

    #[test]
    fn a_host_with_both_generations() {
        let mountinfo = "\
            30 29 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            31 29 0:27 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n\
            32 29 0:28 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
            33 29 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
            34 29 0:30 / /tmp rw,relatime - tmpfs tmpfs rw\n";
        let membership = "6:freezer:/\n4:memory:/a/b\n0::/\n";
        let expected = ["/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/freezer/", "/sys/fs/cgroup/unified/"];
        assert_eq!(found(mountinfo, membership), expected);
    }

    #[test]
    fn a_container_that_sees_its_own_part() {
        let mountinfo = "33 29 0:29 /docker/abc /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n";
        assert_eq!(found(mountinfo, "0::/docker/abc/x\n"), ["/sys/fs/cgroup/x"]);
        assert_eq!(found(mountinfo, "0::/\n"), ["/sys/fs/cgroup/"]);
        assert_eq!(found("", ""), Vec::<String>::new());
    }
}
