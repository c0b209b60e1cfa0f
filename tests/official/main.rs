//! The official clients and workers against the emulator.
//!
//! They are installed at pinned versions by `scripts/official-clients`, which the tests run first. A test
//! fails, and does not skip, when Python or Node is missing: without it the emulator is an opinion.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod execution;
mod install;
mod item;
mod mcp;
mod mcp_servers;
mod resources;
mod scenarios;
mod trouble;
mod workers;
