//! The hand as a server: what it is given, and how it comes up and goes down.

mod files;
mod http;
mod listener;
mod mcp;
mod serve;
mod trees;

pub use listener::Listen;
pub use serve::{ServeError, ServeOptions, run, serve};
