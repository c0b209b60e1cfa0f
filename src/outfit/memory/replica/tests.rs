use super::super::Deletes;
use super::*;

const RULES: Rules =
    Rules { read_only: false, deletes: Deletes::Enabled, last: false, marked: true, now: Duration::ZERO };
const READ_ONLY: Rules = Rules { read_only: true, ..RULES };

const PATH: &str = "/a";

/// What is to be done about one path, beside one that nobody has changed.
fn plan(local: Option<&str>, remote: Option<&str>, base: Option<&str>, rules: &Rules) -> Vec<Action> {
    let mut replica = Replica::default();
    replica.agreed("/still", "s".to_owned());
    base.into_iter().for_each(|base| replica.agreed(PATH, base.to_owned()));
    planned(&mut replica, local, remote, rules)
}

fn planned(replica: &mut Replica, local: Option<&str>, remote: Option<&str>, rules: &Rules) -> Vec<Action> {
    let mut here = BTreeMap::from([("/still".to_owned(), Local::File("s".to_owned()))]);
    here.extend(local.map(|hash| (PATH.to_owned(), Local::File(hash.to_owned()))));
    let mut there =
        BTreeMap::from([("/still".to_owned(), Remote { id: "m0".to_owned(), hash: "s".to_owned() })]);
    there.extend(remote.map(|hash| (PATH.to_owned(), Remote { id: "m1".to_owned(), hash: hash.to_owned() })));
    replica.plan(&here, &there, rules)
}

fn pull(found: Option<&str>) -> Vec<Action> {
    vec![Action::Pull { path: PATH.to_owned(), id: "m1".to_owned(), found: found.map(str::to_owned) }]
}

fn create(hash: &str) -> Vec<Action> {
    vec![Action::Create { path: PATH.to_owned(), hash: hash.to_owned() }]
}

fn update(hash: &str, expected: &str) -> Vec<Action> {
    let (path, hash, id, expected) = (PATH.to_owned(), hash.to_owned(), "m1".to_owned(), expected.to_owned());
    vec![Action::Update { path, hash, id, expected }]
}

