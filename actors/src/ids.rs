//! Identifiers of the control plane and of our own, each a type of its own.
//!
//! All of them are opaque strings: nothing here parses one, and nothing may depend on a prefix. Cloning
//! one copies a pointer.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps `id` as it came, unchecked.
            pub fn new(id: impl Into<Arc<str>>) -> Self {
                Self(id.into())
            }

            /// The identifier as it came.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(id: &str) -> Self {
                Self::new(id)
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self::new(id)
            }
        }
    )*};
}

id! {
    /// A self-hosted environment, that is, one work queue (`env_…`).
    EnvironmentId;
    /// One work item of a queue (`work_…`). The same session may come back under another one.
    WorkId;
    /// An agent session (`sesn_…`).
    SessionId;
    /// A thread of a multi-agent session (`sthr_…`).
    ThreadId;
    /// One tool call: the id of the event that asked for it (`sevt_…`), not of the model's block.
    CallId;
    /// One sandbox, by the name its provider knows it under.
    SandboxId;
}
