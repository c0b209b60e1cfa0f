//! Sandboxes that are let go of.

use super::*;

#[test]
fn an_answer_that_crosses_the_decision_to_park_is_no_bug() {
    let lifecycle = Lifecycle::adopt(3, &mut Vec::new());
    let mut bench = Bench { lifecycle, policy: policy() };
    assert_eq!(bench.step(Event::Released(Release::Park)), ["standby"]);
    assert!(bench.step(Event::LookedUp { present: true }).is_empty());
    assert_eq!(bench.step(Event::StoodBy), ["shelve"]);
    let mut bench = Bench::frozen();
    bench.call("a");
    assert_eq!(bench.step(Event::Released(Release::Park)), ["standby"]);
    assert!(bench.step(Event::Resumed).is_empty());
    assert_eq!(bench.step(Event::StoodBy), ["shelve"]);
}

#[test]
fn a_stop_while_creating_waits_for_the_create_and_deletes_whatever_came_of_it() {
    for event in [Event::Created, create_failed(FaultClass::Ambiguous), create_failed(FaultClass::Transient)]
    {
        let mut bench = Bench::new();
        assert!(bench.step(Event::Released(Release::Delete)).is_empty());
        assert_eq!(bench.state(), "abandoning");
        assert_eq!(bench.call("late"), ["late cancelled"]);
        assert_eq!(bench.step(event), ["delete"]);
        assert_eq!(bench.step(Event::Deleted), ["gone"]);
    }
}

#[test]
fn a_delete_is_repeated_and_then_reported_as_leaked() {
    let mut bench = Bench::ready();
    assert_eq!(bench.step(Event::Released(Release::Delete)), ["delete"]);
    for attempt in 1..=4 {
        let failed = Event::DeleteFailed(fault(FaultClass::Transient));
        assert_eq!(bench.step(failed), [format!("retry after {attempt}")]);
        assert_eq!(bench.step(Event::RetryDue { attempt }), ["delete"]);
    }
    assert_eq!(bench.step(Event::DeleteFailed(fault(FaultClass::Transient))), ["leaked", "gone"]);
}

#[test]
fn a_session_that_may_come_back_has_its_sandbox_parked() {
    let mut bench = Bench::ready();
    bench.call("a");
    assert_eq!(bench.step(Event::Released(Release::Park)), ["cancel a 1", "part"]);
    assert_eq!(bench.call("late"), ["late cancelled"]);
    assert_eq!(bench.step(Event::Answered { call: "a".into() }), ["standby"]);
    assert_eq!(bench.step(Event::StoodBy), ["shelve"]);
    assert_eq!(bench.step(Event::Shelved), ["gone"]);
    assert_eq!(bench.state(), "parked");

    let mut bench = Bench::frozen();
    assert_eq!(bench.step(Event::Released(Release::Park)), ["shelve"]);

    let mut bench = Bench::ready();
    bench.step(Event::IdleDue { number: 1 });
    assert!(bench.step(Event::Released(Release::Park)).is_empty());
    assert_eq!(bench.step(Event::StoodBy), ["shelve"]);

    let lifecycle = Lifecycle::adopt(3, &mut Vec::new());
    let mut bench = Bench { lifecycle, policy: policy() };
    assert_eq!(bench.step(Event::Released(Release::Park)), ["standby"]);
}

#[test]
fn what_cannot_be_parked_is_deleted() {
    let mut bench = Bench::ready();
    bench.call("a");
    bench.step(Event::Released(Release::Park));
    assert_eq!(bench.step(Event::PartDue), ["delete"], "its call does not end");
    for (event, after) in [
        (Event::StandbyFailed(fault(FaultClass::Ambiguous)), None),
        (Event::StoodBy, Some(Event::ShelveFailed(fault(FaultClass::Transient)))),
    ] {
        let mut bench = Bench::ready();
        bench.step(Event::Released(Release::Park));
        let mut last = bench.step(event);
        if let Some(event) = after {
            last = bench.step(event);
        }
        assert_eq!(last, ["delete"]);
        assert_eq!(bench.step(Event::Deleted), ["gone"]);
    }
}

#[test]
fn a_sandbox_is_handed_over_with_what_runs_in_it() {
    let mut bench = Bench::ready();
    bench.call("a");
    assert_eq!(bench.step(Event::Released(Release::HandOver)), ["shelve"]);
    assert_eq!(bench.step(Event::Shelved), ["gone"]);
    let mut bench = Bench::ready();
    assert_eq!(bench.step(Event::Released(Release::HandOver)), ["standby"], "nothing runs in it");
    assert_eq!(bench.step(Event::StoodBy), ["shelve"]);
}

#[test]
fn a_call_whose_hand_is_not_heard_just_now_does_not_cost_the_sandbox_its_place() {
    let mut bench = Bench::ready();
    bench.call("a");
    bench.call("b");
    bench.step(call_failed("a", FaultClass::Transient));
    bench.step(Event::Probed { call: "a".into(), present: true });
    bench.step(call_failed("b", FaultClass::Transient));
    let parting = bench.step(Event::Released(Release::Park));
    assert_eq!(parting, ["cancel a 1", "cancel b 1", "part", "standby"]);
    assert!(bench.step(Event::Probed { call: "b".into(), present: true }).is_empty());
    assert!(bench.step(Event::CallDue { call: "a".into(), attempt: 1 }).is_empty());
    assert_eq!(bench.step(Event::StoodBy), ["shelve"]);
}

#[test]
fn a_sandbox_that_is_left_is_frozen_only_if_nothing_runs() {
    let mut bench = Bench::ready();
    assert_eq!(bench.step(Event::Released(Release::Leave)), ["standby"]);
    assert_eq!(bench.step(Event::StandbyFailed(fault(FaultClass::Transient))), ["gone"]);
    assert_eq!(bench.state(), "left");
    let mut bench = Bench::ready();
    bench.call("a");
    assert_eq!(bench.step(Event::Released(Release::Leave)), ["gone"]);
    assert_eq!(bench.state(), "left");
}
