//! `remuda demo --interactive`: each line typed is a message to a session whose agent runs it as it is.

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::run::SandboxArguments;
use super::stage::Stage;
use super::transcript::short;
use crate::emulator::SessionHandle;
use crate::report::{Exit, Failure};
use crate::shutdown::Signals;

/// Longest time one line may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Reads lines until there are no more, or until it is interrupted.
pub(super) async fn interactive(sandbox: &SandboxArguments, signals: &mut Signals) -> Result<Exit, Failure> {
    // The session is kept for as long as somebody types.
    let stage = Stage::set(sandbox, |settings| settings.session.max_idle = None).await?;
    let terminal = std::io::stdin().is_terminal();
    if terminal {
        anstream::println!("Each line runs in a sandbox of its own. Ctrl-D or Ctrl-C ends it.");
    }
    let done = tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        done = converse(&stage, terminal) => done,
    };
    stage.strike(signals).await;
    done.map(|()| Exit::Clean)
}

async fn converse(stage: &Stage, terminal: bool) -> Result<(), Failure> {
    let failed = |error: anyhow::Error| Failure::new(Exit::Failed, error);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut session: Option<SessionHandle> = None;
    loop {
        if terminal {
            anstream::print!("sandbox $ ");
            let _ = std::io::stdout().flush();
        }
        let line = lines.next_line().await.map_err(|error| failed(error.into()))?;
        let Some(line) = line else { return Ok(()) };
        if line.trim().is_empty() {
            continue;
        }
        let begun = Instant::now();
        let (handle, seen) = match &session {
            Some(handle) => {
                let seen = handle.events().len();
                handle.message(&line).map_err(|error| failed(error.into()))?;
                (handle, seen)
            }
            None => {
                let made = stage.emulator.create_session(&stage.environment.id, &stage.agent, &line);
                (&*session.insert(made.map_err(|error| failed(error.into()))?), 0)
            }
        };
        if handle.wait_idle(PATIENCE).await.is_none() {
            anstream::println!("no answer within {PATIENCE:?}");
        }
        for event in handle.events().iter().skip(seen).filter(|event| event.kind() == "agent.message") {
            let event: serde_json::Value = serde_json::from_slice(event.json()).unwrap_or_default();
            anstream::println!("{}", event["content"][0]["text"].as_str().unwrap_or_default());
        }
        if terminal {
            let dim = anstyle::Style::new().dimmed();
            anstream::println!("{dim}{}{dim:#}", short(begun.elapsed()));
        }
    }
}