#[test]
fn every_row_of_the_table_has_its_action() {
    // What is here, what the server has, what both had; then with a store that may be written, and one that may not.
    let remove = vec![Action::Remove { path: PATH.to_owned(), found: "b".to_owned() }];
    type Row = (Option<&'static str>, Option<&'static str>, Option<&'static str>, Vec<Action>, Vec<Action>);
    let rows: [Row; 11] = [
        (Some("b"), Some("r"), Some("b"), pull(Some("b")), pull(Some("b"))),
        (Some("l"), Some("b"), Some("b"), update("l", "b"), vec![]),
        (Some("l"), None, None, create("l"), vec![]),
        (Some("l"), Some("r"), Some("b"), pull(Some("l")), pull(Some("l"))),
        (Some("l"), Some("r"), None, pull(Some("l")), pull(Some("l"))),
        (Some("x"), Some("x"), Some("b"), vec![], vec![]),
        (Some("b"), None, Some("b"), remove.clone(), remove),
        (Some("l"), None, Some("b"), create("l"), vec![]),
        (None, Some("b"), Some("b"), vec![], vec![]),
        (None, Some("r"), Some("b"), pull(None), pull(None)),
        (None, Some("r"), None, pull(None), pull(None)),
    ];
    for (local, remote, base, writable, read_only) in rows {
        assert_eq!(plan(local, remote, base, &RULES), writable, "{local:?} {remote:?} {base:?}");
        assert_eq!(
            plan(local, remote, base, &READ_ONLY),
            read_only,
            "{local:?} {remote:?} {base:?}, read-only"
        );
    }
}

#[test]
fn a_memory_is_deleted_only_after_its_file_was_missing_for_long() {
    let deleted =
        vec![Action::Delete { path: PATH.to_owned(), id: "m1".to_owned(), expected: "b".to_owned() }];
    let mut replica = Replica::default();
    replica.agreed("/still", "s".to_owned());
    replica.agreed(PATH, "b".to_owned());
    let mut at = |secs, last| {
        planned(&mut replica, None, Some("b"), &Rules { now: Duration::from_secs(secs), last, ..RULES })
    };
    assert_eq!(at(100, false), []);
    assert_eq!(at(129, false), []);
    assert_eq!(at(130, false), deleted);
    assert_eq!(
        plan(None, Some("b"), Some("b"), &Rules { last: true, ..RULES }),
        deleted,
        "at the end at once"
    );
    for deletes in [Deletes::LogOnly, Deletes::Disabled] {
        assert_eq!(plan(None, Some("b"), Some("b"), &Rules { last: true, deletes, ..RULES }), []);
    }
}

#[test]
fn a_file_that_comes_back_begins_to_be_missing_anew() {
    let mut replica = Replica::default();
    replica.agreed("/still", "s".to_owned());
    replica.agreed(PATH, "b".to_owned());
    let mut at = |secs, local| {
        planned(&mut replica, local, Some("b"), &Rules { now: Duration::from_secs(secs), ..RULES })
    };
    assert_eq!(at(0, None), []);
    assert_eq!(at(20, Some("b")), []);
    assert_eq!(at(40, None), []);
    assert_eq!(at(69, None), []);
    assert_eq!(at(70, None).len(), 1);
}

#[test]
fn no_more_than_a_part_is_deleted_at_once() {
    let mut replica = Replica::default();
    let there: BTreeMap<String, Remote> =
        (0..100).map(|n| (format!("/{n}"), Remote { id: n.to_string(), hash: "h".to_owned() })).collect();
    there.keys().for_each(|path| replica.agreed(path, "h".to_owned()));
    let here = BTreeMap::from([("/0".to_owned(), Local::File("h".to_owned()))]);
    let last = Rules { last: true, ..RULES };
    assert_eq!(replica.plan(&here, &there, &last).len(), 25);
}

#[test]
fn a_copy_that_is_gone_as_a_whole_is_brought_back() {
    let there: BTreeMap<String, Remote> = ["/a", "/b"]
        .map(|path| (path.to_owned(), Remote { id: path.to_owned(), hash: "h".to_owned() }))
        .into();
    let last = Rules { last: true, ..RULES };
    for (known, marked) in [(&["/a", "/b"][..], true), (&["/a"][..], false)] {
        let mut replica = Replica::default();
        known.iter().for_each(|path| replica.agreed(path, "h".to_owned()));
        let actions = replica.plan(&BTreeMap::new(), &there, &Rules { marked, ..last });
        assert!(actions.iter().all(|action| matches!(action, Action::Pull { .. })), "{actions:?}");
        assert_eq!(actions.len(), 2);
    }
}

#[test]
fn what_was_refused_is_sent_again_only_after_it_changed() {
    let mut replica = Replica::default();
    replica.refuse(PATH, "bad".to_owned());
    assert_eq!(planned(&mut replica, Some("bad"), None, &RULES), []);
    assert_eq!(planned(&mut replica, Some("good"), None, &RULES), create("good"));
    assert_eq!(
        planned(&mut replica, Some("bad"), None, &RULES),
        create("bad"),
        "it is another's refusal by then"
    );
}

#[test]
fn what_was_sent_without_an_answer_counts_if_the_server_has_it() {
    let mut replica = Replica::default();
    replica.agreed("/still", "s".to_owned());
    replica.sending(PATH, "l".to_owned());
    // It arrived, and the file has changed since: that is one change, and no conflict.
    assert_eq!(planned(&mut replica.clone(), Some("l2"), Some("l"), &RULES), update("l2", "l"));
    assert_eq!(planned(&mut replica, Some("l2"), Some("other"), &RULES), pull(Some("l2")));
}

#[test]
fn what_cannot_be_a_memory_is_left_alone() {
    let here = BTreeMap::from([(PATH.to_owned(), Local::Other)]);
    let there = BTreeMap::from([(PATH.to_owned(), Remote { id: "m1".to_owned(), hash: "r".to_owned() })]);
    assert_eq!(Replica::default().plan(&here, &there, &RULES), []);
}

mod property {
    use proptest::prelude::*;

    use super::*;

    fn hash() -> impl Strategy<Value = Option<String>> {
        prop::option::weighted(0.8, prop::sample::select(vec!["1", "2", "3"]))
            .prop_map(|hash| hash.map(str::to_owned))
    }

    proptest! {
        /// Whatever three sides there were: if every action succeeds, nothing is left to do but what has to wait.
        #[test]
        fn a_plan_that_was_carried_out_leaves_nothing_to_do(sides in prop::collection::vec((hash(), hash(), hash()), 0..6)) {
            let mut replica = Replica::default();
            let (mut here, mut there) = (BTreeMap::new(), BTreeMap::new());
            for (n, (local, remote, base)) in sides.into_iter().enumerate() {
                let path = format!("/{n}");
                base.into_iter().for_each(|base| replica.agreed(&path, base));
                here.extend(local.map(|hash| (path.clone(), Local::File(hash))));
                there.extend(remote.map(|hash| (path.clone(), Remote { id: path.clone(), hash })));
            }
            let last = Rules { last: true, ..RULES };
            for action in replica.plan(&here, &there, &last) {
                match action {
                    Action::Pull { path, .. } => {
                        let hash = there[&path].hash.clone();
                        here.insert(path.clone(), Local::File(hash.clone()));
                        replica.agreed(&path, hash);
                    }
                    Action::Remove { path, .. } => {
                        here.remove(&path);
                        replica.gone(&path);
                    }
                    Action::Create { path, hash } | Action::Update { path, hash, .. } => {
                        there.insert(path.clone(), Remote { id: path.clone(), hash: hash.clone() });
                        replica.agreed(&path, hash);
                    }
                    Action::Delete { path, .. } => {
                        there.remove(&path);
                        replica.gone(&path);
                    }
                }
            }
            prop_assert_eq!(replica.plan(&here, &there, &last), []);
            let same = here.len() == there.len()
                && here.iter().all(|(path, local)| matches!(local, Local::File(hash) if there[path].hash == *hash));
            prop_assert!(same, "{:?} {:?}", here, there);
        }
    }
}
