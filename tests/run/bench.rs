//! An emulator and a `remuda run` that serves it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use remuda::emulator::scenario::Scenario;
use remuda::emulator::{Emulator, EnvironmentHandle, Options, SessionHandle};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinHandle;

/// Longer than anything here takes when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) emulator: Emulator,
    pub(crate) environment: EnvironmentHandle,
    pub(crate) agent: String,
    silent: String,
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::playing(&[]).await
    }

    /// With these scenarios, by name and text.
    pub(crate) async fn playing(scenarios: &[(&str, &str)]) -> Self {
        let scenarios = scenarios.iter().map(|(name, text)| Scenario::parse(name, text).unwrap());
        Self::with(Options { scenarios: scenarios.collect(), ..Options::default() }).await
    }

    /// With an emulator of its own making.
    pub(crate) async fn with(options: Options) -> Self {
        let emulator = Emulator::start(options).await.unwrap();
        let environment = emulator.create_environment("tests").unwrap();
        let agent = emulator.create_agent("tester").unwrap();
        let silent = json!({
            "name": "silent",
            "model": "m",
            "tools": [{"type": "agent_toolset_20260401"}],
            "metadata": {"brain": "silent"},
        });
        let silent = emulator.create_agent_with(&silent).unwrap();
        Self { emulator, environment, agent, silent, dir: tempfile::tempdir().unwrap() }
    }

    /// A session that plays a scenario.
    pub(crate) fn play(&self, scenario: &str) -> SessionHandle {
        self.emulator.create_scenario(&self.environment.id, &self.agent, scenario, &[]).unwrap()
    }

    /// A session that only the test drives.
    pub(crate) fn session(&self) -> SessionHandle {
        let body = json!({"environment_id": self.environment.id, "agent": self.silent});
        self.emulator.create_session_with(&body).unwrap()
    }

    /// `remuda run`, told where to serve, and to keep nothing: no sandbox is made ahead, parked, or left to the
    /// next start. Not started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.keeping(&["--warm", "0", "--park-for", "0s", "--drain", "release"]);
        command.args(arguments);
        command
    }

    /// The same, with what it keeps by itself.
    pub(crate) fn keeping(&self, arguments: &[&str]) -> Command {
        let mut command = remuda(&["run"]);
        command
            .args(arguments)
            .arg("--state-dir")
            .arg(self.dir.path().join("state"))
            .env("ANTHROPIC_BASE_URL", self.emulator.url())
            .env("ANTHROPIC_ENVIRONMENT_ID", self.environment.id.as_str())
            .env("ANTHROPIC_ENVIRONMENT_KEY", &self.environment.key);
        command
    }

    fn sandboxes(&self) -> PathBuf {
        self.dir.path().join("state/sandboxes")
    }

    /// Starts `remuda run`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Running {
        self.start(self.command(arguments))
    }

    /// Starts what [`Bench::command`] made.
    pub(crate) fn start(&self, mut command: Command) -> Running {
        let child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        // Read all along: a process whose pipe is full stands still.
        let output = tokio::spawn(child.wait_with_output());
        Running { pid, output, sandboxes: self.sandboxes() }
    }
}

/// A command that sees nothing of this process's environment.
pub(crate) fn remuda(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub(crate) async fn finish(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    Ended::from(output)
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A `remuda run`.
pub(crate) struct Running {
    pub(crate) pid: Pid,
    output: JoinHandle<std::io::Result<Output>>,
    sandboxes: PathBuf,
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        assert!(!self.output.is_finished(), "it runs");
        kill_process(self.pid, signal).unwrap();
    }

    /// Kills it, and waits until it is dead.
    pub(crate) async fn kill(self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Ended {
        let output = tokio::time::timeout(PATIENCE, &mut self.output).await.expect("it ends");
        Ended::from(output.unwrap().unwrap())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// The folders of the sandboxes there are.
    pub(crate) fn sandboxes(&self) -> Vec<PathBuf> {
        folders(&self.sandboxes)
    }
}

/// The folders of the sandboxes in a folder.
fn folders(sandboxes: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(sandboxes).into_iter().flatten().flatten();
    let named = folders.filter(|folder| !folder.file_name().to_string_lossy().starts_with('.'));
    named.map(|folder| folder.path()).collect()
}

impl Drop for Bench {
    /// Sandboxes outlive the process that made them, but not the test.
    fn drop(&mut self) {
        for folder in folders(&self.sandboxes()) {
            let pid = std::fs::read_to_string(folder.join("lock")).unwrap_or_default();
            if let Some(pid) =
                pid.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw)
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waited = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("it never came to that: {what}"));
}
