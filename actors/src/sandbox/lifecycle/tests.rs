mod ending;
mod outfit;
mod property;

use std::time::Duration;

use super::*;
use crate::sandbox::idle::Jobs;
use crate::sandbox::signals::Release;

struct Bench {
    lifecycle: Lifecycle,
    policy: Policy,
}

impl Bench {
    fn new() -> Self {
        Self { lifecycle: Lifecycle::create(1, &mut Vec::new()), policy: policy() }
    }

    fn ready() -> Self {
        let mut bench = Self::new();
        bench.step(Event::Created);
        bench
    }

    fn frozen() -> Self {
        let mut bench = Self::ready();
        bench.step(Event::IdleDue { number: 1 });
        bench.step(Event::StoodBy);
        bench
    }

    fn step(&mut self, event: Event) -> Vec<String> {
        let mut effects = Vec::new();
        self.lifecycle.step(event, &self.policy, &mut effects).unwrap();
        effects.iter().map(brief).collect()
    }

    fn call(&mut self, id: &str) -> Vec<String> {
        self.step(Event::Call(Call { id: id.into(), started: false, rerun: false }))
    }

    fn state(&self) -> &'static str {
        self.lifecycle.name()
    }
}

fn policy() -> Policy {
    Policy { background: Background::Freeze, call_attempts: 8, ..Policy::default() }
}

fn started(id: &str) -> Event {
    Event::Call(Call { id: id.into(), started: true, rerun: false })
}

fn brief(effect: &Effect) -> String {
    match effect {
        Effect::Create { instance } => format!("create {instance}"),
        Effect::LookUp { instance } => format!("look up {instance}"),
        Effect::ArmRetry { attempt, .. } => format!("retry after {attempt}"),
        Effect::Run { call } => format!("run {call}"),
        Effect::Probe { call } => format!("probe for {call}"),
        Effect::ArmCall { call, attempt } => format!("ask for {call} after {attempt}"),
        Effect::CancelRunning { call, attempt, .. } => format!("cancel {call} {attempt}"),
        Effect::Undone { call, why } => match why {
            Undone::Cancelled(_) => format!("{call} cancelled"),
            Undone::NoSandbox(_) => format!("{call} without sandbox"),
            Undone::Refused(_) => format!("{call} refused"),
            Undone::Lost(_) => format!("{call} lost"),
        },
        Effect::ArmIdle { number, .. } => format!("idle {number}"),
        Effect::Inspect { number } => format!("inspect {number}"),
        Effect::ArmPart { .. } => "part".to_owned(),
        Effect::Shelve => "shelve".to_owned(),
        Effect::Fit => "fit".to_owned(),
        Effect::Tend(care) => format!("tend {care:?}"),
        Effect::Standby => "standby".to_owned(),
        Effect::Resume => "resume".to_owned(),
        Effect::Delete => "delete".to_owned(),
        Effect::Unavailable(_) => "unavailable".to_owned(),
        Effect::GiveUp(_) => "give up".to_owned(),
        Effect::Leaked(_) => "leaked".to_owned(),
        Effect::Gone => "gone".to_owned(),
    }
}

fn fault(class: FaultClass) -> Fault {
    Fault::new(class, "no")
}

fn create_failed(class: FaultClass) -> Event {
    Event::CreateFailed(fault(class))
}

fn call_failed(id: &str, class: FaultClass) -> Event {
    Event::CallFailed { call: id.into(), fault: fault(class) }
}

#[test]
fn calls_wait_for_the_sandbox_and_then_run() {
    let mut bench = Bench::new();
    assert!(bench.call("a").is_empty());
    assert_eq!(bench.step(Event::Created), ["run a"]);
    assert_eq!(bench.call("b"), ["run b"]);
    assert_eq!(bench.state(), "busy");
    assert!(bench.step(Event::Answered { call: "a".into() }).is_empty());
    assert_eq!(bench.step(Event::Answered { call: "b".into() }), ["idle 3"]);
    assert_eq!(bench.state(), "ready");
}

#[test]
fn a_create_that_failed_is_repeated_and_a_round_has_an_end() {
    let mut bench = Bench::new();
    bench.call("a");
    for attempt in 1..=3 {
        assert_eq!(bench.step(create_failed(FaultClass::Transient)), [format!("retry after {attempt}")]);
        assert_eq!(bench.step(Event::RetryDue { attempt }), ["create 1"]);
    }
    assert_eq!(bench.step(create_failed(FaultClass::Transient)), ["unavailable", "a without sandbox"]);
    assert_eq!(bench.state(), "failed");
}

