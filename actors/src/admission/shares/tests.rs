use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

fn shares(total: usize, weights: &[u32]) -> Shares {
    let environments: Vec<_> = weights
        .iter()
        .enumerate()
        .map(|(n, weight)| Environment { id: env(n), weight: (*weight).try_into().unwrap() })
        .collect();
    Shares::new(total, &environments)
}

fn env(n: usize) -> EnvironmentId {
    format!("env_{n:02}").into()
}

fn held(shares: &Shares) -> Vec<usize> {
    shares.all().map(|(_, share)| share.held).collect()
}

/// Fills every slot, with endless demand from the first so many.
fn fill(shares: &mut Shares, environments: usize) {
    for n in 0..environments {
        shares.ask(env(n), Demand::Known);
    }
    while let Some((_, environment)) = shares.grant() {
        shares.ask(environment, Demand::Known);
    }
}

#[test]
fn scarce_slots_go_by_weight() {
    for (total, weights, expected) in [
        (8, &[3, 1][..], &[6, 2][..]),
        (100, &[3, 1], &[75, 25]),
        (12, &[1, 2, 3], &[2, 4, 6]),
        // Nobody is left without, as long as there are slots enough.
        (2, &[1_000, 1], &[1, 1]),
    ] {
        let mut shares = shares(total, weights);
        fill(&mut shares, weights.len());
        assert_eq!(held(&shares), expected, "{weights:?}");
        assert_eq!(shares.free(), 0);
    }
}

#[test]
fn what_one_does_not_use_another_gets_and_gives_back_slot_by_slot() {
    let mut shares = shares(4, &[1, 1]);
    fill(&mut shares, 1);
    assert_eq!(held(&shares), [4, 0]);
    shares.ask(env(1), Demand::Known);
    for expected in [[3, 1], [2, 2]] {
        shares.release(&env(0), None);
        let (_, environment) = shares.grant().unwrap();
        assert_eq!(environment, env(1), "it is below its share");
        shares.ask(env(1), Demand::Known);
        assert_eq!(held(&shares), expected);
    }
    shares.release(&env(0), None);
    assert_eq!(shares.grant().unwrap().1, env(0), "now the first one is");
}

#[test]
fn slots_that_come_free_together_are_left_to_who_is_owed_them() {
    let mut shares = shares(8, &[3, 1]);
    fill(&mut shares, 2);
    assert_eq!(held(&shares), [6, 2]);
    for _ in 0..4 {
        shares.release(&env(0), None);
    }
    for taken in 3..=6 {
        let (_, environment) = shares.grant().unwrap();
        assert_eq!((environment, held(&shares)), (env(0), vec![taken, 2]));
        assert_eq!(shares.grant(), None, "the other one waits, and leaves them to it");
        shares.ask(env(0), Demand::Known);
    }
    shares.release(&env(0), None);
    let (ticket, _) = shares.grant().unwrap();
    shares.release(&env(0), Some(ticket));
    assert_eq!(shares.grant().unwrap().1, env(1), "its queue was empty after all");
}

#[test]
fn nobody_leaves_over_what_there_is_enough_of() {
    let mut shares = shares(100, &[3, 1]);
    shares.ask(env(0), Demand::Known);
    shares.occupy(env(1));
    shares.grant().unwrap();
    shares.ask(env(1), Demand::Known);
    assert_eq!(shares.grant().unwrap().1, env(1), "two more would bring the first one level");
}

#[test]
fn one_slot_goes_round_among_many() {
    let mut shares = shares(1, &[9, 1, 1]);
    for n in 0..3 {
        shares.ask(env(n), Demand::Known);
    }
    let mut served = Vec::new();
    for _ in 0..6 {
        let (_, environment) = shares.grant().unwrap();
        served.push(environment.clone());
        shares.release(&environment, None);
        shares.ask(environment, Demand::Known);
    }
    assert_eq!(served, [env(0), env(1), env(2), env(0), env(1), env(2)]);
}

