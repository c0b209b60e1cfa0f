//! What goes wrong with what sandboxes are furnished with.

use std::time::Duration;

use super::lease::spread;
use crate::testing::sim::{Act, Dice, Failure, Fate, Operation, Plan, Port, Request, Setup};

/// Skills that cannot be had, stores that hang, processes that die over them.
pub(super) struct Unfurnished;

impl Plan for Unfurnished {
    fn name(&self) -> &str {
        "outfit"
    }

    fn predicts(&self) -> &str {
        "furnishing and looking after fail, hang and kill: no call enters a sandbox that is not furnished, and sessions \
         that cannot be are given up with a reason"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.outfits = true;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        let wait = dice.secs(0, 30);
        // Looking up and freezing fail, too, so that what comes between is seen.
        if matches!(request.operation, Operation::Standby | Operation::Resume) && dice.chance(50) {
            return dice.pick(&[Fate::Slow(wait), Fate::Fail(Failure::Unavailable)]).clone();
        }
        if request.operation.port() != Port::Outfitter || !dice.chance(300) {
            return Fate::Fine;
        }
        match dice.below(24) {
            0 => Fate::DieBefore,
            1 => Fate::DieAfter,
            2 => Fate::Panic,
            3 => Fate::Fail(Failure::Refused),
            4..8 => Fate::Fail(Failure::Silence),
            8..12 => Fate::Slow(wait),
            12..16 => Fate::Fail(Failure::Broken),
            16..20 => Fate::Fail(Failure::Unavailable),
            _ => Fate::Late(wait),
        }
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        spread(6, during, dice, |dice| {
            let which = dice.below(1000);
            match dice.below(3) {
                0 => Act::Lose(which),
                1 => Act::Supersede(which),
                _ => Act::AskStop(which),
            }
        })
    }
}
