//! A supervised actor tree that claims Claude Managed Agents work items and runs each session's tool calls in
//! a sandbox of its own.
//!
//! ```text
//! root                      started by [`Tree::start`], supervised by the handle
//! ├─ herd                   sandboxes without a session: blank ones, and parked ones that wait for theirs
//! ├─ sessions               one child per claimed work item; restarts them on what the ledger remembers
//! │  └─ session             lease, event stream and calls of one session, or a worker of its own that has them
//! │     └─ sandbox          provision → ready ⇄ busy, ⇄ standby → parked or deleted
//! ├─ poller, one per queue  takes a slot, claims, hands over
//! └─ reaper                 finds and deletes what crashes left behind
//! ```
//!
//! The crate knows no HTTP, no environment variable and no file path. It meets the world in four
//! [`ports`], and installs nothing in the process that mounts it: no subscriber, no panic hook, no runtime.
//! Several trees may run side by side.
//!
//! # What it guarantees
//! - A tool call is started at most once, in a sandbox or outside, and its result is posted until it is accepted,
//!   refused, or the lease is lost.
//! - After a lease is lost, nothing is posted and nothing is stopped: the item may be another's.
//! - A session that fails comes back to the same lease, sandbox and calls. One that fails too often is given
//!   up without harm to others.
//! - A process that is killed is continued by the next one on the same [journal](ports::Journal): it adopts the
//!   sandboxes, goes on with the leases and attaches to the calls that run.
//! - A sandbox that a session has used is never given to another session.
//! - Everything is bounded: sessions, starts, requests per second, attempts, deadlines, queues, restarts. Every
//!   retry has jitter.
//! - Scarce [slots](admission) go by weight and starve nobody. However much is asked of the control plane,
//!   [heartbeats](governor) do not wait. A provider that keeps failing is [left alone](breaker) for a while.
//! - Every lifecycle is a pure [machine](machine::IllegalEvent): [poller](poller::machine),
//!   [lease](session::lease), [session](session::machine), [sandbox](sandbox::lifecycle),
//!   [worker](worker::machine).
//!
//! # Embedding it
//! A host brings its ports, starts the tree on its own runtime, watches it, and drains it. Here the ports are
//! the fakes of feature `test-util`:
#![cfg_attr(feature = "test-util", doc = "```")]
#![cfg_attr(not(feature = "test-util"), doc = "```ignore")]
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{sync::Arc, time::Duration};
//! use remuda_actors::{Ports, Settings, Tree, notice::Notice, ports::OwnerId};
//! use remuda_actors::testing::{Brain, FakeControl, FakeJournal, FakeProvider, call};
//!
//! let control = Arc::new(FakeControl::new(Duration::from_secs(120)));
//! let (provider, journal) = (Arc::new(FakeProvider::new()), Arc::new(FakeJournal::new()));
//! let settings = Settings::new(OwnerId::new("my-service"), ["env_1".into()]);
//! let tree = Tree::start(Ports { control: control.clone(), provider, journal }, settings).await?;
//!
//! let mut notices = tree.subscribe();
//! control.queue("env_1", "sesn_1", "work_1", Brain::new().turn([call("sevt_1", "echo hello")]));
//! loop {
//!     match notices.recv().await? {
//!         Notice::CallFinished { call, took, .. } => println!("{call} took {took:?}"),
//!         Notice::Ended { outcome, .. } => break println!("the session ended: {outcome:?}"),
//!         _ => {}
//!     }
//! }
//! assert_eq!(control.texts("sesn_1"), ["hello"]);
//! assert!(tree.snapshot().sessions.is_empty());
//! tree.drain(Duration::from_secs(30)).await;
//! # Ok(())
//! # }
//! ```

pub mod admission;
pub mod backoff;
pub mod breaker;
pub mod bucket;
mod context;
mod effects;
pub mod event;
pub mod fault;
pub mod governor;
pub mod herd;
pub mod ids;
mod ledger;
pub mod machine;
pub mod notice;
pub mod poller;
pub mod ports;
pub mod reaper;
pub mod retry_budget;
mod root;
pub mod sandbox;
pub mod secret;
pub mod session;
mod sessions;
mod settings;
mod snapshot;
pub mod supervision;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
pub mod tool;
mod tree;
mod unanswered;
pub mod worker;

pub use settings::{Backoffs, Deadlines, OnDrain, Ports, Settings};
pub use snapshot::{SessionView, Snapshot};
pub use tree::{Drained, StartError, Tree, TreeError};

/// The plan that the README shows, compiled and run.
#[cfg(all(doctest, feature = "test-util"))]
#[doc = include_str!("../../README.md")]
struct Readme;
