use proptest::prelude::*;

use super::*;

/// A machine, and what it has wanted so far, as one word each.
struct Bench {
    machine: Machine,
    policy: Policy,
}

impl Bench {
    fn start(inherited: Inheritance) -> (Self, Vec<String>) {
        let mut effects = Vec::new();
        let machine = Machine::start(inherited, &mut effects);
        (Self { machine, policy: Policy::default() }, brief(&effects))
    }

    /// One whose first worker runs.
    fn running(place: Place) -> Self {
        let (mut bench, effects) = Self::start(Inheritance::default());
        assert_eq!(effects, ["ack"]);
        assert_eq!(bench.step(Event::Acked), ["route"]);
        assert_eq!(bench.step(Event::Routed(Verdict::Worker(place))), ["start 1", "arm look"]);
        bench
    }

    fn step(&mut self, event: Event) -> Vec<String> {
        let mut effects = Vec::new();
        self.machine.step(event, &self.policy, &mut effects).unwrap();
        brief(&effects)
    }

    fn looked(&mut self, standing: Standing) -> Vec<String> {
        self.step(Event::Looked { look: self.machine.looks, standing })
    }

    fn exited(&mut self, failure: Option<&str>) -> Vec<String> {
        self.step(Event::Exited { number: self.machine.number, failure: failure.map(Into::into) })
    }
}

fn brief(effects: &[Effect]) -> Vec<String> {
    let word = |effect: &Effect| match effect {
        Effect::Ack => "ack".to_owned(),
        Effect::ArmAck { .. } => "arm ack".to_owned(),
        Effect::Route => "route".to_owned(),
        Effect::ArmRoute { .. } => "arm route".to_owned(),
        Effect::Start { number } => format!("start {number}"),
        Effect::ArmStart { failures } => format!("arm start {failures}"),
        Effect::Look { .. } => "look".to_owned(),
        Effect::ArmLook { .. } => "arm look".to_owned(),
        Effect::Cut { number, .. } => format!("cut {number}"),
        Effect::ArmCut { .. } => "arm cut".to_owned(),
        Effect::ReleaseSandbox(how) => format!("release {how:?}"),
        Effect::Stop => "stop".to_owned(),
        Effect::ArmStop { .. } => "arm stop".to_owned(),
        Effect::Broker => "broker".to_owned(),
        Effect::Done(end) => format!("done {:?}", end.outcome()),
    };
    effects.iter().map(word).collect()
}

fn passing() -> Fault {
    Fault::new(FaultClass::Transient, "down")
}

#[test]
fn a_worker_that_did_its_work_is_followed_by_nothing() {
    let mut bench = Bench::running(Place::Sandbox);
    assert_eq!(bench.looked(Standing::Active), ["arm look"]);
    assert_eq!(bench.exited(None), ["look"]);
    assert_eq!(bench.looked(Standing::Ended), ["release Park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done Finished"]);
}

