use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::bucket::Rate;

const SECOND: Duration = Duration::from_secs(1);

fn policy(per_second: u32, burst: u32) -> Policy {
    let rate = Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() };
    Policy { rate: Some(rate), waiting: 100, ..Policy::default() }
}

fn lanes(per_second: u32, burst: u32) -> (Lanes, Instant) {
    let now = Instant::now();
    (Lanes::new(policy(per_second, burst), now), now)
}

/// Lets so many of a class wait.
fn ask(lanes: &mut Lanes, class: Class, count: usize) -> Vec<Ticket> {
    (0..count).map(|_| lanes.ask(class).unwrap()).collect()
}

/// Everyone who may go now.
fn served(lanes: &mut Lanes, now: Instant) -> Vec<Ticket> {
    std::iter::from_fn(|| lanes.serve(now)).collect()
}

#[test]
fn the_burst_goes_at_once_and_the_rest_at_the_rate() {
    let (mut lanes, now) = lanes(10, 3);
    let tickets = ask(&mut lanes, Class::Result, 5);
    assert_eq!(served(&mut lanes, now), tickets[..3]);
    let wait = lanes.wait(now).unwrap();
    assert_eq!(wait, SECOND / 10);
    assert_eq!(served(&mut lanes, now + wait), tickets[3..4]);
    assert_eq!(served(&mut lanes, now + 2 * wait), tickets[4..]);
    assert_eq!(lanes.wait(now + 2 * wait), None, "nobody waits");
}

#[test]
fn without_a_rate_nobody_waits() {
    let now = Instant::now();
    let mut lanes = Lanes::new(Policy { rate: None, ..Policy::default() }, now);
    let tickets = ask(&mut lanes, Class::Poll, 1_000);
    assert_eq!(served(&mut lanes, now), tickets);
}

#[test]
fn the_more_urgent_goes_first_and_the_less_urgent_in_the_end() {
    let (mut lanes, now) = lanes(1, 100);
    let polls = ask(&mut lanes, Class::Poll, 1);
    let attaches = ask(&mut lanes, Class::Attach, 1);
    let results = ask(&mut lanes, Class::Result, 20);
    let order = served(&mut lanes, now);
    assert_eq!(order[..8], results[..8]);
    assert_eq!(order[8], attaches[0], "it was passed over eight times, and so was the poll");
    assert_eq!(order[9], polls[0]);
    assert_eq!(order[10..], results[8..]);
}

#[test]
fn a_lease_never_waits_and_the_rest_pays_for_it() {
    let (mut lanes, now) = lanes(10, 5);
    for _ in 0..8 {
        lanes.lease(now);
    }
    let tickets = ask(&mut lanes, Class::Result, 2);
    assert_eq!(lanes.serve(now), None);
    assert_eq!(lanes.wait(now), Some(SECOND * 4 / 10));
    assert_eq!(served(&mut lanes, now + SECOND * 4 / 10), tickets[..1]);
}

#[test]
fn leases_that_use_everything_up_let_every_eighth_of_the_rest_go() {
    let (mut lanes, mut now) = lanes(10, 10);
    let mut gone = 0;
    ask(&mut lanes, Class::Poll, 100);
    served(&mut lanes, now);
    for _ in 0..400 {
        now += SECOND / 100;
        lanes.lease(now);
        gone += served(&mut lanes, now).len();
    }
    // The first tokens that came in were spent before there was a debt.
    assert!((45..=52).contains(&gone), "{gone}");
}

#[test]
fn a_server_that_asks_for_patience_gets_it_from_that_class_and_those_below() {
    let (mut lanes, now) = lanes(100, 100);
    assert_eq!(lanes.throttled(Class::Attach, Some(5 * SECOND), now), Some(5 * SECOND));
    assert_eq!(
        lanes.throttled(Class::Attach, Some(2 * SECOND), now),
        None,
        "it is one pause, and the longer"
    );
    let results = ask(&mut lanes, Class::Result, 1);
    let attaches = ask(&mut lanes, Class::Attach, 10);
    let polls = ask(&mut lanes, Class::Poll, 1);
    assert_eq!(served(&mut lanes, now), results);
    assert_eq!(lanes.wait(now), Some(5 * SECOND));
    let over = now + 5 * SECOND;
    assert_eq!(served(&mut lanes, over), attaches[..1], "what has queued up does not go all at once");
    assert_eq!(served(&mut lanes, over + SECOND).len(), 9 + polls.len());
}

#[test]
fn a_throttled_lease_pauses_all_others_and_nobody_can_park_us_for_good() {
    let (mut lanes, now) = lanes(100, 100);
    let pause = lanes.throttled(Class::Lease, Some(86_400 * SECOND), now);
    assert_eq!(pause, Some(60 * SECOND));
    for class in Class::LANES {
        assert_eq!(lanes.paused(class, now), Some(60 * SECOND));
        ask(&mut lanes, class, 1);
    }
    assert_eq!(lanes.serve(now), None);
    assert_eq!(lanes.throttled(Class::Lease, None, now + 70 * SECOND), Some(SECOND));
}

