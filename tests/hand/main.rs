//! The hand as its users see it: the real binary on a real socket, driven by the real client.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that meets the unexpected has failed")]

mod confinement;
mod custom;
mod fixture;
mod imposter;
mod journal;
mod mcp;
mod processes;
mod program;
mod search;
mod server;
mod shell;
mod vectors;
