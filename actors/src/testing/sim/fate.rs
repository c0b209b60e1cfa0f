//! What becomes of a request, and what happens beside all requests.

use std::time::Duration;

use crate::fault::{Fault, FaultClass};
use crate::ports::{ControlError, HandError, JournalError, OutfitError, ProviderError};
use crate::tool::ToolResult;

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered, after the time that such a request takes.
    Fine,
    /// It fails, and nothing has happened.
    Fail(Failure),
    /// It happens, but the answer is lost and this is heard instead.
    LoseAnswer(Failure),
    /// It happens and is answered, after this time.
    Slow(Duration),
    /// It happens at once and is answered after this time.
    Lag(Duration),
    /// It happens after this time even if whoever asked has gone by then.
    Late(Duration),
    /// It is asked twice in a row; the second answer is heard.
    Repeat,
    /// It is answered with less than there is: an empty list.
    Nothing,
    /// The task that asked panics.
    Panic,
    /// The whole process dies before it happens.
    DieBefore,
    /// The whole process dies after it has happened, before it hears so.
    DieAfter,
    /// It is answered; just before, this happens.
    Meanwhile(Act),
    /// Of live events: it comes after the next one.
    Swap,
    /// Of live events: the stream breaks before it.
    Cut,
}

/// How a request fails. Each port has its own words for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Not now.
    Unavailable,
    /// Not so fast.
    Throttled(Duration),
    /// The connection broke.
    Broken,
    /// The answer was cut short.
    Truncated,
    /// Never.
    Refused,
    /// Nothing is heard.
    Silence,
}

/// Something that happens to the world. Where one of several is meant, the number picks it: the remainder by how
/// many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A process is killed; it is started again after this time.
    Kill {
        /// The host.
        host: usize,
        /// How long it is down.
        down: Duration,
    },
    /// A machine goes down with everything on it but its journal; its process is started again after this time.
    Reboot {
        /// The host.
        host: usize,
        /// How long it is down.
        down: Duration,
    },
    /// A process is told to end, and does with its sessions what its settings say.
    Drain {
        /// The host.
        host: usize,
        /// How long they may take.
        grace: Duration,
        /// How long it is down.
        down: Duration,
    },
    /// A host does not reach the control plane.
    Partition {
        /// The host.
        host: usize,
        /// For how long.
        lasts: Duration,
        /// Whether what it sends arrives all the same.
        one_way: bool,
    },
    /// Another worker, which is no host of ours, takes a lease that is held. It lets it lapse.
    Steal(u64),
    /// The control plane lets a lease lapse before its time: its clock has jumped.
    Lapse(u64),
    /// Every clock jumps ahead: the machines were suspended.
    Jump(Duration),
    /// The control plane asks for the end of an item.
    AskStop(u64),
    /// All streams of a session break.
    CutStreams(u64),
    /// The user interrupts a session.
    Interrupt(u64),
    /// The session comes back under another item while one is being served.
    Supersede(u64),
    /// A sandbox vanishes.
    Lose(u64),
}

impl Failure {
    /// What the control plane's client says; none if nothing is heard.
    pub(super) fn control(self) -> Option<ControlError> {
        let message = || "injected".to_owned();
        Some(match self {
            Self::Unavailable => {
                ControlError::Unavailable { status: 503, retry_after: None, message: message() }
            }
            Self::Throttled(after) => ControlError::Throttled { retry_after: Some(after) },
            Self::Broken => ControlError::Broken("injected".into()),
            Self::Truncated => ControlError::Malformed { what: "injected: half an answer".to_owned() },
            Self::Refused => ControlError::Rejected { status: 400, message: message() },
            Self::Silence => return None,
        })
    }

    /// What a provider says.
    pub(super) fn provider(self) -> Option<ProviderError> {
        let what = || "injected".to_owned();
        Some(match self {
            Self::Unavailable | Self::Throttled(_) => {
                ProviderError::Unavailable { what: what(), source: "injected".into() }
            }
            Self::Broken | Self::Truncated => ProviderError::TimedOut { waited: Duration::from_secs(1) },
            Self::Refused => ProviderError::Refused { what: what() },
            Self::Silence => return None,
        })
    }

    /// What a hand's client says.
    pub(super) fn hand(self) -> Option<HandError> {
        Some(match self {
            Self::Unavailable => HandError::Unreachable("injected".into()),
            Self::Throttled(_) => HandError::Busy { message: "injected".to_owned() },
            Self::Broken | Self::Truncated => HandError::Broken("injected".into()),
            Self::Refused => HandError::Refused { message: "injected: no space left on device".to_owned() },
            Self::Silence => return None,
        })
    }

    /// What a tool outside answers.
    pub(super) fn tool(self) -> Option<ToolResult> {
        match self {
            Self::Silence => None,
            _ => Some(ToolResult::error("injected: the tool has failed")),
        }
    }

    /// What an outfitter says.
    pub(super) fn outfitter(self) -> Option<OutfitError> {
        let fault = |class| Fault::new(class, "injected");
        Some(match self {
            Self::Unavailable => OutfitError::Supply(fault(FaultClass::Transient)),
            Self::Throttled(after) => {
                let retry_after = Some(after);
                OutfitError::Supply(Fault { retry_after, ..fault(FaultClass::Throttled) })
            }
            Self::Broken | Self::Truncated => OutfitError::Sandbox(fault(FaultClass::Ambiguous)),
            Self::Refused => OutfitError::Supply(fault(FaultClass::Permanent)),
            Self::Silence => return None,
        })
    }

    /// What a journal says.
    pub(super) fn journal(self) -> Option<JournalError> {
        match self {
            Self::Silence => None,
            _ => Some(JournalError::Write("injected: no space left on device".into())),
        }
    }
}
