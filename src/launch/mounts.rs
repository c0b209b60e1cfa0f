//! What a sandbox sees of the file system.
//!
//! | Path | What it is |
//! |---|---|
//! | `/usr`, `/bin`, `/sbin`, `/lib*` | the host's, read-only, no devices, no setuid |
//! | `/etc` | [its own](super::etc) |
//! | `/workspace`, `/mnt/memory`, `/tmp` | its own folders on the host's disk, writable |
//! | `/proc` | of its own processes |
//! | `/dev` | null, zero, full, random, urandom, tty, pts, shm |
//! | everything else | not there |
//!
//! The root itself is a small memory file system that is read-only once it is built. The folders with the hand's
//! socket and with its journal have no place in it: the hand holds them open, and nothing else can reach them.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use super::etc;
use super::outside::failed;
use super::spec::{Folder, Network, Refusal, RefusalKind, Spec};

/// The parts of the host's system that a sandbox sees.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// The devices it has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// The folders for the hand alone.
pub(super) struct Hidden {
    /// That of its socket.
    pub(super) run: OwnedFd,
    /// That of its journal.
    pub(super) calls: OwnedFd,
}

/// Builds it and makes it the root. The current folder must be the sandbox's.
pub(super) fn build(spec: &Spec) -> Result<Hidden, Refusal> {
    let attempt = || -> io::Result<Hidden> {
        // What we mount is nobody else's business, and what others mount from now on is none of ours.
        mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        let here = Folder(Path::new("."));
        let root = here.root();
        mount("sandbox", &root, "tmpfs", PLAIN, c"mode=0755,size=1m")?;
        system(&root)?;
        configuration(&root, spec.network)?;
        devices(&root)?;
        for (from, to) in
            [(here.workspace(), "workspace"), (here.memory(), "mnt/memory"), (here.tmp(), "tmp")]
        {
            bind(&from, &root.join(to), PLAIN)?;
        }
        fs::create_dir_all(root.join("var"))?;
        symlink("/tmp", root.join("var/tmp"))?;
        let [run, calls] = [here.run(), here.calls()].map(|folder| hidden(&folder, &root.join("run")));
        Ok(Hidden { run: run?, calls: calls? })
    };
    let hidden = attempt().map_err(failed("build the sandbox's file system"))?;
    processes(&Folder(Path::new(".")).root())?;
    enter().map_err(failed("enter the sandbox's file system"))?;
    Ok(hidden)
}

/// A folder that is in no place: whoever has it open gets to what is in it, and not above it. `at` is used for a
/// moment, and left behind empty.
fn hidden(from: &Path, at: &Path) -> io::Result<OwnedFd> {
    bind(from, at, PLAIN)?;
    let folder = openat(CWD, at, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    unmount(at, UnmountFlags::DETACH)?;
    Ok(folder)
}

/// Binds a file or folder at a place that is made for it, with everything mounted below it.
fn bind(from: &Path, to: &Path, flags: MountFlags) -> io::Result<()> {
    if fs::metadata(from)?.is_dir() {
        fs::create_dir_all(to)?;
    } else {
        to.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create(to)?;
    }
    mount_bind_recursive(from, to)?;
    restrict(to, flags)
}

/// Restricts a mount and all those below it. A remount must repeat the flags that a mount has, since a user
/// namespace may not take any off.
///
/// Mounts are listed by their absolute paths, but reached from here: the folders above this one may be closed
/// to whoever the sandbox runs as.
fn restrict(target: &Path, flags: MountFlags) -> io::Result<()> {
    let here = std::env::current_dir()?;
    let target = target.strip_prefix(".").unwrap_or(target);
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(point), Some(options)) = (fields.nth(4), fields.next()) else { continue };
        let point = unescape(point);
        if let Ok(point) = point.strip_prefix(&here)
            && point.starts_with(target)
        {
            mount_remount(point, MountFlags::BIND | flags | flags_of(options), "")?;
        }
    }
    Ok(())
}

/// A path as mountinfo spells it: spaces, tabs, line feeds and backslashes in octal.
fn unescape(text: &str) -> PathBuf {
    let mut path = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        path.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok());
        path.push(code.map_or('\\', char::from));
        rest = &rest[if code.is_some() { at + 4 } else { at + 1 }..];
    }
    path.push_str(rest);
    PathBuf::from(path)
}

