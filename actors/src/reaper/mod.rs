//! Finds what crashes left behind.

pub(crate) mod actor;
mod plan;

pub use plan::{Policy, orphans};
