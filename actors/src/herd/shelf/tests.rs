use proptest::prelude::*;

use super::*;

fn policy() -> Policy {
    Policy { warm: 2, max_parked: 3, max_parked_disk: 100, max_parked_memory: 100, ..Policy::default() }
}

fn blank(id: &str) -> Shelved {
    Shelved { sandbox: id.into(), parked: None }
}

fn parked(session: &str, disk_bytes: u64, memory_bytes: u64) -> Shelved {
    let sandbox = SandboxId::from(format!("{session}.1"));
    Shelved {
        sandbox,
        parked: Some(Parked { session: session.into(), instance: 1, disk_bytes, memory_bytes }),
    }
}

fn evicted(plan: &Plan) -> Vec<(&str, Eviction)> {
    plan.evict.iter().map(|(sandbox, why)| (sandbox.as_str(), *why)).collect()
}

#[test]
fn blank_ones_are_made_one_by_one_until_there_are_enough() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    for id in ["a", "b"] {
        assert_eq!(shelf.plan(now, &policy()).make, 1);
        shelf.making(id.into());
        assert_eq!(shelf.plan(now, &policy()).make, 0, "one is being made");
        shelf.put(blank(id), now);
    }
    assert_eq!(shelf.plan(now, &policy()).make, 0);
    assert_eq!(shelf.take_blank(), Some("a".into()));
    assert_eq!(shelf.plan(now, &policy()).make, 1);
    let fewer = Policy { warm: 0, ..policy() };
    assert_eq!(evicted(&shelf.plan(now, &fewer)), [("b", Eviction::Surplus)]);
}

#[test]
fn one_that_is_put_there_again_is_not_deleted_for_its_own_sake() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.put(parked("s1", 1, 1), now);
    shelf.put(parked("s1", 2, 2), now);
    assert_eq!(evicted(&shelf.plan(now, &policy())), []);
    assert_eq!(shelf.take_parked(&"s1".into()).unwrap().1.disk_bytes, 2);
}

#[test]
fn a_parked_one_is_its_sessions_alone_and_not_for_ever() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.put(parked("s1", 1, 1), now);
    assert_eq!(shelf.take_blank(), None);
    assert_eq!(shelf.take_parked(&"s2".into()), None);
    assert_eq!(shelf.plan(now, &policy()).again, Some(Duration::from_secs(3600)));
    let later = now + Duration::from_secs(3599);
    assert_eq!(evicted(&shelf.plan(later, &policy())), []);
    let (sandbox, found) = shelf.take_parked(&"s1".into()).unwrap();
    assert_eq!((sandbox.as_str(), found.instance), ("s1.1", 1));
    shelf.put(parked("s1", 1, 1), now);
    assert_eq!(evicted(&shelf.plan(later + Duration::from_secs(1), &policy())), [("s1.1", Eviction::Waited)]);
    assert_eq!(shelf.take_parked(&"s1".into()), None);
    assert!(shelf.all().any(|id| id.as_str() == "s1.1"), "it is ours until it is gone");
    shelf.forget(&"s1.1".into());
    assert_eq!(shelf.all().count(), 0);
}

#[test]
fn who_has_waited_longest_makes_room() {
    let (mut shelf, start) = (Shelf::default(), Instant::now());
    let at = |second| start + Duration::from_secs(second);
    for (second, session) in ["s3", "s1", "s2", "s4"].into_iter().enumerate() {
        shelf.put(parked(session, 1, 1), at(second as u64));
    }
    assert_eq!(evicted(&shelf.plan(at(9), &policy())), [("s3.1", Eviction::Crowded)]);
    shelf.put(parked("s5", 99, 1), at(5));
    shelf.take_parked(&"s4".into());
    assert_eq!(evicted(&shelf.plan(at(9), &policy())), [("s1.1", Eviction::Disk)]);
    shelf.put(parked("s6", 0, 99), at(6));
    assert_eq!(evicted(&shelf.plan(at(9), &policy())), [("s2.1", Eviction::Memory)]);
}

