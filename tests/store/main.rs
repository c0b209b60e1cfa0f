//! The durable journal: what it remembers, through what, and what it refuses.

#![expect(clippy::expect_used, reason = "a test that expects what it set up says so")]

mod contract;
mod full;
mod growth;
mod killed;
mod records;
mod recovery;
mod refused;
