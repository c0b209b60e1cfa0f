//! How much is asked of the control plane, and what of it first.
//!
//! Every request of the tree passes through `Governed`, which keeps all of them together under a rate, lets
//! the urgent ones go first, and keeps quiet for as long as the server asks for it.
//!
//! | Class | Requests | Waits |
//! |---|---|---|
//! | [`Lease`](Class::Lease) | heartbeat, ack | never |
//! | [`Result`](Class::Result) | post, stop | first |
//! | [`Attach`](Class::Attach) | session, stream, history | then |
//! | [`Poll`](Class::Poll) | poll | last |
//!
//! The rules are a plain value, [`Lanes`], which is told the time; `Governor` wakes whoever has its turn.

mod governed;
mod lanes;
mod pass;
mod policy;
mod turns;

pub(crate) use governed::Governed;
pub use lanes::{Class, Full, LEASES, Lanes, PASSES, Ticket};
pub use pass::Turns;
pub use policy::Policy;
pub(crate) use turns::Governor;
pub use turns::{LaneView, View};
