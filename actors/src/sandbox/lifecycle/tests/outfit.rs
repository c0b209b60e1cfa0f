//! Sandboxes that are furnished.

use super::*;
use crate::ports::{Care, Fitted};
use crate::sandbox::signals::Unfit;

fn furnished() -> Policy {
    Policy { outfits: true, ..policy() }
}

/// A sandbox that was just created, with what has to be done about it.
fn created() -> Bench {
    let mut bench = Bench { policy: furnished(), ..Bench::new() };
    assert_eq!(bench.step(Event::Created), ["fit"]);
    bench
}

fn ready() -> Bench {
    let mut bench = created();
    bench.step(Event::Fitted(Fitted::Tended));
    bench
}

#[test]
fn the_first_call_waits_until_the_sandbox_is_furnished() {
    let mut bench = created();
    assert_eq!(bench.call("a"), Vec::<String>::new());
    assert_eq!(bench.state(), "fitting");
    assert_eq!(bench.step(Event::Fitted(Fitted::Tended)), ["run a"]);
}

#[test]
fn what_is_furnished_is_looked_after_once_at_a_time_and_not_frozen_meanwhile() {
    let mut bench = ready();
    bench.call("a");
    bench.call("b");
    assert_eq!(bench.step(Event::Answered { call: "a".into() }), ["tend CallEnded"]);
    assert_eq!(bench.step(Event::Answered { call: "b".into() }), Vec::<String>::new());
    let armed = bench.step(Event::Tended(Care::CallEnded));
    assert!(matches!(&armed[..], [idle] if idle.starts_with("idle ")), "{armed:?}");
}

#[test]
fn it_is_looked_after_before_it_is_frozen() {
    let mut bench = ready();
    bench.call("a");
    bench.step(Event::Answered { call: "a".into() });
    let number = idle(&bench.step(Event::Tended(Care::CallEnded)));
    assert_eq!(bench.step(Event::IdleDue { number }), ["tend Still"]);
    let number = idle(&bench.step(Event::Tended(Care::Still)));
    assert_eq!(bench.step(Event::IdleDue { number }), ["standby"]);
}

fn stand_by(bench: &mut Bench) {
    let (call, care) = (CallId::from("x"), Care::CallEnded);
    bench.call("x");
    bench.step(Event::Answered { call });
    let number = idle(&bench.step(Event::Tended(care)));
    bench.step(Event::IdleDue { number });
    let number = idle(&bench.step(Event::Tended(Care::Still)));
    bench.step(Event::IdleDue { number });
    bench.step(Event::StoodBy);
    assert_eq!(bench.state(), "standby");
}

fn idle(effects: &[String]) -> u32 {
    effects.last().unwrap().strip_prefix("idle ").unwrap().parse().unwrap()
}

#[test]
fn it_is_woken_to_be_looked_after_a_last_time() {
    for (how, last) in [(Release::Park, "standby"), (Release::Delete, "delete")] {
        let mut bench = ready();
        stand_by(&mut bench);
        assert_eq!(bench.step(Event::Released(how)), ["resume"]);
        assert_eq!(bench.step(Event::Resumed), ["tend Farewell"]);
        assert_eq!(bench.state(), "tidying");
        assert_eq!(bench.step(Event::Tended(Care::Farewell)), [last]);
    }
}

#[test]
fn one_that_cannot_be_woken_is_let_go_of_as_it_is() {
    let mut bench = ready();
    stand_by(&mut bench);
    bench.step(Event::Released(Release::Delete));
    assert_eq!(bench.step(Event::ResumeFailed(fault(FaultClass::Permanent))), ["delete"]);
}

#[test]
fn with_nothing_to_look_after_everything_is_as_without() {
    let mut bench = created();
    bench.step(Event::Fitted(Fitted::Plain));
    bench.call("a");
    let number = idle(&bench.step(Event::Answered { call: "a".into() }));
    assert_eq!(bench.step(Event::IdleDue { number }), ["standby"]);
    bench.step(Event::StoodBy);
    assert_eq!(bench.step(Event::Released(Release::Park)), ["shelve"]);
}

#[test]
fn what_cannot_be_had_ends_the_session_and_its_calls_say_why() {
    let mut bench = created();
    bench.call("a");
    let unfit = Unfit { fault: fault(FaultClass::Permanent), of_sandbox: false };
    assert_eq!(bench.step(Event::FitFailed(unfit)), ["unavailable", "a without sandbox", "give up"]);
}

#[test]
fn what_may_be_had_later_is_asked_for_again() {
    let mut bench = created();
    for attempt in 1..5 {
        let unfit = Unfit { fault: fault(FaultClass::Transient), of_sandbox: false };
        assert_eq!(bench.step(Event::FitFailed(unfit)), [format!("retry after {attempt}")]);
        assert_eq!(bench.step(Event::RetryDue { attempt }), ["fit"]);
    }
    let unfit = Unfit { fault: fault(FaultClass::Transient), of_sandbox: false };
    assert_eq!(bench.step(Event::FitFailed(unfit)), ["unavailable", "give up"]);
}

#[test]
fn a_sandbox_that_cannot_be_furnished_is_replaced_but_not_for_ever() {
    let mut bench = created();
    bench.call("a");
    let unfit = || Event::FitFailed(Unfit { fault: fault(FaultClass::Permanent), of_sandbox: true });
    for instance in 2..5 {
        assert_eq!(bench.step(unfit()), ["delete"]);
        assert_eq!(bench.step(Event::Deleted), [format!("create {instance}")]);
        assert_eq!(bench.step(Event::Created), ["fit"]);
    }
    assert_eq!(bench.step(unfit()), ["unavailable", "a without sandbox", "give up"]);
}

#[test]
fn what_a_lost_instance_was_furnished_with_is_not_taken_for_the_next_ones() {
    let mut bench = ready();
    bench.call("a");
    bench.step(Event::CallFailed { call: "a".into(), fault: fault(FaultClass::Transient) });
    bench.step(Event::Probed { call: "a".into(), present: false });
    bench.call("b");
    assert_eq!(bench.step(Event::Created), ["fit"]);
    assert_eq!(bench.step(Event::Tended(Care::CallEnded)), Vec::<String>::new());
}
