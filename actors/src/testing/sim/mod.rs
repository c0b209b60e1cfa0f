//! Whole trees in a world that goes wrong, with everything drawn from one seed.
//!
//! ```text
//!            ┌ host 0 ─────────────────────────┐
//!  plan ──▶  │ tree ──▶ ports ──▶ fakes        │   the ports ask the plan what becomes of each request, and
//!  (fates,   └──────────│──────────────────────┘   show both ways of it to the watch, which knows what every
//!   acts)               ▼                          process was told and what is so
//!            ┌ one control plane ┐   watch ──▶ broken invariants
//! ```
//!
//! One seed has one history: a run has one thread, tokio's paused clock, and draws everything from
//! [`Dice`] that depend on the seed and on what is decided. [`simulate`] runs one seed of one [`Plan`] and
//! [`shrink`] finds the shortest beginning of its faults that still breaks something. What must hold is in
//! [`Invariant`].
//!
//! # Not here
//! What adapters do with real sockets, files and processes; the machines' own tests, which are exhaustive where
//! this draws.

mod dice;
mod director;
mod fate;
mod invariant;
mod life;
mod plan;
pub mod plans;
mod ports;
mod process;
mod request;
mod run;
mod trace;
mod traffic;
mod watch;
mod world;

pub use dice::Dice;
pub use fate::{Act, Failure, Fate};
pub use invariant::{Broken, Invariant};
pub use plan::{Plan, Setup};
pub use request::{Operation, Port, Request};
pub use run::{Options, QUIET, Report, shrink, simulate};
pub use trace::{Line, Weight};
