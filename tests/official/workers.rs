//! Every worker that is compared, in one place: how its process is started and ended.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::install;

/// How long a worker may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker of its own process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// The official Python package.
    Python,
    /// The official TypeScript package.
    TypeScript,
    /// Ourselves.
    Remuda,
}

/// What a worker process is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mode {
    /// Serve a queue until it is killed.
    Poll,
    /// Serve the one item its environment names.
    Item,
}

impl Worker {
    /// Every worker that must behave alike.
    pub(crate) const ALL: [Self; 3] = [Self::Python, Self::TypeScript, Self::Remuda];

    /// Those of others.
    pub(crate) const OFFICIAL: [Self; 2] = [Self::Python, Self::TypeScript];

    /// Its name, also that of the folder its transcripts are kept in.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::TypeScript => "typescript",
            Self::Remuda => "remuda",
        }
    }

    /// Where its tools work, if it was started in `workdir`.
    pub(crate) fn workspace(self, workdir: &Path) -> String {
        match self {
            Self::Python | Self::TypeScript => workdir.display().to_string(),
            Self::Remuda => "/workspace".to_owned(),
        }
    }

    /// Whether it is to serve a scenario like the others. A deliberate difference: an interrupt ends the call
    /// that runs, and with it the shell, of which the scenario expects that it goes on.
    pub(crate) fn serves(self, scenario: &str) -> bool {
        self != Self::Remuda || scenario != "turns"
    }

    /// Starts it in `workdir` with these variables and no others of ours. It dies with the handle.
    pub(crate) fn start(self, mode: Mode, workdir: &Path, variables: &[(&str, &str)]) -> Process {
        let mut command = match (self, mode) {
            (Self::Remuda, Mode::Poll) => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
                clean(&mut command);
                command.args(["run", "--max-idle", "600ms", "--state-dir"]).arg(workdir.join("state"));
                command
            }
            (Self::Remuda, Mode::Item) => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
                clean(&mut command);
                command.args(["worker", "--max-idle", "600ms"]);
                command
            }
            (_, Mode::Poll) => script(self, "worker", &["poll"]),
            (_, Mode::Item) => script(self, "worker", &["item"]),
        };
        if self != Self::Remuda {
            command.arg(workdir);
        }
        command.current_dir(workdir).envs(variables.iter().copied());
        let child = command.spawn();
        let child =
            child.unwrap_or_else(|error| panic!("could not start the {} worker: {error}", self.name()));
        let has_sandboxes = matches!((self, mode), (Self::Remuda, Mode::Poll));
        let sandboxes = has_sandboxes.then(|| workdir.join("state/sandboxes"));
        Process { child, sandboxes }
    }
}

/// A worker that runs.
pub(crate) struct Process {
    child: Child,
    /// Where it has sandboxes that outlive it, if it does.
    sandboxes: Option<PathBuf>,
}

impl Process {
    /// Waits until it has ended by itself.
    pub(crate) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends it: those that can are asked to.
    pub(crate) async fn end(mut self) {
        if self.sandboxes.is_none() {
            self.child.kill().await.expect("it is ours");
            return;
        }
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).expect("it runs");
        kill_process(pid, Signal::TERM).expect("it is ours");
        let status =
            tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it is ours");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    /// A test that failed leaves no sandbox behind.
    fn drop(&mut self) {
        let folders = self.sandboxes.iter().flat_map(std::fs::read_dir).flatten().flatten();
        for folder in folders {
            let pid = std::fs::read_to_string(folder.path().join("lock")).unwrap_or_default();
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// A command that runs `tests/official/NAME` with the worker's language and package, in a clean environment.
pub(crate) fn script(worker: Worker, name: &str, arguments: &[&str]) -> Command {
    let (folder, scripts) = (install::folder(), install::root().join("tests/official"));
    let mut command = match worker {
        Worker::Python => {
            let mut command = Command::new(folder.join("python/bin/python"));
            command.arg(scripts.join(format!("{name}.py")));
            command
        }
        Worker::TypeScript => {
            // The host's own Node may be older than the official worker supports.
            let mut command = Command::new(folder.join("node/node_modules/.bin/node"));
            command.arg(scripts.join(format!("{name}.mjs")));
            command
        }
        Worker::Remuda => panic!("remuda is no script"),
    };
    command.args(arguments);
    clean(&mut command);
    command.env("OFFICIAL_NODE", folder.join("node"));
    command
}

fn clean(command: &mut Command) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = install::root().join("target/official");
    command.env_clear().env("PATH", path).env("HOME", home).stdin(Stdio::null()).kill_on_drop(true);
}
