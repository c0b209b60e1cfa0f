//! One environment's queue: when to ask it for work, and when to leave it alone.
//!
//! ```text
//! Waiting ──SlotGranted──▶ Polling ──item──▶ Waiting (the item took the slot along)
//!  ▲ ▲ ▲                   │ │ │ └──empty──▶ Polling, at once: the server did the waiting
//!  │ │ └──empty, crowded───┘ │ │
//!  │ └──Due── Pacing ◀─quick─┘ │
//!  └────Due── BackingOff ◀─failed          refused for good, Drain ──▶ Stopped
//! ```
//!
//! # Invariants
//! - Nothing is asked for without a free slot to put it in, and a slot is held exactly while a poll is in
//!   flight: one that merely pauses keeps no slot from others.
//! - At most one poll is in flight.
//! - An item that comes while the poller stops is not acknowledged: the queue offers it to others.
//!
//! # Not here
//! Acknowledging an item: its session does that, so that no item is ever ours without a session that beats
//! for it.

use std::time::Duration;

use crate::admission::Demand;
use crate::fault::Fault;
use crate::machine::IllegalEvent;

/// How the queue is polled.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long the server may hold an empty poll. Default 999 ms, the most the queue allows.
    pub block: Duration,
    /// An empty answer that came sooner than this is followed by a pause, so that a server which does not
    /// hold polls is not asked in a tight loop. Default 500 ms.
    pub quick: Duration,
    /// That pause. Default 1 s.
    pub pace: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            block: Duration::from_millis(999),
            quick: Duration::from_millis(500),
            pace: Duration::from_secs(1),
        }
    }
}

/// Where the poller stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// For a free slot.
    Waiting {
        /// Polls that failed in a row.
        failures: u32,
    },
    /// A poll is in flight.
    Polling {
        /// Polls that failed in a row.
        failures: u32,
    },
    /// The queue was empty and said so at once.
    Pacing,
    /// Waiting out a failure.
    BackingOff {
        /// Polls that failed in a row.
        failures: u32,
    },
    /// Terminal.
    Stopped(Why),
}

/// Why a poller stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was told to.
    Drained,
    /// The queue refuses us for good.
    Refused(Fault),
}

impl State {
    /// One word for the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Polling { .. } => "polling",
            Self::Pacing => "pacing",
            Self::BackingOff { .. } => "backing_off",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// What can happen to a poller.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is room for one more session.
    SlotGranted,
    /// A poll brought an item.
    Claimed,
    /// A poll brought nothing.
    Empty {
        /// How long the server held it.
        held: Duration,
        /// Whether somebody else waits for a slot, or none is granted at present.
        crowded: bool,
    },
    /// A poll failed.
    Failed(Fault),
    /// A pause or backoff is over.
    Due,
    /// There may be work: a hint, and not a reliable one.
    Wake,
    /// Stop claiming.
    Drain,
}

impl Event {
    /// One word, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SlotGranted => "slot_granted",
            Self::Claimed => "claimed",
            Self::Empty { .. } => "empty",
            Self::Failed(_) => "failed",
            Self::Due => "due",
            Self::Wake => "wake",
            Self::Drain => "drain",
        }
    }
}

/// What somebody must now do about a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Wait for room for one more session.
    AcquireSlot {
        /// Whether the queue is likely to have work.
        demand: Demand,
    },
    /// Ask the queue.
    Poll,
    /// Send [`Event::Due`] after the pause.
    ArmPace,
    /// Send [`Event::Due`] after the backoff of this many failures.
    ArmBackoff {
        /// Polls that failed in a row.
        failures: u32,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Give the slot back, if there is one, and cancel whatever is in flight.
    Release,
    /// Tell people that this queue will not be asked any more.
    Refused(Fault),
}

impl State {
    /// Polls that failed in a row.
    pub fn failures(&self) -> u32 {
        match self {
            Self::Waiting { failures } | Self::Polling { failures } | Self::BackingOff { failures } => {
                *failures
            }
            Self::Pacing | Self::Stopped(_) => 0,
        }
    }

