//! The gate before all work: how many sessions are held, whose they are, and how many sandboxes start at once.
//!
//! ```text
//! poller ──asks──▶ slot ──▶ claims an item ──▶ session, which holds the slot until it has ended
//!                                                 └─▶ sandbox ──asks──▶ start ──▶ create
//! ```
//!
//! A slot comes before a claim, so that nothing is ever taken off a queue that there is no room for. Who gets
//! one when they are scarce is decided by [`Shares`], which is a plain value; whether one is granted at all
//! while the host is short of memory is asked of its [`HostPressure`](crate::ports::HostPressure).

mod gate;
mod policy;
mod shares;

pub(crate) use gate::{Admission, Slot};
pub use gate::{ShareView, View};
pub use policy::{Environment, Policy};
pub use shares::{Demand, Shares, Ticket};
