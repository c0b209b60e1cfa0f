use proptest::prelude::*;

use super::*;

const TTL: Duration = Duration::from_secs(120);

fn step(lease: &mut Lease, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    lease.step(event, &Policy::default(), &mut effects).unwrap();
    effects
}

fn fault(class: FaultClass) -> Fault {
    Fault::new(class, "no")
}

fn token(text: &str) -> HeartbeatToken {
    HeartbeatToken::new(text)
}

fn beat(text: &str, state: ItemState, extended: bool) -> Heartbeat {
    Heartbeat { token: token(text), state, extended, ttl: TTL }
}

fn beaten(number: u32, text: &str) -> Event {
    Event::Beaten { number, beat: beat(text, ItemState::Live, true), took: Duration::from_secs(1) }
}

/// A lease that is held, with beat 1 due.
fn held() -> Lease {
    let mut lease = Lease::claim(&mut Vec::new());
    step(&mut lease, Event::Acked);
    step(&mut lease, beaten(0, "hb-1"));
    lease
}

/// A lease that is held, with beat 1 in flight.
fn beating() -> Lease {
    let mut lease = held();
    step(&mut lease, Event::BeatDue { number: 1 });
    lease
}

fn ended(effects: &[Effect]) -> Option<&Ending> {
    effects.iter().find_map(|effect| match effect {
        Effect::Ended(ending) => Some(ending),
        _ => None,
    })
}

#[test]
fn row_5_the_beat_follows_the_acknowledgement_at_once_and_before_anything_else() {
    let mut effects = Vec::new();
    let mut lease = Lease::claim(&mut effects);
    assert_eq!(effects, [Effect::Ack]);
    let initial = Policy::default().initial_ttl;
    assert_eq!(
        step(&mut lease, Event::Acked),
        [
            Effect::Keep { token: None, ttl: initial, ago: Duration::ZERO },
            Effect::ArmExpiry { number: 0, after: initial },
            Effect::Beat { number: 0, token: None, within: Duration::from_secs(15) },
            Effect::Acknowledged,
        ]
    );
}

#[test]
fn a_beat_that_extends_nothing_does_not_prolong_the_lease() {
    let mut lease = beating();
    let beat = Event::Beaten { number: 1, beat: beat("x", ItemState::Stopping, false), took: Duration::ZERO };
    let prolongs = |effect: &Effect| matches!(effect, Effect::Keep { .. } | Effect::ArmExpiry { .. });
    assert!(!step(&mut lease, beat).iter().any(prolongs));
}

#[test]
fn row_5_an_item_whose_acknowledgement_fails_is_left_alone() {
    let mut lease = Lease::claim(&mut Vec::new());
    let refused = fault(FaultClass::Permanent);
    let effects = step(&mut lease, Event::AckFailed(refused.clone()));
    assert_eq!(effects, [Effect::Ended(Ending::NotClaimed(refused)), Effect::Over]);
}

#[test]
fn an_acknowledgement_is_repeated_a_few_times() {
    let mut lease = Lease::claim(&mut Vec::new());
    for attempt in 1..=2 {
        let effects = step(&mut lease, Event::AckFailed(fault(FaultClass::Ambiguous)));
        assert_eq!(effects, [Effect::ArmAckRetry { attempt, retry_after: None }]);
        assert_eq!(step(&mut lease, Event::AckRetryDue { attempt }), [Effect::Ack]);
    }
    let effects = step(&mut lease, Event::AckFailed(fault(FaultClass::Ambiguous)));
    assert_eq!(ended(&effects), Some(&Ending::NotClaimed(fault(FaultClass::Ambiguous))));
    assert_eq!(lease, Lease::Over);
}

#[test]
fn row_18_the_first_beat_has_no_token_and_each_later_one_echoes_the_last() {
    let mut lease = Lease::claim(&mut Vec::new());
    let effects = step(&mut lease, Event::Acked);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Beat { token: None, .. })));
    for number in 0..3 {
        let text = format!("2026-11-20T10:00:0{number}.482913Z");
        step(&mut lease, beaten(number, &text));
        let effects = step(&mut lease, Event::BeatDue { number: number + 1 });
        let within = MAX_INTERVAL;
        assert_eq!(effects, [Effect::Beat { number: number + 1, token: Some(token(&text)), within }]);
    }
}

