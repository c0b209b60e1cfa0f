//! A Claude Managed Agents control plane to develop and test against: in process, or stand-alone.
//!
//! It answers the calls of workers and of applications the way the service does, to the byte where clients
//! depend on it, and it plays the model: sessions are driven by a shell, by scenario files, or by a test.
//!
//! ```text
//!   clients ──HTTP──▶ log ─▶ fault rules ─▶ authorisation ─▶ handler
//!                                                              │ one lock, one instant, no waiting
//!                                                              ▼
//!   tests ──in process──────────────────────────────────▶   world   ◀── brains (one task per turn)
//!                                                     work queues · sessions ◀── timer task (leases)
//!                                                     skills · memory stores
//!                                                              │ events, to the followers of that session
//!                                                              ▼
//!                                                        event streams
//! ```
//!
//! # Example
//! ```
//! # use remuda::emulator::{Emulator, Options};
//! # #[tokio::main]
//! # async fn main() -> Result<(), remuda::emulator::EmulatorError> {
//! let emulator = Emulator::start(Options::default()).await?;
//! let environment = emulator.create_environment("tests")?;
//! let agent = emulator.create_agent("demo")?;
//! let session = emulator.create_session(&environment.id, &agent, "echo hello")?;
//! // A worker given `emulator.url()`, `environment.id` and `environment.key` now finds work.
//! assert!(session.live_work().is_some());
//! emulator.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Not here
//! Cloud environments, vaults, deployments, budgets and webhooks. Nothing outlives the process.

mod agents;
mod auth;
mod brain;
pub mod cli;
mod clock;
mod environments;
mod error;
mod events;
mod faults;
mod handle;
mod http;
mod log;
mod memory;
mod metadata;
mod mint;
mod operation;
mod options;
mod registry;
pub mod scenario;
mod session;
mod session_handle;
mod sessions;
mod skills;
mod sse;
mod transcript;
mod work;
mod world;

pub use auth::Kind as CredentialKind;
pub use error::EmulatorError;
pub use events::Event;
pub use faults::{FaultAction, FaultId, FaultRule, Faults, Injection, RawAnswer, load_faults};
pub use handle::{Emulator, EnvironmentHandle};
pub use log::{CredentialHeader, Record, RequestLog};
pub use operation::Operation;
pub use options::Options;
pub use session::{CallRequest, CallTiming, Claim, Permission, Resolution, Resolved, StopReason, Timing};
pub use session_handle::{SessionHandle, Subscription};
pub use skills::{SkillUpload, zip};
pub use transcript::Entry;
pub use work::Lapse;
