//! Why something could not be furnished, and whose fault that is.

use remuda_actors::fault::{Fault, FaultClass};
use remuda_actors::ports::{ControlError, HandError, OutfitError};

use crate::hand::client::ClientError;

/// Why something could not be furnished.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The sandbox did not do it.
    #[error("{0}")]
    Sandbox(Fault),
    /// What was to be brought there cannot be had, or must not be used.
    #[error("{0}")]
    Supply(Fault),
}

impl Trouble {
    /// A sandbox that this cannot be done in.
    pub(super) fn sandbox(what: String) -> Self {
        Self::Sandbox(Fault::new(FaultClass::Permanent, what))
    }

    /// Something that no sandbox can be given.
    pub(super) fn supply(what: String) -> Self {
        Self::Supply(Fault::new(FaultClass::Permanent, what))
    }
}

impl From<ControlError> for Trouble {
    fn from(error: ControlError) -> Self {
        Self::Supply(error.fault())
    }
}

impl From<HandError> for Trouble {
    fn from(error: HandError) -> Self {
        Self::Sandbox(error.fault())
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        HandError::from(error).into()
    }
}

impl From<Trouble> for OutfitError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Sandbox(fault) => Self::Sandbox(fault),
            Trouble::Supply(fault) => Self::Supply(fault),
        }
    }
}
