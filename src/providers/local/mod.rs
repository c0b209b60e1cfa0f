//! Sandboxes on this host, out of what the kernel has: nothing to install, no daemon, no root.
//!
//! Each sandbox has a folder, and everything about it is in there: [what it is](crate::launch::Spec), its
//! files, its hand's socket and journal, and a lock that its launcher holds while it lives. So a remuda that
//! was started anew finds its sandboxes by looking, and needs no memory of them.
//!
//! # Invariants
//! - A sandbox's folder appears whole, under its name, or not at all.
//! - What has no living launcher is dead, whatever its files say; what is dead is listed until it is deleted.
//!
//! # Not here
//! What a sandbox sees, and how it is started ([`launch`](crate::launch)).

mod delegation;
mod delete;
mod discard;
mod disk;
mod groups;
mod hand;
mod hierarchies;
mod leftovers;
mod processes;
mod provider;
mod signals;
mod standby;
mod start;
mod succession;
mod unreadable;
mod usage;
mod wait;

pub use hierarchies::Cgroups;
pub use provider::{LocalProvider, Options, SetupError};
