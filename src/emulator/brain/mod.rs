//! Brains: what plays the model of a session.
//!
//! A turn starts when messages wait and none runs. A brain then runs as one task for that turn, and a session
//! at rest has no task at all.
//!
//! | Brain | Chosen by | Does |
//! |---|---|---|
//! | [`shell`] | nothing, or the agent's `metadata.brain = shell` | runs each line of the message as a `bash` call |
//! | [`script`] | `metadata.scenario` of the session, else of the agent | plays a scenario and judges the results |
//! | silent | the agent's `metadata.brain = silent` | nothing; an in-process test plays the model |

mod script;
mod shell;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use remuda_actors::ids::{SessionId, ThreadId};

use super::scenario::{Mismatch, Outcome, Scenario, Variables, Verdict};
use super::session::Turn;
use super::world::Shared;
use stage::Stage;

/// The brain a session was given.
#[derive(Clone, Debug)]
pub(super) enum Assigned {
    /// None; a test plays the model.
    Silent,
    /// Each line is a command.
    Shell,
    /// A scenario.
    Script(Box<Script>),
}

/// A scenario, and how far a session has come in it.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) scenario: Arc<Scenario>,
    pub(super) variables: Variables,
    /// Index of the turn that runs or comes next.
    pub(super) turn: usize,
    pub(super) verdict: Verdict,
    /// Child threads opened so far, by the scenario's name for them.
    threads: BTreeMap<String, ThreadId>,
    /// Whether an interrupt is part of the turn that runs.
    interrupt: Interrupt,
}

/// What an interrupt means to a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interrupt {
    /// Something went wrong.
    Mismatch,
    /// The planned end of the turn.
    EndsTurn,
}

impl Script {
    pub(super) fn new(scenario: Arc<Scenario>, variables: Variables) -> Self {
        let verdict = Verdict::new(&scenario.name);
        Self {
            scenario,
            variables,
            turn: 0,
            verdict,
            threads: BTreeMap::new(),
            interrupt: Interrupt::Mismatch,
        }
    }

    /// Whether the emulator sends the first message itself.
    pub(super) fn opens(&self) -> bool {
        self.scenario.turns.first().is_some_and(|turn| turn.message.is_some())
    }

    /// Goes on to the next turn; after the last one the verdict is final.
    fn advance(&mut self) {
        self.turn += 1;
        self.interrupt = Interrupt::Mismatch;
        let left = self.turn < self.scenario.turns.len();
        self.verdict.advance(left.then_some(self.turn + 1));
    }
}

impl Assigned {
    /// Notes that something was not as the scenario expected.
    pub(super) fn fail(&mut self, expected: String, got: String) {
        self.fail_call(None, expected, got);
    }

    fn fail_call(&mut self, call: Option<String>, expected: String, got: String) {
        if let Self::Script(script) = self {
            let turn = (script.turn + 1).min(script.scenario.turns.len());
            script.verdict.fail(Mismatch { turn, call, expected, got });
        }
    }

    /// From here on an interrupt is the planned end of the turn.
    fn plan_interrupt(&mut self) {
        if let Self::Script(script) = self {
            script.interrupt = Interrupt::EndsTurn;
        }
    }

    /// The turn that runs is being interrupted.
    pub(super) fn interrupted(&mut self) {
        match self {
            // After its end a scenario expects nothing any more.
            Self::Script(script) if script.verdict.is_final() => {}
            Self::Script(script) if script.interrupt == Interrupt::EndsTurn => script.advance(),
            _ => self.fail("the turn to run to its end".into(), "it was interrupted".into()),
        }
    }

    /// How the scenario went, if there is one.
    pub(super) fn verdict(&self) -> Option<&Verdict> {
        match self {
            Self::Script(script) => Some(&script.verdict),
            Self::Silent | Self::Shell => None,
        }
    }

    /// Fails a scenario that has not come to its end although the session has.
    pub(super) fn session_over(&mut self, how: &str) {
        if let Self::Script(script) = self
            && matches!(script.verdict.outcome, Outcome::Running { .. })
        {
            self.fail("the scenario to come to its end".into(), format!("the session was {how}"));
        }
    }
}

/// Plays one turn of a session.
pub(super) async fn run(shared: Arc<Shared>, session: SessionId, turn: Turn) {
    let brain = shared.with(|world| world.sessions.get(&session).map(|found| found.brain.clone()));
    let stage = Stage::new(shared, session, turn.number);
    // A turn that is over needs nothing more from its brain.
    let _ = match brain {
        None | Some(Assigned::Silent) => Ok(()),
        Some(Assigned::Shell) => shell::play(stage, &turn.messages).await,
        Some(Assigned::Script(script)) => script::play(stage, *script).await,
    };
}

/// Sends the first message of a scenario to a session that was created without one.
pub(super) async fn open(shared: Arc<Shared>, session: SessionId) {
    let brain = shared.with(|world| world.sessions.get(&session).map(|found| found.brain.clone()));
    if let Some(Assigned::Script(script)) = brain {
        script::deliver(&Stage::new(shared, session, 0), &script).await;
    }
}