#[test]
fn a_create_that_got_no_answer_is_looked_up_before_it_is_repeated() {
    let mut bench = Bench::new();
    bench.call("a");
    assert_eq!(bench.step(create_failed(FaultClass::Ambiguous)), ["look up 1"]);
    assert_eq!(bench.step(Event::LookedUp { present: true }), ["run a"], "it had been created after all");

    let mut bench = Bench::new();
    bench.step(create_failed(FaultClass::Ambiguous));
    assert_eq!(bench.step(Event::LookUpFailed(fault(FaultClass::Transient))), ["retry after 1"]);
    assert_eq!(bench.step(Event::RetryDue { attempt: 1 }), ["look up 1"], "unknown is not absent");
    assert_eq!(bench.step(Event::LookedUp { present: false }), ["retry after 2"]);
    assert_eq!(bench.step(Event::RetryDue { attempt: 2 }), ["create 1"]);
}

#[test]
fn each_call_after_a_failed_round_starts_another_until_the_session_is_given_up() {
    let mut bench = Bench { policy: Policy { create_attempts: 1, ..policy() }, ..Bench::new() };
    assert_eq!(bench.step(create_failed(FaultClass::Transient)), ["unavailable"]);
    for id in ["a", "b"] {
        assert_eq!(bench.call(id), ["create 1"]);
        let said = format!("{id} without sandbox");
        assert_eq!(bench.step(create_failed(FaultClass::Transient)), ["unavailable", said.as_str()]);
    }
    assert_eq!(bench.call("c"), ["c without sandbox", "give up"]);
}

#[test]
fn what_can_never_work_is_not_tried_again_and_the_agent_is_told_a_few_times() {
    let mut bench = Bench::new();
    bench.step(create_failed(FaultClass::Fatal));
    assert_eq!(bench.call("a"), ["a without sandbox"]);
    assert_eq!(bench.call("b"), ["b without sandbox"]);
    assert_eq!(bench.call("c"), ["c without sandbox", "give up"]);
}

#[test]
fn an_idle_sandbox_stands_by_and_a_call_wakes_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.step(Event::Created), ["idle 1"]);
    assert_eq!(bench.step(Event::IdleDue { number: 1 }), ["standby"]);
    assert!(bench.step(Event::StoodBy).is_empty());
    assert_eq!(bench.state(), "standby");
    assert_eq!(bench.call("a"), ["resume"]);
    assert!(bench.call("b").is_empty());
    assert_eq!(bench.step(Event::Resumed), ["run a", "run b"]);
}

#[test]
fn a_call_that_comes_while_freezing_is_not_lost() {
    let mut bench = Bench::ready();
    bench.step(Event::IdleDue { number: 1 });
    assert!(bench.call("a").is_empty());
    assert_eq!(bench.step(Event::StoodBy), ["resume"]);
    assert_eq!(bench.step(Event::Resumed), ["run a"]);
}

#[test]
fn a_busy_sandbox_does_not_stand_by_for_an_old_timer() {
    let mut bench = Bench::ready();
    bench.call("a");
    assert!(bench.step(Event::IdleDue { number: 1 }).is_empty());
    bench.step(Event::Answered { call: "a".into() });
    assert!(bench.step(Event::IdleDue { number: 1 }).is_empty(), "its while began anew");
    assert_eq!(bench.step(Event::IdleDue { number: 3 }), ["standby"]);
}

#[test]
fn a_sandbox_that_may_be_frozen_is_woken() {
    let mut bench = Bench::ready();
    bench.step(Event::IdleDue { number: 1 });
    assert_eq!(bench.step(Event::StandbyFailed(fault(FaultClass::Ambiguous))), ["resume"]);
    assert_eq!(bench.step(Event::Resumed), ["idle 2"]);
}

#[test]
fn a_sandbox_that_cannot_be_woken_is_replaced() {
    let mut bench = Bench::frozen();
    bench.call("a");
    for attempt in 1..=2 {
        let failed = Event::ResumeFailed(fault(FaultClass::Transient));
        assert_eq!(bench.step(failed), [format!("retry after {attempt}")]);
        assert_eq!(bench.step(Event::RetryDue { attempt }), ["resume"]);
    }
    assert_eq!(bench.step(Event::ResumeFailed(fault(FaultClass::Transient))), ["delete"]);
    assert_eq!(bench.step(Event::Deleted), ["create 2"], "the call was never given to it");
    assert_eq!(bench.step(Event::Created), ["run a"]);
}

