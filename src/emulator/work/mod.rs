//! Work items: the queue of each environment, and the lease of each item.

mod lease;
mod machine;
mod queue;

pub use machine::Lapse;

pub(super) use lease::Timers;
pub(super) use machine::{MIN_TTL, Policy};
pub(super) use queue::{Subject, WorkQueue};
