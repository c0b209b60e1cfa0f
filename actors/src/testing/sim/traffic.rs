//! What users and agents do: the sessions of a run, their turns and calls.

use std::time::Duration;

use super::Dice;
use super::plan::{OUTSIDE, Setup};
use crate::event::{Call, CallKind, Input, Permission};
use crate::testing::Brain;

/// What is wrong with the arguments of calls that are no good.
pub(super) const MALFORMED: &str = "injected: not an object";

/// Something that users do.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) at: Duration,
    pub(super) session: String,
    pub(super) work: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A session begins.
    Open(Brain),
    /// A message for one that has begun.
    Say(Brain),
    /// A session begins that has been ended elsewhere by the time it is served.
    Terminated(Brain),
    /// An item that asks for something nobody knows.
    Unknown,
}

/// All errands of a run, in the order of their times.
pub(super) fn errands(seed: u64, sessions: usize, until: Duration, setup: &Setup) -> Vec<Errand> {
    let mut errands = Vec::new();
    for number in 0..sessions {
        let mut dice = Dice::new(seed, ("session", number));
        let session = format!("sesn_{number}");
        let at = dice.between(Duration::ZERO, until);
        let (mut calls, work) = (0, format!("work_{number}"));
        let poison = dice.chance(setup.poison * 10);
        let kind = match (poison, dice.below(3)) {
            (true, 0) => Kind::Unknown,
            (true, 1) => Kind::Terminated(brain(&mut dice, setup, &session, &mut calls, false)),
            (poison, _) => Kind::Open(brain(&mut dice, setup, &session, &mut calls, poison)),
        };
        let comes_back = matches!(kind, Kind::Open(_)) && dice.chance(400);
        errands.push(Errand { at, session: session.clone(), work, kind });
        if comes_back {
            let at = (at + dice.secs(1, 90)).min(until + Duration::from_secs(20));
            let kind = Kind::Say(brain(&mut dice, setup, &session, &mut calls, false));
            errands.push(Errand { at, session, work: format!("work_{number}.again"), kind });
        }
    }
    errands.sort_by_key(|errand| errand.at);
    errands
}

/// A few turns of a few calls. No two calls of a run answer the same.
fn brain(dice: &mut Dice, setup: &Setup, session: &str, calls: &mut u32, malformed: bool) -> Brain {
    let mut brain = Brain::new();
    for _ in 0..1 + dice.below(3) {
        let turn: Vec<_> =
            (0..1 + dice.below(3)).map(|_| call(dice, setup, session, calls, malformed)).collect();
        brain = brain.turn(turn);
    }
    brain
}

fn call(dice: &mut Dice, setup: &Setup, session: &str, calls: &mut u32, malformed: bool) -> Call {
    *calls += 1;
    let id = format!("{session}.c{calls}");
    let takes = match dice.below(20) {
        0..8 => Duration::ZERO,
        8..15 => dice.between(Duration::from_millis(50), Duration::from_secs(2)),
        15..19 => dice.secs(2, 10),
        _ => dice.secs(10, 30),
    };
    let command = match takes {
        Duration::ZERO => format!("echo out of {id}"),
        takes => format!("sleep {} && echo out of {id}", takes.as_secs_f64()),
    };
    let asks = dice.chance(30);
    let call = crate::testing::call(&id, &command);
    // Worlds without such a tool draw nothing for it.
    let is_outside = setup.outside > 0 && dice.chance(setup.outside);
    let call = Call {
        kind: CallKind::Toolset,
        name: if dice.chance(250) { "read".into() } else { "bash".into() },
        input: if malformed { Input::Malformed(MALFORMED.into()) } else { call.input.clone() },
        permission: if asks { Permission::Ask } else { Permission::Allow },
        ..call
    };
    if is_outside { Call { kind: CallKind::Custom, name: OUTSIDE.into(), ..call } } else { call }
}
