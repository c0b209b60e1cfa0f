//! Sandboxes on this host, out of what the kernel has: nothing to install, no daemon, no root.
//!
//! Each sandbox has a folder, and everything about it is in there: [what it is](crate::launch::Spec), its
//! files, its hand's socket and journal, and a lock that its launcher holds while it lives. So a remuda that
//! was started anew finds its sandboxes by looking, and needs no memory of them.
//!
//! Nothing about a sandbox is kept in memory: what is asked of it is looked up in its folder, which takes
//! microseconds and cannot be out of date.
//!
//! # Invariants
//! - A sandbox's folder appears whole, under its name, or not at all.
//! - What has no living launcher and no living process 1 is dead, whatever its files say; what is dead is listed
//!   until it is deleted.
//! - Whoever moves or removes what is in a folder holds its [lock](crate::launch::Seizure), so that no launcher
//!   can start in it.
//!
//! # What this cannot do
//! Without isolation, a launcher that is killed leaves its sandbox's processes to the host. Only cgroups then say
//! which those were, so where there are none they go on.
//!
//! # Not here
//! What a sandbox sees, and how it is started ([`launch`](crate::launch)).

mod bystander;
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

pub use bystander::{Bystander, Seen, Standing};
pub use hierarchies::Cgroups;
pub use provider::{LocalProvider, Options, SetupError};
