//! Sandboxes on this host: what they can do, what they cannot, and how they end.
//!
//! Run as root and as an ordinary user; each test fails where the host allows no sandboxes.

#![expect(clippy::expect_used, reason = "a test that expects what it set up says so")]

mod bench;
mod contract;
mod isolation;
mod lifetime;
mod limits;
