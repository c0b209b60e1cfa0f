//! The way in for those who are not the tree's own ports.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Class, Governor};
use crate::ports::ControlError;

/// Gives requests their turn that others make on the tree's behalf: those that get a session ready, and keep its
/// files in step. They come when the tree's own of that kind do ([`Class::Attach`]).
#[derive(Clone)]
pub struct Turns(Option<Arc<Governor>>);

impl Turns {
    pub(crate) fn new(governor: Arc<Governor>) -> Self {
        Self(Some(governor))
    }

    /// Every request may be made at once.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Waits until one request may be made, which must then be made.
    ///
    /// # Errors
    /// [`ControlError::HeldBack`] if too many wait, or this one has waited too long.
    ///
    /// # Cancel safety
    /// If this is dropped, the turn is given up.
    pub async fn turn(&self) -> Result<(), ControlError> {
        match &self.0 {
            Some(governor) => governor.turn(Class::Attach).await,
            None => Ok(()),
        }
    }

    /// The server has answered such a request with a wish for patience.
    pub fn throttled(&self, retry_after: Option<Duration>) {
        if let Some(governor) = &self.0 {
            governor.throttled(Class::Attach, retry_after);
        }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Turns(governed)" } else { "Turns(unlimited)" })
    }
}
