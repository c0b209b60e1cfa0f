//! A provider in a folder of its own, and a sandbox to try things in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use remuda::launch::{Folder, Isolation, Keeper, Limits, Network, keeper};
use remuda::providers::local::{Cgroups, LocalProvider, Options};
use remuda_actors::event::Input;
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{CallReply, CallRequest, Hand, OwnerId, SandboxProvider, SandboxSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::value::RawValue;
use tempfile::TempDir;

pub(crate) struct Bench {
    pub(crate) provider: Arc<LocalProvider>,
    pub(crate) dir: TempDir,
    options: Options,
    cgroups: Cgroups,
    made: std::sync::Mutex<Vec<SandboxId>>,
}

/// Numbers calls, which may run only once.
static CALLS: AtomicU32 = AtomicU32::new(1);

/// The hand: the one built with this test, or its copy where a user without privileges can reach it.
pub(crate) fn hand() -> PathBuf {
    std::env::var_os("REMUDA_TEST_HAND").unwrap_or_else(|| env!("CARGO_BIN_EXE_remuda-hand").into()).into()
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::on(Cgroups::Any, change)
    }

    /// Uses those cgroups, as far as the host has them.
    pub(crate) fn on(cgroups: Cgroups, change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = Options {
            dir: dir.path().join("sandboxes"),
            program: hand(),
            arguments: Vec::new(),
            // Sandboxes of different owners share a host without meeting; so do tests.
            owner: OwnerId::new(format!(
                "test-{}-{}",
                std::process::id(),
                CALLS.fetch_add(1, Ordering::Relaxed)
            )),
            isolation: Isolation::Namespaces,
            network: Network::None,
            limits: Limits::default(),
        };
        change(&mut options);
        // As a state directory is: closed to everyone but its owner, whom the sandboxes are not. Without
        // isolation they have to get through.
        let mode = if options.isolation == Isolation::None { 0o711 } else { 0o700 };
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(dir.path(), mode).expect("it is ours");
        let provider = LocalProvider::with_cgroups(options.clone(), cgroups).expect("a provider");
        Self { provider: Arc::new(provider), dir, options, cgroups, made: std::sync::Mutex::default() }
    }

    /// The provider of a process that was started anew.
    pub(crate) fn reopened(&self) -> LocalProvider {
        self.reopened_with(|_| {})
    }

    /// The same, with other options.
    pub(crate) fn reopened_with(&self, change: impl FnOnce(&mut Options)) -> LocalProvider {
        let mut options = self.options.clone();
        change(&mut options);
        LocalProvider::with_cgroups(options, self.cgroups).expect("a provider")
    }

    pub(crate) async fn sandbox(&self, id: &str) -> Sandbox {
        self.provider.create(&self.spec(id)).await.expect("a sandbox; this host must allow user namespaces");
        self.existing(id)
    }

    /// One that takes over the files of another.
    pub(crate) async fn heir(&self, id: &str, of: &str) -> Sandbox {
        self.provider.create(&self.heir_spec(id, of)).await.expect("a sandbox");
        self.existing(id)
    }

    /// One that there is already, to be deleted in the end.
    pub(crate) fn existing(&self, id: &str) -> Sandbox {
        let id = SandboxId::from(id);
        self.made.lock().expect("no test panics with it").push(id.clone());
        Sandbox { hand: self.provider.hand(&id), id }
    }

    pub(crate) fn spec(&self, id: &str) -> SandboxSpec {
        let session = Some("sesn_1".into());
        SandboxSpec { id: id.into(), owner: self.options.owner.clone(), session, image: None, files_of: None }
    }

    pub(crate) fn heir_spec(&self, id: &str, of: &str) -> SandboxSpec {
        SandboxSpec { files_of: Some(of.into()), ..self.spec(id) }
    }

    pub(crate) fn owner(&self) -> &OwnerId {
        &self.options.owner
    }

    /// Where a sandbox has its folder.
    pub(crate) fn folder(&self, sandbox: &Sandbox) -> PathBuf {
        self.options.dir.join(sandbox.id.as_str())
    }

    /// What it sees as `/workspace`.
    pub(crate) fn workspace(&self, sandbox: &Sandbox) -> PathBuf {
        Folder(&self.folder(sandbox)).workspace()
    }

    /// The processes that keep it.
    pub(crate) fn keeper(&self, sandbox: &Sandbox) -> Keeper {
        keeper(Folder(&self.folder(sandbox))).expect("a lock").expect("it lives")
    }

    /// Deletes every sandbox. Called at the end of each test; a test that fails leaves that to the next drop.
    pub(crate) async fn close(self) {
        let made = self.made.lock().map(|mut made| std::mem::take(&mut *made)).unwrap_or_default();
        for id in made {
            self.provider.delete(&id).await.expect("delete");
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Whatever a test that failed has left.
        for folder in std::fs::read_dir(&self.options.dir).into_iter().flatten().flatten() {
            if let Ok(Some(keeper)) = keeper(Folder(&folder.path())) {
                kill(keeper.launcher, Signal::KILL);
            }
        }
    }
}

/// Sends a signal to a process of the host's.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).expect("a process id"), signal);
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists =
        threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// The host's ids of everything whose command line holds `mark`.
pub(crate) fn marked(mark: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let marked = pids.filter(|pid: &u32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(mark))
    });
    marked.collect()
}

/// Waits for something that nothing tells of.
pub(crate) async fn until(mut is: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to that");
}

/// Longer than any call here takes: a sandbox that stands still fails its test, and not the whole run.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) hand: Arc<dyn Hand>,
}

impl Sandbox {
    pub(crate) async fn tool(&self, tool: &str, input: serde_json::Value) -> CallReply {
        let request = request(tool, input);
        let answered = tokio::time::timeout(PATIENCE, self.hand.call(&request)).await;
        answered.expect("the hand answers in time").expect("the hand answers")
    }

    /// What a command prints, whatever it returns.
    pub(crate) async fn bash(&self, command: &str) -> String {
        self.tool("bash", serde_json::json!({ "command": command })).await.result.text()
    }

    /// Waits until a command prints something.
    pub(crate) async fn says(&self, command: &str, expected: &str) {
        let mut said = String::new();
        for _ in 0..1_000 {
            said = self.bash(command).await;
            if said == expected {
                return;
            }
        }
        panic!("`{command}` says {said:?}, and never {expected:?}");
    }
}

pub(crate) fn request(tool: &str, input: serde_json::Value) -> CallRequest {
    let number = CALLS.fetch_add(1, Ordering::Relaxed);
    CallRequest {
        call: format!("sevt_{number}").into(),
        tool: tool.into(),
        input: Input::Json(RawValue::from_string(input.to_string()).expect("JSON").into()),
        thread: None,
        again: false,
        timeout: Duration::from_secs(60),
    }
}
