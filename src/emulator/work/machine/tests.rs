//! The table of [`step`], and what must hold over any history.

use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(120);
const STARTUP: Duration = Duration::from_secs(30);

fn policy(lapse: Lapse) -> Policy {
    Policy { ttl: TTL, max_ttl: Duration::from_secs(300), startup: STARTUP, lapse }
}

fn beat<'a>(expected: &'a str, stamp: &'a str) -> Event<'a> {
    Event::Heartbeat { expected, stamp, desired_ttl: None }
}

/// Every state against every event: the name of the next state, or why not.
#[test]
fn the_table_of_states_and_events() {
    let now = Instant::now();
    let later = now + TTL * 2;
    let deadline = now + TTL;
    let stamp: Arc<str> = "hb1".into();
    let active = State::Active { stamp: stamp.clone(), ttl: TTL, deadline };
    let stopping = State::Stopping { stamp: stamp.clone(), ttl: TTL, deadline };
    let stopped = State::Stopped { stamp: None };
    let states = [
        State::new(),
        State::Starting { deadline: now + STARTUP },
        active,
        stopping,
        stopped.clone(),
        State::Lapsed,
    ];
    let graceful = Event::StopRequested { force: false };
    let force = Event::StopRequested { force: true };
    // One row per event, one column per state in the order above.
    let table: &[(&str, Event<'_>, Instant, [&str; 6])] = &[
        ("offered", Event::Offered, now, ["queued", "409", "409", "409", "409", "409"]),
        ("acked", Event::Acked, now, ["starting dequeue", "starting", "409", "409", "409", "409"]),
        (
            "first beat",
            beat(NO_HEARTBEAT, "hb2"),
            now,
            ["412", "active", "412", "stopping", "stopped", "412"],
        ),
        ("right beat", beat("hb1", "hb2"), now, ["412", "412", "active", "stopping", "stopped", "412"]),
        ("wrong beat", beat("HB1", "hb2"), now, ["412", "412", "412", "stopping", "stopped", "412"]),
        ("graceful", graceful, now, ["stopped dequeue", "stopped", "stopping", "409", "409", "409"]),
        ("force", force, now, ["stopped dequeue", "stopped", "stopped", "stopped", "409", "409"]),
        ("in time", Event::Elapsed, now, ["queued", "starting", "active", "stopping", "stopped", "lapsed"]),
        (
            "overdue",
            Event::Elapsed,
            later,
            ["queued", "lapsed requeue", "lapsed requeue", "stopped", "stopped", "lapsed"],
        ),
        (
            "revoked",
            Event::Revoked,
            now,
            ["queued", "lapsed requeue", "lapsed requeue", "stopped", "stopped", "lapsed"],
        ),
    ];
    for (name, event, at, expected) in table {
        for (state, expected) in states.iter().zip(expected) {
            let got = match step(state, *event, *at, &policy(Lapse::NewItem)) {
                Err(Refusal::NotHolder { .. }) => "412".to_owned(),
                Err(Refusal::TooLate { .. }) => "409".to_owned(),
                Ok(step) => {
                    let next = if step.next == State::Lapsed { "lapsed" } else { step.next.name() };
                    match step.effect {
                        None => next.to_owned(),
                        Some(Effect::Dequeue) => format!("{next} dequeue"),
                        Some(Effect::RequeueNew | Effect::RequeueSame) => format!("{next} requeue"),
                    }
                }
            };
            assert_eq!(got, *expected, "{name} in {state:?}");
        }
    }
}

#[test]
fn a_kept_item_comes_back_queued_with_its_lease_cleared() {
    let now = Instant::now();
    let active = State::Active { stamp: "hb1".into(), ttl: TTL, deadline: now };
    let step = step(&active, Event::Elapsed, now, &policy(Lapse::SameItem)).unwrap();
    assert_eq!(step, Step { next: State::new(), effect: Some(Effect::RequeueSame) });
}

#[test]
fn a_lease_is_never_shorter_than_two_seconds_nor_longer_than_the_maximum() {
    let now = Instant::now();
    let starting = State::Starting { deadline: now + STARTUP };
    for (asked, granted) in [(0, 2), (1, 2), (45, 45), (300, 300), (9_999, 300)] {
        let event = Event::Heartbeat {
            expected: NO_HEARTBEAT,
            stamp: "hb1",
            desired_ttl: Some(Duration::from_secs(asked)),
        };
        let next = step(&starting, event, now, &policy(Lapse::NewItem)).unwrap().next;
        let granted = Duration::from_secs(granted);
        assert_eq!(next, State::Active { stamp: "hb1".into(), ttl: granted, deadline: now + granted });
    }
}

/// What three workers and an operator may do to one item, in any order.
#[derive(Clone, Debug)]
enum Deed {
    Offer,
    Ack,
    /// A worker beats with what it believes, or with the sentinel if it has never had an answer.
    Beat(usize),
    Stop(bool),
    Wait(u64),
    Revoke,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        1 => Just(Deed::Offer),
        3 => Just(Deed::Ack),
        8 => (0_usize..3).prop_map(Deed::Beat),
        1 => any::<bool>().prop_map(Deed::Stop),
        2 => (0_u64..200).prop_map(Deed::Wait),
        1 => Just(Deed::Revoke),
    ];
    prop::collection::vec(deed, 1..60)
}

