//! The numbers work is admitted by.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use crate::ids::EnvironmentId;
use crate::ports::HostPressure;

/// A queue to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The queue.
    pub id: EnvironmentId,
    /// Its share of the slots when they are scarce, in proportion to the weights of the others. Default 1.
    pub weight: NonZeroU32,
}

impl From<EnvironmentId> for Environment {
    fn from(id: EnvironmentId) -> Self {
        Self { id, weight: NonZeroU32::MIN }
    }
}

impl From<&str> for Environment {
    fn from(id: &str) -> Self {
        EnvironmentId::from(id).into()
    }
}

/// How work is admitted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Sandboxes being created at once. Default 8: starting one is mostly work of the kernel, so more of them
    /// make each slower and none sooner, and a provider that fails is not met by hundreds at a time.
    pub max_starts: NonZeroUsize,
    /// What tells whether the host is short of memory; none never is. Default none.
    pub pressure: Option<Arc<dyn HostPressure>>,
    /// Time between two looks at it. Default 1 s.
    pub interval: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_starts: const { NonZeroUsize::new(8).unwrap() },
            pressure: None,
            interval: Duration::from_secs(1),
        }
    }
}
