//! `remuda worker`: serves one item that somebody else has claimed, in the place where it runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rand::RngExt as _;
use remuda_actors::notice::Notice;
use remuda_actors::ports::{ControlPlane as _, OwnerId, StopMode, Target, Volatile, WorkItem};
use remuda_actors::secret::Secret;
use remuda_actors::session::end::Outcome;
use remuda_actors::{OnDrain, Ports, Settings, Tree};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::environments::KEY_VARIABLE;
use super::logging::{self, LogFormat};
use super::run::program;
use crate::cma;
use crate::report::{Exit, Failure};
use crate::shutdown::Signals;
use crate::worker::{HereProvider, SingleItem};

/// Where the item's secret is taken from.
const SECRET_VARIABLE: &str = "ANTHROPIC_WORK_SECRET";

/// How long running calls may take to be cut and answered when the process is told to end.
const GRACE: Duration = Duration::from_secs(3);

/// How long the item may take to be stopped after that.
const STOP: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct WorkerArguments {
    /// The item's environment.
    #[arg(long, env = "ANTHROPIC_ENVIRONMENT_ID", value_name = "ID")]
    environment_id: String,

    /// A file with the environment's key, for an item without a secret; otherwise it is taken from
    /// ANTHROPIC_ENVIRONMENT_KEY. It is never an argument, since everyone on a host can read those.
    #[arg(long, value_name = "FILE")]
    environment_key_file: Option<PathBuf>,

    /// The item's session.
    #[arg(long, env = "ANTHROPIC_SESSION_ID", value_name = "ID")]
    session_id: String,

    /// The item; its secret is taken from ANTHROPIC_WORK_SECRET.
    #[arg(long, env = "ANTHROPIC_WORK_ID", value_name = "ID")]
    work_id: String,

    /// Where tools work.
    #[arg(long, value_name = "DIR", default_value = ".")]
    workdir: PathBuf,

    /// How long the session may be idle after its turn before its item is ended. 0 means for ever.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    max_idle: Duration,

    /// The control plane's address.
    #[arg(long, env = "ANTHROPIC_BASE_URL", value_name = "URL", default_value = "https://api.anthropic.com")]
    base_url: String,

    /// How log lines look. RUST_LOG says which there are.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

/// Serves the item to its end.
pub(super) fn worker(arguments: &WorkerArguments) -> Result<Exit, Failure> {
    logging::start(arguments.log_format, None);
    let configuration = |error: anyhow::Error| Failure::new(Exit::Configuration, error);
    let token = std::env::var(SECRET_VARIABLE).ok().and_then(|secret| cma::token_of(&secret));
    let key = key(arguments)?;
    let credential = token.or_else(|| key.clone()).ok_or_else(|| {
        Failure::say(
            Exit::Configuration,
            format!("{SECRET_VARIABLE} holds no session token, and there is no key"),
        )
        .hint(format!(
            "set {SECRET_VARIABLE} to the item's `secret`, or {KEY_VARIABLE} to its environment's key"
        ))
    })?;
    let workdir = arguments.workdir.canonicalize();
    let workdir = workdir
        .with_context(|| format!("could not use {} as the working directory", arguments.workdir.display()))
        .map_err(|error| configuration(error).hint("name a folder that is there with `--workdir`"))?;
    let folder = tempfile::Builder::new().prefix("remuda-worker-").tempdir();
    let folder = folder.context("could not make a folder for the hand").map_err(configuration)?;
    let item = WorkItem {
        id: arguments.work_id.as_str().into(),
        environment: arguments.environment_id.as_str().into(),
        target: Target::Session(arguments.session_id.as_str().into()),
        credential: Some(credential),
    };
    let options = || cma::Options {
        base_url: arguments.base_url.clone(),
        worker_id: "worker".to_owned(),
        queues: Vec::new(),
    };
    let client = || cma::Client::new(options()).map_err(|error| configuration(error.into()));
    let hand = vec!["hand".to_owned()];
    let ports = Ports {
        control: Arc::new(SingleItem::new(client()?, item.clone())),
        provider: Arc::new(HereProvider::new(program()?, hand, workdir, folder.path())),
        journal: Arc::new(Volatile),
    };
    let mut settings = Settings::new(OwnerId::new("worker"), [item.environment.clone()]);
    settings.max_sessions = 1;
    settings.seed = rand::rng().random();
    settings.session.max_idle = Some(arguments.max_idle).filter(|time| !time.is_zero());
    (settings.herd.warm, settings.herd.park_for) = (0, Duration::ZERO);
    settings.on_drain = OnDrain::Release;
    super::block_on(serve(ports, settings, client()?, item))?
}

fn key(arguments: &WorkerArguments) -> Result<Option<Secret>, Failure> {
    let text = match &arguments.environment_key_file {
        None => std::env::var(KEY_VARIABLE).ok(),
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.with_context(|| format!("could not read the key from {}", path.display()));
            Some(text.map_err(|error| Failure::new(Exit::Configuration, error))?)
        }
    };
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()).map(Secret::new))
}

async fn serve(
    ports: Ports,
    settings: Settings,
    client: cma::Client,
    item: WorkItem,
) -> Result<Exit, Failure> {
    let gave_up = |error: anyhow::Error| Failure::new(Exit::GaveUp, error);
    let mut signals = Signals::listen()
        .map_err(|error| gave_up(anyhow::Error::new(error).context("could not listen for signals")))?;
    let tree = Tree::start(ports, settings).await.map_err(|error| gave_up(error.into()))?;
    let notices = tree.subscribe();
    let ended = tokio::select! {
        biased;
        () = signals.next() => None,
        ended = ended(notices) => ended,
    };
    tree.drain(GRACE).await;
    match ended {
        Some((Outcome::Finished | Outcome::Stopped, _)) => Ok(Exit::Clean),
        // Another holds the item, which is no fault of ours; nothing of it is touched any more.
        Some((Outcome::Lost, reason)) => {
            tracing::warn!(reason, "the lease is lost");
            Ok(Exit::HandedBack)
        }
        Some((outcome, reason)) => {
            Err(Failure::say(Exit::Failed, format!("the item was not served ({outcome:?}): {reason}")))
        }
        None => {
            // A worker that is told to end gives its item up, so that nobody waits for the lease to lapse.
            let stopped = tokio::time::timeout(STOP, client.stop(&item, StopMode::Force)).await;
            if !matches!(stopped, Ok(Ok(()))) {
                tracing::warn!("the item could not be stopped; its lease lapses");
            }
            Ok(Exit::HandedBack)
        }
    }
}

/// How the session ends.
async fn ended(mut notices: Receiver<Notice>) -> Option<(Outcome, String)> {
    loop {
        match notices.recv().await {
            Ok(Notice::Ended { outcome, reason, .. }) => return Some((outcome, reason.to_string())),
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Some((Outcome::Failed, "the tree gave up".to_owned())),
        }
    }
}
