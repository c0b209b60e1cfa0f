//! What all machines have in common.
//!
//! A machine is a plain enum with one method, `step`: it takes an event and a policy, moves to the next
//! state and pushes the effects that somebody must now perform. It reads no clock, draws no random number,
//! does no I/O and logs nothing, so everything it can ever do is in a table of states and events. Time
//! enters as events (`BeatDue`) and leaves as effects (`ArmBeat`).

/// An event that makes no sense in the state it met: a bug in the shell, never a consequence of what the
/// world did. The machine stays where it was; the shell logs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {machine} machine cannot take `{event}` while {state}")]
pub struct IllegalEvent {
    /// Which machine.
    pub machine: &'static str,
    /// The state it was and is in.
    pub state: &'static str,
    /// The event that was refused.
    pub event: &'static str,
}
