//! Scenarios: what a scripted brain says and asks, what it expects, and what clients do meanwhile.

mod builtin;
mod expect;
mod load;
mod model;
mod variables;
mod verdict;

pub use builtin::builtin;
pub use load::ScenarioError;
pub use model::{
    Action, Answer, Answerer, Call, Confirm, Confirmation, Deed, End, Expect, Pattern, Pause, ResolutionName,
    Scenario, Step, Tri, Turn,
};
pub use verdict::{Mismatch, Outcome, Verdict};

pub(super) use variables::Variables;
