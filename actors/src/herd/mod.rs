//! Sandboxes that belong to no work item: blank ones, made ahead, and parked ones, each waiting for its session
//! to come back.
//!
//! ```text
//!  made ahead ──▶ blank ──claimed──▶ (a session's)  ──its item ended──▶ parked ──its session came back──▶ (…)
//!                   │ one too many                                        │ too old, too many, too large
//!                   └───────────────▶ deleted ◀───────────────────────────┘
//! ```
//!
//! # Invariants
//! - A sandbox that a session has used is only ever given to that session again.
//! - What is blank is known from the journal's shelf, where it was put when it was made and from which it is
//!   taken before it is used: a sandbox of which nothing is known is deleted, never reused.
//! - Everything here stands by. It costs memory and disk, both bounded, and no processor time.
//!
//! The [`shelf`] is pure: what is there, and what is to be done about it. The actor makes and deletes.

pub(crate) mod actor;
mod inventory;
pub mod policy;
pub mod shelf;

pub(crate) use inventory::Inventory;
pub use policy::Policy;
pub use shelf::{Tier, View, WaitingView};
