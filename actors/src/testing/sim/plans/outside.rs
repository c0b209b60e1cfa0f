//! What tools outside do wrong, and what goes wrong while they work.

use std::time::Duration;

use super::lease::spread;
use crate::supervision::ActorKind;
use crate::testing::sim::{Act, Dice, Failure, Fate, Plan, Port, Request, Setup};

/// A tool outside that fails, hangs, and does things late.
pub(super) struct Failing;

impl Plan for Failing {
    fn name(&self) -> &str {
        "tools-fail"
    }

    fn predicts(&self) -> &str {
        "half of all calls go to a tool outside that fails, hangs or is late: each is asked for once, and answered"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.outside = 500;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() != Port::Tool {
            return Fate::Fine;
        }
        match dice.below(10) {
            0 => Fate::Fail(Failure::Unavailable),
            1 => Fate::Fail(Failure::Silence),
            2 => Fate::LoseAnswer(Failure::Silence),
            3 => Fate::Slow(dice.secs(1, 60)),
            4 => Fate::Panic,
            _ => Fate::Fine,
        }
    }
}

/// Processes and actors that die while tools outside work for them.
pub(super) struct Reboots;

impl Plan for Reboots {
    fn name(&self) -> &str {
        "tools-reboots"
    }

    fn predicts(&self) -> &str {
        "processes, sessions and leases are lost while a tool outside works: what was asked for is not asked for again"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.outside = 700;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        match request.operation.port() {
            Port::Tool if dice.chance(30) => Fate::DieAfter,
            Port::Tool if dice.chance(300) => Fate::Slow(dice.secs(1, 20)),
            Port::Journal if dice.chance(5) => Fate::DieAfter,
            _ => Fate::Fine,
        }
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        spread(20, during, dice, |dice| match dice.below(4) {
            0 => Act::Kill { host: 0, down: dice.secs(0, 10) },
            1 => Act::Drain { host: 0, grace: dice.secs(0, 5), down: dice.secs(0, 10) },
            2 => Act::Steal(dice.below(1000)),
            _ => Act::Interrupt(dice.below(1000)),
        })
    }

    fn sabotage(&self, actor: ActorKind, _: &str, dice: &mut Dice) -> bool {
        actor == ActorKind::Session && dice.chance(3)
    }
}
