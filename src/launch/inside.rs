//! Process 1 of a sandbox: builds what the sandbox sees, gives up every privilege, and becomes the hand.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::mounts::{self, Hidden};
use super::outside::{failed, no_capabilities, say};
use super::spec::{Folder, Isolation, Network, Refusal, Spec};
use super::{loopback, syscalls};
use crate::hand::server::{Listen, ServeOptions, run};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the launcher tells process 1, on its standard input.
#[derive(Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) spec: Spec,
    pub(super) token: String,
}

/// The folders of a sandbox as its own processes see them.
struct View {
    workspace: PathBuf,
    memory: PathBuf,
    tmp: PathBuf,
    calls: PathBuf,
    socket: PathBuf,
}

/// Runs process 1 of a sandbox.
pub fn inside() -> ExitCode {
    // The folders stay open for as long as the hand lives.
    let (options, _hidden) = match prepare() {
        Ok(prepared) => prepared,
        Err(refusal) => {
            eprintln!("error: {}", refusal.message);
            say(&refusal);
            return ExitCode::FAILURE;
        }
    };
    let served = run(options, |_| ready(), std::future::pending);
    if let Err(error) = served {
        let refusal = failed("start the hand")(io::Error::other(error));
        eprintln!("error: {}", refusal.message);
        say(&refusal);
    }
    ExitCode::FAILURE
}

/// What the hand is given, and the folders that its paths lead through, if those have no other names.
fn prepare() -> Result<(ServeOptions, Option<Hidden>), Refusal> {
    let refuse = |what: &'static str| move |error: rustix::io::Errno| failed(what)(error.into());
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(refuse("be tied to the launcher"))?;
    // A launcher that died before has not sent any orders, since it has not seen this.
    rustix::io::write(rustix::stdio::stdin(), b"!").map_err(refuse("ask the launcher for orders"))?;
    let orders: Orders = serde_json::from_reader(io::stdin().lock())
        .map_err(|error| failed("read the launcher's orders")(error.into()))?;
    let Orders { spec, token } = orders;
    let (view, hidden) = match spec.isolation {
        Isolation::Namespaces => {
            rustix::system::sethostname(b"sandbox").map_err(refuse("set the sandbox's host name"))?;
            if spec.network == Network::None {
                loopback::up().map_err(failed("bring the sandbox's loopback up"))?;
            }
            let hidden = mounts::build(&spec)?;
            let root = Path::new("/");
            let through = |folder: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
            let view = View {
                workspace: root.join("workspace"),
                memory: root.join("mnt/memory"),
                tmp: root.join("tmp"),
                socket: through(&hidden.run).join("hand.sock"),
                calls: through(&hidden.calls),
            };
            (view, Some(hidden))
        }
        Isolation::None => {
            let here = std::env::current_dir().map_err(failed("find the sandbox's folder"))?;
            let here = Folder(&here);
            let view = View {
                workspace: here.workspace(),
                memory: here.memory(),
                tmp: here.tmp(),
                calls: here.calls(),
                // Relative, for the name of a socket must be short and the folder may be deep.
                socket: Folder(Path::new(".")).socket(),
            };
            (view, None)
        }
    };
    limit(&spec).map_err(refuse("set the sandbox's limits"))?;
    rustix::thread::clear_ambient_capability_set().map_err(refuse("give up privileges"))?;
    rustix::thread::set_capabilities(None, no_capabilities()).map_err(refuse("give up privileges"))?;
    rustix::thread::set_no_new_privs(true).map_err(refuse("give up privileges"))?;
    if spec.isolation == Isolation::Namespaces {
        syscalls::refuse().map_err(failed("refuse system calls"))?;
    }
    let options = ServeOptions {
        environment: environment(&view).into_iter().collect(),
        listen: Listen::Unix(view.socket),
        token: Some(SecretString::from(token)),
        state_dir: view.calls,
        workdir: view.workspace,
        allow_roots: vec![view.memory],
        read_only_roots: Vec::new(),
        // Counted per user within the sandbox's user namespace, so it concerns this sandbox alone. Without one
        // it would count all of the host user's processes.
        max_processes: (spec.isolation == Isolation::Namespaces).then_some(spec.limits.processes),
    };
    Ok((options, hidden))
}

/// The limits that every process of the sandbox inherits. Those of the sandbox as a whole are its cgroup's.
fn limit(spec: &Spec) -> rustix::io::Result<()> {
    let limits = &spec.limits;
    let set = |resource, value| {
        // A limit that is lower already cannot be raised, and need not be.
        let value = rustix::process::getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
        rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
    };
    // Not the address space: runtimes reserve far more of that than they ever use.
    set(Resource::Data, limits.memory_bytes)?;
    set(Resource::Fsize, limits.file_bytes)?;
    set(Resource::Nofile, limits.open_files)?;
    set(Resource::Core, 0)
}

/// The environment of every tool: nothing of the host's.
fn environment(view: &View) -> Vec<(OsString, OsString)> {
    let plain = [
        ("PATH", PATH),
        ("USER", "agent"),
        ("LOGNAME", "agent"),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
    ];
    let plain = plain.into_iter().map(|(name, value)| (name.into(), value.into()));
    let folders = [("HOME", &view.workspace), ("TMPDIR", &view.tmp)];
    let folders = folders.into_iter().map(|(name, path)| (name.into(), path.clone().into_os_string()));
    plain.chain(folders).collect()
}

/// Tells whoever waits, and lets go of the streams that lead outside.
fn ready() {
    say(&"ready");
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
    }
}
