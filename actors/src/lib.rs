//! A supervised actor tree that runs each Claude Managed Agents session in a sandbox of its own.

pub mod ids;
pub mod tool;
