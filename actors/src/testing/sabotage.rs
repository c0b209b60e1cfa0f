//! Actors that fail on purpose.

use std::fmt;
use std::sync::Arc;

use crate::supervision::ActorKind;

type Decide = dyn Fn(ActorKind, &str) -> bool + Send + Sync;

/// Decides, before each event that an actor handles, whether the actor fails instead.
#[derive(Clone)]
pub struct Sabotage(Arc<Decide>);

impl Sabotage {
    /// Fails every handler for which `decide` says so, given the actor and the event's name.
    pub fn new(decide: impl Fn(ActorKind, &str) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(decide))
    }

    /// Fails if it is decided so. Errors and panics take the same way through supervision, and an error
    /// keeps the test's output clean.
    pub(crate) fn strike(&self, actor: ActorKind, event: &str) -> Result<(), String> {
        if (self.0)(actor, event) {
            return Err(format!("sabotaged: {} failed at `{event}`", actor.name()));
        }
        Ok(())
    }
}

impl fmt::Debug for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sabotage")
    }
}
