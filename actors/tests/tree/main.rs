//! The whole tree on fakes, under a paused clock.

#![expect(clippy::expect_used, reason = "a test that expects what it set up says so")]

mod admission;
mod breaker;
mod custom;
mod drain;
mod faults;
mod governor;
mod herd;
mod once;
mod recovery;
mod serving;
mod stage;
mod supervision;
mod worker;