#[test]
fn looks_into_empty_queues_do_not_keep_work_waiting() {
    let mut shares = shares(2, &[1, 1, 1]);
    shares.occupy(env(0));
    shares.ask(env(0), Demand::Known);
    for n in [1, 2] {
        shares.ask(env(n), Demand::Unknown);
    }
    let (_, looked) = shares.grant().unwrap();
    assert_eq!(looked, env(1), "it holds less, so it may look");
    shares.release(&looked, None);
    shares.ask(looked, Demand::Unknown);
    assert_eq!(shares.grant().unwrap().1, env(0), "then it is the turn of the one that has work");
}

#[test]
fn what_an_earlier_life_left_counts_even_beyond_the_limit() {
    let mut shares = shares(2, &[1]);
    for environment in [env(0), env(0), "gone".into()] {
        shares.occupy(environment);
    }
    assert_eq!(shares.free(), 0);
    shares.ask(env(0), Demand::Known);
    shares.release(&env(0), None);
    assert_eq!(shares.grant(), None, "there are as many as may be");
    shares.release(&"gone".into(), None);
    assert!(shares.grant().is_some());
}

#[test]
fn who_gave_up_is_not_granted_anything() {
    let mut shares = shares(1, &[1, 1]);
    let ticket = shares.ask(env(0), Demand::Known);
    shares.ask(env(1), Demand::Known);
    shares.cancel(ticket);
    assert_eq!(shares.grant().unwrap().1, env(1));
    shares.cancel(ticket);
    assert_eq!(held(&shares), [0, 1]);
}

/// What happens in a property test: somebody asks, gives up, or gives a slot back.
#[derive(Clone, Copy, Debug)]
enum Action {
    Ask(usize, bool),
    Cancel(usize),
    Release(usize),
}

fn action(environments: usize) -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0..environments, prop::bool::ANY).prop_map(|(n, known)| Action::Ask(n, known)),
        1 => any::<usize>().prop_map(Action::Cancel),
        2 => (0..environments).prop_map(Action::Release),
    ]
}

