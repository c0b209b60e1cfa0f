use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event;
use crate::fault::{Fault, FaultClass};
use crate::ports::{Heartbeat, HeartbeatToken, ItemState};
use crate::sandbox::signals::Release;
use crate::session::end::Outcome;
use crate::session::lease::{Effect as L, Event as LeaseEvent, Loss};
use crate::session::signals::NotRun;
use crate::testing::call;
use crate::tool::ToolResult;

struct Bench {
    machine: Machine,
    policy: Policy,
    beats: u32,
}

impl Bench {
    fn start(target: Target) -> Self {
        let machine = Machine::start(target, Inheritance::default(), &mut Vec::new());
        Self { machine, policy: Policy::default(), beats: 0 }
    }

    fn session() -> Self {
        Self::start(Target::Session("sesn_1".into()))
    }

    /// A session that is being served, with its history read.
    fn active() -> Self {
        let mut bench = Self::session();
        bench.step(Event::Lease(LeaseEvent::Acked));
        bench.step(Event::Retrieved(SessionStatus::Live));
        bench.beat(ItemState::Live);
        bench.step(Event::History { number: 1, events: Vec::new() });
        bench
    }

    fn step(&mut self, event: Event) -> Vec<String> {
        let mut effects = Vec::new();
        self.machine.step(event, &self.policy, &mut effects).unwrap();
        brief(&effects)
    }

    fn beat(&mut self, state: ItemState) -> Vec<String> {
        let (number, ttl) = (self.beats, Duration::from_secs(120));
        self.beats += 1;
        let token = HeartbeatToken::new(format!("hb-{number}"));
        if number > 0 {
            self.step(Event::Lease(LeaseEvent::BeatDue { number }));
        }
        let beat = Heartbeat { token, state, extended: true, ttl };
        self.step(Event::Lease(LeaseEvent::Beaten { number, beat, took: Duration::ZERO }))
    }

    fn lose(&mut self) -> Vec<String> {
        let number = self.beats.saturating_sub(1);
        self.step(Event::Lease(LeaseEvent::Expired { number }))
    }

    fn live(&mut self, event: event::Event) -> Vec<String> {
        self.step(Event::Live { number: 1, event })
    }

    fn run(&mut self, id: &str) -> Vec<String> {
        self.live(event::Event::Call(call(id, "true")))
    }

    fn finished(&mut self, id: &str) -> Vec<String> {
        self.step(Event::Finished { call: id.into(), result: Arc::new(ToolResult::ok("x")) })
    }

    fn stopped(&mut self) -> Vec<String> {
        self.step(Event::Lease(LeaseEvent::Stopped))
    }
}

/// One short line per effect; timers of the lease are left out.
fn brief(effects: &[Effect]) -> Vec<String> {
    let brief = effects.iter().filter_map(|effect| {
        Some(match effect {
            Effect::Lease(L::Beat { .. }) => "beat".to_owned(),
            Effect::Lease(L::Stop) => "stop".to_owned(),
            Effect::Lease(_) => return None,
            Effect::Retrieve { attempt } => format!("retrieve {attempt}"),
            Effect::ArmRetrieve { attempt, .. } => format!("retrieve again after {attempt}"),
            Effect::Attach { number } => format!("attach {number}"),
            Effect::ArmStream { number, failures, .. } => format!("attach {number} after {failures}"),
            Effect::Detach => "detach".to_owned(),
            Effect::Withhold => "withhold".to_owned(),
            Effect::Forget { call } => format!("forget {call}"),
            Effect::Provision => "provision".to_owned(),
            Effect::Dispatch(call) => format!("run {}", call.id),
            Effect::Cancel { call, why } => format!("cancel {call} {why:?}"),
            Effect::Post(answer) => format!("post {}: {}", answer.call, answer.result.text()),
            Effect::ArmIdle { number, .. } => format!("idle {number}"),
            Effect::ArmSettle { .. } => "settle".to_owned(),
            Effect::ReleaseSandbox(Release::Delete) => "delete".to_owned(),
            Effect::ReleaseSandbox(how) => format!("{how:?}").to_lowercase(),
            Effect::ExpectCall => "expect".to_owned(),
            Effect::ArmSilence { .. } => return None,
            Effect::Done(end) => format!("done {:?}", end.outcome()),
            Effect::NotRun { call, why: NotRun::Unowned, .. } => format!("leave {call}"),
            other => format!("{other:?}"),
        })
    });
    brief.collect()
}

fn fault(class: FaultClass) -> Fault {
    Fault::new(class, "no")
}

