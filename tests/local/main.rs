//! Sandboxes on this host: what they can do, what they cannot, and how they end.
//!
//! Run as root and as an ordinary user; each test fails where the host allows no sandboxes.

#![expect(clippy::expect_used, reason = "a test that expects what it set up says so")]

mod bench;
mod contract;
mod death;
mod isolation;
mod kernel;
mod launcher;
mod lifetime;
mod limits;
mod removal;
mod standby;
mod succession;
mod unreadable;
mod usage;
