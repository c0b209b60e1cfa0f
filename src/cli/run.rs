//! `remuda run`: serves an environment until it is told to stop.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rand::RngExt as _;
use remuda_actors::admission::Environment;
use remuda_actors::bucket::Rate;
use remuda_actors::notice::Notice;
use remuda_actors::{Ports, Settings, Tree};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::config;
use super::environments::{EnvironmentArguments, KEY_VARIABLE};
use super::logging::{self, LogFormat};
use super::outfit::OutfitArguments;
use super::policy::{HerdArguments, SessionArguments};
use crate::cma;
use crate::custom::Tools;
use crate::launch::{Isolation, Limits, Network};
use crate::pressure::{self, HostMemory};
use crate::providers::local::{self, LocalProvider};
use crate::report::{Exit, Failure};
use crate::shutdown::Signals;
use crate::state_dir::StateDir;
use crate::store::Store;

/// Seconds of the average rate of requests that may be made at once: a restart asks about everything.
const BURST: NonZeroU32 = NonZeroU32::new(4).unwrap();

/// Sandboxes that share a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Provider {
    /// On this host, out of Linux namespaces; nothing to install.
    #[default]
    Local,
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// A file with any of these settings (TOML), by the names of their flags, and with tables of tools;
    /// REMUDA_CONFIG names one, too. A variable comes before it (REMUDA_MAX_SESSIONS for `--max-sessions`), a flag
    /// before both.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    environments: EnvironmentArguments,

    /// The control plane's address.
    #[arg(long, env = "ANTHROPIC_BASE_URL", value_name = "URL", default_value = "https://api.anthropic.com")]
    base_url: String,

    /// Where sandboxes come from.
    #[arg(long, value_enum, default_value_t)]
    provider: Provider,

    /// Sessions held at once.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_sessions: u32,

    /// Sandboxes being started at once.
    #[arg(long, value_name = "N", default_value = "8")]
    max_starts: NonZeroUsize,

    /// Memory that must be available on this host, in MiB, for a new session to be taken on. 0 means that nobody
    /// looks.
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    min_free_memory: u32,

    /// Requests to the control plane per second, on average; four times as many may be made at once. 0 means as
    /// many as there are. Heartbeats come first, then results, then whatever else sessions need, then polls.
    #[arg(long, value_name = "N", default_value_t = 500)]
    requests_per_second: u32,

    /// How long the control plane may take to answer for the first time before the process gives up; later it
    /// is asked for ever.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    start_timeout: Duration,

    /// How long sessions may take to finish their turn when the process is told to stop.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    grace: Duration,

    /// Where everything is kept that outlives the process. By default `/var/lib/remuda` for root, and
    /// `$XDG_STATE_HOME/remuda` or `~/.local/state/remuda` for everyone else.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// Names this process to the queue; must be unique. By default the host's name and a random number.
    #[arg(long, value_name = "ID")]
    worker_id: Option<String>,

    /// How log lines look. RUST_LOG says which there are.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,

    #[command(flatten)]
    session: SessionArguments,

    #[command(flatten)]
    herd: HerdArguments,

    #[command(flatten)]
    outfit: OutfitArguments,

    #[command(flatten)]
    sandbox: SandboxArguments,
}

/// What local sandboxes are like.
#[derive(Debug, Args)]
#[command(next_help_heading = "Local sandboxes")]
pub(super) struct SandboxArguments {
    /// How sandboxes are kept apart from the host. `none` keeps nothing apart.
    #[arg(long, value_enum, default_value_t)]
    isolation: Isolation,

    /// What sandboxes can reach: only themselves, or whatever the host can.
    #[arg(long, value_enum, default_value_t)]
    sandbox_network: Network,

    /// Processes and threads of one sandbox.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(16..))]
    sandbox_processes: u64,

    /// Memory of one sandbox, in MiB; of each process, where no memory cgroup can be had.
    #[arg(long, value_name = "MIB", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(64..=1 << 24))]
    sandbox_memory: u64,

    /// The largest file in a sandbox, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    sandbox_file_size: u64,
}

impl SandboxArguments {
    fn limits(&self) -> Limits {
        Limits {
            processes: self.sandbox_processes,
            memory_bytes: self.sandbox_memory << 20,
            file_bytes: self.sandbox_file_size << 20,
            ..Limits::default()
        }
    }
}

/// Serves until a signal comes or it cannot go on.
pub(super) fn run(arguments: RunArguments) -> Result<Exit, Failure> {
    logging::start(arguments.log_format, None);
    let (environments, queues) = arguments.environments.read()?.into_iter().unzip();
    let path = arguments.state_dir.clone().map_or_else(default_state_dir, Ok)?;
    let state_dir = StateDir::open(&path).map_err(configuration)?;
    let client = cma::Client::new(cma::Options {
        base_url: arguments.base_url.clone(),
        worker_id: arguments.worker_id.clone().unwrap_or_else(worker_id),
        queues,
    });
    let client = Arc::new(client.map_err(configuration)?);
    let provider = match arguments.provider {
        Provider::Local => Arc::new(local_provider(&state_dir, &arguments.sandbox)?),
    };
    let furnisher =
        arguments.outfit.furnisher(Arc::clone(&client), Arc::clone(&provider) as _, &state_dir)?;
    let ports = Ports {
        control: client,
        provider,
        journal: Arc::new(Store::open(state_dir.path()).map_err(configuration)?),
    };
    let tools = arguments.config.as_deref().map(config::tools).transpose()?.unwrap_or_default();
    let mut settings = settings(&arguments, &state_dir, environments, tools);
    settings.outfitter = Some(Arc::new(furnisher));
    settings.deadlines.care.farewell += arguments.outfit.time_for_outputs();
    super::block_on(serve(ports, settings, &arguments))?
}