#[test]
fn row_19_the_interval_is_half_the_ttl_within_bounds() {
    for (ttl, expected) in [(1, 1_000), (3, 1_500), (20, 10_000), (60, 30_000), (300, 30_000)] {
        assert_eq!(interval(Duration::from_secs(ttl)), Duration::from_millis(expected));
    }
    let mut lease = Lease::claim(&mut Vec::new());
    step(&mut lease, Event::Acked);
    let beat = Heartbeat { ttl: Duration::from_secs(20), ..beat("hb", ItemState::Live, true) };
    let effects = step(&mut lease, Event::Beaten { number: 0, beat, took: Duration::from_secs(2) });
    assert!(effects.contains(&Effect::ArmBeat { number: 1, after: Duration::from_secs(10) }));
    // The lease runs from when the beat was sent, not from when it was answered.
    assert!(effects.contains(&Effect::ArmExpiry { number: 0, after: Duration::from_secs(18) }));
}

#[test]
fn a_slow_answer_does_not_leave_too_little_time_for_the_next_beat() {
    let mut lease = Lease::claim(&mut Vec::new());
    step(&mut lease, Event::Acked);
    for (took, after) in [(12, 6), (14, 2), (16, 0), (29, 0)] {
        let Lease::Beating(Chain { number, .. }) = lease else { panic!("{lease:?}") };
        let beat = Heartbeat { ttl: Duration::from_secs(30), ..beat("hb", ItemState::Live, true) };
        let effects = step(&mut lease, Event::Beaten { number, beat, took: Duration::from_secs(took) });
        let (number, after) = (number + 1, Duration::from_secs(after));
        assert!(effects.contains(&Effect::ArmBeat { number, after }), "{took} s: {effects:?}");
        step(&mut lease, Event::BeatDue { number });
    }
}

#[test]
fn the_end_of_an_earlier_extension_that_crosses_the_next_one_ends_nothing() {
    let mut lease = beating();
    step(&mut lease, beaten(1, "hb-2"));
    assert_eq!(step(&mut lease, Event::Expired { number: 0 }), []);
    assert_eq!(lease.name(), "resting");
    assert!(matches!(ended(&step(&mut lease, Event::Expired { number: 1 })), Some(Ending::Lost(_))));
}

#[test]
fn row_20_each_beat_is_bounded_by_the_interval() {
    let mut lease = held();
    let effects = step(&mut lease, Event::BeatDue { number: 1 });
    assert!(matches!(effects[..], [Effect::Beat { within: MAX_INTERVAL, .. }]));
}

#[test]
fn row_21_a_failed_precondition_loses_the_lease_and_nothing_is_sent_any_more() {
    let mut lease = beating();
    let current = Some(LeaseState { token: Some(token("another's")), active: true });
    let effects = step(&mut lease, Event::PreconditionFailed { number: 1, current });
    assert_eq!(effects, [Effect::Ended(Ending::Lost(Loss::Taken)), Effect::Over]);
    assert_eq!(step(&mut lease, Event::Release), [], "a lost item is never stopped");
}

#[test]
fn row_22_no_success_for_a_whole_ttl_loses_the_lease() {
    let mut lease = beating();
    step(&mut lease, Event::BeatFailed { number: 1, fault: fault(FaultClass::Transient) });
    let effects = step(&mut lease, Event::Expired { number: 0 });
    assert_eq!(effects, [Effect::Ended(Ending::Lost(Loss::Expired)), Effect::Over]);
    assert_eq!(step(&mut lease, Event::Release), []);
}

#[test]
fn row_23_the_server_may_ask_for_the_end_and_beats_go_on_until_it_is_done() {
    for (state, extended) in [(ItemState::Stopping, true), (ItemState::Live, false)] {
        let mut lease = beating();
        let beat = beat("hb-2", state, extended);
        let effects = step(&mut lease, Event::Beaten { number: 1, beat: beat.clone(), took: Duration::ZERO });
        assert_eq!(ended(&effects), Some(&Ending::StopAsked));
        let effects = step(&mut lease, Event::BeatDue { number: 2 });
        assert!(matches!(effects[..], [Effect::Beat { .. }]));
        let effects = step(&mut lease, Event::Beaten { number: 2, beat, took: Duration::ZERO });
        assert_eq!(ended(&effects), None, "it is asked for once");
        assert_eq!(step(&mut lease, Event::Release), [Effect::Stop]);
    }
}

#[test]
fn row_24_a_released_lease_is_stopped() {
    for mut lease in [held(), beating()] {
        assert_eq!(step(&mut lease, Event::Release), [Effect::Stop]);
        assert_eq!(step(&mut lease, Event::Stopped), [Effect::Over]);
    }
    // Refused beats end the run, and the stop is still tried.
    let mut lease = beating();
    let refused = fault(FaultClass::Fatal);
    let effects = step(&mut lease, Event::BeatFailed { number: 1, fault: refused.clone() });
    assert_eq!(effects, [Effect::Ended(Ending::Rejected(refused))]);
    assert_eq!(step(&mut lease, Event::Release), [Effect::Stop]);
}