#[test]
fn a_hand_that_is_not_heard_is_asked_again_while_its_sandbox_lives() {
    let mut bench = Bench::ready();
    bench.call("a");
    for attempt in 1..=3 {
        assert_eq!(bench.step(call_failed("a", FaultClass::Ambiguous)), ["probe for a"]);
        let present = Event::Probed { call: "a".into(), present: true };
        assert_eq!(bench.step(present), [format!("ask for a after {attempt}")]);
        assert_eq!(bench.step(Event::CallDue { call: "a".into(), attempt }), ["run a"]);
    }
    let last = bench.step(call_failed("a", FaultClass::Ambiguous));
    assert_eq!(last, ["a lost", "delete"], "it is there and does not answer");
    assert!(bench.call("b").is_empty());
    assert_eq!(bench.step(Event::Deleted), ["create 2"]);
}

#[test]
fn calls_of_a_lost_sandbox_are_answered_as_unknown_and_the_next_one_gets_another() {
    let mut bench = Bench::ready();
    bench.call("a");
    bench.call("b");
    bench.step(call_failed("a", FaultClass::Transient));
    let gone = Event::Probed { call: "a".into(), present: false };
    assert_eq!(bench.step(gone), ["a lost", "b lost"]);
    assert_eq!(bench.state(), "absent");
    assert_eq!(bench.call("c"), ["create 2"]);
}

#[test]
fn what_a_hand_refuses_is_answered_so() {
    let mut bench = Bench::ready();
    bench.call("a");
    assert_eq!(bench.step(call_failed("a", FaultClass::Permanent)), ["a refused", "idle 3"]);
}

#[test]
fn cancelling_takes_what_waits_away_and_asks_the_hand_about_the_rest() {
    let cancel = |id: &str| Event::Cancel { call: id.into(), why: Cancellation::Interrupted };
    let mut bench = Bench::new();
    bench.call("a");
    bench.call("b");
    assert_eq!(bench.step(cancel("a")), ["a cancelled"]);
    assert_eq!(bench.step(Event::Created), ["run b"]);
    assert_eq!(bench.step(cancel("b")), ["cancel b 1"]);
    let why = Cancellation::Interrupted;
    for attempt in 1..=4 {
        let again = attempt + 1;
        let failed = Event::CancelFailed { call: "b".into(), attempt, why };
        assert_eq!(bench.step(failed), [format!("cancel b {again}")]);
    }
    let failed = Event::CancelFailed { call: "b".into(), attempt: 5, why };
    assert!(bench.step(failed).is_empty(), "its own timeout must do");
    assert!(bench.step(cancel("unknown")).is_empty());
}

#[test]
fn an_adopted_sandbox_is_looked_up_and_its_calls_are_attached_to() {
    let mut effects = Vec::new();
    let lifecycle = Lifecycle::adopt(3, &mut effects);
    assert_eq!(effects, [Effect::LookUp { instance: 3 }]);
    let mut bench = Bench { lifecycle, policy: policy() };
    bench.step(started("a"));
    bench.step(Event::Cancel { call: "a".into(), why: Cancellation::Interrupted });
    assert_eq!(bench.step(Event::LookedUp { present: true }), ["resume"], "it may stand by");
    assert_eq!(bench.step(Event::Resumed), ["run a", "cancel a 1"]);
}

#[test]
fn calls_of_a_sandbox_that_cannot_be_adopted_are_unknown_and_others_get_a_new_one() {
    let lifecycle = Lifecycle::adopt(3, &mut Vec::new());
    let mut bench = Bench { lifecycle, policy: policy() };
    bench.step(started("a"));
    bench.call("b");
    assert_eq!(bench.step(Event::LookedUp { present: false }), ["a lost", "create 4"]);
    // One that is told late fares the same.
    let lifecycle = Lifecycle::adopt(3, &mut Vec::new());
    let mut bench = Bench { lifecycle, policy: policy() };
    bench.step(Event::LookedUp { present: false });
    assert_eq!(bench.step(started("a")), ["a lost"]);
}

