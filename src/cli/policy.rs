//! How sessions and sandboxes are kept, as flags.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use remuda_actors::{OnDrain, Settings};

/// What jobs that outlive their calls do about standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Background {
    /// They are frozen with everything else.
    Freeze,
    /// As long as there is one, the sandbox is not frozen.
    Hold,
    /// As long as there is one and the sandbox is busy, it is not frozen, but not for ever.
    #[default]
    HoldWhileBusy,
}

/// What to do about a call whose outcome nobody knows, because its sandbox was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum UnknownOutcome {
    /// Run again what only looks (read, glob, grep), and tell the agent about everything else.
    #[default]
    Report,
    /// Run every call again. Only for tools that may run twice.
    Rerun,
}

/// What happens to sessions when the process is told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Drain {
    /// Calls that run may finish, and the next start goes on with the sessions where they are.
    #[default]
    Leave,
    /// Turns that run may finish; what is left is handed back to the queue, and nothing is kept.
    Release,
}

/// How sessions are served.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sessions")]
pub(super) struct SessionArguments {
    /// How long a session may be idle after its turn before its work item is ended; a later message queues it
    /// again. 0 means for ever.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    max_idle: Duration,

    /// How long a session in the middle of a turn may give no sign of life, while no call runs, before its work
    /// item is ended. 0 means for ever.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = humantime::parse_duration)]
    max_silence: Duration,

    /// Longest time of one tool call, whatever its own limits say.
    #[arg(long, value_name = "TIME", default_value = "150s", value_parser = humantime::parse_duration)]
    call_timeout: Duration,

    /// Calls of one session at once: those that only look go side by side, and so do different threads.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    parallel_calls: u32,

    /// What to do about a call whose outcome nobody knows, because its sandbox was lost.
    #[arg(long, value_enum, default_value_t)]
    unknown_outcome: UnknownOutcome,

    /// What happens to sessions when the process is told to stop.
    #[arg(long, value_enum, default_value_t)]
    drain: Drain,
}

/// How sandboxes sleep and wait.
#[derive(Debug, Args)]
#[command(next_help_heading = "Standby and parking")]
pub(super) struct HerdArguments {
    /// How long no call must run before a sandbox is put in standby. 0 puts it there at once.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    standby_after: Duration,

    /// What jobs that outlive their calls do about that.
    #[arg(long, value_enum, default_value_t)]
    background: Background,

    /// With `hold-while-busy`: how long a sandbox without calls is held for its jobs at most.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    hold_for: Duration,

    /// Blank sandboxes kept ready in standby.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    warm: u32,

    /// How long the sandbox of a session whose work item has ended waits for the session to come back. 0 means
    /// not at all.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    park_for: Duration,

    /// Sandboxes that wait so, at most; the one that has waited longest makes room.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    max_parked: u32,

    /// Files in sandboxes that wait so, at most, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 20 << 10)]
    max_parked_disk: u32,

    /// Memory in sandboxes that wait so, at most, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 4 << 10)]
    max_parked_memory: u32,

    /// Age from which a sandbox that serves no session is deleted. 0 means never.
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = humantime::parse_duration)]
    max_sandbox_age: Duration,
}

impl SessionArguments {
    pub(super) fn apply(&self, settings: &mut Settings) {
        settings.session.max_idle = nonzero(self.max_idle);
        settings.session.max_silence = nonzero(self.max_silence);
        settings.session.parallel_calls = self.parallel_calls as usize;
        settings.deadlines.call = self.call_timeout;
        if self.unknown_outcome == UnknownOutcome::Rerun {
            let all: &BTreeSet<Arc<str>> = &settings.session.tools;
            settings.session.rerun = all.clone();
        }
        settings.on_drain = match self.drain {
            Drain::Leave => OnDrain::Leave,
            Drain::Release => OnDrain::Release,
        };
    }
}

impl HerdArguments {
    pub(super) fn apply(&self, settings: &mut Settings) {
        settings.sandbox.standby_after = Some(self.standby_after);
        settings.sandbox.background = match self.background {
            Background::Freeze => remuda_actors::sandbox::Background::Freeze,
            Background::Hold => remuda_actors::sandbox::Background::Hold,
            Background::HoldWhileBusy => remuda_actors::sandbox::Background::HoldWhileBusy,
        };
        settings.sandbox.hold_for = self.hold_for;
        settings.herd.warm = self.warm as usize;
        settings.herd.park_for = self.park_for;
        settings.herd.max_parked = self.max_parked as usize;
        settings.herd.max_parked_disk = u64::from(self.max_parked_disk) << 20;
        settings.herd.max_parked_memory = u64::from(self.max_parked_memory) << 20;
        settings.herd.max_age = nonzero(self.max_sandbox_age);
    }
}

/// None for what is switched off.
fn nonzero(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}
