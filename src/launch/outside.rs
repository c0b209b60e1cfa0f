//! The launcher: detaches, joins the cgroups, gives up what it may be, makes the namespaces, and keeps watch.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use serde::Serialize;

use super::inside::Orders;
use super::keyring;
use super::lock::Lock;
use super::spec::{Folder, Isolation, Network, Refusal, RefusalKind, Spec};
use crate::inherited;

/// The id of the sandbox's user as the sandbox sees it. Not 0: what is never root needs no care about root.
pub(super) const INSIDE_ID: u32 = 1000;

/// How much sooner than the host's own services the kernel kills the sandbox when memory runs out; the scale
/// ends at 1000.
const OOM_SCORE: &str = "500";

/// Runs the launcher for the sandbox in `folder`. Returns when the sandbox has ended.
pub fn launch(folder: &Path) -> ExitCode {
    match run(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            eprintln!("error: {}", refusal.message);
            say(&refusal);
            ExitCode::FAILURE
        }
    }
}

/// Puts a line on standard output, which whoever started us reads.
pub(super) fn say(line: &impl Serialize) {
    let line = serde_json::to_string(line).unwrap_or_default();
    let mut out = io::stdout().lock();
    // Nobody may be listening any more.
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

pub(super) fn failed(what: &str) -> impl Fn(io::Error) -> Refusal + '_ {
    move |error| Refusal { kind: RefusalKind::Failed, message: format!("could not {what}: {error}") }
}

fn run(folder: &Path) -> Result<(), Refusal> {
    #[expect(unsafe_code, reason = "this is how a process begins that is to have nothing of its parent's")]
    // SAFETY: nothing was opened yet.
    unsafe { inherited::close() }.map_err(failed("close what it was left open"))?;
    // From here on paths are relative: below, nobody but we may look into the folders above this one.
    std::env::set_current_dir(folder).map_err(failed("enter the sandbox's folder"))?;
    let here = Folder(Path::new("."));
    let spec = std::fs::read(here.spec()).map_err(failed("read sandbox.json"))?;
    let spec: Spec =
        serde_json::from_slice(&spec).map_err(io::Error::from).map_err(failed("understand sandbox.json"))?;
    let token = std::fs::read_to_string(here.token()).map_err(failed("read the sandbox's token"))?;
    let lock = Lock::take(here).map_err(failed("lock the sandbox's folder"))?;
    let exit = File::create(here.exit()).map_err(failed("create the exit file"))?;

    // A launcher that leads a session already is as detached as it can be.
    let _ = rustix::process::setsid();
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    if let Err(error) = keyring::leave() {
        // A sandbox with namespaces cannot reach any keyring all the same.
        eprintln!("warning: could not leave the session keyring: {error}");
    }
    join_cgroups(&spec).map_err(failed("join the sandbox's cgroup"))?;
    if let Some(id) = spec.run_as {
        become_user(id).map_err(|error| failed("give up root")(error.into()))?;
    }
    if spec.isolation == Isolation::Namespaces {
        unshare(&spec)?;
    } else {
        // Whatever the sandbox leaves behind comes to us, so that it can be ended.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    }
    let (mut inside, way) = spawn_inside()?;
    // Before it becomes the hand, which is known by its id.
    lock.first_is(inside.id()).map_err(failed("write the lock file"))?;
    give_orders(way, &Orders { spec, token })?;
    let status = inside.wait().map_err(failed("wait for the sandbox"))?;
    end_the_rest();
    note(exit, status);
    Ok(())
}

fn join_cgroups(spec: &Spec) -> io::Result<()> {
    spec.cgroups.iter().try_for_each(|cgroup| std::fs::write(cgroup.join("cgroup.procs"), "0"))
}

/// Becomes an ordinary user, for good.
fn become_user(id: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    // The launcher has one thread, so the thread's ids are the process's.
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    // A change of ids makes our own files in /proc root's; the maps below must be written there.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
}

/// Makes the namespaces. The next child is process 1 of the new process namespace.
fn unshare(spec: &Spec) -> Result<(), Refusal> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut flags = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    if spec.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    #[expect(
        unsafe_code,
        reason = "unshare is unsafe only with FILES, and when other threads run; neither is so"
    )]
    // SAFETY: `flags` does not contain FILES, and the launcher has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(|error| refused(error.into()))?;
    std::fs::write("/proc/self/setgroups", "deny").map_err(refused)?;
    std::fs::write("/proc/self/uid_map", format!("{INSIDE_ID} {uid} 1")).map_err(refused)?;
    std::fs::write("/proc/self/gid_map", format!("{INSIDE_ID} {gid} 1")).map_err(refused)?;
    keep_capabilities().map_err(|error| failed("hand the privileges of the new namespaces on")(error.into()))
}