#[test]
fn row_8_an_item_of_unknown_type_is_given_back_and_nothing_is_run() {
    let mut bench = Bench::start(Target::Other("healthcheck".into()));
    assert_eq!(bench.step(Event::Lease(LeaseEvent::Acked)), ["beat", "delete"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    assert_eq!(bench.stopped(), ["done Failed"]);
}

#[test]
fn row_17_the_beat_goes_out_before_the_session_is_fetched() {
    let mut bench = Bench::session();
    assert_eq!(bench.step(Event::Lease(LeaseEvent::Acked)), ["beat", "retrieve 1"]);
}

#[test]
fn nothing_is_prepared_before_the_lease_is_held_and_the_session_known() {
    let mut bench = Bench::session();
    bench.step(Event::Lease(LeaseEvent::Acked));
    assert!(bench.step(Event::Retrieved(SessionStatus::Live)).is_empty());
    assert_eq!(bench.beat(ItemState::Live), ["attach 1", "provision"]);
    let mut bench = Bench::session();
    bench.step(Event::Lease(LeaseEvent::Acked));
    assert!(bench.beat(ItemState::Live).is_empty());
    assert_eq!(bench.step(Event::Retrieved(SessionStatus::Live)), ["attach 1", "provision"]);
}

#[test]
fn row_28_nothing_is_run_for_a_terminated_session() {
    let mut bench = Bench::session();
    bench.step(Event::Lease(LeaseEvent::Acked));
    assert_eq!(bench.step(Event::Retrieved(SessionStatus::Terminated)), ["delete"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    assert_eq!(bench.stopped(), ["done Finished"]);
}

#[test]
fn a_session_that_cannot_be_retrieved_is_tried_again_and_then_failed() {
    let mut bench = Bench::session();
    bench.step(Event::Lease(LeaseEvent::Acked));
    for attempt in 1..=4 {
        let failed = Event::RetrieveFailed { attempt, fault: fault(FaultClass::Transient) };
        assert_eq!(bench.step(failed), [format!("retrieve again after {attempt}")]);
        let next = attempt + 1;
        assert_eq!(bench.step(Event::RetrieveDue { attempt }), [format!("retrieve {next}")]);
    }
    let failed = Event::RetrieveFailed { attempt: 5, fault: fault(FaultClass::Transient) };
    assert_eq!(bench.step(failed), ["delete"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
}

#[test]
fn row_32_a_history_that_cannot_be_read_whole_dispatches_nothing_and_is_read_again() {
    let mut bench = Bench::session();
    bench.step(Event::Lease(LeaseEvent::Acked));
    bench.step(Event::Retrieved(SessionStatus::Live));
    bench.beat(ItemState::Live);
    let failed = Event::StreamFailed { number: 1, fault: fault(FaultClass::Transient) };
    assert_eq!(bench.step(failed), ["attach 2 after 1"]);
    assert!(bench.run("late").is_empty(), "the old connection does not count any more");
    assert_eq!(bench.step(Event::StreamDue { number: 2 }), ["attach 2"]);
    let events = vec![event::Event::Call(call("a", "true"))];
    assert_eq!(bench.step(Event::History { number: 2, events }), ["run a"]);
}

#[test]
fn row_44_every_lost_stream_is_opened_again_later_each_time_until_an_event_comes() {
    let mut bench = Bench::active();
    for number in 1..=3 {
        let failed = Event::StreamFailed { number, fault: fault(FaultClass::Ambiguous) };
        let next = number + 1;
        assert_eq!(bench.step(failed), [format!("attach {next} after {number}")]);
        assert_eq!(bench.step(Event::StreamDue { number: next }), [format!("attach {next}")]);
        bench.step(Event::History { number: next, events: Vec::new() });
    }
    bench.step(Event::Live { number: 4, event: event::Event::Activity });
    let failed = Event::StreamFailed { number: 4, fault: fault(FaultClass::Ambiguous) };
    assert_eq!(bench.step(failed), ["attach 5 after 1"]);
}

#[test]
fn a_stream_that_is_refused_ends_the_session() {
    let mut bench = Bench::active();
    let failed = Event::StreamFailed { number: 1, fault: fault(FaultClass::Fatal) };
    assert_eq!(bench.step(failed), ["detach", "park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    assert_eq!(bench.stopped(), ["done Rejected"]);
}

#[test]
fn row_45_a_session_that_is_terminated_or_deleted_ends_at_once() {
    for event in [event::Event::Terminated, event::Event::Deleted] {
        let mut bench = Bench::active();
        bench.run("a");
        assert_eq!(bench.live(event), ["detach", "delete"]);
        assert!(bench.finished("a").is_empty(), "nobody is there to read it");
        assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
        assert_eq!(bench.stopped(), ["done Finished"]);
    }
}

#[test]
fn row_26_heartbeats_go_on_until_the_sandbox_is_gone() {
    let mut bench = Bench::active();
    bench.live(event::Event::Terminated);
    assert_eq!(bench.step(Event::Lease(LeaseEvent::BeatDue { number: 1 })), ["beat"]);
}

#[test]
fn row_27_a_lost_lease_kills_what_runs_posts_nothing_and_stops_nothing() {
    let mut bench = Bench::active();
    bench.run("a");
    assert_eq!(bench.lose(), ["withhold", "detach", "park"]);
    assert!(bench.finished("a").is_empty());
    assert_eq!(bench.step(Event::SandboxGone), ["done Lost"]);
}

#[test]
fn an_idle_session_is_looked_at_once_more_before_it_ends() {
    let ended = || event::Event::Idle { reason: event::IdleReason::TurnEnded };
    // The stream seemed to be well, and had held a new turn back.
    let mut bench = Bench::active();
    bench.live(ended());
    assert_eq!(bench.step(Event::IdleDue { number: 1 }), ["attach 2"]);
    let events = vec![ended(), event::Event::Running, event::Event::Call(call("a", "true"))];
    assert_eq!(bench.step(Event::History { number: 2, events }), ["run a"]);
    // Nothing can be learnt for now: it goes on, and the clock runs anew when its history is known.
    let mut bench = Bench::active();
    bench.live(ended());
    bench.step(Event::IdleDue { number: 1 });
    let failed = Event::StreamFailed { number: 2, fault: fault(FaultClass::Transient) };
    assert_eq!(bench.step(failed), ["attach 3 after 1"]);
    assert_eq!(bench.step(Event::StreamDue { number: 3 }), ["attach 3"]);
    assert_eq!(bench.step(Event::History { number: 3, events: vec![ended()] }), ["idle 2"]);
}

#[test]
fn a_lease_that_is_lost_while_a_session_ends_is_not_stopped_either() {
    let mut bench = Bench::active();
    bench.run("a");
    bench.beat(ItemState::Stopping);
    assert_eq!(bench.lose(), ["withhold", "park"], "there is nothing left to settle");
    assert_eq!(bench.step(Event::SandboxGone), ["done Lost"]);
}

#[test]
fn row_24_every_other_end_stops_the_item() {
    // Idle.
    let mut bench = Bench::active();
    let ended = event::Event::Idle { reason: event::IdleReason::TurnEnded };
    assert_eq!(bench.live(ended), ["idle 1"]);
    assert!(bench.step(Event::IdleDue { number: 7 }).is_empty(), "an old clock does not count");
    assert_eq!(bench.step(Event::IdleDue { number: 1 }), ["attach 2"]);
    let events = vec![event::Event::Idle { reason: event::IdleReason::TurnEnded }];
    assert_eq!(bench.step(Event::History { number: 2, events }), ["idle 2", "detach", "park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    assert_eq!(bench.stopped(), ["done Finished"]);
    // A heartbeat that is refused for good.
    let mut bench = Bench::active();
    bench.step(Event::Lease(LeaseEvent::BeatDue { number: 1 }));
    let refused = LeaseEvent::BeatFailed { number: 1, fault: fault(FaultClass::Fatal) };
    assert_eq!(bench.step(Event::Lease(refused)), ["detach", "park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    // A sandbox that cannot be had.
    let mut bench = Bench::active();
    assert_eq!(bench.step(Event::SandboxFailed(fault(FaultClass::Fatal))), ["detach", "settle", "delete"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    assert_eq!(bench.stopped(), ["done Failed"]);
}

#[test]
fn row_23_a_stop_request_cuts_what_runs_says_so_and_then_stops() {
    let mut bench = Bench::active();
    bench.run("a");
    bench.run("b");
    let said = "post b: not run: the session was asked to stop";
    assert_eq!(bench.beat(ItemState::Stopping), ["detach", "cancel a StopAsked", said, "settle"]);
    assert_eq!(bench.finished("a"), ["post a: x"]);
    assert!(bench.step(Event::Posted { call: "a".into() }).is_empty());
    assert_eq!(bench.step(Event::Posted { call: "b".into() }), ["park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
    assert_eq!(bench.stopped(), ["done Stopped"]);
}

#[test]
fn settling_takes_only_so_long() {
    let mut bench = Bench::active();
    bench.run("a");
    bench.beat(ItemState::Stopping);
    assert_eq!(bench.step(Event::SettleDue), ["park"]);
}

#[test]
fn a_draining_session_finishes_its_turn_and_takes_no_other() {
    let mut bench = Bench::active();
    bench.run("a");
    assert!(bench.step(Event::Drain).is_empty());
    bench.finished("a");
    bench.step(Event::Posted { call: "a".into() });
    assert_eq!(bench.run("b"), ["run b"], "the turn goes on");
    bench.finished("b");
    bench.step(Event::Posted { call: "b".into() });
    let ended = event::Event::Idle { reason: event::IdleReason::TurnEnded };
    assert_eq!(bench.live(ended), ["idle 1", "detach", "park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["stop"]);
}

#[test]
fn a_session_that_is_handed_back_says_so_and_leaves_its_item_to_lapse() {
    let mut bench = Bench::active();
    bench.run("a");
    assert_eq!(bench.step(Event::HandBack), ["detach", "cancel a ShuttingDown", "settle"]);
    bench.finished("a");
    assert_eq!(bench.step(Event::Posted { call: "a".into() }), ["park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done HandedBack"], "a stop would end it for everyone");
}

#[test]
fn an_item_is_handed_back_only_after_its_first_beat() {
    let mut bench = Bench::session();
    assert!(bench.step(Event::HandBack).is_empty());
    bench.step(Event::Lease(LeaseEvent::Acked));
    assert_eq!(bench.beat(ItemState::Live), ["park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done HandedBack"]);
}

#[test]
fn row_12_a_session_that_came_back_under_another_item_lets_go_without_a_word() {
    let mut bench = Bench::active();
    bench.run("a");
    assert_eq!(bench.step(Event::Supersede), ["detach", "handover"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done Lost"]);
}

#[test]
fn an_item_that_could_not_be_acknowledged_is_not_ours_to_stop() {
    let mut bench = Bench::session();
    let refused = LeaseEvent::AckFailed(fault(FaultClass::Permanent));
    assert_eq!(bench.step(Event::Lease(refused)), ["park"]);
    assert_eq!(bench.step(Event::SandboxGone), ["done NotClaimed"]);
}

#[test]
fn a_successor_beats_and_fetches_without_acknowledging_again() {
    let left = Duration::from_secs(50);
    let lease = InheritedLease {
        token: Some(HeartbeatToken::new("hb-9")),
        ttl: Duration::from_secs(120),
        left,
        is_unheard: false,
    };
    let inheritance = Inheritance { lease: Some(lease), ..Inheritance::default() };
    let mut effects = Vec::new();
    Machine::start(Target::Session("sesn_1".into()), inheritance, &mut effects);
    assert_eq!(brief(&effects), ["beat", "retrieve 1"]);
}

#[test]
fn a_successor_of_a_session_that_was_ending_goes_on_ending_it() {
    for (end, after) in
        [(End::Idle, "stop"), (End::Lost(Loss::Taken), "done Lost"), (End::HandedBack, "done HandedBack")]
    {
        let left = Duration::from_secs(50);
        let lease = InheritedLease { token: None, ttl: Duration::from_secs(120), left, is_unheard: false };
        let inheritance = Inheritance { lease: Some(lease), end: Some(end), ..Inheritance::default() };
        let mut effects = Vec::new();
        let machine = Machine::start(Target::Session("sesn_1".into()), inheritance, &mut effects);
        assert_eq!(brief(&effects).last().map(String::as_str), Some("park"));
        let mut bench = Bench { machine, policy: Policy::default(), beats: 0 };
        assert_eq!(bench.step(Event::SandboxGone), [after]);
    }
}

#[test]
fn every_end_has_words_and_an_outcome() {
    let fault = || fault(FaultClass::Fatal);
    for (end, outcome) in [
        (End::Idle, Outcome::Finished),
        (End::SessionOver, Outcome::Finished),
        (End::StopAsked, Outcome::Stopped),
        (End::HandedBack, Outcome::HandedBack),
        (End::Lost(Loss::Taken), Outcome::Lost),
        (End::Lost(Loss::Expired), Outcome::Lost),
        (End::Superseded, Outcome::Lost),
        (End::NotClaimed(fault()), Outcome::NotClaimed),
        (End::Rejected(fault()), Outcome::Rejected),
        (End::Unsupported("x".into()), Outcome::Failed),
        (End::Failed(fault()), Outcome::Failed),
    ] {
        assert_eq!(end.outcome(), outcome);
        assert!(!end.to_string().is_empty());
    }
}

/// Requests of which at most one is in flight, so that random answers stay answers.
#[derive(Default)]
struct Asked {
    beat: Option<u32>,
    stop: bool,
    sandbox: bool,
    calls: Vec<CallId>,
    posts: Vec<CallId>,
}

proptest! {
    /// Whatever happens in whatever order: nothing runs before the lease is held, nothing is sent after it was
    /// lost, the item is stopped only when the sandbox is gone, and the session always finds its end.
    #[test]
    fn property_every_session_ends_and_respects_its_lease(choices in prop::collection::vec(0u8..20, 1..100)) {
        let policy = Policy::default();
        let mut effects = Vec::new();
        let mut machine = Machine::start(Target::Session("s".into()), Inheritance::default(), &mut effects);
        let mut asked = Asked::default();
        let (mut held, mut lost, mut sandbox, mut done, mut calls) = (false, false, false, 0, 0u32);
        // After the random part, everything that is asked for happens.
        let rest = [16, 3, 17, 18, 4, 5, 6, 19, 3, 17, 18, 4, 5, 6, 19, 4, 5, 6, 19, 4, 5, 6];
        for choice in choices.into_iter().chain(rest.into_iter().cycle().take(220)) {
            let number = asked.beat;
            let event = match choice {
                0 => Event::Retrieved(SessionStatus::Live),
                1 => Event::History { number: 1, events: Vec::new() },
                2 => {
                    calls += 1;
                    let new = call(&format!("c{calls}"), "true");
                    Event::Live { number: 1, event: event::Event::Call(new) }
                }
                3 => match asked.calls.pop() {
                    Some(call) => Event::Finished { call, result: Arc::new(ToolResult::ok("x")) },
                    None => continue,
                },
                4 => match asked.posts.pop() {
                    Some(call) => Event::Posted { call },
                    None => continue,
                },
                5 if asked.sandbox => { asked.sandbox = false; sandbox = false; Event::SandboxGone }
                6 if asked.stop => { asked.stop = false; Event::Lease(LeaseEvent::Stopped) }
                7 | 17 => match number {
                    Some(number) => {
                        asked.beat = None;
                        let (token, ttl) = (HeartbeatToken::new("hb"), Duration::from_secs(60));
                        let beat = Heartbeat { token, state: ItemState::Live, extended: true, ttl };
                        Event::Lease(LeaseEvent::Beaten { number, beat, took: Duration::ZERO })
                    }
                    None => continue,
                },
                8 => match number {
                    Some(number) => {
                        asked.beat = None;
                        let (token, ttl) = (HeartbeatToken::new("hb"), Duration::from_secs(60));
                        let beat = Heartbeat { token, state: ItemState::Stopping, extended: true, ttl };
                        Event::Lease(LeaseEvent::Beaten { number, beat, took: Duration::ZERO })
                    }
                    None => continue,
                },
                9 => Event::Lease(LeaseEvent::Expired { number: 0 }),
                10 => Event::Live { number: 1, event: event::Event::Terminated },
                11 => Event::Drain,
                12 => Event::Live {
                    number: 1,
                    event: event::Event::Idle { reason: event::IdleReason::TurnEnded },
                },
                13 => Event::IdleDue { number: 1 },
                14 => Event::Supersede,
                15 => Event::StreamFailed { number: 1, fault: fault(FaultClass::Transient) },
                16 => Event::HandBack,
                18 if matches!(machine.state(), State::Claiming { .. })
                    && matches!(machine.lease(), Lease::Acking { .. }) => Event::Lease(LeaseEvent::Acked),
                19 => Event::SettleDue,
                _ => continue,
            };
            machine.step(event, &policy, &mut effects).unwrap();
            for effect in effects.drain(..) {
                prop_assert_eq!(done, 0, "{:?} after the end", effect);
                match effect {
                    Effect::Lease(L::Beat { number, .. }) => asked.beat = Some(number),
                    Effect::Lease(L::Stop) => {
                        prop_assert!(!lost && !sandbox, "stopped too soon, or at all");
                        asked.stop = true;
                    }
                    Effect::Lease(L::Keep { token: Some(_), .. }) => held = true,
                    Effect::Provision => { prop_assert!(held && !lost); sandbox = true; }
                    Effect::ReleaseSandbox(_) => asked.sandbox = true,
                    Effect::Dispatch(call) => {
                        prop_assert!(held && !lost, "ran without a lease");
                        asked.calls.push(call.id);
                    }
                    Effect::Post(answer) => {
                        prop_assert!(!lost, "posted after the loss");
                        asked.posts.push(answer.call);
                    }
                    Effect::Done(_) => { prop_assert!(!sandbox, "left a sandbox behind"); done += 1; }
                    _ => {}
                }
            }
            lost |= *machine.lease() == Lease::Over;
        }
        prop_assert_eq!(done, 1, "stuck in {}", machine.state().name());
    }
}
