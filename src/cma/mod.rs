//! The control plane of Claude Managed Agents, over HTTP.
//!
//! [`Client`] implements the tree's [`ControlPlane`](remuda_actors::ports::ControlPlane) and, beside that,
//! what tools for people need of a queue: [`Client::list`] and [`Client::stats`].
//!
//! One request is one attempt: whether it is repeated is for the tree's machines to decide, from the class of
//! the [`ControlError`](remuda_actors::ports::ControlError) it ends in.
//!
//! # Credentials
//! The environment key polls and acknowledges, and nothing else, unless a work item carries no usable session
//! token. Everything below an item is sent with the token from its secret. Each request carries exactly one
//! credential header, and no redirect is followed, so that none is carried elsewhere.

mod client;
mod events;
mod http;
mod memories;
mod secret;
mod sessions;
mod skills;
mod sse;
mod wire;
mod work;

pub use client::{Client, ClientError, Options, Queue};
pub use memories::{Memory, MemoryPage, MemoryView};
pub use skills::SkillVersion;
pub use work::{WorkPage, WorkStats, WorkSummary};
