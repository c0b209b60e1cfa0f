//! All of it at once.

use std::time::Duration;

use super::lease::spread;
use crate::supervision::ActorKind;
use crate::testing::sim::{Act, Dice, Failure, Fate, Operation, Plan, Port, Request, Setup};

/// Everything that the other plans do, on three hosts, each rarely enough that there is something to break.
pub(super) struct Everything;

impl Plan for Everything {
    fn name(&self) -> &str {
        "everything"
    }

    fn predicts(&self) -> &str {
        "everything at once on three hosts: whatever happens, no invariant breaks, and in the end all is quiet"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.hosts = 3;
        setup.poison = 10;
        setup.outside = 150;
        setup.outfits = true;
        setup.strangers = 2;
        setup.settings.max_sessions = setup.settings.max_sessions.div_ceil(2).max(4);
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if !dice.chance(60) {
            return Fate::Fine;
        }
        let failure = *dice.pick(&[
            Failure::Unavailable,
            Failure::Broken,
            Failure::Truncated,
            Failure::Silence,
            Failure::Throttled(Duration::from_secs(3)),
        ]);
        let time = dice.secs(0, 40);
        if request.operation == Operation::Event {
            return dice.pick(&[Fate::Cut, Fate::Repeat, Fate::Swap, Fate::Slow(time)]).clone();
        }
        match dice.below(40) {
            0 => Fate::DieBefore,
            1 => Fate::DieAfter,
            2 => Fate::Panic,
            3..8 => Fate::Slow(time),
            8..12 => Fate::Lag(time),
            12..16 => Fate::Late(time),
            16..20 if request.operation.port() == Port::Hand => Fate::Repeat,
            16..20 if request.operation == Operation::List => Fate::Nothing,
            20..30 => Fate::LoseAnswer(failure),
            _ => Fate::Fail(failure),
        }
    }

    fn acts(&self, setup: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        let hosts = u64::try_from(setup.hosts).unwrap_or(1);
        spread(25, during, dice, |dice| {
            let host = usize::try_from(dice.below(hosts)).unwrap_or(0);
            let (which, down) = (dice.below(1000), dice.secs(0, 60));
            match dice.below(10) {
                0 => Act::Kill { host, down },
                1 => Act::Drain { host, grace: dice.secs(0, 10), down },
                2 | 3 => Act::Partition { host, lasts: dice.secs(5, 60), one_way: dice.chance(300) },
                4 => Act::Steal(which),
                5 => Act::Lapse(which),
                6 => Act::AskStop(which),
                7 => Act::Supersede(which),
                8 => Act::Interrupt(which),
                _ => Act::Lose(which),
            }
        })
    }

    fn sabotage(&self, actor: ActorKind, _: &str, dice: &mut Dice) -> bool {
        matches!(actor, ActorKind::Session | ActorKind::Sandbox) && dice.chance(3)
    }
}
