//! The durable journal: what is held, and must still be known when this process has been killed.
//!
//! An adapter of [`Journal`](remuda_actors::ports::Journal). In the state directory it has two files, which
//! belong together:
//!
//! | File | What it is |
//! |---|---|
//! | `journal.redb` | the tables of a [redb](https://www.redb.org): what all facts come to |
//! | `journal.log` | the log: the facts since the tables were last written |
//!
//! ```text
//!           fact          one write                 one commit, two syncs
//! append ─────────► queue ─────────► journal.log ─────────────────────────► journal.redb
//!    ▲                                    │          at 512 KiB of log,          │
//!    └────────────── answer ──────────────┘          before a replay,            ▼
//!                                                    at the start and the end   replay
//! ```
//!
//! # Why there is a log
//! Before each tool call one append is waited for, so it must not take as long as a disk does. A commit to
//! redb that survives the process needs a sync; without one redb reads nothing of it after a crash, and a
//! sync that is put off would let the disk have a commit's pages without those of the commits before it,
//! which redb finds out and cannot mend. A log has neither problem: what was written to it is the kernel's,
//! whatever becomes of this process, and if power is lost what is missing of it is at its end.
//!
//! Measured on two busy cores and a virtual disk, one append at a time (with 32 at once, each):
//!
//! | | p50 | p99 | bytes written |
//! |---|---|---|---|
//! | a commit to redb, synced | 0.23 to 1 ms | 0.6 to 5 ms | 29,000 |
//! | a commit to redb, not synced, of no use | 0.03 ms | 0.07 ms | 29,000 |
//! | [`Durability::Always`] | 0.25 ms (0.29 ms) | 0.6 ms (1.3 ms) | 200 |
//! | [`Durability::EverySecond`], the default | 0.05 ms (0.07 ms) | 0.15 ms (1.1 ms) | 200 |
//!
//! Every 2,000 records or so the tables take the log over, which keeps whoever comes just then waiting for
//! some 10 ms. While they cannot, for want of room, the log grows to 16 MiB before appends fail.
//!
//! # Invariants
//! - An append that returned is there when the process is killed at any later moment. What a loss of power
//!   can take is said at [`Durability`]; it takes from the end, and never leaves a file that cannot be read.
//! - A sandbox that was taken off the shelf is off it after a loss of power too.
//! - A file that is refused is left as it is, to the byte.
//! - Both files are for their owner alone. Credentials are in them and in nothing else: in no message, no log
//!   line and no `Debug`. What has ended is no longer told, and its bytes are overwritten by and by.
//! - The files grow with what is held, not with what was: about 3.5 KiB for each live session.
//!
//! # Not here
//! Who else may use the state directory ([`state_dir`](crate::state_dir)), and what a replay means to a tree
//! that starts ([`remuda_actors`]).

mod error;
mod fact;
mod files;
mod inspect;
mod journal;
mod log;
mod tables;
mod writer;

pub use error::StoreError;
pub use journal::{Durability, Store};