    /// A poller that has just started.
    pub fn start(effects: &mut Vec<Effect>) -> Self {
        Self::wait(0, Demand::Unknown, effects)
    }

    fn wait(failures: u32, demand: Demand, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::AcquireSlot { demand });
        Self::Waiting { failures }
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`IllegalEvent`] if the event cannot occur in this state; nothing has changed then.
    pub fn step(
        &mut self,
        event: Event,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IllegalEvent> {
        use {Event as E, State as S};
        let illegal = IllegalEvent { machine: "poller", state: self.name(), event: event.name() };
        let next = match (&*self, event) {
            (S::Waiting { failures }, E::SlotGranted) => {
                effects.push(Effect::Poll);
                S::Polling { failures: *failures }
            }
            (S::Polling { .. }, E::Claimed) => Self::wait(0, Demand::Known, effects),
            (S::Polling { .. }, E::Empty { held, .. }) if held < policy.quick => {
                effects.extend([Effect::Release, Effect::ArmPace]);
                S::Pacing
            }
            // Whoever has no use for its slot goes to the end of the queue for one.
            (S::Polling { .. }, E::Empty { crowded: true, .. }) => {
                effects.push(Effect::Release);
                Self::wait(0, Demand::Unknown, effects)
            }
            (S::Polling { .. }, E::Empty { .. }) => {
                effects.push(Effect::Poll);
                S::Polling { failures: 0 }
            }
            (S::Polling { failures }, E::Failed(fault)) if fault.class.is_retryable() => {
                let failures = failures + 1;
                let retry_after = fault.retry_after;
                effects.extend([Effect::Release, Effect::ArmBackoff { failures, retry_after }]);
                S::BackingOff { failures }
            }
            (S::Polling { .. }, E::Failed(fault)) => {
                effects.extend([Effect::Release, Effect::Refused(fault.clone())]);
                S::Stopped(Why::Refused(fault))
            }
            (S::Pacing, E::Due) => Self::wait(0, Demand::Unknown, effects),
            (S::Pacing, E::Wake) => Self::wait(0, Demand::Known, effects),
            (S::BackingOff { failures }, E::Due) => Self::wait(*failures, Demand::Unknown, effects),
            (S::Stopped(_), _) | (_, E::Wake | E::Due) => return Ok(()),
            (_, E::Drain) => {
                effects.push(Effect::Release);
                S::Stopped(Why::Drained)
            }
            (_, E::SlotGranted | E::Claimed | E::Empty { .. } | E::Failed(_)) => return Err(illegal),
        };
        *self = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fault::FaultClass;

    fn step(state: &mut State, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        state.step(event, &Policy::default(), &mut effects).unwrap();
        effects
    }

    fn failed(class: FaultClass) -> Event {
        Event::Failed(Fault::new(class, "no"))
    }

    fn held(ms: u64) -> Event {
        Event::Empty { held: Duration::from_millis(ms), crowded: false }
    }

    const KNOWN: Effect = Effect::AcquireSlot { demand: Demand::Known };
    const UNKNOWN: Effect = Effect::AcquireSlot { demand: Demand::Unknown };

    #[test]
    fn takes_a_slot_then_polls_and_starts_over_with_an_item() {
        let mut effects = Vec::new();
        let mut state = State::start(&mut effects);
        assert_eq!(effects, [UNKNOWN]);
        assert_eq!(step(&mut state, Event::SlotGranted), [Effect::Poll]);
        assert_eq!(step(&mut state, Event::Claimed), [KNOWN]);
        assert_eq!(state, State::Waiting { failures: 0 });
    }

    #[test]
    fn a_slot_that_others_wait_for_is_given_back_when_the_queue_is_empty() {
        let mut state = State::Polling { failures: 0 };
        let crowded = Event::Empty { held: Duration::from_millis(990), crowded: true };
        assert_eq!(step(&mut state, crowded), [Effect::Release, UNKNOWN]);
        assert_eq!(state, State::Waiting { failures: 0 });
    }

    /// We poll again at once: the wait of 1–3 s that official workers insert is what makes their pick-up
    /// slow, and the server's own holding bounds the rate.
    #[test]
    fn row_3_an_empty_long_poll_is_repeated_at_once_and_a_quick_one_after_a_pause() {
        let mut state = State::Polling { failures: 0 };
        assert_eq!(step(&mut state, held(990)), [Effect::Poll]);
        for (over, asked) in [(Event::Due, UNKNOWN), (Event::Wake, KNOWN)] {
            assert_eq!(step(&mut state, held(3)), [Effect::Release, Effect::ArmPace]);
            assert_eq!(step(&mut state, over), [asked]);
            assert_eq!(step(&mut state, Event::SlotGranted), [Effect::Poll]);
        }
    }

    #[test]
    fn row_6_a_refusal_stops_polling_and_is_reported() {
        for class in [FaultClass::Fatal, FaultClass::Permanent] {
            let mut state = State::Polling { failures: 0 };
            let fault = Fault::new(class, "no");
            assert_eq!(step(&mut state, failed(class)), [Effect::Release, Effect::Refused(fault.clone())]);
            assert_eq!(state, State::Stopped(Why::Refused(fault)));
            assert_eq!(step(&mut state, Event::Wake), []);
        }
    }

    #[test]
    fn row_7_a_passing_failure_backs_off_further_each_time_and_success_forgets() {
        let mut state = State::Polling { failures: 0 };
        for failures in 1..=3 {
            let effects = step(&mut state, failed(FaultClass::Transient));
            assert_eq!(effects, [Effect::Release, Effect::ArmBackoff { failures, retry_after: None }]);
            assert_eq!(step(&mut state, Event::Wake), [], "a hint does not cut a backoff short");
            assert_eq!(step(&mut state, Event::Due), [UNKNOWN]);
            assert_eq!(step(&mut state, Event::SlotGranted), [Effect::Poll]);
        }
        step(&mut state, held(999));
        assert_eq!(state, State::Polling { failures: 0 });
    }

    #[test]
    fn row_13_the_server_may_ask_for_patience() {
        let mut state = State::Polling { failures: 0 };
        let retry_after = Some(Duration::from_secs(7));
        let fault = Fault { retry_after, ..Fault::new(FaultClass::Throttled, "slow down") };
        let backoff = Effect::ArmBackoff { failures: 1, retry_after };
        assert_eq!(step(&mut state, Event::Failed(fault)), [Effect::Release, backoff]);
    }

    proptest! {
        /// Whatever happens, a poll is in flight exactly while polling, and a slot is held exactly then.
        #[test]
        fn property_one_poll_and_one_slot_at_a_time(choices in prop::collection::vec(0u8..9, 0..60)) {
            let mut effects = Vec::new();
            let mut state = State::start(&mut effects);
            let (mut polls, mut slots) = (0i32, 0i32);
            for choice in choices {
                let event = match (choice, &state) {
                    (0, State::Waiting { .. }) => { slots += 1; Event::SlotGranted }
                    (1, State::Polling { .. }) => { polls -= 1; slots -= 1; Event::Claimed }
                    (2, State::Polling { .. }) => { polls -= 1; held(1) }
                    (3, State::Polling { .. }) => { polls -= 1; held(999) }
                    (4, State::Polling { .. }) => { polls -= 1; failed(FaultClass::Transient) }
                    (5, _) => Event::Due,
                    (6, _) => Event::Wake,
                    (7, _) => Event::Drain,
                    (8, State::Polling { .. }) => {
                        polls -= 1;
                        Event::Empty { held: Duration::from_millis(999), crowded: true }
                    }
                    _ => continue,
                };
                for effect in step(&mut state, event) {
                    match effect {
                        Effect::Poll => polls += 1,
                        Effect::Release => { polls = 0; slots = 0; }
                        _ => {}
                    }
                }
                prop_assert_eq!(polls, i32::from(matches!(state, State::Polling { .. })));
                prop_assert_eq!(slots, polls);
            }
        }
    }
}
