//! What is asked of a provider that does nothing but fail: nothing, for a while.
//!
//! `Guarded` stands between the tree and its provider and watches the requests that start something,
//! `create` and `resume`. When too many in a row fail, the circuit opens: further ones fail at once, which
//! tells their machines when to try again, and spares both the provider and everyone's patience. Deletes,
//! look-ups and everything else always pass.
//!
//! [`Breaker`] is one circuit and [`Circuits`] are those of a provider and its images; both are plain values.

mod circuits;
mod guarded;
mod machine;

pub use circuits::{Change, Circuit, Circuits, IMAGES, Outcome, Passes, Refused, Request};
pub(crate) use guarded::Guarded;
pub use guarded::View;
pub use machine::{Breaker, Outage, Pass, Policy, State};