#[test]
fn a_stop_is_repeated_a_few_times_and_then_left_to_lapse() {
    let mut lease = held();
    step(&mut lease, Event::Release);
    for attempt in 1..=3 {
        let effects = step(&mut lease, Event::StopFailed(fault(FaultClass::Transient)));
        assert_eq!(effects, [Effect::ArmStopRetry { attempt, retry_after: None }]);
        assert_eq!(step(&mut lease, Event::StopRetryDue { attempt }), [Effect::Stop]);
    }
    assert_eq!(step(&mut lease, Event::StopFailed(fault(FaultClass::Transient))), [Effect::Over]);
}

#[test]
fn a_stop_is_not_repeated_once_the_lease_may_be_anothers() {
    let mut lease = held();
    step(&mut lease, Event::Release);
    step(&mut lease, Event::StopFailed(fault(FaultClass::Transient)));
    assert_eq!(step(&mut lease, Event::Expired { number: 0 }), [Effect::Over]);
    assert_eq!(step(&mut lease, Event::StopRetryDue { attempt: 1 }), []);
}

#[test]
fn a_forsaken_lease_is_left_without_a_word() {
    let mut lease = beating();
    assert_eq!(step(&mut lease, Event::Forsake), [Effect::Over]);
}

#[test]
fn a_passing_failure_is_followed_by_a_sooner_beat() {
    let mut lease = beating();
    let asked = Fault { retry_after: Some(Duration::from_secs(3)), ..fault(FaultClass::Throttled) };
    let effects = step(&mut lease, Event::BeatFailed { number: 1, fault: asked });
    let (at_most, retry_after) = (MAX_INTERVAL, Some(Duration::from_secs(3)));
    assert_eq!(effects, [Effect::ArmBeatRetry { number: 2, failures: 1, at_most, retry_after }]);
}

/// The answer of a beat was lost; nobody else can have the lease yet.
#[test]
fn a_token_we_never_saw_is_taken_up_if_it_can_only_be_ours() {
    let ours = || Some(LeaseState { token: Some(token("hb-2")), active: true });
    let mut lease = beating();
    step(&mut lease, Event::BeatFailed { number: 1, fault: fault(FaultClass::Ambiguous) });
    step(&mut lease, Event::BeatDue { number: 2 });
    let effects = step(&mut lease, Event::PreconditionFailed { number: 2, current: ours() });
    let within = MAX_INTERVAL;
    assert_eq!(effects, [Effect::Beat { number: 3, token: Some(token("hb-2")), within }]);
    // Only once: if that is not the token either, somebody else beats.
    let taken = Some(LeaseState { token: Some(token("hb-9")), active: true });
    let effects = step(&mut lease, Event::PreconditionFailed { number: 3, current: taken });
    assert_eq!(ended(&effects), Some(&Ending::Lost(Loss::Taken)));
}

#[test]
fn no_token_is_taken_up_from_an_item_that_is_not_leased() {
    for current in [
        None,
        Some(LeaseState { token: None, active: true }),
        Some(LeaseState { token: Some(token("x")), active: false }),
    ] {
        let mut lease = beating();
        step(&mut lease, Event::BeatFailed { number: 1, fault: fault(FaultClass::Ambiguous) });
        step(&mut lease, Event::BeatDue { number: 2 });
        let effects = step(&mut lease, Event::PreconditionFailed { number: 2, current });
        assert_eq!(ended(&effects), Some(&Ending::Lost(Loss::Taken)));
    }
}

#[test]
fn a_resumed_lease_goes_on_with_its_chain() {
    let mut effects = Vec::new();
    let left = Duration::from_secs(40);
    let inherited = InheritedLease { token: Some(token("hb-7")), ttl: TTL, left, is_unheard: false };
    let mut lease = Lease::resume(inherited.clone(), &mut effects);
    let beat = Effect::Beat { number: 0, token: Some(token("hb-7")), within: MAX_INTERVAL };
    assert_eq!(effects, [Effect::ArmExpiry { number: 0, after: left }, beat]);
    let effects = step(&mut lease, beaten(0, "hb-8"));
    assert!(effects.contains(&Effect::Held));
    // A token that nobody here knows is taken up if a beat may have been sent for it, and not otherwise.
    for is_unheard in [true, false] {
        let mut lease = Lease::resume(InheritedLease { is_unheard, ..inherited.clone() }, &mut Vec::new());
        let current = Some(LeaseState { token: Some(token("hb-8")), active: true });
        let effects = step(&mut lease, Event::PreconditionFailed { number: 0, current });
        assert_eq!(ended(&effects).is_none(), is_unheard, "{effects:?}");
    }
}

