//! Where control groups can be made, which is up to the host.
//!
//! Two generations of them are in use, often side by side. Each sandbox gets a group in the unified hierarchy
//! if we may make one there (freezing, killing and counting time need no controller), and one in each of the
//! older hierarchies that we can write and that has something to offer. A host that allows none of that has
//! sandboxes all the same: limits then hold for single processes, freezing is done by signals, and what a
//! sandbox uses is asked of each of its processes.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::delegation::{self, Probe};
use super::groups::Groups;
use crate::launch::Limits;

/// The older controllers that are of use.
const CONTROLLERS: [&str; 4] = ["freezer", "memory", "pids", TIME];

/// The older controller that counts processor time. The unified hierarchy does that without any.
const TIME: &str = "cpuacct";

/// Processes and threads that the launcher and the hand may have besides those of the tools.
const HAND: u64 = 64;

/// Which control groups sandboxes are put in, where the host has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cgroups {
    /// All that can be had. The unified hierarchy's freezer goes before the older one.
    #[default]
    Any,
    /// That of the unified hierarchy alone.
    Unified,
    /// Those of the older hierarchies alone.
    Older,
    /// None.
    None,
}

/// Where groups can be made.
#[derive(Clone, Debug, Default)]
pub(super) struct Hierarchies {
    /// Our folder in each hierarchy that we can use.
    parents: Vec<PathBuf>,
}

/// A hierarchy, by its controller where it has one of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unified,
    Older(&'static str),
}

impl Hierarchies {
    /// Finds out where groups for `owner` can be made, and makes a folder for them there.
    pub(super) fn find(owner: &str, wanted: Cgroups) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (mounts, membership) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        if wanted == Cgroups::None {
            return Self::default();
        }
        let mut probe = match Probe::start() {
            Ok(probe) => probe,
            Err(error) => {
                tracing::warn!(%error, "whether cgroups can be used is not known, so none are");
                return Self::default();
            }
        };
        let (mut parents, mut is_time_counted) = (Vec::new(), false);
        for Base { kind, own, point } in bases(&mounts, &membership) {
            let is_wanted = match wanted {
                Cgroups::Any => kind != Kind::Older(TIME) || !is_time_counted,
                Cgroups::Unified => kind == Kind::Unified,
                Cgroups::Older => kind != Kind::Unified,
                Cgroups::None => false,
            };
            if !is_wanted {
                continue;
            }
            let place = match kind {
                Kind::Unified => delegation::place(&own, &point, &format!("remuda-{owner}-self")),
                Kind::Older(_) => own,
            };
            let parent = place.join(format!("remuda-{owner}"));
            // Whether we may is most surely found out by doing it.
            if fs::create_dir_all(&parent).is_err() || !probe.fits(&parent) {
                continue;
            }
            // It never holds a process itself.
            delegation::turn_on(&parent);
            is_time_counted |= kind == Kind::Unified;
            parents.push(parent);
        }
        Self { parents }
    }

    /// Removes our folders where they are empty; they are made again when they are needed.
    pub(super) fn remove(&self) {
        for parent in &self.parents {
            let _ = fs::remove_dir(parent);
        }
    }

    /// Removes the groups of sandboxes that have no folder (any more). They are empty, or are left alone: whoever
    /// died between the two made or removed the one and not the other.
    pub(super) fn sweep(&self, has_folder: impl Fn(&OsStr) -> bool) {
        for entry in self.parents.iter().filter_map(|parent| fs::read_dir(parent).ok()).flatten().flatten() {
            if !has_folder(&entry.file_name()) {
                // What is no group at all cannot be removed this way.
                let _ = fs::remove_dir(entry.path());
            }
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

    /// The groups of a sandbox, by the name of its folder.
    pub(super) fn groups(&self, folder: &Path) -> Groups {
        let mut groups = Groups::default();
        let name = folder.file_name().unwrap_or_default();
        let of_its_name = self.parents.iter().map(|parent| parent.join(name));
        of_its_name.filter(|group| group.exists()).for_each(|group| groups.push(group));
        groups
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
            groups.push(group);
        }
        Ok(groups)
    }
}

/// Our own group in a hierarchy, and where that is mounted.
struct Base {
    kind: Kind,
    own: PathBuf,
    point: PathBuf,
}

/// Where in each usable hierarchy our own group is, the unified one first.
fn bases(mountinfo: &str, membership: &str) -> Vec<Base> {
    let own = |kind: Kind| {
        membership.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (names, path) = (fields.next()?, fields.next()?);
            let found = match kind {
                Kind::Unified => names.is_empty(),
                Kind::Older(controller) => names.split(',').any(|name| name == controller),
            };
            found.then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let found = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let (kind, options) = (after.split(' ').next()?, after.rsplit(' ').next()?);
        let kind = match kind {
            "cgroup2" => Kind::Unified,
            "cgroup" => Kind::Older(
                CONTROLLERS.into_iter().find(|name| options.split(',').any(|option| option == *name))?,
            ),
            _ => return None,
        };
        // A group that is not below the one we see as the first cannot be reached.
        let own = own(kind).filter(|own| !own.split('/').any(|name| name == ".."))?;
        // In a container the hierarchy is mounted from our own group on.
        let below = Path::new(&own).strip_prefix(root.trim_start_matches('/')).unwrap_or(Path::new(""));
        Some(Base { kind, own: Path::new(point).join(below), point: point.into() })
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|base| base.kind != Kind::Unified);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mountinfo: &str, membership: &str) -> Vec<String> {
        bases(mountinfo, membership).iter().map(|base| base.own.display().to_string()).collect()
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
        let expected = ["/sys/fs/cgroup/unified/", "/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/freezer/"];
        assert_eq!(found(mountinfo, membership), expected);
    }

    #[test]
    fn a_container_that_sees_its_own_part() {
        let mountinfo = "33 29 0:29 /docker/abc /sys/fs/cgroup ro,relatime - cgroup2 cgroup rw\n";
        assert_eq!(found(mountinfo, "0::/docker/abc/x\n"), ["/sys/fs/cgroup/x"]);
        assert_eq!(found(mountinfo, "0::/\n"), ["/sys/fs/cgroup/"]);
        assert_eq!(found(mountinfo, "0::/../other\n"), Vec::<String>::new());
        assert_eq!(found("", ""), Vec::<String>::new());
    }
}
