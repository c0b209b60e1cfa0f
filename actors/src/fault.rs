//! What went wrong, as far as anyone who must decide what to do next needs to know.
//!
//! Ports return errors of their own ([`ControlError`](crate::ports::ControlError),
//! [`ProviderError`](crate::ports::ProviderError), [`HandError`](crate::ports::HandError)); each of them can
//! say its [`FaultClass`], and the machines see only the [`Fault`] made of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// What kind of failure it was: the one thing a machine branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// The same request may work later.
    Transient,
    /// The other side asked for patience; [`Fault::retry_after`] says how much, if it did.
    Throttled,
    /// Nobody knows whether it happened, for example a request that got no answer. Look it up before
    /// repeating it, unless repeating is harmless.
    Ambiguous,
    /// This very request can never work.
    Permanent,
    /// Nothing of this kind can work, for example because the credentials are refused.
    Fatal,
}

impl FaultClass {
    /// Whether the same request is worth repeating.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Transient | Self::Throttled | Self::Ambiguous)
    }

    /// One word, for labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Ambiguous => "ambiguous",
            Self::Permanent => "permanent",
            Self::Fatal => "fatal",
        }
    }
}

/// A failure with everything the machines and people need of it, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub class: FaultClass,
    /// How long the other side asked us to wait, if it did.
    pub retry_after: Option<Duration>,
    /// What happened, for people: a fragment that reads well after "could not …".
    pub message: Arc<str>,
}

impl Fault {
    /// A fault without a delay.
    pub fn new(class: FaultClass, message: impl Into<Arc<str>>) -> Self {
        Self { class, retry_after: None, message: message.into() }
    }

    /// A fault from an error and its chain of sources, joined by colons.
    pub fn of(class: FaultClass, error: &(dyn std::error::Error + 'static)) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        let message = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self::new(class, message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
