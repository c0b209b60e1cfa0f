//! What the provider does wrong.

use std::time::Duration;

use super::lease::spread;
use crate::testing::sim::{Act, Dice, Failure, Fate, Operation, Plan, Port, Request, Setup};

/// The provider fails half of what it is asked, for a minute at a time.
pub(super) struct BrownOut;

impl Plan for BrownOut {
    fn name(&self) -> &str {
        "provider-brown-out"
    }

    fn predicts(&self) -> &str {
        "half of all requests to the provider fail: circuits open, calls are told so, nothing leaks"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() != Port::Provider || request.at.as_secs() % 120 >= 60 || dice.chance(500)
        {
            return Fate::Fine;
        }
        match dice.below(4) {
            0 => Fate::LoseAnswer(Failure::Broken),
            1 => Fate::Slow(dice.secs(1, 40)),
            _ => Fate::Fail(Failure::Unavailable),
        }
    }
}

/// Creates that time out and have happened, or happen later.
pub(super) struct LateCreate;

impl Plan for LateCreate {
    fn name(&self) -> &str {
        "create-timed-out"
    }

    fn predicts(&self) -> &str {
        "creates time out and have happened, or happen later: each is found again, or reaped"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.settings.deadlines.create = Duration::from_secs(10);
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation != Operation::Create {
            return Fate::Fine;
        }
        match dice.below(4) {
            0 => Fate::LoseAnswer(Failure::Broken),
            1 => Fate::LoseAnswer(Failure::Silence),
            2 => Fate::Late(dice.secs(5, 30)),
            _ => Fate::Fine,
        }
    }
}

/// No sandbox for some sessions at all.
pub(super) struct Refusal;

impl Plan for Refusal {
    fn name(&self) -> &str {
        "create-refused"
    }

    fn predicts(&self) -> &str {
        "the provider refuses a third of all sandboxes: their calls are answered with that, and the sessions end"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.settings.herd.warm = 0;
    }

    fn fate(&self, request: &Request<'_>, _: &mut Dice) -> Fate {
        let is_refused = request.operation == Operation::Create && request.fortune().chance(330);
        if is_refused { Fate::Fail(Failure::Refused) } else { Fate::Fine }
    }
}

/// Deletes that take longer than their deadline.
pub(super) struct SlowDelete;

impl Plan for SlowDelete {
    fn name(&self) -> &str {
        "slow-delete"
    }

    fn predicts(&self) -> &str {
        "deletes outlast their deadline, fail or are never heard of: they are repeated, and the reaper has the rest"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.settings.herd.park_for = Duration::from_secs(10);
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation != Operation::Delete {
            return Fate::Fine;
        }
        match dice.below(5) {
            0 => Fate::Late(dice.secs(20, 60)),
            1 => Fate::Slow(dice.secs(5, 60)),
            2 => Fate::Fail(Failure::Unavailable),
            3 => Fate::LoseAnswer(Failure::Broken),
            _ => Fate::Fine,
        }
    }
}

/// Listings that fail, are empty, or are full of strangers' sandboxes.
pub(super) struct BadListings;

impl Plan for BadListings {
    fn name(&self) -> &str {
        "bad-listings"
    }

    fn predicts(&self) -> &str {
        "the provider lists nothing, or strangers', or not at all: nothing in use and nothing strange is deleted"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.strangers = 3;
        setup.settings.reaper.interval = Duration::from_secs(5);
        setup.settings.reaper.grace = Duration::from_secs(5);
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation != Operation::List {
            return Fate::Fine;
        }
        match dice.below(4) {
            0 => Fate::Nothing,
            1 => Fate::Fail(Failure::Unavailable),
            2 => Fate::Slow(dice.secs(1, 40)),
            _ => Fate::Fine,
        }
    }
}

/// Listings that fail, and nothing else.
pub(super) struct NoListings;

impl Plan for NoListings {
    fn name(&self) -> &str {
        "no-listings"
    }

    fn predicts(&self) -> &str {
        "the provider cannot list: unknown is not empty, so nothing is given up because of that"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.keeps_answers = true;
        setup.settings.reaper.interval = Duration::from_secs(5);
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation == Operation::List && dice.chance(700) {
            return Fate::Fail(*dice.pick(&[Failure::Unavailable, Failure::Silence]));
        }
        Fate::Fine
    }
}

/// Sandboxes vanish, whatever runs in them.
pub(super) struct Vanishing;

impl Plan for Vanishing {
    fn name(&self) -> &str {
        "sandboxes-vanish"
    }

    fn predicts(&self) -> &str {
        "sandboxes vanish: the agent is told about calls that ran in them, and the next call gets another"
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        spread(40, during, dice, |dice| Act::Lose(dice.below(1000)))
    }
}
