//! What happens to processes and to the actors in them.

use std::time::Duration;

use super::lease::spread;
use crate::settings::OnDrain;
use crate::supervision::ActorKind;
use crate::testing::sim::{Act, Dice, Fate, Operation, Plan, Port, Request, Setup};

/// How long a host stays without a process: mostly a moment, sometimes longer than a lease.
fn down(dice: &mut Dice) -> Duration {
    if dice.chance(200) {
        dice.secs(10, 70)
    } else {
        dice.between(Duration::from_millis(100), Duration::from_secs(4))
    }
}

/// Actors fail and tasks panic everywhere.
pub(super) struct Panics;

impl Plan for Panics {
    fn name(&self) -> &str {
        "actor-panics"
    }

    fn predicts(&self) -> &str {
        "actors fail and tasks panic at any step: each comes back to its lease, sandbox and calls, or is given up alone"
    }

    fn fate(&self, _: &Request<'_>, dice: &mut Dice) -> Fate {
        if dice.chance(4) { Fate::Panic } else { Fate::Fine }
    }

    fn sabotage(&self, actor: ActorKind, _: &str, dice: &mut Dice) -> bool {
        match actor {
            ActorKind::Session | ActorKind::Worker | ActorKind::Sandbox => dice.chance(10),
            ActorKind::Sessions => dice.chance(10),
            ActorKind::Root => false,
            ActorKind::Poller | ActorKind::Herd | ActorKind::Reaper => dice.chance(5),
        }
    }
}

/// The process dies just before or after a write of its journal, again and again.
pub(super) struct KilledWriting;

impl Plan for KilledWriting {
    fn name(&self) -> &str {
        "killed-writing"
    }

    fn predicts(&self) -> &str {
        "the process dies around any of its writes and is started again: leases, sandboxes and calls go on"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.keeps_answers = true;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation.port() != Port::Journal {
            return Fate::Fine;
        }
        match dice.below(100) {
            0 => Fate::DieBefore,
            1 => Fate::DieAfter,
            _ => Fate::Fine,
        }
    }
}

/// The process dies around any request at all, and may stay away for longer than a lease.
pub(super) struct Killed;

impl Plan for Killed {
    fn name(&self) -> &str {
        "killed"
    }

    fn predicts(&self) -> &str {
        "the process dies at any moment, sometimes for longer than a lease: nothing runs twice and all is answered"
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        if request.operation == Operation::Poll {
            return Fate::Fine;
        }
        match dice.below(1000) {
            0 => Fate::DieBefore,
            1 => Fate::DieAfter,
            _ => Fate::Fine,
        }
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        spread(5, during, dice, |dice| Act::Kill { host: 0, down: down(dice) })
    }
}

/// The machine goes down, and its sandboxes with it.
pub(super) struct Reboots;

impl Plan for Reboots {
    fn name(&self) -> &str {
        "reboots"
    }

    fn predicts(&self) -> &str {
        "the machine goes down with its sandboxes: calls that ran in them are told to be unknown, and not run again"
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        spread(6, during, dice, |dice| Act::Reboot { host: 0, down: dice.secs(1, 20) })
    }
}

/// The process is told to end, leaves its sessions to the next one, and is killed on the way now and then.
pub(super) struct Restarts;

impl Plan for Restarts {
    fn name(&self) -> &str {
        "restarts"
    }

    fn predicts(&self) -> &str {
        "the process is told to end and leaves its sessions to the next: leases and calls go on"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.settings.on_drain = OnDrain::Leave;
        setup.keeps_answers = true;
    }

    fn acts(&self, _: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        let second = Duration::from_secs(1);
        let mut acts =
            spread(5, during, dice, |dice| Act::Drain { host: 0, grace: dice.secs(0, 12), down: second });
        acts.extend(spread(2, during, dice, |_| Act::Kill { host: 0, down: second }));
        acts
    }
}

/// Two processes; each is told to end now and then and hands its sessions back, for the other to take.
pub(super) struct Replaced;

impl Plan for Replaced {
    fn name(&self) -> &str {
        "drains"
    }

    fn predicts(&self) -> &str {
        "processes hand their sessions back and end: the other takes them up, and no sandbox stays behind"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.hosts = 2;
        setup.settings.on_drain = OnDrain::Release;
    }

    fn acts(&self, setup: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        let hosts = setup.hosts;
        spread(5, during, dice, |dice| Act::Drain {
            host: usize::from(dice.chance(500)) % hosts,
            grace: dice.secs(0, 20),
            down: down(dice),
        })
    }
}

/// Three processes, each of which is cut off from the control plane for a while.
pub(super) struct Partition;

impl Plan for Partition {
    fn name(&self) -> &str {
        "partition"
    }

    fn predicts(&self) -> &str {
        "three processes are cut off in turn: their leases lapse, others take the items, and never two act for one"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.hosts = 3;
        setup.settings.max_sessions = setup.settings.max_sessions.div_ceil(2).max(4);
    }

    fn acts(&self, setup: &Setup, during: Duration, dice: &mut Dice) -> Vec<(Duration, Act)> {
        let hosts = u64::try_from(setup.hosts).unwrap_or(1);
        let mut host = dice.below(hosts);
        spread(4, during.mul_f64(0.8), dice, |dice| {
            host = (host + 1) % hosts;
            let host = usize::try_from(host).unwrap_or(0);
            Act::Partition { host, lasts: dice.secs(5, 120), one_way: dice.chance(300) }
        })
    }
}