#[test]
fn a_call_of_an_instance_that_is_gone_is_not_taken_for_one_of_the_next() {
    let lifecycle = Lifecycle::adopt(3, &mut Vec::new());
    let mut bench = Bench { lifecycle, policy: policy() };
    bench.step(Event::LookedUp { present: false });
    assert_eq!(bench.call("b"), ["create 4"]);
    assert_eq!(bench.step(started("a")), ["a lost"], "told while the next one is being made");
    bench.step(create_failed(FaultClass::Ambiguous));
    assert_eq!(bench.step(started("c")), ["c lost"]);
    bench.step(Event::LookedUp { present: false });
    assert_eq!(bench.step(started("d")), ["d lost"]);
    let looks = Call { id: "e".into(), started: true, rerun: true };
    assert!(bench.step(Event::Call(looks)).is_empty());
    bench.step(Event::RetryDue { attempt: 1 });
    assert_eq!(bench.step(Event::Created), ["run b", "run e"]);
}

#[test]
fn a_call_that_was_cut_short_is_not_run_again_when_its_instance_is_lost() {
    let mut bench = Bench::ready();
    for id in ["a", "b"] {
        bench.step(Event::Call(Call { id: id.into(), started: false, rerun: true }));
    }
    bench.step(Event::Cancel { call: "a".into(), why: Cancellation::Interrupted });
    bench.step(call_failed("b", FaultClass::Transient));
    let gone = Event::Probed { call: "b".into(), present: false };
    assert_eq!(bench.step(gone), ["a lost", "create 2"]);
    assert_eq!(bench.step(Event::Created), ["run b"]);
}

fn refused(secs: u64) -> Fault {
    Fault { retry_after: Some(Duration::from_secs(secs)), ..fault(FaultClass::Throttled) }
}

#[test]
fn what_an_open_circuit_refuses_is_no_attempt_unless_that_goes_on_for_too_long() {
    let mut bench = Bench::new();
    bench.call("a");
    bench.step(create_failed(FaultClass::Transient));
    bench.step(Event::RetryDue { attempt: 1 });
    for _ in 0..4 {
        assert_eq!(bench.step(Event::CreateFailed(refused(30))), ["retry after 1"]);
        assert_eq!(bench.step(Event::RetryDue { attempt: 1 }), ["create 1"]);
    }
    for attempt in 2..4 {
        assert_eq!(bench.step(Event::CreateFailed(refused(30))), [format!("retry after {attempt}")]);
        bench.step(Event::RetryDue { attempt });
    }
    assert_eq!(bench.step(Event::CreateFailed(refused(30))), ["unavailable", "a without sandbox"]);
}

#[test]
fn a_sandbox_that_stands_by_is_not_given_up_because_a_circuit_is_open() {
    let mut bench = Bench::frozen();
    bench.call("a");
    for _ in 0..12 {
        assert_eq!(bench.step(Event::ResumeFailed(refused(10))), ["retry after 0"]);
        assert_eq!(bench.step(Event::RetryDue { attempt: 0 }), ["resume"]);
    }
    for attempt in 1..=2 {
        assert_eq!(bench.step(Event::ResumeFailed(refused(10))), [format!("retry after {attempt}")]);
        bench.step(Event::RetryDue { attempt });
    }
    assert_eq!(bench.step(Event::ResumeFailed(refused(10))), ["delete"], "not for ever");
}

#[test]
fn an_answer_to_what_was_never_asked_is_illegal() {
    let mut bench = Bench::ready();
    let illegal = bench.lifecycle.step(Event::Created, &bench.policy, &mut Vec::new()).unwrap_err();
    assert_eq!(illegal.to_string(), "the sandbox machine cannot take `created` while ready");
}

#[test]
fn jobs_hold_a_sandbox_as_their_policy_says() {
    let busy = Jobs::Some { permille: 51 };
    let quiet = Jobs::Some { permille: 50 };
    for (background, jobs, held) in [
        (Background::Hold, quiet, true),
        (Background::Hold, Jobs::None, false),
        (Background::HoldWhileBusy, busy, true),
        (Background::HoldWhileBusy, quiet, false),
        (Background::HoldWhileBusy, Jobs::None, false),
        (Background::HoldWhileBusy, Jobs::Unknown, true),
    ] {
        let mut bench = Bench { policy: Policy { background, ..policy() }, ..Bench::new() };
        assert_eq!(bench.step(Event::Created), ["idle 1"]);
        assert_eq!(bench.step(Event::IdleDue { number: 1 }), ["inspect 1"]);
        let next = if held { "idle 1" } else { "standby" };
        assert_eq!(bench.step(Event::Inspected { number: 1, jobs }), [next], "{background:?} {jobs:?}");
    }
}