proptest! {
    /// Three workers that each hold what they were last told: at most one of them is the holder, a stopped
    /// item stays stopped, and each lapse re-queues exactly once.
    #[test]
    fn property_one_holder_at_most_and_terminal_states_stay(
        deeds in deeds(),
        same in any::<bool>(),
    ) {
        let policy = policy(if same { Lapse::SameItem } else { Lapse::NewItem });
        let mut now = Instant::now();
        let mut state = State::new();
        let mut known: [Option<String>; 3] = Default::default();
        let mut stamps = 0_u32;
        for deed in deeds {
            let stamp = format!("hb{stamps}");
            let expected = match &deed {
                Deed::Beat(worker) => known[*worker].clone().unwrap_or_else(|| NO_HEARTBEAT.to_owned()),
                _ => String::new(),
            };
            let event = match deed {
                Deed::Offer => Event::Offered,
                Deed::Ack => Event::Acked,
                Deed::Beat(_) => Event::Heartbeat { expected: &expected, stamp: &stamp, desired_ttl: None },
                Deed::Stop(force) => Event::StopRequested { force },
                Deed::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                    Event::Elapsed
                }
                Deed::Revoke => Event::Revoked,
            };
            let before = state.clone();
            let result = step(&before, event, now, &policy);
            if let Ok(step) = &result {
                state = step.next.clone();
                let leased = matches!(before, State::Starting { .. } | State::Active { .. });
                let gone = matches!(state, State::Queued { .. } | State::Lapsed);
                let requeued =
                    matches!(step.effect, Some(Effect::RequeueNew | Effect::RequeueSame));
                prop_assert_eq!(requeued, leased && gone, "{:?} -> {:?}", before, state);
                if let (Deed::Beat(worker), State::Active { stamp: held, .. }) = (&deed, &state) {
                    // Accepted while active means that it was compared: the sentinel opens a lease, and
                    // only the stamp on record goes on with one.
                    match &before {
                        State::Starting { .. } => prop_assert_eq!(&expected, NO_HEARTBEAT),
                        State::Active { stamp, .. } => prop_assert_eq!(&*expected, &**stamp),
                        other => prop_assert!(false, "a beat made {:?} active", other),
                    }
                    known[*worker] = Some(held.to_string());
                    stamps += 1;
                }
            }
            if !before.is_live() {
                prop_assert_eq!(&before, &state, "a terminal state was left");
            }
            if let State::Active { stamp, .. } = &state {
                let holders = known.iter().flatten().filter(|known| ***known == **stamp).count();
                prop_assert!(holders <= 1, "{} holders of {}", holders, stamp);
            }
            // A second look at the same instant changes nothing.
            let again = step(&state, Event::Elapsed, now, &policy).unwrap();
            if matches!(deed, Deed::Wait(_)) {
                prop_assert_eq!(&again.next, &state);
                prop_assert_eq!(again.effect, None);
            }
        }
    }
}