#[test]
fn the_queue_is_bounded_and_a_turn_that_is_not_taken_comes_back() {
    let (mut lanes, now) = lanes(1, 1);
    let tickets = ask(&mut lanes, Class::Attach, 100);
    assert_eq!(lanes.ask(Class::Attach), Err(Full));
    assert!(lanes.ask(Class::Result).is_ok(), "each class has its own");
    assert!(lanes.cancel(tickets[0]) && !lanes.cancel(tickets[0]));
    let first = lanes.serve(now).unwrap();
    assert_eq!(lanes.serve(now), None);
    assert!(!lanes.cancel(first), "it had its turn");
    lanes.refund();
    assert_eq!(lanes.serve(now), Some(tickets[1]));
}

/// What happens in a property test.
#[derive(Clone, Copy, Debug)]
enum Action {
    Ask(Class),
    Lease,
    Cancel(usize),
    Throttled(Class, u64),
    Wait(u64),
}

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(Class::LANES.to_vec())
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        8 => class().prop_map(Action::Ask),
        4 => Just(Action::Lease),
        1 => any::<usize>().prop_map(Action::Cancel),
        1 => (class(), 0u64..3_000).prop_map(|(class, millis)| Action::Throttled(class, millis)),
        6 => (0u64..200).prop_map(Action::Wait),
    ]
}

proptest! {
    /// Whatever happens: each request is served at most once and never after it was given up, first come
    /// first served within its class, never while its class is paused, and no more of them than the rate and
    /// the leases allow. Waiting as long as one is told to is never in vain.
    #[test]
    fn property_turns_are_neither_made_nor_lost(
        per_second in 1u32..50, burst in 1u32..20,
        actions in prop::collection::vec(action(), 0..300),
    ) {
        let (mut lanes, start) = lanes(per_second, burst);
        let (mut now, mut waiting) = (start, BTreeMap::new());
        let (mut paused, mut leases, mut granted) = (BTreeMap::new(), 0u64, 0u64);
        for action in actions {
            match action {
                Action::Ask(class) => {
                    if let Ok(ticket) = lanes.ask(class) {
                        prop_assert!(waiting.insert(ticket, class).is_none());
                    }
                }
                Action::Lease => {
                    leases += 1;
                    lanes.lease(now);
                }
                Action::Cancel(nth) if !waiting.is_empty() => {
                    let ticket = *waiting.keys().nth(nth % waiting.len()).unwrap();
                    waiting.remove(&ticket);
                    prop_assert!(lanes.cancel(ticket));
                }
                Action::Cancel(_) => {}
                Action::Throttled(class, millis) => {
                    let until = now + Duration::from_millis(millis);
                    lanes.throttled(class, Some(until - now), now);
                    for lane in Class::LANES.into_iter().filter(|lane| *lane >= class) {
                        let before = paused.get(&lane).copied().unwrap_or(until);
                        paused.insert(lane, until.max(before));
                    }
                }
                Action::Wait(millis) => now += Duration::from_millis(millis),
            }
            for ticket in served(&mut lanes, now) {
                let class = waiting.remove(&ticket);
                prop_assert!(class.is_some(), "served twice, or after it was given up");
                let class = class.unwrap();
                prop_assert!(waiting.iter().all(|(other, of)| *of != class || *other > ticket), "out of turn");
                prop_assert!(paused.get(&class).is_none_or(|until| *until <= now), "served while paused");
                granted += 1;
            }
            let came = u128::from(per_second) * (now - start).as_nanos() / 1_000_000_000;
            let allowed = u128::from(burst) + came + u128::from(leases / u64::from(LEASES));
            prop_assert!(u128::from(granted) <= allowed);
            let wait = lanes.wait(now);
            prop_assert_eq!(wait.is_some(), !waiting.is_empty());
            if let Some(wait) = wait {
                prop_assert!(!wait.is_zero(), "somebody who may go is not served");
                prop_assert!(lanes.clone().serve(now + wait).is_some(), "the wait was in vain");
            }
        }
    }

    /// Whoever is first in line of a class that is not paused waits for a bounded number of turns, whatever
    /// else is asked for in between.
    #[test]
    fn property_no_class_starves(
        victim in class(),
        others in prop::collection::vec(class(), 0..200),
    ) {
        let (mut lanes, mut now) = lanes(1, 1);
        for class in Class::LANES {
            ask(&mut lanes, class, 1);
        }
        let ticket = ask(&mut lanes, victim, 1)[0];
        let mut turns = 0;
        // One more of the same class is before it.
        for other in others.into_iter().chain(std::iter::repeat(Class::Result)) {
            let _ = lanes.ask(other);
            let next = lanes.serve(now);
            now += SECOND;
            turns += u32::from(next.is_some());
            if next == Some(ticket) {
                break;
            }
            prop_assert!(turns <= 2 * (PASSES + 3), "it starves");
        }
    }
}
