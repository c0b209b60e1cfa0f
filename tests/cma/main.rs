//! The client of the control plane, against the emulator and what it can be made to answer.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets the unexpected has failed")]

mod bench;
mod sessions;
mod work;
