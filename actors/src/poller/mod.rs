//! One queue.

pub(crate) mod actor;
pub mod machine;

pub use machine::Policy;
