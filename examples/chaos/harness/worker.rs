//! One `remuda run`: started, stopped, killed and started again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use remuda::emulator::EnvironmentHandle;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::host::{self, Marks};

/// How a worker keeps sessions and sandboxes. Short times, so that everything happens often.
const ARGUMENTS: [&str; 26] = [
    "--warm",
    "1",
    "--max-idle",
    "1500ms",
    "--standby-after",
    "300ms",
    "--park-for",
    "10s",
    "--call-timeout",
    "20s",
    "--sandbox-processes",
    "64",
    "--sandbox-memory",
    "96",
    "--min-free-memory",
    "0",
    "--drain",
    "release",
    "--grace",
    "20s",
    // It is started in any weather.
    "--start-timeout",
    "30m",
    "--log-format",
    "json",
    "--max-starts",
    "4",
];

/// One `remuda run`, which lives or not.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) number: usize,
    /// Its state directory.
    pub(crate) state: PathBuf,
    log: PathBuf,
    program: PathBuf,
    url: String,
    environment: EnvironmentHandle,
    child: Option<Child>,
}

impl Worker {
    /// Makes one that does not live yet.
    pub(crate) fn new(
        number: usize,
        program: &Path,
        state: PathBuf,
        log: PathBuf,
        url: String,
        environment: EnvironmentHandle,
    ) -> Self {
        Self { number, state, log, program: program.to_owned(), url, environment, child: None }
    }

    /// The folder in which its sandboxes are.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.state.join("sandboxes")
    }

    /// Starts it.
    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let log =
            File::options().create(true).append(true).open(&self.log).context("could not open its log")?;
        let child = Command::new(&self.program)
            .arg("run")
            .args(ARGUMENTS)
            .arg("--worker-id")
            .arg(format!("chaos-{}", self.number))
            .arg("--state-dir")
            .arg(&self.state)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RUST_LOG", "info,remuda_actors=debug")
            .env("ANTHROPIC_BASE_URL", &self.url)
            .env("ANTHROPIC_ENVIRONMENT_ID", self.environment.id.as_str())
            .env("ANTHROPIC_ENVIRONMENT_KEY", &self.environment.key)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("could not share its log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process, while it lives.
    pub(crate) fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.child.as_ref()?.id()?.cast_signed())
    }

    /// Sends it a signal. One that has ended is not there for any.
    pub(crate) fn signal(&self, signal: Signal) {
        // The child is not reaped behind our back, so the number is still its own.
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it, and returns when it is dead.
    pub(crate) async fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// How it ended without being told to, if it did.
    pub(crate) fn gave_up(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    /// Tells it to end, and waits for that.
    pub(crate) async fn drain(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let Some(mut child) = self.child.take() else { bail!("it does not live") };
        if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            kill_process(pid, Signal::TERM).context("could not tell it to end")?;
        }
        match tokio::time::timeout(within, child.wait()).await {
            Ok(status) => status.context("could not wait for its end"),
            Err(_) => {
                child.kill().await.context("could not kill it")?;
                bail!("it had not ended {within:?} after SIGTERM");
            }
        }
    }

    /// The last words of its log, for whoever has to find out what was wrong.
    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = text.lines().rev().take(5).collect::<Vec<_>>();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Worker {
    /// Sandboxes outlive the process that made them, but not the run, however that ends.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
        }
        Marks { folder: self.state.clone(), owners: host::owner(&self.state).into_iter().collect() }.clear();
    }
}
