//! The ports of one process: the fakes, seen through a [life](super::life) on which everything goes wrong, and
//! watched on both ways.

mod control;
mod journal;
mod outfitter;
mod provider;
mod stream;
mod tool;

use std::sync::Arc;

pub(super) use self::control::Offered;

use super::life::Life;
use crate::ports::{CustomPlace, Outfitter};
use crate::settings::Ports;

/// The ports of a process.
pub(super) fn of(life: &Arc<Life>) -> Ports {
    Ports {
        control: Arc::new(control::Control(Arc::clone(life))),
        provider: Arc::new(provider::Provider(Arc::clone(life))),
        journal: Arc::new(journal::Memory(Arc::clone(life))),
    }
}

/// Where the tool outside is, for a process.
pub(super) fn outside(life: &Arc<Life>) -> CustomPlace {
    CustomPlace::Outside(Arc::new(tool::Tool(Arc::clone(life))))
}

/// The outfitter of a process.
pub(super) fn outfitter(life: &Arc<Life>) -> Arc<dyn Outfitter> {
    Arc::new(outfitter::Furnisher(Arc::clone(life)))
}
