//! Whatever happens in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::ports::Fitted;
use crate::sandbox::signals::Unfit;

/// What a provider holds, as far as the machine could make it hold something.
#[derive(Debug, Default)]
struct World {
    exists: Option<u32>,
    asked: Option<Effect>,
    shelved: bool,
}

proptest! {
    /// A provider that loses answers and sandboxes, calls that come and go, and a stop at any moment: at most
    /// one request is with the provider, no call is given to two instances, none is left without an answer,
    /// and at the end nothing is left.
    #[test]
    fn property_nothing_is_leaked_run_twice_or_left_unanswered(
        choices in prop::collection::vec((0u8..12, any::<bool>()), 1..150),
        start in 0u8..3,
        release in prop::sample::select(vec![Release::Delete, Release::Park, Release::HandOver, Release::Leave]),
        keep_files in any::<bool>(),
        outfits in any::<bool>(),
    ) {
        let policy = Policy { keep_files, outfits, ..Policy::default() };
        let mut effects = Vec::new();
        let exists = (start > 0).then_some(1);
        let mut lifecycle = match start {
            0 => Lifecycle::create(1, &mut effects),
            1 => Lifecycle::adopt(1, &mut effects),
            _ => Lifecycle::unpark(1, &mut effects),
        };
        let mut world = World { exists, ..World::default() };
        let mut armed: Option<u32> = None;
        let mut due: Vec<Event> = Vec::new();
        let mut given: BTreeMap<CallId, u32> = BTreeMap::new();
        let mut reruns = BTreeSet::new();
        let (mut with_hand, mut open) = (BTreeSet::new(), BTreeSet::new());
        let (mut calls, mut stopped, mut fitted) = (0, false, None);
        // After the random part: stop, and let everything that is asked for happen.
        let rest = std::iter::once((11, false)).chain([(0, false), (4, false)].repeat(40));
        for (choice, flag) in choices.into_iter().chain(rest) {
            for effect in std::mem::take(&mut effects) {
                match &effect {
                    Effect::Create { .. }
                    | Effect::LookUp { .. }
                    | Effect::Shelve
                    | Effect::Delete
                    | Effect::Fit
                    | Effect::Standby
                    | Effect::Resume => {
                        // A delete ends what was asked before it, unless that was a create.
                        let free = match &world.asked {
                            None => true,
                            Some(Effect::Create { .. } | Effect::Delete) => false,
                            Some(Effect::Resume) if effect == Effect::Resume => true,
                            Some(_) => matches!(effect, Effect::Delete | Effect::Standby),
                        };
                        prop_assert!(free, "{effect:?} beside {:?}", world.asked);
                        world.asked = Some(effect);
                        armed = None;
                    }
                    Effect::ArmRetry { attempt, .. } => armed = Some(*attempt),
                    Effect::Run { call } => {
                        let instance = lifecycle.instance();
                        prop_assert!(!outfits || fitted == Some(instance), "{call} runs in an unfurnished sandbox");
                        let first = *given.entry(call.clone()).or_insert(instance);
                        prop_assert!(first == instance || reruns.contains(call), "two instances");
                        with_hand.insert(call.clone());
                    }
                    Effect::Undone { call, .. } => {
                        prop_assert!(open.remove(call) || stopped, "{call} was answered twice");
                        with_hand.remove(call);
                    }
                    Effect::Probe { call } => {
                        let present = world.exists.is_some();
                        due.push(Event::Probed { call: call.clone(), present });
                    }
                    Effect::ArmCall { call, attempt } => {
                        due.push(Event::CallDue { call: call.clone(), attempt: *attempt });
                    }
                    Effect::ArmIdle { number, .. } => due.push(Event::IdleDue { number: *number }),
                    Effect::Inspect { number } => {
                        due.push(Event::Inspected { number: *number, jobs: Jobs::None });
                    }
                    Effect::Tend(care) => {
                        let awake = matches!(lifecycle.state(), State::Ready | State::Tidying { .. });
                        prop_assert!(awake, "looked after while {:?}", lifecycle.state());
                        prop_assert_eq!(fitted, Some(lifecycle.instance()));
                        due.push(Event::Tended(*care));
                    }
                    Effect::ArmPart { .. } => due.push(Event::PartDue),
                    Effect::Gone => match lifecycle.state() {
                        State::Gone => prop_assert!(world.exists.is_none(), "gone with a sandbox left"),
                        State::Parked => prop_assert!(world.shelved, "parked and not on the shelf"),
                        state => prop_assert_eq!(state, &State::Left),
                    },
                    _ => {}
                }
            }
            let event = match choice {
                // The provider answers, or loses its answer.
                0..=3 => match world.asked.take() {
                    Some(asked) => answer(&mut world, &asked, flag),
                    None => match armed.take() {
                        Some(attempt) => Event::RetryDue { attempt },
                        None => continue,
                    },
                },
                4 => match due.pop() { Some(event) => event, None => continue },
                5 if !stopped => {
                    calls += 1;
                    let call = CallId::from(format!("c{calls}"));
                    open.insert(call.clone());
                    if flag {
                        reruns.insert(call.clone());
                    }
                    Event::Call(Call { id: call, started: false, rerun: flag })
                }
                6 | 7 => match with_hand.pop_first() {
                    Some(call) if flag && world.exists.is_some() => {
                        open.remove(&call);
                        Event::Answered { call }
                    }
                    Some(call) => Event::CallFailed { call, fault: fault(FaultClass::Ambiguous) },
                    None => continue,
                },
                // The sandbox vanishes, unless something is being done about it.
                8 if world.asked.is_none() => { world.exists = None; continue }
                9 => match open.first() {
                    Some(call) => Event::Cancel { call: call.clone(), why: Cancellation::Interrupted },
                    None => continue,
                },
                10 => Event::Expected,
                11 => {
                    if !std::mem::replace(&mut stopped, true) && release != Release::Leave {
                        // Those that run were given up with the session.
                        open.clear();
                    }
                    Event::Released(release)
                }
                _ => continue,
            };
            if matches!(event, Event::Fitted(_)) {
                fitted = Some(lifecycle.instance());
            }
            lifecycle.step(event, &policy, &mut effects).unwrap();
        }
        match lifecycle.state() {
            State::Gone => prop_assert_eq!(world.exists, None),
            State::Parked => prop_assert!(matches!(release, Release::Park | Release::HandOver)),
            state => prop_assert_eq!((state, release), (&State::Left, Release::Leave)),
        }
    }
}

