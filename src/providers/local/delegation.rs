//! Which group of the unified hierarchy our groups are made in, and whether they may have controllers.
//!
//! A group that passes controllers down to its children may hold no process itself: the kernel refuses to turn
//! them on there, or (for some) turns the group into one of threads, which nothing can be put below. So they are
//! never turned on in a group that processes are in, and the place is chosen by what is there:
//!
//! | Our own group | Place of ours | Controllers |
//! |---|---|---|
//! | the root of the whole hierarchy, of which none of that is true | below it | turned on |
//! | in one that was handed over to us and holds no process, as by systemd's `DelegateSubgroup=` | beside our own | turned on |
//! | handed over, with us alone in it: a container's, or a scope's with `Delegate=yes` | below it, after we moved into a leaf | turned on |
//! | any other | below it | those it passes down already, most often none |
//!
//! Freezing and killing a group take no controller. A service whose main process left its group is not the third
//! case: systemd starts the next main process in that group, which then may hold none.
//!
//! # Not here
//! What is made at that place ([`hierarchies`](super::hierarchies)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The controllers that limit a sandbox as a whole.
const WANTED: [&str; 2] = ["memory", "pids"];

/// The attributes by which systemd says that it keeps its hands off what is below a group.
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// What there is to know about a group of the unified hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a finding of its own, and none is a state")]
struct Group {
    /// The root of the whole hierarchy, not only the first that we can see.
    is_root: bool,
    /// Whether there are controllers that it could pass down.
    has_controllers: bool,
    /// The processes in it.
    members: Vec<u32>,
    /// Whether what is below it is left to us.
    is_delegated: bool,
    /// Whether it is a service of systemd's.
    is_service: bool,
}

impl Group {
    /// Looks at the group at `path` of the hierarchy that is mounted at `point`.
    fn read(path: &Path, point: &Path) -> Self {
        let file = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let says_so = |name: &str| {
            let mut value = [0; 1];
            rustix::fs::getxattr(path, name, &mut value).is_ok_and(|length| value[..length] == *b"1")
        };
        Self {
            is_root: !path.join("cgroup.type").exists(),
            has_controllers: file("cgroup.controllers").split_whitespace().any(|name| WANTED.contains(&name)),
            members: file("cgroup.procs").lines().filter_map(|pid| pid.parse().ok()).collect(),
            // What a container has mounted as its first group is its own.
            is_delegated: path == point || DELEGATED.iter().any(|name| says_so(name)),
            is_service: path.extension().is_some_and(|extension| extension == "service"),
        }
    }
}

/// Where our groups go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Below our own group, whose controllers may be turned on.
    Root,
    /// Below the group that our own is in, whose controllers may be turned on.
    Beside,
    /// Below our own group, whose controllers may be turned on once we have moved into a leaf.
    Aside,
    /// Below our own group, as it is.
    Below,
}

/// Chooses the place of our groups, by our own group, the one it is in if that can be seen, and our process id.
fn choose(own: &Group, above: Option<&Group>, us: u32) -> Place {
    if own.is_root {
        Place::Root
    } else if above.is_some_and(|above| above.is_delegated && !above.is_root && above.members.is_empty()) {
        Place::Beside
    } else if own.has_controllers && own.is_delegated && !own.is_service && own.members == [us] {
        Place::Aside
    } else {
        Place::Below
    }
}

/// Finds the place for our groups in the unified hierarchy mounted at `point`, where our own group is `own`, and
/// prepares it.
pub(super) fn place(own: &Path, point: &Path, leaf: &str) -> PathBuf {
    let us = std::process::id();
    let above = own.parent().filter(|above| above.starts_with(point));
    let group = Group::read(own, point);
    match choose(&group, above.map(|above| Group::read(above, point)).as_ref(), us) {
        Place::Root => turn_on(own),
        Place::Beside => {
            let above = above.unwrap_or(own);
            turn_on(above);
            return above.to_owned();
        }
        Place::Aside => {
            let leaf = own.join(leaf);
            let moved =
                fs::create_dir_all(&leaf).and_then(|()| fs::write(leaf.join("cgroup.procs"), us.to_string()));
            match moved {
                Ok(()) => turn_on(own),
                Err(error) => {
                    tracing::debug!(%error, group = %leaf.display(), "could not move into a group of our own");
                }
            }
        }
        Place::Below => {}
    }
    own.to_owned()
}

