//! `remuda sandboxes`: what sandboxes there are on this host, and a way into them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{Limits, SandboxProvider as _, SandboxSpec};

use super::bridge;
use super::logging::{self, LogFormat};
use super::run::{SandboxArguments, default_state_dir, local_provider};
use super::table::Table;
use crate::providers::local::{Bystander, Standing};
use crate::report::{Exit, Failure};
use crate::shutdown::Signals;
use crate::state_dir::StateDir;

/// The name of the sandbox that `mcp --new` makes.
const NEW: &str = "mcp.1";

/// How long that may take to be gone at the end.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct SandboxesCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sandboxes that a `remuda run` keeps or has left.
    List(Place),
    /// Be an MCP server on standard input and output that works in a sandbox.
    Mcp(McpArguments),
}

/// Where the sandboxes are.
#[derive(Debug, Args)]
struct Place {
    /// The state directory of the `remuda run` that made them.
    #[arg(long, value_name = "DIR", env = "REMUDA_STATE_DIR", hide_env = true)]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct McpArguments {
    /// A sandbox, or the session that it was made for.
    #[arg(required_unless_present = "new", conflicts_with = "new")]
    sandbox: Option<String>,

    /// Make a sandbox for this alone, which goes when standard input ends.
    #[arg(long)]
    new: bool,

    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    options: SandboxArguments,
}

impl Place {
    fn bystander(&self) -> Result<Bystander, Failure> {
        let state_dir = self.state_dir.clone().map_or_else(default_state_dir, Ok)?;
        Ok(Bystander::new(state_dir.join("sandboxes")))
    }
}

/// Does what is asked.
pub(super) fn sandboxes(command: &SandboxesCommand) -> Result<Exit, Failure> {
    match &command.command {
        Command::List(place) => list(&place.bystander()?),
        Command::Mcp(arguments) => {
            // Standard output is the client's.
            logging::start(LogFormat::Text, Some("warn"));
            super::block_on(async {
                let mut signals = Signals::listen_on_terminal().map_err(|error| {
                    Failure::new(
                        Exit::GaveUp,
                        anyhow::Error::new(error).context("could not listen for signals"),
                    )
                })?;
                match &arguments.sandbox {
                    Some(sandbox) => existing(&arguments.place.bystander()?, sandbox, &mut signals).await,
                    None => new(&arguments.options, &mut signals).await,
                }
            })?
        }
    }
}

fn list(bystander: &Bystander) -> Result<Exit, Failure> {
    let mut table = Table::new(&["sandbox", "session", "state", "age"]);
    for seen in bystander.all().map_err(|error| Failure::new(Exit::Configuration, error))? {
        let session = match seen.session {
            Some(session) => session.to_string(),
            None if seen.is_blank => "(blank)".to_owned(),
            // It was made ahead, and that which took it is not written in its folder.
            None => "(in use)".to_owned(),
        };
        let age = humantime::format_duration(Duration::from_secs(seen.age.as_secs())).to_string();
        table.row(vec![seen.id.to_string(), session, seen.standing.name().to_owned(), age]);
    }
    table.print();
    Ok(Exit::Clean)
}

/// Works in a sandbox that somebody else keeps.
async fn existing(bystander: &Bystander, name: &str, signals: &mut Signals) -> Result<Exit, Failure> {
    let failed = |what: String| {
        Failure::say(Exit::Usage, what).hint("`remuda sandboxes list` names them, and `--new` makes one")
    };
    let seen = bystander.find(name).map_err(|error| Failure::new(Exit::Configuration, error))?;
    let seen = seen
        .ok_or_else(|| failed(format!("there is no sandbox `{name}`, nor one of a session of that name")))?;
    if seen.is_blank {
        return Err(failed(format!(
            "the sandbox `{}` is blank: it is kept for a session that comes",
            seen.id
        )));
    }
    if matches!(seen.standing, Standing::Starting | Standing::Dead) {
        return Err(failed(format!("the sandbox `{}` is {}", seen.id, seen.standing.name())));
    }
    serve(bystander, &seen.id, signals).await
}

/// Works in a sandbox of its own.
async fn new(options: &SandboxArguments, signals: &mut Signals) -> Result<Exit, Failure> {
    let failed = |error: anyhow::Error| Failure::new(Exit::Configuration, error);
    let folder = tempfile::Builder::new().prefix("remuda-mcp-").tempdir();
    let folder =
        folder.map_err(|error| failed(anyhow::Error::new(error).context("could not make a folder")))?;
    let state_dir = StateDir::open(folder.path()).map_err(|error| failed(error.into()))?;
    let provider = Arc::new(local_provider(&state_dir, options)?);
    let id = SandboxId::from(NEW);
    let owner = state_dir.owner().clone();
    let spec = SandboxSpec {
        id: id.clone(),
        owner,
        session: None,
        image: None,
        files_of: None,
        limits: Limits::default(),
    };
    let made = provider.create(&spec).await.map_err(|error| failed(error.into()));
    let served = match made {
        Ok(_) => serve(&Bystander::new(state_dir.sandboxes()), &id, signals).await,
        Err(failure) => Err(failure),
    };
    if tokio::time::timeout(GRACE, provider.delete(&id)).await.is_ok_and(|deleted| deleted.is_ok()) {
        return served;
    }
    // What is left of it is better found than lost.
    Err(Failure::say(Exit::Failed, format!("the sandbox in {} could not be ended", folder.keep().display())))
}

async fn serve(bystander: &Bystander, id: &SandboxId, signals: &mut Signals) -> Result<Exit, Failure> {
    let hand = bystander.hand(id).map_err(|error| {
        let hint = "a sandbox is used by the user whose `remuda run` has made it";
        Failure::new(Exit::Configuration, error).hint(hint)
    })?;
    let bridge = bridge::Bridge::new(bystander.clone(), id.clone(), hand);
    tokio::select! {
        biased;
        () = signals.next() => {}
        () = bridge.carry(tokio::io::stdin(), tokio::io::stdout()) => {}
    }
    bridge.end().await;
    Ok(Exit::Clean)
}