fn answer(world: &mut World, asked: &Effect, lose: bool) -> Event {
    match asked {
        Effect::Create { instance } => {
            world.exists = Some(*instance);
            if lose { create_failed(FaultClass::Ambiguous) } else { Event::Created }
        }
        Effect::LookUp { .. } if lose => Event::LookUpFailed(fault(FaultClass::Transient)),
        Effect::LookUp { .. } => Event::LookedUp { present: world.exists.is_some() },
        // Half of them have nothing to be looked after.
        Effect::Fit if lose && world.exists.is_none_or(|instance| instance % 2 == 0) => {
            let of_sandbox = world.exists.is_none();
            Event::FitFailed(Unfit { fault: fault(FaultClass::Transient), of_sandbox })
        }
        Effect::Fit if lose => Event::Fitted(Fitted::Plain),
        Effect::Fit => Event::Fitted(Fitted::Tended),
        Effect::Standby if lose => Event::StandbyFailed(fault(FaultClass::Ambiguous)),
        Effect::Standby => Event::StoodBy,
        Effect::Resume if lose => Event::ResumeFailed(fault(FaultClass::Transient)),
        Effect::Resume => Event::Resumed,
        Effect::Shelve if lose => Event::ShelveFailed(fault(FaultClass::Transient)),
        Effect::Shelve => {
            world.shelved = true;
            Event::Shelved
        }
        // A delete whose answer was lost has happened, so what is left at the end is what was never asked for.
        _ => {
            world.exists = None;
            if lose { Event::DeleteFailed(fault(FaultClass::Ambiguous)) } else { Event::Deleted }
        }
    }
}
