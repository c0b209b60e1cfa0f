//! What hands do wrong.

use crate::testing::sim::{Dice, Failure, Fate, Operation, Plan, Port, Request};

/// The hands of some sandboxes die, and the sandboxes stay.
pub(super) struct Dying;

impl Plan for Dying {
    fn name(&self) -> &str {
        "hand-dies"
    }

    fn predicts(&self) -> &str {
        "a fifth of all hands die at their second request: the sandbox is given up and its calls are told so"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() != Port::Hand || !request.fortune().chance(200) {
            return Fate::Fine;
        }
        if dice.chance(300) { Fate::Fine } else { Fate::Fail(Failure::Unavailable) }
    }
}

/// Hands that say nothing, or much too late.
pub(super) struct Hanging;

impl Plan for Hanging {
    fn name(&self) -> &str {
        "hand-hangs"
    }

    fn predicts(&self) -> &str {
        "hands are not heard in time: they are asked again for the same call, which never runs twice"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() != Port::Hand {
            return Fate::Fine;
        }
        match dice.below(20) {
            0 => Fate::LoseAnswer(Failure::Silence),
            1 => Fate::Fail(Failure::Silence),
            2 => Fate::Slow(dice.secs(1, 30)),
            3 => Fate::Late(dice.secs(1, 30)),
            _ => Fate::Fine,
        }
    }
}

/// Hands that are asked twice, answer twice, or whose connection breaks after they were asked.
pub(super) struct Stammering;

impl Plan for Stammering {
    fn name(&self) -> &str {
        "hand-answers-twice"
    }

    fn predicts(&self) -> &str {
        "requests to hands arrive twice and connections break: the journaled answer is told, nothing runs twice"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() != Port::Hand {
            return Fate::Fine;
        }
        match dice.below(6) {
            0 => Fate::Repeat,
            1 => Fate::LoseAnswer(Failure::Broken),
            2 => Fate::Lag(dice.secs(0, 5)),
            _ => Fate::Fine,
        }
    }
}

/// Hands whose disk is full refuse to begin what they cannot write down.
pub(super) struct FullDisk;

impl Plan for FullDisk {
    fn name(&self) -> &str {
        "hand-disk-full"
    }

    fn predicts(&self) -> &str {
        "some hands cannot write: their calls are answered with that, and have not run"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation == Operation::Call && request.fortune().chance(300) && dice.chance(500) {
            let busy = Failure::Throttled(dice.secs(1, 5));
            return Fate::Fail(*dice.pick(&[Failure::Refused, busy]));
        }
        Fate::Fine
    }
}