#[test]
fn late_answers_and_timers_change_nothing() {
    for lease in [held(), beating(), Lease::Stopping { attempt: 1 }, Lease::Over] {
        for event in [
            beaten(77, "late"),
            Event::BeatDue { number: 77 },
            Event::AckRetryDue { attempt: 77 },
            Event::StopRetryDue { attempt: 77 },
            Event::BeatFailed { number: 77, fault: fault(FaultClass::Transient) },
        ] {
            let mut after = lease.clone();
            assert_eq!(step(&mut after, event), []);
            assert_eq!(after, lease);
        }
    }
}

#[test]
fn an_answer_to_what_was_never_asked_is_illegal() {
    let mut lease = held();
    let refused = lease.step(Event::Acked, &Policy::default(), &mut Vec::new()).unwrap_err();
    assert_eq!(refused.to_string(), "the lease machine cannot take `acked` while resting");
}

/// A server that may lose answers, against which a lease is played.
#[derive(Debug, Default)]
struct Server {
    token: Option<HeartbeatToken>,
    beats: u32,
    stolen: bool,
}

proptest! {
    /// Whatever is lost, delayed or stolen: never two requests in flight, never a stop after a loss, and a
    /// lost answer alone never costs the lease.
    #[test]
    fn property_a_lease_is_neither_given_away_nor_overstayed(
        choices in prop::collection::vec((0u8..8, any::<bool>()), 1..120),
    ) {
        let mut server = Server::default();
        let mut effects = Vec::new();
        let mut lease = Lease::claim(&mut effects);
        let (mut in_flight, mut armed): (Option<Effect>, Option<Event>) = (None, None);
        let (mut lost, mut failures_only, mut expiry) = (false, true, 0);
        let mut choices = choices.into_iter();
        loop {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Ack | Effect::Beat { .. } | Effect::Stop => {
                        let releasing = matches!(effect, Effect::Stop);
                        prop_assert!(in_flight.is_none() || releasing, "two requests in flight");
                        prop_assert!(!(releasing && lost), "stopped after the loss");
                        in_flight = Some(effect);
                    }
                    Effect::ArmBeat { number, .. } | Effect::ArmBeatRetry { number, .. } => {
                        armed = Some(Event::BeatDue { number });
                    }
                    Effect::ArmExpiry { number, .. } => expiry = number,
                    Effect::ArmAckRetry { attempt, .. } => armed = Some(Event::AckRetryDue { attempt }),
                    Effect::ArmStopRetry { attempt, .. } => armed = Some(Event::StopRetryDue { attempt }),
                    Effect::Ended(Ending::Lost(_)) => {
                        prop_assert!(!failures_only || server.stolen, "lost although nobody took it");
                        lost = true;
                    }
                    _ => {}
                }
            }
            if lease == Lease::Over { break; }
            let Some((choice, lose_answer)) = choices.next() else { break };
            let event = match (choice, in_flight.take()) {
                (0, request) => {
                    in_flight = request;
                    server.stolen = true;
                    server.token = Some(token("thief"));
                    continue;
                }
                (1, _) => { failures_only = false; Event::Expired { number: expiry } }
                (2, request) => { in_flight = request; Event::Release }
                (_, None) => match armed.take() {
                    Some(event) => event,
                    None => continue,
                },
                (3, Some(request)) => failed(&request, FaultClass::Transient),
                (_, Some(request)) => {
                    let answer = serve(&mut server, &request);
                    if lose_answer { failed(&request, FaultClass::Ambiguous) } else { answer }
                }
            };
            lease.step(event, &Policy { ack_attempts: 99, stop_attempts: 99, ..Policy::default() }, &mut effects).unwrap();
        }
    }
}

fn failed(request: &Effect, class: FaultClass) -> Event {
    match request {
        Effect::Beat { number, .. } => Event::BeatFailed { number: *number, fault: fault(class) },
        Effect::Stop => Event::StopFailed(fault(class)),
        _ => Event::AckFailed(fault(class)),
    }
}

fn serve(server: &mut Server, request: &Effect) -> Event {
    match request {
        Effect::Beat { number, token: sent, .. } if *sent == server.token => {
            server.beats += 1;
            let text = format!("hb-{}", server.beats);
            server.token = Some(token(&text));
            beaten(*number, &text)
        }
        Effect::Beat { number, .. } => {
            let current = Some(LeaseState { token: server.token.clone(), active: server.token.is_some() });
            Event::PreconditionFailed { number: *number, current }
        }
        Effect::Stop => Event::Stopped,
        _ => Event::Acked,
    }
}
