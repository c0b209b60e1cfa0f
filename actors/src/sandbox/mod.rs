//! One session's sandbox: made, frozen while nothing runs in it, woken, replaced when it is lost, and at the
//! end parked or deleted.
//!
//! [`lifecycle`] is the machine: where the [sandbox](state) stands, with the calls in it and the
//! [idle clock](idle) beside. The actor around it speaks with the provider and the hand.

pub(crate) mod actor;
mod calls;
pub mod idle;
pub mod lifecycle;
pub mod policy;
mod requests;
pub mod signals;
pub mod state;

pub use policy::{Background, Policy};
