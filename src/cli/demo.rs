//! `remuda demo`: three sessions at once, on a control plane of its own, with a transcript and figures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use remuda_actors::ids::{CallId, SandboxId, SessionId};
use remuda_actors::notice::Notice;
use remuda_actors::ports::HandHealth;
use remuda_actors::session::end::Outcome;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::logging::{self, LogFormat};
use super::run::SandboxArguments;
use super::stage::Stage;
use super::table::{Table, mebibytes, spread};
use super::transcript::{Transcript, short};
use crate::emulator::SessionHandle;
use crate::emulator::scenario::Outcome as Played;
use crate::report::{Exit, Failure};
use crate::shutdown::Signals;

/// The scenarios that are played, all at once.
const SCENARIOS: [&str; 3] = ["program", "server", "permissions"];

/// Longest time all of it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a sandbox stands by here: sooner than a model's shortest thought, so that it can be seen.
const STANDBY_AFTER: Duration = Duration::from_millis(100);

/// How long a session is kept after its turn here.
const MAX_IDLE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct DemoArguments {
    /// Type lines, and see them run in a sandbox.
    #[arg(long)]
    interactive: bool,

    #[command(flatten)]
    sandbox: SandboxArguments,
}

/// Plays the demonstration; only a session that went as scripted is a success.
pub(super) fn demo(arguments: &DemoArguments) -> Result<Exit, Failure> {
    // The transcript is what people want to see; what goes wrong is told beside it.
    logging::start(LogFormat::Text, Some("error,ractor=off"));
    super::block_on(async {
        // Before there is anything to clear away.
        let mut signals = Signals::listen_on_terminal().map_err(|error| Failure::new(Exit::GaveUp, error))?;
        if arguments.interactive {
            super::interactive::interactive(&arguments.sandbox, &mut signals).await
        } else {
            play(&arguments.sandbox, &mut signals).await
        }
    })?
}

async fn play(sandbox: &SandboxArguments, signals: &mut Signals) -> Result<Exit, Failure> {
    let stage = Stage::set(sandbox, |settings| {
        settings.session.max_idle = Some(MAX_IDLE);
        settings.sandbox.standby_after = Some(STANDBY_AFTER);
    })
    .await?;
    let mut figures = Figures::default();
    let performed = tokio::select! {
        biased;
        () = signals.next() => None,
        performed = tokio::time::timeout(PATIENCE, perform(&stage, &mut figures)) => Some(performed),
    };
    let passed = match performed {
        Some(Ok(sessions)) => sessions.map(|sessions| close(&figures, &sessions)),
        Some(Err(_)) => {
            anstream::println!("\nIt took longer than {PATIENCE:?}, so something is wrong.");
            Ok(false)
        }
        None => {
            anstream::println!("\nInterrupted.");
            Ok(false)
        }
    };
    stage.strike(signals).await;
    passed.map(|passed| if passed { Exit::Clean } else { Exit::Failed })
}

/// What the tree said about each session.
#[derive(Debug, Default)]
struct Figures(BTreeMap<SessionId, Figure>);

#[derive(Debug, Default)]
struct Figure {
    sandbox: Option<SandboxId>,
    sandbox_start: Option<Duration>,
    thaws: Vec<Duration>,
    runs: BTreeMap<CallId, Duration>,
    /// When calls that ask were allowed.
    allowed: BTreeMap<CallId, Instant>,
    hand: Option<HandHealth>,
    outcome: Option<Outcome>,
}

impl Figures {
    fn take(&mut self, notice: &Notice) {
        match notice {
            Notice::Sandbox { session, sandbox, from, took, .. } => {
                let figure = self.0.entry(session.clone()).or_default();
                figure.sandbox = Some(sandbox.clone());
                match *from {
                    "creating" => figure.sandbox_start = Some(*took),
                    "thawing" => figure.thaws.push(*took),
                    _ => {}
                }
            }
            Notice::CallFinished { session, call, run: Some(run), .. } => {
                self.0.entry(session.clone()).or_default().runs.insert(call.clone(), *run);
            }
            Notice::Ended { session: Some(session), outcome, .. } => {
                self.0.entry(session.clone()).or_default().outcome = Some(*outcome);
            }
            _ => {}
        }
    }
}

