//! How long a sandbox has been without calls, and whether that is a reason to freeze it.

use std::time::Duration;

use super::policy::{Background, Policy};

/// The idle clock of a sandbox.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle {
    /// Names the timer that runs: what an earlier one says does not count.
    number: u32,
    /// How long the sandbox has been held for its jobs since the last call.
    held: Duration,
}

/// What is known about the jobs in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// There are none.
    None,
    /// There are some, and together the sandbox uses this part of a core, in thousandths.
    Some {
        /// See above.
        permille: u32,
    },
    /// It could not be found out.
    Unknown,
}

impl Idle {
    /// A call came, or something else that stops the clock.
    pub(super) fn stop(&mut self) {
        self.number += 1;
        self.held = Duration::ZERO;
    }

    /// Starts the clock anew; the answer names its timer.
    pub(super) fn start(&mut self) -> u32 {
        self.stop();
        self.number
    }

    pub(super) fn is_current(&self, number: u32) -> bool {
        self.number == number
    }

    /// Whether the sandbox is held for its jobs, and for how long until the next look; none if it is not.
    pub(super) fn hold(&mut self, jobs: Jobs, policy: &Policy) -> Option<Duration> {
        let busy = match jobs {
            Jobs::None => false,
            Jobs::Some { permille } => permille > policy.busy_permille,
            // Unknown is not none.
            Jobs::Unknown => true,
        };
        let held = match policy.background {
            Background::Freeze => false,
            Background::Hold => matches!(jobs, Jobs::Some { .. }) || (busy && self.held < policy.hold_for),
            Background::HoldWhileBusy => busy && self.held < policy.hold_for,
        };
        let again = policy.standby_after.unwrap_or_default().max(policy.window);
        held.then(|| {
            // The look itself takes a window.
            self.held += again + policy.window;
            again
        })
    }
}
