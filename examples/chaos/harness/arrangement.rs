//! What a run stands on: the control plane, the workers, their networks and disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use remuda::emulator::{Emulator, EnvironmentHandle, Options, SessionHandle};
use serde_json::json;
use tempfile::TempDir;

use super::disk::Disk;
use super::plan::{Fault, Plan};
use super::proxy::Proxy;
use super::timeline::{Timeline, Who};
use super::trouble::Trouble;
use super::worker::Worker;

/// How long a lease runs: short, so that many are lost.
const TTL: Duration = Duration::from_secs(6);

/// Requests that the log keeps, more than any run makes.
const LOG_RECORDS: usize = 5_000_000;

/// Bytes of their bodies.
const LOG_BYTES: usize = 2 << 30;

/// Everything that is set up before the first fault.
pub(crate) struct Arrangement {
    pub(crate) emulator: Emulator,
    pub(crate) sessions: Vec<SessionHandle>,
    pub(crate) troubles: Vec<Trouble>,
    /// Where everything of the run is.
    pub(crate) folder: TempDir,
}

impl Arrangement {
    /// Sets it up; the workers run when this returns.
    pub(crate) async fn make(plan: &Arc<Plan>, timeline: Timeline) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("remuda-chaos-").tempdir();
        let folder = folder.context("could not make a folder for the run")?;
        let options = Options {
            lease_ttl: TTL,
            log_requests: LOG_RECORDS,
            log_bytes: LOG_BYTES,
            max_events: LOG_RECORDS,
            ..Options::default()
        };
        let emulator = Emulator::start(options).await.context("could not start the control plane")?;
        let environment = emulator.create_environment("chaos")?;
        let agent = emulator.create_agent_with(&json!({
            "name": "chaos",
            "model": "m",
            "tools": [{"type": "agent_toolset_20260401"}],
            "metadata": {"brain": "silent"},
        }))?;
        let session = || {
            let body = json!({"environment_id": environment.id, "agent": agent});
            emulator.create_session_with(&body)
        };
        let sessions = (0..plan.sessions).map(|_| session()).collect::<Result<_, _>>()?;
        let mut troubles = Vec::new();
        for number in 0..plan.processes {
            troubles.push(trouble(plan, number, &emulator, &environment, folder.path(), timeline).await?);
        }
        Ok(Self { emulator, sessions, troubles, folder })
    }

    /// The folders of the workers' sandboxes.
    pub(crate) fn sandboxes(&self) -> Vec<PathBuf> {
        self.troubles.iter().map(|trouble| trouble.worker.sandboxes()).collect()
    }
}

async fn trouble(
    plan: &Arc<Plan>,
    number: usize,
    emulator: &Emulator,
    environment: &EnvironmentHandle,
    folder: &Path,
    timeline: Timeline,
) -> anyhow::Result<Trouble> {
    let place = folder.join(format!("remuda-{number}"));
    std::fs::create_dir(&place).context("could not make a folder for a worker")?;
    let is_last = number + 1 == plan.processes;
    let disk = (is_last && plan.faults.contains(&Fault::FullDisk)).then(|| Disk::mount(&place.join("disk")));
    let (disk, place) = match disk {
        Some(Ok(disk)) => (Some(disk), place.join("disk")),
        Some(Err(error)) => {
            timeline.note(Who::Run, format!("no disk will be full: this user cannot mount one ({error})"));
            (None, place)
        }
        None => (None, place),
    };
    let upstream = emulator.url();
    let upstream =
        upstream.trim_start_matches("http://").parse().context("the control plane has no address")?;
    let proxy = Proxy::start(number, upstream).await.context("could not start a proxy")?;
    let log = folder.join(format!("remuda-{number}.log"));
    let mut worker =
        Worker::new(number, &plan.remuda, place.join("state"), log, proxy.url(), environment.clone());
    worker.start()?;
    // A generator of its own, so that what one schedule draws changes no other.
    let mut seeds = SmallRng::seed_from_u64(plan.seed);
    let seed = (0..=number).map(|_| seeds.random()).last().unwrap_or_default();
    Ok(Trouble {
        worker,
        proxy,
        disk,
        dice: SmallRng::seed_from_u64(seed),
        plan: Arc::clone(plan),
        timeline,
        ttl: TTL,
        made: Vec::new(),
        still: Vec::new(),
        paused: Vec::new(),
        gave_up: Vec::new(),
    })
}