/// Lets a group that holds no process pass down what there is. A controller that is not there is left out.
pub(super) fn turn_on(group: &Path) {
    for controller in WANTED {
        let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// A process of no account, to find out where processes can be put.
pub(super) struct Probe {
    process: Child,
    /// Where it has been.
    groups: Vec<PathBuf>,
}

impl Probe {
    pub(super) fn start() -> io::Result<Self> {
        // It waits for a line that never comes, until its input ends.
        let process = Command::new("/bin/sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn()?;
        Ok(Self { process, groups: Vec::new() })
    }

    /// Whether a process can be put in the groups below this one, which is removed if not.
    pub(super) fn fits(&mut self, parent: &Path) -> bool {
        let group = parent.join(format!("probe-{}", self.process.id()));
        let joined = fs::create_dir(&group)
            .and_then(|()| fs::write(group.join("cgroup.procs"), self.process.id().to_string()));
        let Err(error) = joined else {
            self.groups.push(group);
            return true;
        };
        tracing::warn!(
            %error, group = %parent.display(),
            "no process can be put in cgroups here: sandboxes do without their limits, or freeze by signals"
        );
        for useless in [&group, parent] {
            let _ = fs::remove_dir(useless);
        }
        false
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        for group in &self.groups {
            let _ = fs::remove_dir(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u32 = 42;

    /// Makes what a group looks like.
    fn group(path: &Path, controllers: &str, members: &[u32]) {
        fs::create_dir_all(path).unwrap();
        let members: String = members.iter().map(|pid| format!("{pid}\n")).collect();
        for (name, text) in [
            ("cgroup.type", "domain\n"),
            ("cgroup.controllers", controllers),
            ("cgroup.subtree_control", ""),
            ("cgroup.procs", &members),
        ] {
            fs::write(path.join(name), text).unwrap();
        }
    }

    fn delegate(path: &Path) {
        let set = rustix::fs::setxattr(path, DELEGATED[0], b"1", rustix::fs::XattrFlags::empty());
        set.expect("a temporary folder that takes attributes");
    }

    fn chosen(own: &Path, point: &Path) -> Place {
        let above = own.parent().filter(|above| above.starts_with(point));
        choose(&Group::read(own, point), above.map(|above| Group::read(above, point)).as_ref(), US)
    }

    #[test]
    fn controllers_are_never_turned_on_where_others_are() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("user.slice/session.scope");
        group(dir.path(), "memory pids\n", &[]);
        group(&dir.path().join("user.slice"), "memory pids\n", &[]);
        group(&own, "memory pids\n", &[US, 43]);
        delegate(&own);
        let mounted = tempfile::tempdir().unwrap();
        assert_eq!(chosen(&own, mounted.path()), Place::Below);
        // And nothing is written there.
        assert_eq!(place(&own, mounted.path(), "leaf"), own);
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "");
    }

    #[test]
    fn alone_in_a_group_handed_over_we_move_into_a_leaf() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path();
        let own = point.join("app.slice/run-1.scope");
        group(&own, "memory pids\n", &[US]);
        group(&point.join("app.slice"), "memory pids\n", &[]);
        group(point, "memory pids\n", &[1]);
        assert_eq!(chosen(&own, point), Place::Below, "it was not handed over");
        delegate(&own);
        assert_eq!(chosen(&own, point), Place::Aside);
        group(&own, "cpu\n", &[US]);
        assert_eq!(chosen(&own, point), Place::Below, "there is nothing to gain");
        // A container's first group, as it sees it.
        group(&own, "memory\n", &[US]);
        assert_eq!(chosen(&own, &own), Place::Aside);
    }

    #[test]
    fn the_group_of_a_service_is_left_to_its_next_main_process() {
        let dir = tempfile::tempdir().unwrap();
        let point = dir.path();
        let service = point.join("system.slice/remuda.service");
        group(&service, "memory pids\n", &[US]);
        delegate(&service);
        assert_eq!(chosen(&service, point), Place::Below);
        // With a subgroup for the main process, the service's own holds none.
        let own = service.join("supervisor");
        group(&own, "memory pids\n", &[US]);
        group(&service, "memory pids\n", &[]);
        assert_eq!(chosen(&own, point), Place::Beside);
        assert_eq!(place(&own, point, "leaf"), service);
        let turned_on = fs::read_to_string(service.join("cgroup.subtree_control")).unwrap();
        assert_eq!(turned_on, "+pids", "each is written by itself, the last one stays in a plain file");
        assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap(), "");
        group(&service, "memory pids\n", &[43]);
        assert_eq!(chosen(&own, point), Place::Below, "somebody is in it");
    }

    #[test]
    fn the_root_of_all_has_no_such_rule() {
        let dir = tempfile::tempdir().unwrap();
        group(dir.path(), "memory pids\n", &[1, US]);
        fs::remove_file(dir.path().join("cgroup.type")).unwrap();
        assert_eq!(chosen(dir.path(), dir.path()), Place::Root);
    }

    #[test]
    fn where_no_group_can_be_made_none_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut probe = Probe::start().unwrap();
        assert!(probe.fits(dir.path()));
        assert!(!probe.fits(&dir.path().join("missing")));
    }

    /// The kernel itself, where it lets us: what is below a group of threads takes no process.
    #[test]
    fn a_group_that_the_kernel_keeps_processes_out_of_is_not_used() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let Some(point) = unified.and_then(|line| line.split(' ').nth(4)) else { return };
        let place = Path::new(point).join(format!("remuda-test-{}", std::process::id()));
        let threads = place.join("threads");
        let made = fs::create_dir_all(&threads);
        let made = made.and_then(|()| fs::write(threads.join("cgroup.type"), "threaded"));
        let mut probe = Probe::start().unwrap();
        let among_threads = probe.fits(&place);
        let _ = fs::remove_dir(&threads);
        let alone = fs::create_dir_all(&place).is_ok_and(|()| probe.fits(&place));
        drop(probe);
        let _ = fs::remove_dir(&place);
        if made.is_ok() {
            assert!(!among_threads && alone);
        }
    }
}
