//! What the control plane and the way to it do wrong.

use std::time::Duration;

use crate::testing::sim::{Dice, Failure, Fate, Operation, Plan, Port, Request, Setup};

/// Storms of 5xx. Requests are repeated with growing pauses of up to 10 s; a storm that begins just before a beat is
/// over well before the lease is, so none is lost, and no answer either.
pub(super) struct Storm;

impl Plan for Storm {
    fn name(&self) -> &str {
        "control-5xx"
    }

    fn predicts(&self) -> &str {
        "5xx for 8 s at a time: everything is repeated, no lease is lost and no answer"
    }

    fn prepare(&self, setup: &mut Setup) {
        // A session that cannot be retrieved or streamed is tried for longer than a storm lasts.
        setup.settings.session.retrieve_attempts = 20;
        setup.keeps_answers = true;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        let is_storm = request.at.as_secs() % 60 < 8 && request.operation.port() == Port::Control;
        // A few get through; what comes live is on its way already.
        if !is_storm || request.operation == Operation::Event || dice.chance(100) {
            return Fate::Fine;
        }
        Fate::Fail(*dice.pick(&[Failure::Unavailable, Failure::Unavailable, Failure::Broken]))
    }
}

/// 429 with delays of up to 20 s for a third of all requests. Heartbeats get the lease through.
pub(super) struct Throttling;

impl Plan for Throttling {
    fn name(&self) -> &str {
        "control-429"
    }

    fn predicts(&self) -> &str {
        "429 for a third of all requests: everything slows down, and ends"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        let is_control = request.operation.port() == Port::Control && request.operation != Operation::Event;
        if is_control && dice.chance(330) {
            return Fate::Fail(Failure::Throttled(dice.secs(0, 20)));
        }
        Fate::Fine
    }
}

/// Answers that take up to 40 s, come after the lease has lapsed, or break off half-way.
pub(super) struct Slow;

impl Plan for Slow {
    fn name(&self) -> &str {
        "control-slow"
    }

    fn predicts(&self) -> &str {
        "slow and truncated answers: deadlines cut them off, and what may have happened is looked up"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() != Port::Control || request.operation == Operation::Event {
            return Fate::Fine;
        }
        match dice.below(20) {
            0 => Fate::Slow(dice.secs(1, 40)),
            1 => Fate::Lag(dice.secs(1, 40)),
            2 => Fate::Late(dice.secs(1, 40)),
            3 => Fate::LoseAnswer(Failure::Truncated),
            _ => Fate::Fine,
        }
    }
}

/// What is asked happens, and the answer is lost: acknowledged, beaten, posted and stopped, and nobody knows.
pub(super) struct LostAnswers;

impl Plan for LostAnswers {
    fn name(&self) -> &str {
        "control-lost-answers"
    }

    fn predicts(&self) -> &str {
        "a quarter of all answers is lost: what happened is not done again, and lost beats are taken up"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() == Port::Control
            && request.operation != Operation::Event
            && dice.chance(250)
        {
            return Fate::LoseAnswer(*dice.pick(&[Failure::Broken, Failure::Silence]));
        }
        Fate::Fine
    }
}

/// Streams that break, and events that come twice, out of order or late.
pub(super) struct BadLines;

impl Plan for BadLines {
    fn name(&self) -> &str {
        "streams"
    }

    fn predicts(&self) -> &str {
        "streams break, and events come twice, late or out of order: each call runs once and is answered"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation != Operation::Event {
            return Fate::Fine;
        }
        match dice.below(12) {
            0 => Fate::Cut,
            1 => Fate::Repeat,
            2 => Fate::Swap,
            3 => Fate::Slow(dice.secs(0, 5)),
            _ => Fate::Fine,
        }
    }
}

/// Items that were handed out are handed out again.
pub(super) struct Redelivery;

impl Plan for Redelivery {
    fn name(&self) -> &str {
        "redelivery"
    }

    fn predicts(&self) -> &str {
        "items are offered again while they are held: nothing is begun twice"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.keeps_answers = true;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        let is_again = request.operation == Operation::Poll && dice.chance(300);
        if is_again { Fate::Repeat } else { Fate::Fine }
    }
}

/// Nobody says that there is work, and the queue does not hold polls.
pub(super) struct NoHints;

impl Plan for NoHints {
    fn name(&self) -> &str {
        "no-webhooks"
    }

    fn predicts(&self) -> &str {
        "every webhook is lost and no poll is held: sessions are picked up by polling alone"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.hints = false;
        setup.keeps_answers = true;
        setup.settings.poller.block = Duration::ZERO;
        setup.settings.poller.pace = Duration::from_secs(2);
    }
}

/// Items that ask for something unknown, of ended sessions, with unreadable calls, or whose session cannot be had.
pub(super) struct Poison;

impl Plan for Poison {
    fn name(&self) -> &str {
        "poison"
    }

    fn predicts(&self) -> &str {
        "items that nobody can serve are ended, and cost the others nothing"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.poison = 30;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        let refuses = match request.operation {
            // This session's token is no good, for a while.
            Operation::Session | Operation::History => request.fortune().chance(100) && dice.chance(500),
            // This answer is not taken.
            Operation::Post => dice.chance(30),
            _ => false,
        };
        if refuses { Fate::Fail(Failure::Refused) } else { Fate::Fine }
    }
}
