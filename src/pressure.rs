//! Whether this host, and the part of it that we are granted, has memory for more sandboxes.
//!
//! Three things are looked at, each where there is one:
//!
//! | What | Where | Short if |
//! |---|---|---|
//! | memory that could be had without swapping | `/proc/meminfo`, `MemAvailable` | below [`Options::min_free`] |
//! | what is left below the limit of our control group, or of one above it | `memory.max`, `memory.current`, `memory.stat` of the unified hierarchy | below the same |
//! | time in which something had to wait for memory | `/proc/pressure/memory`, `some avg10` | above [`Options::max_stall`] |
//!
//! What cannot be read is not short. Once something is short it stays so until it is better by a quarter, so
//! that admission does not waver at the limit.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use remuda_actors::ports::{HostPressure, Pressure};

/// How much better than its limit something must be before it is not short any more.
const MARGIN: f64 = 1.25;

/// What counts as short.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Memory that must be available, in bytes. Default 512 MiB: what one sandbox may use within a few
    /// seconds, and what a host needs to stay of use to the sandboxes that run already.
    pub min_free: u64,
    /// The part of the last ten seconds in which something had to wait for memory, at most, in percent.
    /// Default 20: a host that swaps in earnest is well above it, and one that is merely busy well below.
    pub max_stall: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { min_free: 512 << 20, max_stall: 20.0 }
    }
}

/// The memory of this host.
#[derive(Debug)]
pub struct HostMemory {
    options: Options,
    proc: PathBuf,
    /// Our control group in the unified hierarchy and those above it, as far as they can be seen.
    groups: Vec<PathBuf>,
    was_short: AtomicBool,
}

impl HostMemory {
    /// Finds out where to look.
    pub fn new(options: Options) -> Self {
        let proc = PathBuf::from("/proc");
        let read = |path: &str| fs::read_to_string(proc.join(path)).unwrap_or_default();
        let groups = groups(&read("self/mountinfo"), &read("self/cgroup"));
        Self { options, proc, groups, was_short: AtomicBool::new(false) }
    }

    /// What is short, and what was expected.
    fn shortage(&self, min_free: u64, max_stall: f64) -> Option<String> {
        let short_of = |room: u64, whose: &str| {
            let (room_mib, least) = (room >> 20, min_free >> 20);
            (room < min_free).then(|| {
                format!("{room_mib} MiB of memory are available {whose}; expected at least {least} MiB")
            })
        };
        let read = |path: PathBuf| fs::read_to_string(path).ok();
        let host = || short_of(available(&read(self.proc.join("meminfo"))?)?, "on this host");
        let group = |group: &PathBuf| {
            let [max, current, stat] =
                ["memory.max", "memory.current", "memory.stat"].map(|file| read(group.join(file)));
            short_of(room(&max?, &current?, &stat?)?, &format!("below the limit of {}", group.display()))
        };
        let stalled = || {
            let percent = stalled(&read(self.proc.join("pressure/memory"))?)?;
            (percent > max_stall).then(|| {
                format!(
                    "something had to wait for memory in {percent:.0} % of the last 10 s; expected at most \
                     {max_stall:.0} %"
                )
            })
        };
        host().or_else(|| self.groups.iter().find_map(group)).or_else(stalled)
    }
}

impl HostPressure for HostMemory {
    fn level(&self) -> Pressure {
        let margin = if self.was_short.load(Ordering::Relaxed) { MARGIN } else { 1.0 };
        let Options { min_free, max_stall } = self.options;
        let shortage = self.shortage((min_free as f64 * margin) as u64, max_stall / margin);
        self.was_short.store(shortage.is_some(), Ordering::Relaxed);
        shortage.map_or(Pressure::Normal, |reason| Pressure::High { reason: reason.into() })
    }
}

/// `MemAvailable`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What is left below a group's limit, in bytes; none if it has none. Pages of files that have not been used
/// lately are given up when there is need, so they count as free, as they do in `MemAvailable`.
fn room(max: &str, current: &str, stat: &str) -> Option<u64> {
    let max: u64 = max.trim().parse().ok()?;
    let current: u64 = current.trim().parse().ok()?;
    let reclaimable = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let reclaimable: u64 = reclaimable.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
    Some(max.saturating_sub(current.saturating_sub(reclaimable)))
}