async fn serve(ports: Ports, settings: Settings, arguments: &RunArguments) -> Result<Exit, Failure> {
    let grace = arguments.grace;
    let environments = settings.environments.clone();
    let mut signals = Signals::listen().map_err(|error| {
        Failure::new(Exit::GaveUp, anyhow::Error::new(error).context("could not listen for signals"))
    })?;
    let tree = Tree::start(ports, settings).await.map_err(configuration)?;
    let notices = tree.subscribe();
    tracing::info!(environments = ?environments, "serving; SIGTERM drains, a second one aborts");
    let refused = tokio::select! {
        biased;
        () = signals.next() => None,
        ended = tree.ended() => {
            ended.map_err(|error| Failure::new(Exit::GaveUp, error))?;
            return Ok(Exit::Clean);
        }
        refused = watch(notices, environments.len(), arguments.start_timeout) => Some(refused),
    };
    tracing::info!(grace = ?grace, "draining");
    let drained = tokio::select! {
        biased;
        () = signals.next() => {
            tracing::warn!("aborted: sandboxes that are left are deleted at the next start");
            return Ok(Exit::HandedBack);
        }
        drained = tree.drain(grace) => drained,
    };
    match refused {
        Some(failure) => Err(failure),
        None if drained.handed_back + drained.killed > 0 => {
            let (handed_back, killed) = (drained.handed_back, drained.killed);
            tracing::warn!(
                handed_back,
                killed,
                "the grace period ran out; their items lapse to other workers"
            );
            Ok(Exit::HandedBack)
        }
        None => {
            if drained.left > 0 {
                tracing::info!(sessions = drained.left, "left to the next start, which goes on with them");
            }
            Ok(Exit::Clean)
        }
    }
}

/// Waits until there is nothing left to serve: every queue refuses us, or none has answered for the first time.
async fn watch(mut notices: Receiver<Notice>, queues: usize, start_timeout: Duration) -> Failure {
    let deadline = tokio::time::sleep(start_timeout);
    tokio::pin!(deadline);
    let (mut reached, mut refused, mut last) = (false, 0, None);
    loop {
        let notice = tokio::select! {
            biased;
            () = &mut deadline, if !reached => {
                let last = last.unwrap_or_else(|| "it did not answer".to_owned());
                let error = anyhow::Error::msg(last).context("could not reach the control plane");
                return Failure::new(Exit::Unreachable, error)
                    .hint("check `--base-url`, or ANTHROPIC_BASE_URL, and that this host can reach it");
            }
            notice = notices.recv() => notice,
        };
        match notice {
            Ok(Notice::QueueReached { .. }) => reached = true,
            Ok(Notice::QueueFailed { reason, .. }) => last = Some(reason.to_string()),
            Ok(Notice::QueueRefused { reason, .. }) => {
                refused += 1;
                if refused == queues {
                    let error = anyhow::Error::msg(reason.to_string()).context("could not poll for work");
                    return Failure::new(Exit::Configuration, error).hint(format!(
                        "check `--environment-id`, and that {KEY_VARIABLE} or `--environment-key-file` holds the key of \
                         that environment"
                    ));
                }
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            // The tree has ended, which somebody else tells.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn settings(
    arguments: &RunArguments,
    state_dir: &StateDir,
    environments: Vec<Environment>,
    tools: Tools,
) -> Settings {
    let mut settings = Settings::new(state_dir.owner().clone(), []);
    tools.declare(&mut settings.session);
    settings.environments = environments;
    settings.max_sessions = arguments.max_sessions as usize;
    settings.admission.max_starts = arguments.max_starts;
    if arguments.min_free_memory > 0 {
        let min_free = u64::from(arguments.min_free_memory) << 20;
        let options = pressure::Options { min_free, ..pressure::Options::default() };
        settings.admission.pressure = Some(Arc::new(HostMemory::new(options)));
    }
    settings.governor.rate = NonZeroU32::new(arguments.requests_per_second)
        .map(|per_second| Rate { per_second, burst: per_second.saturating_mul(BURST) });
    settings.seed = rand::rng().random();
    arguments.session.apply(&mut settings);
    arguments.herd.apply(&mut settings);
    settings
}

/// Sandboxes on this host, started from this very program.
pub(super) fn local_provider(
    state_dir: &StateDir,
    arguments: &SandboxArguments,
) -> Result<LocalProvider, Failure> {
    let options = local::Options {
        dir: state_dir.sandboxes(),
        program: program()?,
        arguments: vec!["hand".to_owned()],
        owner: state_dir.owner().clone(),
        isolation: arguments.isolation,
        network: arguments.sandbox_network,
        limits: arguments.limits(),
    };
    LocalProvider::new(options).map_err(configuration)
}

/// This very program; not by its path, under which another version may be by now.
pub(super) fn program() -> Result<PathBuf, Failure> {
    Ok(PathBuf::from("/proc/self/exe"))
}

fn configuration(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::Configuration, error)
}

pub(super) fn default_state_dir() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/remuda"));
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    absolute("XDG_STATE_HOME").or_else(home).map(|state| state.join("remuda")).ok_or_else(|| {
        Failure::say(Exit::Configuration, "there is no home directory to keep state in")
            .hint("name a folder with `--state-dir`")
    })
}

fn worker_id() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{:012x}", rand::rng().random::<u64>() >> 16)
}