#[test]
fn a_busy_sandbox_is_not_held_for_ever_and_a_call_begins_its_time_anew() {
    let mut bench = Bench { policy: Policy::default(), ..Bench::new() };
    bench.step(Event::Created);
    let hold = |bench: &mut Bench, number| {
        let mut looks = 0;
        loop {
            assert_eq!(bench.step(Event::IdleDue { number }), [format!("inspect {number}")]);
            looks += 1;
            let jobs = Jobs::Some { permille: 1000 };
            if bench.step(Event::Inspected { number, jobs }) == ["standby"] {
                return Duration::from_secs(16) * (looks - 1);
            }
        }
    };
    let first = hold(&mut bench, 1);
    assert!((595..620).contains(&first.as_secs()), "{first:?}");
    bench.step(Event::StoodBy);
    bench.call("a");
    bench.step(Event::Resumed);
    assert_eq!(bench.step(Event::Answered { call: "a".into() }), ["idle 3"]);
    assert_eq!(hold(&mut bench, 3), first);
}

#[test]
fn a_call_that_comes_while_jobs_are_looked_at_wins() {
    let mut bench = Bench { policy: Policy::default(), ..Bench::new() };
    bench.step(Event::Created);
    bench.step(Event::IdleDue { number: 1 });
    assert_eq!(bench.call("a"), ["run a"]);
    assert!(bench.step(Event::Inspected { number: 1, jobs: Jobs::None }).is_empty());
    assert_eq!(bench.state(), "busy");
}

#[test]
fn a_call_that_is_likely_to_come_wakes_a_sandbox_ahead() {
    let mut bench = Bench::frozen();
    assert_eq!(bench.step(Event::Expected), ["resume"]);
    assert!(bench.step(Event::Expected).is_empty());
    assert_eq!(bench.step(Event::Resumed), ["idle 2"], "and if none comes it is frozen again");
    let mut bench = Bench { policy: Policy { thaw_early: false, ..policy() }, ..Bench::frozen() };
    assert!(bench.step(Event::Expected).is_empty());
}

#[test]
fn what_only_looks_is_run_again_in_the_next_sandbox() {
    let mut bench = Bench::ready();
    bench.call("write");
    bench.step(Event::Call(Call { id: "read".into(), started: false, rerun: true }));
    bench.step(call_failed("read", FaultClass::Transient));
    let gone = Event::Probed { call: "read".into(), present: false };
    assert_eq!(bench.step(gone), ["write lost", "create 2"]);
    assert_eq!(bench.step(Event::Created), ["run read"]);
}

#[test]
fn a_sandbox_whose_files_are_wanted_is_not_deleted_before_the_next_one_has_them() {
    let mut bench =
        Bench { policy: Policy { keep_files: true, call_attempts: 1, ..policy() }, ..Bench::ready() };
    bench.call("a");
    assert_eq!(bench.step(call_failed("a", FaultClass::Ambiguous)), ["a lost"]);
    assert_eq!(bench.call("b"), ["create 2"]);
    bench.step(Event::Created);
    assert_eq!(bench.step(Event::Released(Release::Delete)), ["delete"]);
}

#[test]
fn a_parked_sandbox_sleeps_on_until_a_call_comes() {
    let mut effects = Vec::new();
    let lifecycle = Lifecycle::unpark(2, &mut effects);
    assert_eq!(effects, [Effect::LookUp { instance: 2 }]);
    let mut bench = Bench { lifecycle, policy: policy() };
    assert!(bench.step(Event::LookedUp { present: true }).is_empty());
    assert_eq!(bench.state(), "standby");
    assert_eq!(bench.call("a"), ["resume"]);

    let mut bench = Bench { lifecycle: Lifecycle::unpark(2, &mut Vec::new()), policy: policy() };
    bench.call("a");
    assert_eq!(bench.step(Event::LookUpFailed(fault(FaultClass::Transient))), ["retry after 1"]);
    assert_eq!(bench.step(Event::RetryDue { attempt: 1 }), ["look up 2"]);
    assert_eq!(bench.step(Event::LookedUp { present: true }), ["resume"]);

    let mut bench = Bench { lifecycle: Lifecycle::unpark(2, &mut Vec::new()), policy: policy() };
    bench.call("a");
    assert_eq!(bench.step(Event::LookedUp { present: false }), ["create 3"], "it is gone");
}