/// Lets the capabilities that we have in the new namespaces survive the next `exec`, which an id other than 0
/// would lose: process 1 needs them to build the file system.
fn keep_capabilities() -> rustix::io::Result<()> {
    let own = rustix::thread::capabilities(None)?;
    rustix::thread::set_capabilities(None, CapabilitySets { inheritable: own.permitted, ..own })?;
    for capability in own.permitted.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// What a kernel that does not let us make namespaces has to be told.
fn refused(error: io::Error) -> Refusal {
    let setting = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let mend = if setting("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        "set `sysctl user.max_user_namespaces=15000`"
    } else if setting("/proc/sys/kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        "set `sysctl kernel.unprivileged_userns_clone=1`"
    } else if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1") {
        "set `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or give remuda an AppArmor profile that \
         allows `userns`"
    } else {
        "if this is a container, start it with a seccomp profile that allows `unshare` and `mount`"
    };
    let message = format!(
        "this host does not let remuda make namespaces ({error}): {mend}; or choose `--isolation none`, which \
         keeps nothing apart"
    );
    Refusal { kind: RefusalKind::Unusable, message }
}

/// Starts ourselves again, as what is inside. It gets its orders the way that is returned.
fn spawn_inside() -> Result<(Child, UnixStream), Refusal> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // `hand launch DIR` of one program, or `launch DIR` of the other.
    let before = arguments.len().saturating_sub(2);
    let (way, far_end) = UnixStream::pair().map_err(failed("make a way to the sandbox"))?;
    let inside = Command::new("/proc/self/exe")
        .args(&arguments[..before])
        .arg("inside")
        .env_clear()
        .stdin(OwnedFd::from(far_end))
        .spawn()
        .map_err(failed("start the sandbox's first process"))?;
    // From now on standard output is the child's alone, so that its end is seen by whoever reads it.
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    Ok((inside, way))
}

/// Tells process 1 what to do, once it is sure to die with us.
fn give_orders(mut way: UnixStream, orders: &Orders) -> Result<(), Refusal> {
    let orders = serde_json::to_vec(orders).map_err(io::Error::from).map_err(failed("write the orders"))?;
    // One that is gone already tells by its exit what was wrong.
    let _ = way.read_exact(&mut [0]).and_then(|()| way.write_all(&orders));
    Ok(())
}

/// Ends whatever came to us when a sandbox without namespaces ended. With namespaces there is nothing left.
fn end_the_rest() {
    let own = std::process::id();
    loop {
        let left = std::fs::read_to_string(format!("/proc/self/task/{own}/children")).unwrap_or_default();
        let pids = left.split_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in pids.filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // Without children there is nothing to wait for; with some, each end may bring up new ones.
        if rustix::process::wait(rustix::process::WaitOptions::empty()).is_err() {
            return;
        }
    }
}

fn note(mut exit: File, status: ExitStatus) {
    let text = match (status.code(), status.signal()) {
        (Some(code), _) => format!("status {code}\n"),
        (None, Some(signal)) => format!("signal {signal}\n"),
        (None, None) => "unknown\n".to_owned(),
    };
    let _ = exit.write_all(text.as_bytes());
}

/// No capability at all.
pub(super) fn no_capabilities() -> CapabilitySets {
    let none = CapabilitySet::empty();
    CapabilitySets { effective: none, permitted: none, inheritable: none }
}
