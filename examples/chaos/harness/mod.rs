//! Real remudas, real sandboxes, and everything that can happen to them.
//!
//! ```text
//!  sessions (scripted)          proxies            remuda run, one state directory each
//!  ┌─────────────────┐        ┌─────────┐        ┌──────────┐     ┌──────────────┐
//!  │    emulator     │◄───────┤ weather ├───────►│ worker 0 ├────►│ sandboxes    │──► ledgers
//!  │ queue · events  │◄───────┤ weather ├───────►│ worker 1 │  …  │ hands, tools │      │
//!  └────────┬────────┘        └────▲────┘        └────▲─────┘     └──────▲───────┘      │
//!           │ log                  └──── trouble, one seeded schedule ───┘              │
//!           ▼                              for each worker                              ▼
//!       judgement ◄──────────────────── witness (keeps every ledger) ◄──────────────────┘
//! ```
//!
//! Tools append numbered lines to a ledger in their sandbox. What they wrote, what the control plane was told and
//! when, and what the host has left at the end are three accounts of the same run by parties that do not know of
//! each other; the invariants say how they must agree.
//!
//! # Not here
//! Time that can be made to jump: that is the simulation's (`examples/faults.rs`). A seed gives the same faults in
//! the same order here, but never the same moments.

mod account;
mod arrangement;
mod book;
mod brain;
mod credentials;
mod disk;
mod host;
mod judge;
mod ledger;
mod plan;
mod proxy;
mod run;
mod sandboxes;
mod timeline;
mod trouble;
mod verdict;
mod witness;
mod worker;

pub(crate) use plan::{Fault, Plan};
pub(crate) use run::run;
