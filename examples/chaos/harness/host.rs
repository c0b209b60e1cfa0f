//! What is left on the host: processes, control groups, mounts, folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Where hierarchies of control groups are mounted, at most this deep.
const CGROUPS: &str = "/sys/fs/cgroup";

/// How long killed processes may take to be gone.
const CLEAR: Duration = Duration::from_secs(2);

/// What belongs to a run can be known by this.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    /// The folder of the run.
    pub(crate) folder: PathBuf,
    /// The owners that the workers' state directories name.
    pub(crate) owners: Vec<String>,
}

/// The owner that a state directory names.
pub(crate) fn owner(state: &Path) -> Option<String> {
    Some(fs::read_to_string(state.join("owner")).ok()?.trim().to_owned())
}

impl Marks {
    /// Processes that belong to the run: they are in its groups, or in its folder.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| *pid != std::process::id() && self.is_ours(*pid)).collect()
    }

    fn is_ours(&self, pid: u32) -> bool {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let in_group = self.owners.iter().any(|owner| groups.contains(&format!("/remuda-{owner}/")));
        let in_folder =
            fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&self.folder));
        in_group || in_folder
    }

    /// Control groups that were made for the run's sandboxes.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let names: Vec<String> = self.owners.iter().map(|owner| format!("remuda-{owner}")).collect();
        let mut found = Vec::new();
        search(Path::new(CGROUPS), &names, 0, &mut found);
        found
    }

    /// Ends whatever is left. What does not end soon is left all the same.
    pub(crate) fn clear(&self) {
        let until = Instant::now() + CLEAR;
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > until {
                break;
            }
            for pid in left.into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for group in self.cgroups() {
            let below = fs::read_dir(&group).into_iter().flatten().flatten();
            below.for_each(|entry| drop(fs::remove_dir(entry.path())));
            let _ = fs::remove_dir(group);
        }
    }

    /// File systems that are mounted in the run's folder.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
        let points = mounts.lines().filter_map(point);
        points.filter(|point| Path::new(point).starts_with(&self.folder)).collect()
    }
}

/// Looks for groups with these names; ours are never far below the group that this process is in.
fn search(folder: &Path, names: &[String], depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if names.iter().any(|name| entry.file_name().to_string_lossy() == **name) {
            found.push(entry.path());
        } else if depth < 6 {
            search(&entry.path(), names, depth + 1, found);
        }
    }
}

/// Processor time that a process has used, in clock ticks.
pub(crate) fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces, so the fields are counted from its end.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}
