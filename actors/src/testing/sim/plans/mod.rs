//! The plans there are.

mod calm;
mod control;
mod everything;
mod hand;
mod journal;
mod lease;
mod outfit;
mod outside;
mod process;
mod provider;

use std::sync::Arc;

use super::Plan;

/// All plans, in the order in which people see them.
pub fn all() -> Vec<Arc<dyn Plan>> {
    vec![
        Arc::new(calm::Calm),
        Arc::new(control::Storm),
        Arc::new(control::Throttling),
        Arc::new(control::Slow),
        Arc::new(control::LostAnswers),
        Arc::new(control::BadLines),
        Arc::new(control::Redelivery),
        Arc::new(control::NoHints),
        Arc::new(lease::Delayed),
        Arc::new(lease::LateClaims),
        Arc::new(lease::Stolen),
        Arc::new(lease::Jumps),
        Arc::new(lease::Stops),
        Arc::new(lease::Users),
        Arc::new(control::Poison),
        Arc::new(provider::BrownOut),
        Arc::new(provider::LateCreate),
        Arc::new(provider::Refusal),
        Arc::new(provider::SlowDelete),
        Arc::new(provider::BadListings),
        Arc::new(provider::NoListings),
        Arc::new(provider::Vanishing),
        Arc::new(hand::Dying),
        Arc::new(hand::Hanging),
        Arc::new(hand::Stammering),
        Arc::new(hand::FullDisk),
        Arc::new(outfit::Unfurnished),
        Arc::new(outside::Failing),
        Arc::new(outside::Reboots),
        Arc::new(journal::FullDisk),
        Arc::new(journal::Slow),
        Arc::new(process::Panics),
        Arc::new(process::KilledWriting),
        Arc::new(process::Killed),
        Arc::new(process::Reboots),
        Arc::new(process::Restarts),
        Arc::new(process::Replaced),
        Arc::new(process::Partition),
        Arc::new(everything::Everything),
    ]
}
