//! The simulation itself: every plan holds for a few seeds, one seed has one history, and what breaks is found.
//!
//! `cargo run --release --example faults` runs thousands of seeds; `tests/mutants/check` shows that the simulation
//! sees what it is there to see.

use std::sync::Arc;
use std::time::Duration;

use remuda_actors::testing::sim::{
    Act, Dice, Failure, Fate, Invariant, Operation, Options, Plan, Port, Request, Setup, plans, shrink,
    simulate,
};

fn options(seed: u64) -> Options {
    Options { sessions: 12, ..Options::new(seed) }
}

#[test]
fn every_plan_holds_and_one_seed_has_one_history() {
    for plan in plans::all() {
        for seed in 1..=3 {
            let report = simulate(&plan, &options(seed));
            assert_eq!(report.broken, [], "{} breaks with seed {seed}", plan.name());
            let again = simulate(&plan, &options(seed));
            assert_eq!(again.digest, report.digest, "{} has two histories of seed {seed}", plan.name());
        }
    }
}

#[test]
fn plans_have_names_of_their_own_and_do_something() {
    let all = plans::all();
    for (number, plan) in all.iter().enumerate() {
        assert!(
            all[..number].iter().all(|other| other.name() != plan.name()),
            "{} is there twice",
            plan.name()
        );
        let is_quiet = ["calm", "no-webhooks"].contains(&plan.name());
        let faults: usize = (1..=3).map(|seed| simulate(plan, &options(seed)).faults).sum();
        assert_eq!(faults == 0, is_quiet, "{} injected {faults} faults", plan.name());
    }
}

#[test]
fn other_seeds_have_other_histories() {
    let calm = &plans::all()[0];
    assert_ne!(simulate(calm, &options(1)).digest, simulate(calm, &options(2)).digest);
}

/// Every fourth answer is refused, which a plan must not call harmless.
struct Refused;

impl Plan for Refused {
    fn name(&self) -> &str {
        "refused"
    }

    fn predicts(&self) -> &str {
        "answers are refused though the plan says that none is lost"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.keeps_answers = true;
    }

    fn fate(&self, request: &Request<'_>, dice: &mut Dice) -> Fate {
        let is_refused = request.operation == Operation::Post && dice.chance(250);
        if is_refused { Fate::Fail(Failure::Refused) } else { Fate::Fine }
    }
}

#[test]
fn what_breaks_is_found_and_shrunk_to_its_first_fault() {
    let plan: Arc<dyn Plan> = Arc::new(Refused);
    let report = simulate(&plan, &options(1));
    assert_eq!(report.broken[0].invariant, Invariant::Faithful, "{:?}", report.broken);
    let shortest = shrink(&plan, &options(1)).expect("it breaks");
    assert_eq!(shortest.faults, 1);
    assert_eq!(shortest.broken[0].invariant, Invariant::Faithful);
    assert!(shrink(&plans::all()[0], &options(1)).is_none(), "nothing is broken in a calm world");
}

/// The process dies once, just before or just after one write of its journal.
struct DiesAt {
    write: u64,
    fate: Fate,
}

impl Plan for DiesAt {
    fn name(&self) -> &str {
        "dies-at"
    }

    fn predicts(&self) -> &str {
        "whichever write it is, all goes on"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.keeps_answers = true;
    }

    fn fate(&self, request: &Request<'_>, _: &mut Dice) -> Fate {
        let is_journal = request.operation.port() == Port::Journal && request.operation == Operation::Append;
        if is_journal && request.life == 1 && request.number == self.write {
            self.fate.clone()
        } else {
            Fate::Fine
        }
    }
}

#[test]
fn a_process_may_die_before_and_after_every_single_write() {
    let options = Options { sessions: 3, length: Duration::from_secs(420), ..Options::new(7) };
    for fate in [Fate::DieBefore, Fate::DieAfter] {
        for write in 1.. {
            let plan: Arc<dyn Plan> = Arc::new(DiesAt { write, fate: fate.clone() });
            let report = simulate(&plan, &options);
            assert_eq!(report.broken, [], "{fate:?} of write {write}");
            if report.faults == 0 {
                assert!(write > 30, "there were only {write} writes");
                break;
            }
        }
    }
}

/// A wedge in the ways of the control plane that lasts to the end is no fault of the tree's, and is seen.
struct NeverServed;

impl Plan for NeverServed {
    fn name(&self) -> &str {
        "never-served"
    }

    fn predicts(&self) -> &str {
        "the process is away from the first second on, and comes back when things go well"
    }

    fn acts(&self, _: &Setup, during: Duration, _: &mut Dice) -> Vec<(Duration, Act)> {
        vec![(Duration::from_secs(1), Act::Kill { host: 0, down: during })]
    }
}

#[test]
fn a_host_that_was_away_catches_up() {
    let plan: Arc<dyn Plan> = Arc::new(NeverServed);
    assert_eq!(simulate(&plan, &options(1)).broken, []);
}
