//! A provider in a folder of its own, and a sandbox to try things in.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use remuda::launch::{Isolation, Limits, Network};
use remuda::providers::local::{LocalProvider, Options};
use remuda_actors::event::Input;
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{CallReply, CallRequest, Hand, OwnerId, SandboxProvider, SandboxSpec};
use serde_json::value::RawValue;
use tempfile::TempDir;

pub(crate) struct Bench {
    pub(crate) provider: Arc<LocalProvider>,
    pub(crate) dir: TempDir,
    options: Options,
    made: std::sync::Mutex<Vec<SandboxId>>,
}

/// Numbers calls, which may run only once.
static CALLS: AtomicU32 = AtomicU32::new(1);

/// The hand: the one built with this test, or its copy where a user without privileges can reach it.
fn hand() -> PathBuf {
    std::env::var_os("REMUDA_TEST_HAND").unwrap_or_else(|| env!("CARGO_BIN_EXE_remuda-hand").into()).into()
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
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
        let provider = Arc::new(LocalProvider::new(options.clone()).expect("a provider"));
        Self { provider, dir, options, made: std::sync::Mutex::default() }
    }

    /// The provider of a process that was started anew.
    pub(crate) fn reopened(&self) -> LocalProvider {
        LocalProvider::new(self.options.clone()).expect("a provider")
    }

    pub(crate) async fn sandbox(&self, id: &str) -> Sandbox {
        let spec = SandboxSpec { id: id.into(), owner: self.options.owner.clone(), session: "sesn_1".into() };
        self.provider.create(&spec).await.expect("a sandbox; this host must allow user namespaces");
        self.made.lock().expect("no test panics with it").push(spec.id.clone());
        Sandbox { hand: self.provider.hand(&spec.id), id: spec.id }
    }

    pub(crate) fn owner(&self) -> &OwnerId {
        &self.options.owner
    }

    /// Where a sandbox has its folder.
    pub(crate) fn folder(&self, sandbox: &Sandbox) -> PathBuf {
        self.options.dir.join(sandbox.id.as_str())
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
        let made = self.made.lock().map(|mut made| std::mem::take(&mut *made)).unwrap_or_default();
        for id in made {
            let lock =
                std::fs::read_to_string(self.options.dir.join(id.as_str()).join("lock")).unwrap_or_default();
            if let Some(pid) = lock.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) hand: Arc<dyn Hand>,
}

impl Sandbox {
    pub(crate) async fn tool(&self, tool: &str, input: serde_json::Value) -> CallReply {
        self.hand.call(&request(tool, input)).await.expect("the hand answers")
    }

    /// What a command prints, whatever it returns.
    pub(crate) async fn bash(&self, command: &str) -> String {
        self.tool("bash", serde_json::json!({ "command": command })).await.result.text()
    }
}

pub(crate) fn request(tool: &str, input: serde_json::Value) -> CallRequest {
    let number = CALLS.fetch_add(1, Ordering::Relaxed);
    CallRequest {
        call: format!("sevt_{number}").into(),
        tool: tool.into(),
        input: Input::Json(RawValue::from_string(input.to_string()).expect("JSON").into()),
        thread: None,
        timeout: Duration::from_secs(60),
    }
}
