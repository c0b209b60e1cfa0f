//! A host in memory.

use std::sync::{Mutex, PoisonError};

use crate::ports::{HostPressure, Pressure};

/// A host that is as short of memory as a test says.
#[derive(Debug)]
pub struct FakePressure(Mutex<Pressure>);

impl Default for FakePressure {
    fn default() -> Self {
        Self(Mutex::new(Pressure::Normal))
    }
}

impl FakePressure {
    /// How it stands from now on.
    pub fn set(&self, level: Pressure) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = level;
    }
}

impl HostPressure for FakePressure {
    fn level(&self) -> Pressure {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
