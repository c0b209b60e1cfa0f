//! Where sandboxes come from.

pub mod local;
