//! In-memory fakes of every port, and actors that fail on purpose.
//!
//! They have state, a call log and scripted faults, use tokio's clock only, and draw nothing at random, so
//! that a whole tree on them runs under a paused clock and the same history comes out every time. Each keeps
//! the contract of its port: the suites in [`contract`] run on the fakes and on the real adapters alike.

pub mod contract;
mod control;
mod custom;
mod faults;
mod journal;
mod outfitter;
mod pressure;
mod provider;
mod sabotage;
pub mod sim;

pub use control::{Brain, FakeControl, Request, Stage, call};
pub use custom::{FakeInsideTool, FakeTool, Fate};
pub use faults::{Faults, Strike};
pub use journal::FakeJournal;
pub use outfitter::FakeOutfitter;
pub use pressure::FakePressure;
pub use provider::FakeProvider;
pub use sabotage::Sabotage;