#[test]
fn a_worker_that_is_done_and_did_not_stop_its_item_has_that_done_for_it() {
    let mut bench = Bench::running(Place::Host);
    assert_eq!(bench.exited(None), ["look"]);
    assert_eq!(bench.looked(Standing::Active), ["release Park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    assert_eq!(bench.step(Event::StopFailed(passing())), ["arm stop"]);
    assert_eq!(bench.step(Event::StopDue), ["stop"]);
    assert_eq!(bench.step(Event::Stopped), ["done Finished"]);
}

#[test]
fn one_that_fails_before_its_first_beat_is_started_again_within_its_budget() {
    let mut bench = Bench::running(Place::Sandbox);
    for start in 1..bench.policy.starts {
        assert_eq!(bench.exited(Some("exit 3")), ["look"]);
        assert_eq!(bench.looked(Standing::Starting), [format!("arm start {start}")]);
        assert_eq!(bench.step(Event::StartDue), [format!("start {}", start + 1), "arm look".to_owned()]);
    }
    bench.exited(Some("exit 3"));
    assert_eq!(bench.looked(Standing::Starting), ["release Delete"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    assert_eq!(bench.step(Event::Stopped), ["done Failed"]);
}

#[test]
fn one_that_fails_while_it_holds_the_lease_leaves_that_to_lapse() {
    let mut bench = Bench::running(Place::Sandbox);
    bench.exited(Some("exit 3"));
    assert_eq!(bench.looked(Standing::Active), ["release Park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done Failed"], "and is not stopped");
}

#[test]
fn row_21_one_whose_lease_has_lapsed_is_cut_and_nothing_is_stopped() {
    let mut bench = Bench::running(Place::Sandbox);
    assert_eq!(bench.looked(Standing::Queued), ["arm look"], "a listing may be late");
    assert_eq!(bench.looked(Standing::Queued), ["cut 1", "arm cut"]);
    assert_eq!(bench.step(Event::CutDue), ["release Park"], "it does not end by itself");
    assert_eq!(bench.step(Event::SandboxGone), ["done Lost"]);
}

#[test]
fn one_that_never_beats_counts_as_failed() {
    let mut bench = Bench::running(Place::Sandbox);
    for _ in 1..bench.policy.silent_looks {
        assert_eq!(bench.looked(Standing::Starting), ["arm look"]);
    }
    assert_eq!(bench.looked(Standing::Starting), ["cut 1", "arm look"]);
    bench.exited(Some("cut"));
    assert_eq!(bench.looked(Standing::Starting), ["arm start 1"]);
}

#[test]
fn one_that_outlives_its_item_is_cut() {
    for (standing, outcome) in [(Standing::Stopping, "stop"), (Standing::Ended, "done Finished")] {
        let mut bench = Bench::running(Place::Sandbox);
        for _ in 1..bench.policy.ending_looks {
            assert_eq!(bench.looked(standing), ["arm look"]);
        }
        assert_eq!(bench.looked(standing), ["cut 1", "arm cut"]);
        assert_eq!(bench.exited(Some("cut")), ["release Park"]);
        assert_eq!(bench.step(Event::SandboxGone), [outcome]);
    }
}

#[test]
fn a_session_of_the_trees_own_is_handed_on_unbeaten() {
    let (mut bench, _) = Bench::start(Inheritance::default());
    bench.step(Event::Acked);
    assert_eq!(bench.step(Event::RouteFailed(passing())), ["arm route"]);
    assert_eq!(bench.step(Event::RouteDue), ["route"]);
    assert_eq!(bench.step(Event::Routed(Verdict::Brokered)), ["broker"]);
    // One that is told to end before it is known whose it is gets its beat from whoever knows how.
    let (mut bench, _) = Bench::start(Inheritance::default());
    assert_eq!(bench.step(Event::HandBack), Vec::<String>::new());
    assert_eq!(bench.step(Event::Acked), ["route", "broker"]);
}

#[test]
fn row_5_nothing_is_started_for_an_item_that_could_not_be_acknowledged() {
    let (mut bench, _) = Bench::start(Inheritance::default());
    for _ in 1..bench.policy.ack_attempts {
        assert_eq!(bench.step(Event::AckFailed(passing())), ["arm ack"]);
        assert_eq!(bench.step(Event::AckDue), ["ack"]);
    }
    assert_eq!(bench.step(Event::AckFailed(passing())), ["release Park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done NotClaimed"]);
}

#[test]
fn row_28_nothing_is_started_for_a_session_that_is_terminated() {
    let (mut bench, _) = Bench::start(Inheritance::default());
    bench.step(Event::Acked);
    assert_eq!(bench.step(Event::Routed(Verdict::Terminated)), ["release Delete"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
}

#[test]
fn a_successor_looks_before_it_starts_anything() {
    let inherited = |number| Inheritance { acked: true, number, end: None };
    for (number, place, standing, effects) in [
        // It runs on in its sandbox, or its end is known there.
        (Some(2), Place::Sandbox, Standing::Active, &["start 2", "arm look"][..]),
        (Some(2), Place::Sandbox, Standing::Starting, &["start 2", "arm look"]),
        // None was ever given to a sandbox.
        (None, Place::Sandbox, Standing::Starting, &["start 1", "arm look"]),
        // Somebody beats, and it is no child of ours.
        (None, Place::Host, Standing::Active, &["arm look"]),
        (None, Place::Host, Standing::Starting, &["start 1", "arm look"]),
        (None, Place::Host, Standing::Ended, &["release Park"]),
    ] {
        let (mut bench, begun) = Bench::start(inherited(number));
        assert_eq!(begun, ["route"]);
        assert_eq!(bench.step(Event::Routed(Verdict::Worker(place))), ["look"]);
        assert_eq!(bench.looked(standing), effects, "{number:?} {place:?} {standing:?}");
    }
}

#[test]
fn a_process_that_ends_leaves_a_worker_in_its_sandbox_and_takes_a_command_along() {
    let mut bench = Bench::running(Place::Sandbox);
    assert_eq!(bench.step(Event::Leave), ["release Leave"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done Left"]);
    let mut bench = Bench::running(Place::Host);
    assert_eq!(bench.step(Event::Leave), Vec::<String>::new());
    assert_eq!(bench.step(Event::LeaveNow), ["cut 1", "arm cut"]);
    assert_eq!(bench.exited(Some("cut")), ["release Park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done HandedBack"]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let standing = prop_oneof![
        Just(Standing::Queued),
        Just(Standing::Starting),
        Just(Standing::Active),
        Just(Standing::Stopping),
        Just(Standing::Ended),
    ];
    prop_oneof![
        Just(Event::Acked),
        Just(Event::AckFailed(passing())),
        Just(Event::AckDue),
        prop_oneof![
            Just(Verdict::Brokered),
            Just(Verdict::Worker(Place::Sandbox)),
            Just(Verdict::Worker(Place::Host)),
            Just(Verdict::Terminated)
        ]
        .prop_map(Event::Routed),
        Just(Event::RouteFailed(passing())),
        Just(Event::RouteDue),
        Just(Event::StartDue),
        (0u32..4, any::<bool>())
            .prop_map(|(number, failed)| Event::Exited { number, failure: failed.then(|| "x".into()) }),
        (0u32..40, standing).prop_map(|(look, standing)| Event::Looked { look, standing }),
        (0u32..40).prop_map(|look| Event::LookFailed { look }),
        (0u32..40).prop_map(|look| Event::LookDue { look }),
        Just(Event::CutDue),
        Just(Event::SandboxFailed(passing())),
        Just(Event::SandboxGone),
        Just(Event::Stopped),
        Just(Event::StopFailed(passing())),
        Just(Event::StopDue),
        Just(Event::Drain),
        Just(Event::HandBack),
        Just(Event::Leave),
        Just(Event::LeaveNow),
        Just(Event::Supersede),
    ]
}

proptest! {
    /// Whatever happens: no start after the end was decided, none under a number that was used, nothing after the last
    /// effect, and no stop of what went back to the queue.
    #[test]
    fn property_starts_are_in_order_and_the_end_is_told_once(
        events in prop::collection::vec(any_event(), 0..120),
    ) {
        let (mut bench, _) = Bench::start(Inheritance::default());
        let (mut last, mut ending, mut over) = (0, false, false);
        for event in events {
            let mut effects = Vec::new();
            let _ = bench.machine.step(event, &bench.policy, &mut effects);
            for effect in effects {
                prop_assert!(!over, "{effect:?} after the last one");
                match effect {
                    Effect::Start { number } => {
                        prop_assert!(!ending && number == last + 1);
                        last = number;
                    }
                    Effect::ReleaseSandbox(_) => {
                        prop_assert!(!ending);
                        ending = true;
                    }
                    Effect::Stop => prop_assert!(ending),
                    Effect::Broker => over = true,
                    Effect::Done(_) => {
                        prop_assert!(ending);
                        over = true;
                    }
                    _ => {}
                }
            }
        }
    }
}
