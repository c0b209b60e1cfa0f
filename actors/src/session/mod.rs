//! One claimed work item.

pub(crate) mod actor;
mod call;
pub mod end;
pub mod lease;
pub mod machine;
mod outside;
pub mod policy;
pub(crate) mod requests;
pub mod run;
pub mod schedule;
pub mod signals;
mod state;

pub use policy::{Effects, Policy};
