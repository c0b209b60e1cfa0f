//! Items that are served by a worker of their own: in a sandbox, or by a command on this host.
//!
//! The tree claims such an item, finds out how its session is to be served, starts the worker and supervises it. The
//! lease is the worker's from the first beat on: here it is only looked at, and never beaten.

pub(crate) mod actor;
pub mod machine;
mod policy;
pub mod signals;

pub use policy::Policy;
