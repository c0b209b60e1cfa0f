//! A supervised actor tree that runs each Claude Managed Agents session in a sandbox of its own.

pub mod backoff;
mod context;
mod effects;
pub mod event;
pub mod fault;
pub mod ids;
mod ledger;
pub mod machine;
pub mod notice;
pub mod poller;
pub mod ports;
pub mod reaper;
mod root;
pub mod sandbox;
pub mod secret;
pub mod session;
mod sessions;
mod settings;
mod snapshot;
pub mod supervision;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
pub mod tool;
mod tree;

pub use settings::{Backoffs, Deadlines, Ports, Settings};
pub use snapshot::{SessionView, Snapshot};
pub use tree::{Drained, StartError, Tree, TreeError};