/// The part of the last ten seconds in which something had to wait, in percent.
fn stalled(pressure: &str) -> Option<f64> {
    let some = pressure.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

/// Our control group in the unified hierarchy and those above it, the nearest first.
fn groups(mountinfo: &str, membership: &str) -> Vec<PathBuf> {
    let found = mountinfo.lines().find_map(|line| {
        let (before, _) = line.split_once(" - cgroup2 ")?;
        let mut fields = before.split(' ');
        let (root, point) = (fields.nth(3)?, fields.next()?);
        let own = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
        // In a container the hierarchy is mounted from our own group on.
        let below = Path::new(own).strip_prefix(root).or_else(|_| Path::new(own).strip_prefix("/")).ok()?;
        Some((PathBuf::from(point), below.to_owned()))
    });
    let Some((point, below)) = found else { return Vec::new() };
    below.ancestors().map(|group| point.join(group)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A host in a folder.
    struct Stage {
        folder: tempfile::TempDir,
        memory: HostMemory,
    }

    impl Stage {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["proc/pressure", "group"] {
                fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            let memory = HostMemory {
                options: Options { min_free: 100 * MIB, max_stall: 20.0 },
                proc: folder.path().join("proc"),
                groups: vec![folder.path().join("group")],
                was_short: AtomicBool::new(false),
            };
            Self { folder, memory }
        }

        fn write(&self, file: &str, text: impl AsRef<str>) {
            fs::write(self.folder.path().join(file), text.as_ref()).unwrap();
        }

        fn has(&self, mib: u64) {
            let meminfo = format!("MemTotal: 9000000 kB\nMemFree: 1 kB\nMemAvailable:  {} kB\n", mib << 10);
            self.write("proc/meminfo", meminfo);
        }

        /// What is short; empty if nothing is.
        fn said(&self) -> String {
            match self.memory.level() {
                Pressure::Normal => String::new(),
                Pressure::High { reason } => reason.to_string(),
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_short() {
        assert_eq!(Stage::new().said(), "");
    }

    #[test]
    fn a_host_without_memory_is_short_until_it_is_clearly_better() {
        let stage = Stage::new();
        stage.has(100);
        assert_eq!(stage.said(), "");
        stage.has(99);
        assert_eq!(stage.said(), "99 MiB of memory are available on this host; expected at least 100 MiB");
        stage.has(124);
        assert!(!stage.said().is_empty(), "it does not waver");
        stage.has(125);
        assert_eq!(stage.said(), "");
        stage.has(101);
        assert_eq!(stage.said(), "");
    }

    #[test]
    fn a_group_without_room_below_its_limit_is_short() {
        let stage = Stage::new();
        stage.write("group/memory.current", (950 * MIB).to_string());
        stage.write("group/memory.stat", format!("anon 1\ninactive_file {}\nactive_file 7\n", 60 * MIB));
        stage.write("group/memory.max", "max\n");
        assert_eq!(stage.said(), "", "it has no limit");
        stage.write("group/memory.max", (1_000 * MIB).to_string());
        assert_eq!(stage.said(), "", "what is cached can be given up");
        stage.write("group/memory.stat", format!("inactive_file {}\n", 10 * MIB));
        assert!(stage.said().starts_with("60 MiB of memory are available below the limit of /"));
    }

    #[test]
    fn a_host_that_waits_for_memory_is_short() {
        let stage = Stage::new();
        let pressure = |avg10| format!("some avg10={avg10} avg60=0.00 total=9\nfull avg10=99.00 total=1\n");
        stage.write("proc/pressure/memory", pressure("20.00"));
        assert_eq!(stage.said(), "");
        stage.write("proc/pressure/memory", pressure("20.01"));
        let said = "something had to wait for memory in 20 % of the last 10 s; expected at most 20 %";
        assert_eq!(stage.said(), said);
        stage.write("proc/pressure/memory", pressure("17.00"));
        assert!(!stage.said().is_empty(), "it does not waver");
        stage.write("proc/pressure/memory", pressure("16.00"));
        assert_eq!(stage.said(), "");
    }

    #[test]
    fn our_group_and_those_above_it_are_found_where_they_are_mounted() {
        let found = |mountinfo, membership| {
            groups(mountinfo, membership).iter().map(|group| group.display().to_string()).collect::<Vec<_>>()
        };
        let host = "\
            30 29 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            33 29 0:29 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        let expected = ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"];
        assert_eq!(found(host, "4:memory:/x\n0::/a/b\n"), expected);
        let container = "33 29 0:29 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(found(container, "0::/docker/abc/x\n"), ["/sys/fs/cgroup/x", "/sys/fs/cgroup/"]);
        assert_eq!(found(container, "0::/\n"), ["/sys/fs/cgroup/"]);
        assert_eq!(found("", "0::/\n"), [""; 0]);
        assert_eq!(found(host, "4:memory:/x\n"), [""; 0]);
    }

    #[test]
    fn this_host_can_be_read() {
        let memory = HostMemory::new(Options { min_free: u64::MAX >> 1, ..Options::default() });
        assert!(matches!(memory.level(), Pressure::High { .. }), "no host has that much");
    }
}
