//! The processes around a local sandbox: the launcher that keeps it, and what turns it into one.
//!
//! ```text
//! remuda ──spawns──▶ launcher (own session and keyring, nothing left open, joins the cgroups, drops to an id of its own)
//!                      │ unshares user, mount, pid, ipc, uts, cgroup and network namespaces
//!                      └─ inside: process 1 of the sandbox
//!                           │ builds the file system, gives all privileges and some system calls up
//!                           └─ becomes the hand
//! ```
//!
//! The launcher is detached, so the sandbox outlives remuda. The two below are tied together: when the
//! launcher dies the kernel kills process 1, and with that everything in the sandbox; when process 1 ends,
//! the launcher writes down how, and ends too. A [lock](Keeper) that the launcher holds on a file in the
//! sandbox's folder says whether it lives; no process id is trusted on its own.
//!
//! # Protocol
//! Process 1 sends a byte through its standard input, a socket, once it is tied to the launcher; only then is it
//! sent what it is to be, as JSON, up to the end of the stream. The launcher's standard output carries one line:
//! `ready`, or a [`Refusal`] in JSON. Its standard error is the sandbox's log file.
//!
//! # Not here
//! Which sandboxes there are, freezing and deleting them ([`providers::local`](crate::providers::local)).

mod etc;
mod inside;
mod keyring;
mod lock;
mod loopback;
mod mounts;
mod outside;
mod spec;
mod syscalls;

pub use inside::inside;
pub use lock::{Keeper, Seizure, keeper, seize};
pub use outside::launch;
pub use spec::{Folder, Isolation, Limits, Network, Refusal, RefusalKind, Spec};