fn flags_of(options: &str) -> MountFlags {
    let flags = options.split(',').map(|option| match option {
        "ro" => MountFlags::RDONLY,
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        _ => MountFlags::empty(),
    });
    flags.fold(MountFlags::empty(), MountFlags::union)
}

fn system(root: &Path) -> io::Result<()> {
    for name in SYSTEM {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        match fs::symlink_metadata(&from) {
            Ok(found) if found.is_symlink() => symlink(fs::read_link(&from)?, &to)?,
            Ok(_) => bind(&from, &to, PLAIN | MountFlags::RDONLY)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn configuration(root: &Path, network: Network) -> io::Result<()> {
    let to = root.join("etc");
    etc::write(&to, network)?;
    let with_network = if network == Network::Host { &etc::SHARED_WITH_NETWORK[..] } else { &[] };
    for name in etc::SHARED.iter().chain(with_network) {
        let from = Path::new("/etc").join(name);
        // Where it leads, since the link's own target may be a place that the sandbox does not have.
        match fs::canonicalize(&from) {
            Ok(from) => bind(&from, &to.join(name), PLAIN | MountFlags::RDONLY)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn devices(root: &Path) -> io::Result<()> {
    let dev = root.join("dev");
    fs::create_dir(&dev)?;
    for name in DEVICES {
        let from = Path::new("/dev").join(name);
        if fs::metadata(&from).is_ok_and(|found| found.file_type().is_char_device()) {
            File::create(dev.join(name))?;
            mount_bind_recursive(&from, dev.join(name))?;
        }
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        symlink(target, dev.join(name))?;
    }
    fs::create_dir(dev.join("pts"))?;
    let no_exec = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", dev.join("pts"), "devpts", no_exec, c"newinstance,ptmxmode=0666,mode=0620")?;
    symlink("pts/ptmx", dev.join("ptmx"))?;
    fs::create_dir(dev.join("shm"))?;
    mount("shm", dev.join("shm"), "tmpfs", PLAIN, c"mode=1777,size=64m")?;
    Ok(())
}

fn processes(root: &Path) -> Result<(), Refusal> {
    let proc = root.join("proc");
    let attempt = || -> io::Result<()> {
        fs::create_dir(&proc)?;
        Ok(mount("proc", &proc, "proc", PLAIN | MountFlags::NOEXEC, None)?)
    };
    attempt().map_err(|error| Refusal {
        kind: RefusalKind::Unusable,
        message: format!(
            "this host does not let remuda mount a /proc of the sandbox's own ({error}): if this is a container, \
             start it with an unmasked /proc (`--security-opt systempaths=unconfined`); or choose `--isolation \
             none`, which keeps nothing apart"
        ),
    })?;
    // Keys belong to users, not to namespaces: not even their names are a sandbox's business.
    for name in ["keys", "key-users"] {
        let list = proc.join(name);
        if list.exists() {
            let hidden = mount_bind(root.join("dev/null"), &list);
            hidden.map_err(|error| failed("hide the host's keys")(error.into()))?;
        }
    }
    // Nothing in here needs namespaces of its own, and fewer of them are fewer ways to reach the kernel.
    let limited = fs::write(proc.join("sys/user/max_user_namespaces"), "0");
    limited.map_err(failed("forbid user namespaces inside the sandbox"))
}

/// Makes the folder the root, and the host's root unreachable.
fn enter() -> io::Result<()> {
    std::env::set_current_dir(Folder(Path::new(".")).root())?;
    // The old root comes to lie over the new one, from where it is taken off.
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY | PLAIN, "")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_spells_odd_characters_in_octal() {
        assert_eq!(unescape(r"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescape(r"/plain"), Path::new("/plain"));
        assert_eq!(unescape(r"/odd\9"), Path::new(r"/odd\9"));
    }

    #[test]
    fn a_remount_keeps_what_a_mount_has() {
        let flags = flags_of("rw,nosuid,noexec,relatime");
        assert_eq!(flags, MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::RELATIME);
    }
}
