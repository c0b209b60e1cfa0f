//! One claimed work item.

pub(crate) mod actor;
pub mod end;
pub mod lease;
pub mod machine;
pub mod policy;
pub mod run;
pub mod schedule;
pub mod signals;

pub use policy::Policy;
