//! The emulator over HTTP, as strict clients and broken ones meet it.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod auth;
mod client;
mod faults;
mod limits;
mod pages;
mod requirements;
mod scripts;
mod streams;
mod work;
