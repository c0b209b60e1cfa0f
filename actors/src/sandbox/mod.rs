//! One sandbox.

pub(crate) mod actor;
pub mod lifecycle;
pub mod policy;
pub mod signals;

pub use policy::Policy;
