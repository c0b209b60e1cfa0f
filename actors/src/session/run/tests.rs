use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::fault::FaultClass;
use crate::testing::call;

struct Bench {
    run: Run,
    policy: Policy,
}

impl Bench {
    fn new() -> Self {
        Self { run: Run::default(), policy: Policy::default() }
    }

    fn after(prior: impl IntoIterator<Item = (&'static str, Prior)>) -> Self {
        let prior = prior.into_iter().map(|(id, prior)| (id.into(), prior));
        Self { run: Run::new(prior.collect()), policy: Policy::default() }
    }

    fn history(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<String> {
        let mut effects = Vec::new();
        assert_eq!(self.run.reconcile(events.into_iter().collect(), &self.policy, &mut effects), Life::Live);
        brief(&effects)
    }

    fn live(&mut self, event: Event) -> Vec<String> {
        let mut effects = Vec::new();
        assert_eq!(self.run.observe(event, &self.policy, &mut effects), Life::Live);
        brief(&effects)
    }

    fn finished(&mut self, id: &str, text: &str) -> Vec<String> {
        let mut effects = Vec::new();
        self.run.finished(&id.into(), Arc::new(ToolResult::ok(text)), &self.policy, &mut effects);
        brief(&effects)
    }

    fn posted(&mut self, id: &str) -> Vec<String> {
        let mut effects = Vec::new();
        self.run.posted(&id.into(), &self.policy, &mut effects);
        brief(&effects)
    }

    fn post_failed(&mut self, id: &str, class: FaultClass) -> Vec<String> {
        let mut effects = Vec::new();
        self.run.post_failed(&id.into(), &Fault::new(class, "no"), &self.policy, &mut effects);
        brief(&effects)
    }

    fn post_due(&mut self, id: &str, attempt: u32) -> Vec<String> {
        let mut effects = Vec::new();
        self.run.post_due(&id.into(), attempt, &mut effects);
        brief(&effects)
    }
}

/// One short line per effect; hints are left out, and what is to be forgotten.
fn brief(effects: &[Effect]) -> Vec<String> {
    let told = effects.iter().filter(|effect| !matches!(effect, Effect::ExpectCall | Effect::Forget { .. }));
    let brief = told.map(|effect| match effect {
        Effect::Dispatch(call) => format!("run {}", call.id),
        Effect::Cancel { call, why } => format!("cancel {call} {why:?}"),
        Effect::Post(answer) => {
            let kind = if answer.result.is_error { "error" } else { "ok" };
            format!("post {} {kind}: {}", answer.call, answer.result.text())
        }
        Effect::ArmPost { call, attempt, .. } => format!("retry post {call} after {attempt}"),
        Effect::PostRefused { call, .. } => format!("refused {call}"),
        Effect::NotRun { call, why, .. } => format!("leave {call} {why:?}"),
        Effect::ArmIdle { number, after } => format!("idle {number} {after:?}"),
        other => format!("{other:?}"),
    });
    brief.collect()
}

fn asked(id: &str, permission: Permission) -> Event {
    Event::Call(Call { permission, ..call(id, "true") })
}

fn plain(id: &str) -> Event {
    asked(id, Permission::Allow)
}

fn of_thread(id: &str, thread: &str) -> Event {
    Event::Call(Call { thread: Some(thread.into()), ..call(id, "true") })
}

fn custom(id: &str, name: &str) -> Event {
    Event::Call(Call { kind: CallKind::Custom, name: name.into(), ..call(id, "true") })
}

fn answered(id: &str) -> Event {
    Event::Answered { call: id.into() }
}

fn confirmed(id: &str, verdict: Verdict) -> Event {
    Event::Confirmed { call: id.into(), verdict }
}

fn interrupted() -> Event {
    Event::Interrupted { id: "".into(), thread: None }
}

fn turn_ended() -> Event {
    Event::Idle { reason: IdleReason::TurnEnded }
}

fn requires_action() -> Event {
    Event::Idle { reason: IdleReason::RequiresAction }
}

#[test]
fn row_33_a_call_of_history_and_stream_runs_once_and_an_answered_one_never() {
    let mut bench = Bench::new();
    let effects = bench.history([plain("done"), answered("done"), plain("open"), requires_action()]);
    assert_eq!(effects, ["run open"]);
    for id in ["done", "open"] {
        assert!(bench.live(plain(id)).is_empty(), "{id} is known");
    }
    assert_eq!(bench.finished("open", "x"), ["post open ok: x"]);
    assert!(bench.history([plain("done"), answered("done"), plain("open")]).is_empty());
}

/// Both a client's result and one that the server made itself arrive as the same event.
#[test]
fn row_34_a_call_that_was_closed_elsewhere_is_neither_run_nor_answered() {
    let mut bench = Bench::new();
    bench.history([]);
    assert_eq!(bench.live(plain("a")), ["run a"]);
    assert!(bench.live(plain("b")).is_empty(), "it waits for its turn");
    assert!(bench.live(answered("b")).is_empty());
    assert_eq!(bench.live(answered("a")), ["cancel a Unwanted"]);
    assert!(bench.finished("a", "late").is_empty(), "nothing is posted for it");
    assert!(bench.live(plain("b")).is_empty());
    assert_eq!(bench.run.outstanding(), 0);
}

#[test]
fn a_call_is_forgotten_when_nothing_is_left_to_do_about_it_and_not_before() {
    let forgotten = |effects: &[Effect]| {
        let forgotten = effects.iter().filter_map(|effect| match effect {
            Effect::Forget { call } => Some(call.to_string()),
            _ => None,
        });
        forgotten.collect::<Vec<_>>()
    };
    let (policy, refused) = (Policy::default(), Fault::new(FaultClass::Permanent, "no"));
    let prior = ["a", "b"].map(|id| (CallId::from(id), Prior::Started));
    let mut run = Run::new(prior.into());
    let mut effects = Vec::new();
    run.reconcile(vec![plain("a"), answered("a"), plain("b")], &policy, &mut effects);
    assert_eq!(forgotten(&effects), ["a"], "its answer had arrived before we failed");
    effects.clear();
    run.finished(&"b".into(), Arc::new(ToolResult::ok("x")), &policy, &mut effects);
    run.post_failed(&"b".into(), &refused, &policy, &mut effects);
    assert_eq!(forgotten(&effects), [""; 0], "something else is posted in its place");
    run.post_failed(&"b".into(), &refused, &policy, &mut effects);
    assert_eq!(forgotten(&effects), ["b"]);
    effects.clear();
    for id in ["c", "d"] {
        run.observe(plain(id), &policy, &mut effects);
    }
    run.observe(answered("c"), &policy, &mut effects);
    assert_eq!(forgotten(&effects), [""; 0], "it runs");
    run.finished(&"c".into(), Arc::new(ToolResult::ok("x")), &policy, &mut effects);
    assert_eq!(forgotten(&effects), ["c"]);
    run.finished(&"d".into(), Arc::new(ToolResult::ok("x")), &policy, &mut effects);
    run.observe(answered("d"), &policy, &mut effects);
    assert_eq!(forgotten(&effects), ["c", "d"], "the echo of our own answer");
}

#[test]
fn row_35_each_kind_of_call_is_answered_by_its_own_kind_of_result() {
    let mut bench = Bench::new();
    bench.policy.tools.insert("order_status".into());
    let mut effects = Vec::new();
    bench.run.observe(custom("c", "order_status"), &bench.policy, &mut effects);
    bench.run.finished(&"c".into(), Arc::new(ToolResult::ok("shipped")), &bench.policy, &mut effects);
    bench.run.observe(plain("t"), &bench.policy, &mut effects);
    bench.run.finished(&"t".into(), Arc::new(ToolResult::ok("")), &bench.policy, &mut effects);
    let kinds = effects.iter().filter_map(|effect| match effect {
        Effect::Post(answer) => Some((answer.call.as_str(), answer.kind)),
        _ => None,
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [("c", CallKind::Custom), ("t", CallKind::Toolset)]);
}

#[test]
fn row_36_a_call_that_needs_confirmation_is_held_until_allowed() {
    let mut bench = Bench::new();
    assert!(bench.history([asked("a", Permission::Ask)]).is_empty());
    assert_eq!(bench.live(confirmed("a", Verdict::Allow)), ["run a"]);
    // A confirmation that the history shows counts, too, and so does one that comes before its call.
    assert_eq!(bench.history([asked("b", Permission::Ask), confirmed("b", Verdict::Allow)]), [""; 0]);
    assert!(bench.live(confirmed("c", Verdict::Allow)).is_empty());
    bench.live(asked("c", Permission::Ask));
    assert_eq!(bench.finished("a", ""), ["post a ok: ", "run b"]);
    assert_eq!(bench.finished("b", ""), ["post b ok: ", "run c"]);
}

#[test]
fn row_37_a_denied_evaluation_never_runs_whatever_anyone_says() {
    let mut bench = Bench::new();
    assert_eq!(bench.live(asked("a", Permission::Deny)), ["leave a Denied"]);
    assert!(bench.live(confirmed("a", Verdict::Allow)).is_empty());
    let mut bench = Bench::new();
    let effects = bench.history([asked("a", Permission::Deny), confirmed("a", Verdict::Allow)]);
    assert_eq!(effects, ["leave a Denied"]);
}

#[test]
fn row_38_every_other_verdict_is_a_denial_and_nothing_is_posted() {
    let mut bench = Bench::new();
    bench.history([asked("a", Permission::Ask)]);
    assert_eq!(bench.live(confirmed("a", Verdict::Deny)), ["leave a Denied"]);
    assert!(bench.live(confirmed("a", Verdict::Allow)).is_empty(), "the first decision counts");
    assert_eq!(bench.run.outstanding(), 0);
}

#[test]
fn row_40_unowned_tools_stay_pending_and_calls_of_ended_threads_are_dropped() {
    let mut bench = Bench::new();
    assert_eq!(bench.live(custom("a", "order_status")), ["leave a Unowned"]);
    bench.live(of_thread("b", "t1"));
    bench.live(of_thread("c", "t1"));
    assert_eq!(bench.live(of_thread("d", "t2")), ["run d"], "threads do not wait for each other");
    let ended = Event::ThreadTerminated { thread: "t1".into() };
    assert_eq!(bench.live(ended.clone()), ["cancel b Unwanted"]);
    assert!(bench.finished("b", "late").is_empty(), "c went with its thread, and b is not answered");
    assert_eq!(bench.live(of_thread("e", "t1")), ["leave e ThreadEnded"]);
    // The same from history.
    let mut bench = Bench::new();
    assert_eq!(bench.history([of_thread("b", "t1"), ended]), ["leave b ThreadEnded"]);
}

/// The official workers run one call at a time. What that guards, that no call sees another half done, holds
/// here for everything that may change something; calls that only look, and calls of different threads, go
/// side by side.
#[test]
fn row_41_what_may_change_something_runs_alone_in_its_thread_and_in_order() {
    let mut bench = Bench::new();
    assert_eq!(bench.history([plain("a"), plain("b")]), ["run a"]);
    assert!(bench.live(plain("c")).is_empty());
    assert_eq!(bench.finished("a", "1"), ["post a ok: 1", "run b"]);
    assert_eq!(bench.finished("b", "2"), ["post b ok: 2", "run c"]);
}

#[test]
fn calls_that_only_look_run_side_by_side_and_are_answered_as_they_end() {
    let mut bench = Bench::new();
    let read = |id| Event::Call(Call { name: "read".into(), ..call(id, "") });
    assert_eq!(bench.history([read("a"), read("b"), plain("c"), read("d")]), ["run a", "run b"]);
    assert_eq!(bench.finished("b", "2"), ["post b ok: 2"]);
    assert_eq!(bench.finished("a", "1"), ["post a ok: 1", "run c"]);
    assert_eq!(bench.finished("c", "3"), ["post c ok: 3", "run d"]);
    let few =
        (0..20).map(|number| read(["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"][number % 10]));
    assert_eq!(Bench::new().history(few).len(), 8, "and not without bound");
}

#[test]
fn a_sign_that_a_call_is_likely_is_passed_on() {
    for event in [Event::Generating, asked("a", Permission::Ask)] {
        let mut effects = Vec::new();
        Run::default().observe(event, &Policy::default(), &mut effects);
        assert!(matches!(effects[..], [Effect::ExpectCall]), "{effects:?}");
    }
}

#[test]
fn an_interrupt_that_history_and_stream_both_tell_of_counts_once() {
    let mut bench = Bench::new();
    let interrupted = || Event::Interrupted { id: "sevt_i".into(), thread: None };
    bench.history([interrupted(), plain("a")]);
    assert!(bench.live(interrupted()).is_empty(), "it came before the call");
    let another = Event::Interrupted { id: "sevt_j".into(), thread: None };
    assert_eq!(bench.live(another), ["cancel a Interrupted"]);
}

#[test]
fn a_closed_run_gives_nothing_more_to_the_sandbox() {
    let mut bench = Bench::new();
    bench.live(plain("a"));
    bench.run.close();
    assert!(bench.live(plain("b")).is_empty());
    assert!(!bench.run.is_quiet());
    assert_eq!(bench.finished("a", "1"), ["post a ok: 1"]);
    assert!(!bench.run.is_quiet(), "its answer is on its way");
    assert!(bench.posted("a").is_empty());
    assert!(bench.run.is_quiet());
    assert_eq!(bench.run.outstanding(), 1, "the next process has that one to run");
}

#[test]
fn row_43_a_result_is_posted_until_it_is_accepted_or_refused_for_good() {
    let mut bench = Bench::new();
    bench.live(plain("a"));
    bench.finished("a", "x");
    for attempt in 1..=40 {
        let effects = bench.post_failed("a", FaultClass::Transient);
        assert_eq!(effects, [format!("retry post a after {attempt}")]);
        assert_eq!(bench.post_due("a", attempt), ["post a ok: x"]);
        assert!(bench.post_due("a", attempt).is_empty(), "a timer counts once");
    }
    assert!(bench.posted("a").is_empty());
    assert_eq!(bench.run.outstanding(), 0);

    bench.live(plain("b"));
    bench.finished("b", "y");
    let stand_in = "post b error: the result of this call could not be delivered: no";
    assert_eq!(bench.post_failed("b", FaultClass::Permanent), ["refused b", stand_in]);
    assert_eq!(bench.post_failed("b", FaultClass::Permanent), ["refused b"]);
    assert_eq!(bench.run.outstanding(), 0);
    assert!(bench.history([plain("b")]).is_empty(), "what was run is not run again because of that");
}

#[test]
fn row_46_the_idle_clock_runs_from_the_end_of_a_turn_and_any_sign_of_life_resets_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.history([plain("a"), answered("a"), turn_ended()]), ["idle 1 60s"]);
    assert!(bench.run.is_clock(1));
    for neutral in [confirmed("x", Verdict::Deny), Event::ThreadTerminated { thread: "t9".into() }] {
        bench.live(neutral);
        assert!(bench.run.is_clock(1), "it says nothing about the turn");
    }
    for (number, sign) in
        [Event::Activity, Event::Running, requires_action(), answered("a")].into_iter().enumerate()
    {
        bench.live(sign);
        assert!(!bench.run.is_at_rest());
        let clock = u32::try_from(number).unwrap() + 2;
        assert_eq!(bench.live(turn_ended()), [format!("idle {clock} 60s")]);
    }
    assert!(bench.history([turn_ended(), Event::Activity]).is_empty());
    assert!(!bench.run.is_at_rest());
}

#[test]
fn row_47_the_idle_clock_waits_for_held_and_running_calls_and_then_starts_afresh() {
    let mut bench = Bench::new();
    bench.history([asked("a", Permission::Ask)]);
    assert!(bench.live(turn_ended()).is_empty(), "a call is held");
    assert_eq!(bench.live(confirmed("a", Verdict::Allow)), ["run a"]);
    assert_eq!(bench.finished("a", "x"), ["post a ok: x"]);
    assert_eq!(bench.posted("a"), ["idle 1 60s"]);
}

#[test]
fn an_interrupt_cuts_what_runs_and_answers_what_waits() {
    let mut bench = Bench::new();
    bench.history([plain("a"), plain("b"), asked("c", Permission::Ask)]);
    let effects = bench.live(interrupted());
    assert_eq!(effects, ["cancel a Interrupted", "post b error: not run: interrupted by the user"]);
    assert_eq!(bench.finished("a", "partial"), ["post a ok: partial"], "whatever the hand says is posted");
    assert!(bench.live(confirmed("c", Verdict::Allow)).is_empty(), "a held call does not survive it");
}

#[test]
fn an_interrupt_of_one_thread_leaves_the_others_alone() {
    let mut bench = Bench::new();
    bench.history([
        Event::ThreadStatus { thread: "main".into() },
        of_thread("a", "t1"),
        of_thread("b", "t2"),
        plain("c"),
    ]);
    let only = |thread: &str| Event::Interrupted { id: "".into(), thread: Some(thread.into()) };
    assert_eq!(bench.live(only("t2")), ["cancel b Interrupted"]);
    assert_eq!(bench.live(only("main")), ["cancel c Interrupted"]);
    assert_eq!(bench.live(only("t1")), ["cancel a Interrupted"]);
}

#[test]
fn a_call_that_was_interrupted_while_we_were_away_is_answered_and_not_run() {
    let mut bench = Bench::new();
    let effects = bench.history([plain("a"), interrupted(), plain("b")]);
    assert_eq!(effects, ["post a error: not run: interrupted by the user", "run b"]);
}

#[test]
fn a_malformed_call_is_answered_once_it_is_allowed() {
    let mut bench = Bench::new();
    let malformed = |id, permission| {
        let input = Input::Malformed("input must be an object, not a string".into());
        Event::Call(Call { input, permission, ..call(id, "") })
    };
    let answer = "post a error: bash: input must be an object, not a string";
    assert_eq!(bench.live(malformed("a", Permission::Allow)), [answer]);
    assert!(bench.live(malformed("b", Permission::Ask)).is_empty());
}

#[test]
fn a_successor_attaches_to_what_was_started_and_posts_what_was_finished() {
    let result = Arc::new(ToolResult::ok("kept"));
    let prior = [("a", Prior::Finished(result)), ("b", Prior::Started), ("c", Prior::Started)];
    let mut bench = Bench::after(prior);
    let history = [plain("a"), plain("b"), plain("c"), answered("c"), plain("d")];
    assert_eq!(bench.history(history), ["post a ok: kept", "run b"]);
    assert_eq!(bench.finished("b", "x"), ["post b ok: x", "run d"]);
}

#[test]
fn a_started_call_that_was_interrupted_is_asked_about_and_not_declared_unrun() {
    let mut bench = Bench::after([("a", Prior::Started)]);
    assert_eq!(bench.history([plain("a"), interrupted()]), ["run a", "cancel a Interrupted"]);
}

#[test]
fn a_session_that_ended_for_good_is_told_so() {
    let mut run = Run::default();
    let policy = Policy::default();
    for (event, life) in [(Event::Terminated, Life::Terminated), (Event::Deleted, Life::Deleted)] {
        let mut effects = Vec::new();
        assert_eq!(run.reconcile(vec![plain("a"), event.clone()], &policy, &mut effects), life);
        assert_eq!(run.observe(event, &policy, &mut effects), life);
        assert!(effects.is_empty(), "nothing runs in a session that is over");
    }
}

#[test]
fn inputs_travel_untouched() {
    let text = r#"{"command": "echo  \u00e9", "n": 1.0}"#;
    let input = Input::Json(RawValue::from_string(text.to_owned()).unwrap().into());
    let mut effects = Vec::new();
    Run::default().observe(Event::Call(Call { input, ..call("a", "") }), &Policy::default(), &mut effects);
    let [Effect::Dispatch(call)] = &effects[..] else { panic!("{effects:?}") };
    assert!(matches!(&call.input, Input::Json(raw) if raw.get() == text));
}

proptest! {
    /// Random histories, live events, answers and faults, in any order and with any repetition.
    #[test]
    fn property_calls_run_once_when_allowed_and_are_answered_once(
        permissions in prop::collection::vec(0u8..3, 6),
        choices in prop::collection::vec((0u8..9, 0usize..6), 1..80),
    ) {
        let permission = |n: usize| match permissions[n] {
            0 => Permission::Allow,
            1 => Permission::Ask,
            _ => Permission::Deny,
        };
        let policy = Policy::default();
        let mut run = Run::default();
        let mut log: Vec<Event> = Vec::new();
        let (mut running, mut posting) = (BTreeSet::new(), BTreeSet::new());
        let (mut dispatched, mut posted, mut allowed) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (choice, n) in choices {
            let id = CallId::from(format!("c{n}"));
            let known = log.iter().any(|event| matches!(event, Event::Call(call) if call.id == id));
            let mut effects = Vec::new();
            let event = match choice {
                0 | 1 if !known => Some(asked(id.as_str(), permission(n))),
                2 => { allowed.insert(id.clone()); Some(confirmed(id.as_str(), Verdict::Allow)) }
                3 if known => Some(answered(id.as_str())),
                4 => Some(turn_ended()),
                5 => Some(interrupted()),
                _ => None,
            };
            match (choice, event) {
                (_, Some(event)) => {
                    log.push(event.clone());
                    run.observe(event, &policy, &mut effects);
                }
                (6, None) => { run.reconcile(log.clone(), &policy, &mut effects); }
                (7, None) if running.remove(&id) => {
                    run.finished(&id, Arc::new(ToolResult::ok("x")), &policy, &mut effects);
                }
                (8, None) if posting.remove(&id) => run.posted(&id, &policy, &mut effects),
                _ => {}
            }
            for effect in effects {
                match effect {
                    Effect::Dispatch(call) => {
                        prop_assert!(dispatched.insert(call.id.clone()), "{} ran twice", call.id);
                        prop_assert!(call.permission != Permission::Deny);
                        let free = call.permission == Permission::Allow;
                        prop_assert!(free || allowed.contains(&call.id), "{} was not allowed", call.id);
                        prop_assert!(running.is_empty(), "two at a time");
                        running.insert(call.id);
                    }
                    Effect::Post(answer) => {
                        prop_assert!(posted.insert(answer.call.clone()), "{} was answered twice", answer.call);
                        posting.insert(answer.call);
                    }
                    _ => {}
                }
            }
            // What the run counts is what it has.
            let counted = run.calls.values().filter(|state| state.is_outstanding()).count();
            prop_assert_eq!(run.outstanding(), counted);
            prop_assert!(!run.is_at_rest() || counted == 0);
        }
    }
}
