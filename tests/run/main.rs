//! The `remuda` command as its users meet it: processes, signals, exit codes, words.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets the unexpected has failed")]

mod bench;
mod demo;
mod ending;
mod outfits;
mod refusals;
mod sandboxes;
mod secrets;
mod serving;
mod survival;
mod tools;