/// Plays all scenarios and prints what happens, until the last session has ended.
async fn perform(stage: &Stage, figures: &mut Figures) -> Result<Vec<(String, SessionHandle)>, Failure> {
    let mut notices = stage.tree.subscribe();
    let (tell, mut events) = mpsc::channel::<(SessionId, Value)>(1024);
    let mut followers = JoinSet::new();
    let mut sessions = Vec::new();
    for scenario in SCENARIOS {
        let made = stage.emulator.create_scenario(&stage.environment.id, &stage.agent, scenario, &[]);
        let session = made.map_err(|error| Failure::new(Exit::Failed, error))?;
        if let Some(mut subscription) = session.subscribe() {
            let (tell, id) = (tell.clone(), session.id().clone());
            followers.spawn(async move {
                while let Some(event) = subscription.next().await {
                    let event = serde_json::from_slice(event.json()).unwrap_or_default();
                    if tell.send((id.clone(), event)).await.is_err() {
                        return;
                    }
                }
            });
        }
        sessions.push((scenario.to_owned(), session));
    }
    let names: Vec<_> = sessions.iter().map(|(name, session)| (session.id().clone(), name.clone())).collect();
    let mut transcript = Transcript::new(&names);
    let mut looks = JoinSet::new();
    while figures.0.values().filter(|figure| figure.outcome.is_some()).count() < sessions.len() {
        tokio::select! {
            biased;
            notice = notices.recv() => match notice {
                Ok(notice) => {
                    figures.take(&notice);
                    transcript.notice(&notice);
                    if let Notice::CallFinished { session, .. } = &notice
                        && let Some(figure) = figures.0.get(session)
                        && let (None, Some(sandbox)) = (&figure.hand, &figure.sandbox)
                    {
                        let (look, session) = (stage.look(sandbox), session.clone());
                        looks.spawn(async move { (session, look.await) });
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(Failure::say(Exit::GaveUp, "the tree ended")),
            },
            Some((session, event)) = events.recv() => {
                if event["type"] == "user.tool_confirmation" {
                    let call = CallId::from(event["tool_use_id"].as_str().unwrap_or_default());
                    figures.0.entry(session.clone()).or_default().allowed.insert(call, Instant::now());
                }
                transcript.event(&session, &event);
            }
            Some(Ok((session, Some(health)))) = looks.join_next() => {
                figures.0.entry(session).or_default().hand = Some(health);
            }
        }
    }
    Ok(sessions)
}

/// Prints the figures; whether every session went as scripted.
fn close(figures: &Figures, sessions: &[(String, SessionHandle)]) -> bool {
    let mut table = Table::new(&[
        "session",
        "verdict",
        "pick-up",
        "sandbox start",
        "resume",
        "calls",
        "tool overhead p50 / max",
        "hand: own memory",
        "with program",
    ]);
    let mut failures = Vec::new();
    for (name, session) in sessions {
        let nothing = Figure::default();
        let figure = figures.0.get(session.id()).unwrap_or(&nothing);
        let verdict = session.verdict();
        let passed = verdict.as_ref().is_some_and(|verdict| verdict.passed())
            && figure.outcome == Some(Outcome::Finished);
        if !passed {
            failures.push(match verdict.map(|verdict| verdict.outcome) {
                Some(Played::Failed(mismatch)) => format!(
                    "{name}, turn {}{}: expected {}, got {}",
                    mismatch.turn,
                    mismatch.call.map(|call| format!(", {call}")).unwrap_or_default(),
                    mismatch.expected,
                    mismatch.got
                ),
                other => format!("{name}: ended as {:?}, its scenario at {other:?}", figure.outcome),
            });
        }
        let timing = session.timing();
        let claim = timing.as_ref().and_then(|timing| timing.claims.front());
        let picked_up = claim.and_then(|claim| Some(claim.acked_at?.duration_since(claim.queued_at)));
        table.row(vec![
            name.clone(),
            if passed { "passed".to_owned() } else { "FAILED".to_owned() },
            picked_up.map(short).unwrap_or_default(),
            figure.sandbox_start.map(short).unwrap_or_default(),
            spread(figure.thaws.clone()),
            figure.runs.len().to_string(),
            spread(timing.map(|timing| overheads(&timing.calls, figure)).unwrap_or_default()),
            figure.hand.as_ref().map(|hand| mebibytes(hand.private_bytes)).unwrap_or_default(),
            figure.hand.as_ref().map(|hand| mebibytes(hand.rss_bytes)).unwrap_or_default(),
        ]);
    }
    anstream::println!();
    table.print();
    anstream::println!(
        "\nPick-up: queued until acknowledged. Tool overhead: call emitted until its result was accepted, less the\n\
         time the tool ran. This process, the emulator and all sessions included, holds {}.",
        own_rss().map(mebibytes).unwrap_or_default()
    );
    for failure in &failures {
        anstream::println!("FAILED {failure}");
    }
    failures.is_empty()
}

/// What each call cost besides running. Calls that were made together run one after the other, so each begins
/// when the one before it was answered; one that asks begins when it was allowed.
fn overheads<'a>(
    calls: impl IntoIterator<Item = &'a crate::emulator::CallTiming>,
    figure: &Figure,
) -> Vec<Duration> {
    let mut free = None;
    let costs = calls.into_iter().filter_map(|call| {
        let (run, resolved) = (figure.runs.get(&call.call)?, call.resolved_at?);
        let began = [Some(call.emitted_at), free, figure.allowed.get(&call.call).copied()];
        let began = began.into_iter().flatten().max()?;
        free = Some(resolved);
        Some(resolved.saturating_duration_since(began).saturating_sub(*run))
    });
    costs.collect()
}

/// Resident memory of this process, in bytes.
fn own_rss() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
