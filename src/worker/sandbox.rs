//! A command that serves sessions inside their sandboxes.

use std::collections::BTreeMap;
use std::sync::Arc;

use remuda_actors::event::Input;
use remuda_actors::fault::{Fault, FaultClass};
use remuda_actors::ports::{Program, WorkItem};
use remuda_actors::secret::Secret;
use serde_json::json;

use super::Command;
use crate::hand;

/// A command that serves sessions inside their sandboxes.
#[derive(Debug)]
pub struct SandboxProgram(Command);

impl SandboxProgram {
    /// One that is such a worker.
    pub fn new(command: Command) -> Self {
        Self(command)
    }
}

impl Program for SandboxProgram {
    fn call(&self, item: &WorkItem) -> Result<(Arc<str>, Input), Fault> {
        let variables = self.0.variables(item)?;
        let env: BTreeMap<&str, &str> =
            variables.iter().map(|(name, value)| (name.as_str(), Secret::expose(value))).collect();
        let input = json!({"argv": self.0.argv(), "env": env});
        let input = serde_json::value::to_raw_value(&input)
            .map_err(|error| Fault::new(FaultClass::Permanent, error.to_string()))?;
        Ok((hand::PROGRAM.into(), Input::Json(input.into())))
    }
}