#[test]
fn what_is_not_fit_leaves_and_leaving_is_bounded() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.put(blank("a"), now);
    shelf.put(parked("s1", 1, 1), now);
    shelf.evict(&"a".into(), Eviction::Missing);
    shelf.evict(&"s1.1".into(), Eviction::Aged);
    shelf.evict(&"unknown".into(), Eviction::Aged);
    let one = Policy { leaving: 1, ..policy() };
    assert_eq!(evicted(&shelf.plan(now, &one)), [("a", Eviction::Missing)]);
    assert_eq!(evicted(&shelf.plan(now, &one)), []);
    shelf.forget(&"a".into());
    assert_eq!(evicted(&shelf.plan(now, &one)), [("s1.1", Eviction::Aged)]);
    shelf.restart();
    assert_eq!(evicted(&shelf.plan(now, &one)), [("s1.1", Eviction::Aged)], "nobody says how far that came");
}

#[test]
fn a_session_has_one_place() {
    let (mut shelf, now) = (Shelf::default(), Instant::now());
    shelf.put(parked("s1", 1, 1), now);
    let mut second = parked("s1", 1, 1);
    second.sandbox = "s1.2".into();
    shelf.put(second, now);
    assert_eq!(evicted(&shelf.plan(now, &policy())), [("s1.1", Eviction::Replaced)]);
    assert_eq!(shelf.take_parked(&"s1".into()).unwrap().0.as_str(), "s1.2");
}

proptest! {
    /// Whatever happens: a sandbox is in one place, a session never gets another's or a used one as blank, the
    /// bounds hold after every plan, and what was once leaving never comes back.
    #[test]
    fn property_nobody_gets_anothers(steps in prop::collection::vec((0u8..7, 0u8..4), 0..80)) {
        let (mut shelf, start) = (Shelf::default(), Instant::now());
        let (mut used, mut gone, mut made) = (BTreeMap::new(), BTreeSet::new(), 0);
        for (step, (what, which)) in steps.into_iter().enumerate() {
            let now = start + Duration::from_secs(step as u64 * 60);
            let session = SessionId::from(format!("s{which}"));
            match what {
                0 => {
                    made += 1;
                    let id = SandboxId::from(format!("blank{made}"));
                    shelf.making(id.clone());
                    shelf.put(blank(id.as_str()), now);
                }
                1 => {
                    if let Some(sandbox) = shelf.take_blank() {
                        prop_assert!(!used.contains_key(&sandbox) && !gone.contains(&sandbox));
                        used.insert(sandbox, session);
                    }
                }
                2 => {
                    if let Some((sandbox, _)) = shelf.take_parked(&session) {
                        prop_assert_eq!(used.get(&sandbox), Some(&session));
                        prop_assert!(!gone.contains(&sandbox));
                    }
                }
                3 => {
                    let mine = used.iter().find(|(id, of)| **of == session && !shelf.all().any(|held| held == *id) && !gone.contains(*id));
                    if let Some((sandbox, _)) = mine {
                        let parked = Parked { session, instance: 1, disk_bytes: 40, memory_bytes: 30 };
                        shelf.put(Shelved { sandbox: sandbox.clone(), parked: Some(parked) }, now);
                    }
                }
                4 => {
                    shelf.restart();
                }
                _ => {
                    let plan = shelf.plan(now, &policy());
                    gone.extend(plan.evict.iter().map(|(sandbox, _)| sandbox.clone()));
                    if what == 5 {
                        plan.evict.iter().for_each(|(sandbox, _)| shelf.forget(sandbox));
                    }
                    let waiting = shelf.view(now).waiting;
                    let (blank, parked): (Vec<_>, Vec<_>) =
                        waiting.into_iter().partition(|waiting| waiting.tier == Tier::Blank);
                    prop_assert!(parked.len() <= 3 && blank.len() <= 2);
                    prop_assert!(parked.iter().filter_map(|view| view.disk_bytes).sum::<u64>() <= 100);
                }
            }
            let all: Vec<_> = shelf.all().collect();
            prop_assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "one place each");
        }
    }
}
