//! What goes wrong, when, and what may come of it.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Act, Dice, Fate, Request};
use crate::Settings;
use crate::ports::{CareLimits, OwnerId};
use crate::supervision::ActorKind;

/// The queue that all hosts serve.
pub(super) const ENVIRONMENT: &str = "env_sim";

/// The name of the tool that is outside all sandboxes.
pub(super) const OUTSIDE: &str = "lookup";

/// A way in which the world goes wrong.
///
/// A plan keeps no state and draws from the dice it is given, so that one seed has one history. It is asked about
/// the first part of a run only; in the rest everything works, and everything has to come to an end.
pub trait Plan: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &str;

    /// What will happen, in a sentence or two: what the world does, and what comes of it.
    fn predicts(&self) -> &str;

    /// Changes the world and the tree's settings before the beginning.
    fn prepare(&self, _setup: &mut Setup) {}

    /// What becomes of a request. The dice are its own.
    fn fate(&self, _request: &Request<'_>, _dice: &mut Dice) -> Fate {
        Fate::Fine
    }

    /// What happens beside the requests, and when since the beginning. It has to happen within `during`.
    fn acts(&self, _setup: &Setup, _during: Duration, _dice: &mut Dice) -> Vec<(Duration, Act)> {
        Vec::new()
    }

    /// Whether an actor fails instead of taking an event. The dice are those of this one event.
    fn sabotage(&self, _actor: ActorKind, _event: &str, _dice: &mut Dice) -> bool {
        false
    }
}

/// The world before the beginning.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How every tree works. Everything that takes long takes less long than by default, so that much happens in
    /// ten minutes.
    pub settings: Settings,
    /// Processes that serve the queue, each with a provider and a journal of its own. Default 1.
    pub hosts: usize,
    /// How long a lease runs. Default 40 s.
    pub lease: Duration,
    /// Items of every hundred that nobody can serve. Default 0.
    pub poison: u32,
    /// Calls of every thousand that are of a tool outside all sandboxes. Default 0.
    pub outside: u32,
    /// Sandboxes of strangers at each provider, which lists them as well. Default 0.
    pub strangers: usize,
    /// Whether trees are told at once that there is work. Default yes.
    pub hints: bool,
    /// Whether sandboxes are furnished. Default no.
    pub outfits: bool,
    /// Whether nothing here costs a lease or an answer: no item is given up, and every call is answered with what it
    /// came to. Default no.
    pub keeps_answers: bool,
}

impl Setup {
    pub(super) fn new(sessions: usize) -> Self {
        let secs = Duration::from_secs;
        let mut settings = Settings::new(OwnerId::new("host-0"), [ENVIRONMENT.into()]);
        settings.max_sessions = sessions.div_ceil(2).max(4);
        settings.session.max_idle = Some(secs(15));
        settings.session.max_silence = Some(secs(60));
        settings.session.parallel_calls = 2;
        settings.admission.max_starts = NonZeroUsize::MIN.saturating_add(1);
        settings.sandbox.standby_after = Some(secs(4));
        settings.herd.park_for = secs(90);
        settings.reaper.interval = secs(20);
        settings.reaper.grace = secs(30);
        settings.deadlines.call = secs(40);
        settings.deadlines.fit = secs(20);
        settings.deadlines.care = CareLimits { between: secs(8), farewell: secs(12) };
        settings.backoffs.poll.cap = secs(10);
        Self {
            settings,
            hosts: 1,
            lease: secs(40),
            poison: 0,
            outside: 0,
            strangers: 0,
            hints: true,
            outfits: false,
            keeps_answers: false,
        }
    }
}
