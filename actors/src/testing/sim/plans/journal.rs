//! What the journal does wrong.

use crate::testing::sim::{Dice, Failure, Fate, Plan, Port, Request};

/// The disk of the journal is full, for half a minute at a time.
pub(super) struct FullDisk;

impl Plan for FullDisk {
    fn name(&self) -> &str {
        "journal-disk-full"
    }

    fn predicts(&self) -> &str {
        "nothing can be written for 30 s at a time: nothing is claimed or run then, and what runs is answered"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() == Port::Journal && request.at.as_secs() % 90 < 30 && !dice.chance(100) {
            return Fate::Fail(Failure::Unavailable);
        }
        Fate::Fine
    }
}

/// Writes that take long, or of which nothing is heard though they are written.
pub(super) struct Slow;

impl Plan for Slow {
    fn name(&self) -> &str {
        "journal-slow"
    }

    fn predicts(&self) -> &str {
        "writes take up to 15 s or are not heard of: nothing begins before it is written, and all ends"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() != Port::Journal {
            return Fate::Fine;
        }
        match dice.below(30) {
            0 => Fate::Slow(dice.secs(1, 15)),
            1 => Fate::Lag(dice.secs(1, 15)),
            2 => Fate::LoseAnswer(Failure::Broken),
            _ => Fate::Fine,
        }
    }
}
