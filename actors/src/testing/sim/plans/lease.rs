//! What becomes of leases, clocks and the wishes of users.

use std::time::Duration;

use crate::testing::sim::{Act, Dice, Failure, Fate, Operation, Plan, Request, Setup};

/// So many acts, drawn one by one, at times spread over the run.
pub(super) fn spread(
    count: u64,
    during: Duration,
    dice: &mut Dice,
    mut act: impl FnMut(&mut Dice) -> Act,
) -> Vec<(Duration, Act)> {
    (0..count).map(|_| (dice.between(Duration::from_secs(5), during), act(dice))).collect()
}

/// Heartbeats that do not get through for longer than a lease.
pub(super) struct Delayed;

impl Plan for Delayed {
    fn name(&self) -> &str {
        "lease-expired"
    }

    fn predicts(&self) -> &str {
        "no beat gets through for a minute: leases are given up in time, nothing is stopped, and the items come back"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        // A different minute of every three for every item.
        let offset = request.fortune().below(180);
        let is_cut = (request.at.as_secs() + offset) % 180 < 60;
        if request.operation != Operation::Heartbeat || !is_cut {
            return Fate::Fine;
        }
        match dice.below(3) {
            0 => Fate::Fail(Failure::Unavailable),
            1 => Fate::Late(dice.secs(5, 60)),
            _ => Fate::LoseAnswer(Failure::Silence),
        }
    }
}

/// Claims that are written down or acknowledged late, and whose first beats go unheard, on three hosts.
pub(super) struct LateClaims;

impl Plan for LateClaims {
    fn name(&self) -> &str {
        "claims-late"
    }

    fn predicts(&self) -> &str {
        "claims take longer than an offer lasts: whoever is late leaves the item to whom it was offered next"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.hosts = 3;
        setup.settings.max_sessions = setup.settings.max_sessions.div_ceil(2).max(4);
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        match request.operation {
            Operation::Append if dice.chance(200) => Fate::Slow(dice.secs(4, 8)),
            Operation::Heartbeat if dice.chance(400) => Fate::Slow(dice.secs(2, 30)),
            _ => Fate::Fine,
        }
    }
}

/// Strangers take items that are held.
pub(super) struct Stolen;

impl Plan for Stolen {
    fn name(&self) -> &str {
        "lease-taken"
    }

    fn predicts(&self) -> &str {
        "strangers take leases: whoever is told so stops and posts nothing, and the items come back"
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        spread(20, during, dice, |dice| Act::Steal(dice.below(1000)))
    }
}

/// Every clock jumps ahead, by more than a lease or less; the control plane's alone as well.
pub(super) struct Jumps;

impl Plan for Jumps {
    fn name(&self) -> &str {
        "clock-jumps"
    }

    fn predicts(&self) -> &str {
        "clocks jump: whoever wakes up after its lease does nothing before it knows that it has lost it"
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        let mut acts = spread(8, during, dice, |dice| Act::Lapse(dice.below(1000)));
        acts.extend(spread(3, during.mul_f64(0.6), dice, |dice| Act::Jump(dice.secs(1, 60))));
        acts
    }
}

/// The control plane asks for the end of an item, at every step there is.
pub(super) struct Stops;

impl Plan for Stops {
    fn name(&self) -> &str {
        "stop-asked"
    }

    fn predicts(&self) -> &str {
        "items are asked to end at every step: running calls are cut and told so, and the items end"
    }

    fn prepare(&self, setup: &mut Setup) {
        // What is left behind on the way stays: nobody tidies up.
        setup.settings.reaper.interval = Duration::from_secs(3600);
        setup.settings.herd.warm = 0;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if dice.chance(15) {
            return Fate::Meanwhile(Act::AskStop(dice.below(1000)));
        }
        // Long enough to be asked in the meantime.
        if request.operation == Operation::Create && dice.chance(700) {
            return Fate::Lag(dice.secs(10, 40));
        }
        Fate::Fine
    }
}

/// Users interrupt, and write while they are served elsewhere.
pub(super) struct Users;

impl Plan for Users {
    fn name(&self) -> &str {
        "users"
    }

    fn predicts(&self) -> &str {
        "users interrupt sessions, and sessions come back under other items: calls are cut or handed over, none lost"
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        spread(40, during, dice, |dice| match dice.below(3) {
            0 => Act::Interrupt(dice.below(1000)),
            1 => Act::Supersede(dice.below(1000)),
            _ => Act::CutStreams(dice.below(1000)),
        })
    }
}