proptest! {
    /// Whatever happens: never more slots than there are, never a free one while somebody waits and nobody is
    /// just claiming, and each request is granted at most once and only if it was not given up.
    #[test]
    fn property_slots_are_neither_made_nor_lost(
        total in 1usize..6,
        actions in prop::collection::vec(action(4), 0..200),
    ) {
        let mut shares = shares(total, &[1, 2, 3, 4]);
        let mut waiting = BTreeSet::new();
        let mut owned = [0usize; 4];
        for action in actions {
            match action {
                Action::Ask(n, known) => {
                    let demand = if known { Demand::Known } else { Demand::Unknown };
                    prop_assert!(waiting.insert(shares.ask(env(n), demand)));
                }
                Action::Cancel(nth) if !waiting.is_empty() => {
                    let ticket = *waiting.iter().nth(nth % waiting.len()).unwrap();
                    waiting.remove(&ticket);
                    shares.cancel(ticket);
                }
                Action::Release(n) if owned[n] > 0 => {
                    owned[n] -= 1;
                    shares.release(&env(n), None);
                }
                Action::Cancel(_) | Action::Release(_) => {}
            }
            while let Some((ticket, environment)) = shares.grant() {
                prop_assert!(waiting.remove(&ticket), "granted twice, or after it was given up");
                owned[(0..4).find(|n| env(*n) == environment).unwrap()] += 1;
            }
            prop_assert_eq!(held(&shares), owned.to_vec());
            prop_assert_eq!(shares.free(), total - owned.iter().sum::<usize>());
            let mut claimed = shares.clone();
            let mut end_claims = || {
                claimed.environments.values_mut().for_each(|share| share.claiming = None);
                claimed.grant()
            };
            while end_claims().is_some() {}
            let idle = claimed.free() > 0 && claimed.is_crowded();
            prop_assert!(!idle, "a slot lies idle while somebody waits");
        }
    }

    /// A free slot never goes to an environment that holds its share or more while one with as good a claim
    /// holds less than its own.
    #[test]
    fn property_who_is_below_its_share_is_served_first(
        total in 1usize..40,
        weights in prop::collection::vec(1u32..20, 2..6),
        releases in prop::collection::vec(0usize..6, 0..200),
    ) {
        let mut shares = shares(total, &weights);
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let below = |n: usize, held: usize| held as u64 * sum < total as u64 * u64::from(weights[n]);
        // All of it is the first one's before the others come.
        fill(&mut shares, 1);
        for n in 1..weights.len() {
            shares.ask(env(n), Demand::Known);
        }
        for n in releases {
            let before = held(&shares);
            if n >= weights.len() || before[n] == 0 {
                continue;
            }
            shares.release(&env(n), None);
            let before = held(&shares);
            let (_, environment) = shares.grant().unwrap();
            let served = (0..weights.len()).find(|n| env(*n) == environment).unwrap();
            let anybody_below = (0..weights.len()).any(|n| below(n, before[n]));
            prop_assert!(!anybody_below || below(served, before[served]), "{before:?} {weights:?} {served}");
            shares.ask(environment, Demand::Known);
        }
    }

    /// Under load, even if one has had everything, what each holds ends up within one slot of its share, as
    /// soon as every slot has changed hands.
    #[test]
    fn property_shares_converge_to_weights(
        weights in prop::collection::vec(1u32..8, 2..5),
        rounds in 2usize..6,
    ) {
        let sum: usize = weights.iter().map(|weight| *weight as usize).sum();
        let total = sum * rounds;
        let mut shares = shares(total, &weights);
        // All of it is the first one's before the others come.
        fill(&mut shares, 1);
        for n in 1..weights.len() {
            shares.ask(env(n), Demand::Known);
        }
        // Sessions end in the order in which they began.
        let mut running = VecDeque::from(vec![env(0); total]);
        for _ in 0..2 * total {
            shares.release(&running.pop_front().unwrap(), None);
            let (_, environment) = shares.grant().unwrap();
            running.push_back(environment.clone());
            shares.ask(environment, Demand::Known);
        }
        for (held, weight) in held(&shares).into_iter().zip(&weights) {
            prop_assert!(held.abs_diff(*weight as usize * rounds) <= 1, "{held} for weight {weight}");
        }
    }

    /// Who holds nothing waits for at most two grants per environment, whoever else asks for whatever reason.
    #[test]
    fn property_nobody_starves(
        total in 1usize..5,
        weights in prop::collection::vec(1u32..50, 2..6),
        known in prop::collection::vec(prop::bool::ANY, 6),
        ends in prop::collection::vec(any::<usize>(), 400),
    ) {
        let environments = weights.len();
        let mut shares = shares(total, &weights);
        let demand = |n: usize| if known[n] { Demand::Known } else { Demand::Unknown };
        for n in 0..environments {
            shares.ask(env(n), demand(n));
        }
        let mut passed = vec![0usize; environments];
        for end in ends {
            while let Some((_, environment)) = shares.grant() {
                let served = (0..environments).find(|n| env(*n) == environment).unwrap();
                for (n, held) in held(&shares).into_iter().enumerate() {
                    passed[n] = if n == served || held > 0 { 0 } else { passed[n] + 1 };
                    prop_assert!(passed[n] <= 2 * environments, "{n} starves: {weights:?} {known:?}");
                }
                shares.ask(environment, demand(served));
            }
            let holders: Vec<_> = (0..environments).filter(|n| held(&shares)[*n] > 0).collect();
            shares.release(&env(holders[end % holders.len()]), None);
        }
    }

    /// Nor does anyone who is known to have work, whatever it holds, while others merely look.
    #[test]
    fn property_looks_delay_known_work_by_one_grant(lookers in 1usize..6, rounds in 1usize..50) {
        let mut shares = shares(2, &[1; 7]);
        shares.occupy(env(0));
        for n in 1..=lookers {
            shares.ask(env(n), Demand::Unknown);
        }
        for _ in 0..rounds {
            shares.ask(env(0), Demand::Known);
            let mut looks = 0;
            loop {
                let (_, environment) = shares.grant().unwrap();
                shares.release(&environment, None);
                if environment == env(0) {
                    break;
                }
                looks += 1;
                shares.ask(environment, Demand::Unknown);
            }
            prop_assert!(looks <= 1);
        }
    }
}
