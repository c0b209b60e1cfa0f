//! The numbers a sandbox is kept by.

use std::time::Duration;

/// How a sandbox is kept.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Creates tried in a row for one instance, the first included. Default 4.
    pub create_attempts: u32,
    /// Look-ups tried for an instance that an earlier incarnation made, the first included. Default 60, which is
    /// nearly ten minutes: it may hold running calls, and the provider may be starting again together with us.
    pub adopt_attempts: u32,
    /// How long a sandbox may be kept waiting by the open circuit before its provider, which did not ask the
    /// provider at all, before each refusal counts as an attempt to create or to thaw it. Default 2 min: longer
    /// than the circuit stays open at first, and soon enough for the agent to be told.
    pub refused_for: Duration,
    /// Rounds of creates in which none succeeded, after which the session is given up. Default 3.
    pub create_rounds: u32,
    /// Requests tried for one call whose hand could not be heard, the first included. Default 8, which is some
    /// ten seconds for a hand that refuses at once. One whose outcome is unknown has mostly taken its whole
    /// time, and counts twice.
    pub call_attempts: u32,
    /// Cancellations tried for one call. Default 5; then its own timeout must do.
    pub cancel_attempts: u32,
    /// Deletes tried, the first included. Default 5; then it is the reaper's.
    pub delete_attempts: u32,
    /// Thaws tried, the first included. Default 3; then the instance is replaced.
    pub thaw_attempts: u32,
    /// How long no call must run before the sandbox is put in standby; none never. Default 15 s.
    pub standby_after: Option<Duration>,
    /// What jobs that outlive their calls do about that. Default [`Background::HoldWhileBusy`].
    pub background: Background,
    /// With [`Background::HoldWhileBusy`]: the part of a core, in thousandths, that the sandbox must use to
    /// count as busy. Default 50, which is 5 %.
    pub busy_permille: u32,
    /// With [`Background::HoldWhileBusy`]: how long a sandbox without calls is held at most. Default 10 min.
    pub hold_for: Duration,
    /// Over which time the use of the processor is measured, and the least time between two looks. Default
    /// 1 s.
    pub window: Duration,
    /// Whether signs that the model is about to use a tool wake the sandbox before it does. Default true.
    pub thaw_early: bool,
    /// Whether the next instance takes over the files of one that was lost. The tree sets this from what the
    /// provider can do.
    pub keep_files: bool,
    /// Whether sandboxes are furnished before their first call. The tree sets this from whether there is an
    /// [`Outfitter`](crate::ports::Outfitter).
    pub outfits: bool,
    /// Attempts to furnish an instance, the first included. Default 5; then another instance is tried if it was this
    /// one's fault, and else the session cannot be served.
    pub fit_attempts: u32,
    /// How long calls may take to be cut before a sandbox is parked; then it is deleted. Default 10 s.
    pub part_within: Duration,
}

/// What jobs that outlive their calls do about standby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// Nothing: they are frozen with everything else.
    Freeze,
    /// As long as there is one, the sandbox is held.
    Hold,
    /// As long as there is one and the sandbox is busy, it is held, but not for ever.
    #[default]
    HoldWhileBusy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            create_attempts: 4,
            adopt_attempts: 60,
            refused_for: Duration::from_secs(120),
            create_rounds: 3,
            call_attempts: 8,
            cancel_attempts: 5,
            delete_attempts: 5,
            thaw_attempts: 3,
            standby_after: Some(Duration::from_secs(15)),
            background: Background::default(),
            busy_permille: 50,
            hold_for: Duration::from_secs(600),
            window: Duration::from_secs(1),
            thaw_early: true,
            keep_files: false,
            outfits: false,
            fit_attempts: 5,
            part_within: Duration::from_secs(10),
        }
    }
}
