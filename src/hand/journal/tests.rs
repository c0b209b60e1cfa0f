use proptest::prelude::*;

use super::index::*;
use super::*;

fn stored(text: &str) -> Stored {
    let result = RawValue::from_string(serde_json::to_string(text).unwrap()).unwrap();
    Stored { result: result.into(), run_us: 7 }
}

fn text(stored: &Stored) -> String {
    serde_json::from_str(stored.result.get()).unwrap()
}

fn id(number: usize) -> CallId {
    CallId::from(format!("call{number}"))
}

fn run(journal: &Journal, number: usize, answer: &str) {
    journal.start(&id(number), 1).unwrap();
    journal.finish(&id(number), Some(1), stored(answer));
}

fn journal_of(directory: &Path) -> PathBuf {
    directory.join("journal")
}

#[test]
fn a_result_is_there_after_a_restart_and_a_started_call_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    run(&journal, 1, "one");
    journal.start(&id(2), 5).unwrap();
    assert_eq!(journal.look_up(&id(2)), Some(Known::Started { digest: 5 }));
    journal.forbid(&id(3), stored("three")).unwrap();
    drop(journal);
    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.look_up(&id(1)), Some(Known::Finished { digest: Some(1) }));
    assert_eq!(text(&journal.load(&id(1)).unwrap()), "one");
    assert_eq!(journal.load(&id(1)).unwrap().run_us, 7);
    assert_eq!(journal.look_up(&id(2)), Some(Known::Unknown { digest: 5 }));
    assert_eq!(journal.look_up(&id(3)), Some(Known::Finished { digest: None }));
    assert_eq!(journal.look_up(&id(4)), None);
}

#[test]
fn results_are_bounded_by_number_and_bytes_and_ids_are_never_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    for number in 0..MAX_RESULTS + 10 {
        run(&journal, number, "x");
    }
    let large = "y".repeat((MAX_RESULT_BYTES / 2) as usize);
    let check = |journal: &Journal| {
        assert_eq!(journal.look_up(&id(9)), Some(Known::Ended));
        assert_eq!(journal.look_up(&id(10)), Some(Known::Finished { digest: Some(1) }));
    };
    check(&journal);
    drop(journal);
    let journal = Journal::open(dir.path()).unwrap();
    check(&journal);
    run(&journal, 1000, &large);
    run(&journal, 1001, &large);
    assert_eq!(journal.look_up(&id(1000)), Some(Known::Ended));
    assert_eq!(text(&journal.load(&id(1001)).unwrap()), large);
    assert_eq!(journal.look_up(&id(MAX_RESULTS + 9)), Some(Known::Ended));
}

#[test]
fn the_file_is_rewritten_before_waste_outgrows_use() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let answer = "z".repeat(4000);
    journal.start(&id(9999), 3).unwrap();
    for number in 0..2000 {
        run(&journal, number, &answer);
    }
    let needed = MAX_RESULTS as u64 * 4200;
    let length = std::fs::metadata(journal_of(dir.path())).unwrap().len();
    assert!(length < 2 * needed + 2 * MAX_WASTE_BYTES, "{length} bytes");
    let check = |journal: &Journal, oldest: usize| {
        assert_eq!(journal.look_up(&id(0)), Some(Known::Ended));
        assert_eq!(journal.look_up(&id(oldest - 1)), Some(Known::Ended));
        for number in [oldest, 1999] {
            assert_eq!(text(&journal.load(&id(number)).unwrap()), answer);
        }
    };
    check(&journal, 2000 - MAX_RESULTS);
    assert!(!dir.path().join("journal.new").exists());
    drop(journal);
    let journal = Journal::open(dir.path()).unwrap();
    assert_eq!(journal.look_up(&id(9999)), Some(Known::Unknown { digest: 3 }));
    // The unknown one now takes the place of the oldest.
    check(&journal, 2001 - MAX_RESULTS);
}

#[test]
fn a_record_cut_short_by_a_crash_is_cut_off_at_any_byte() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    run(&journal, 1, "one");
    let complete = std::fs::read(journal_of(dir.path())).unwrap().len();
    run(&journal, 2, "two");
    drop(journal);
    let whole = std::fs::read(journal_of(dir.path())).unwrap();
    for length in complete..whole.len() {
        std::fs::write(journal_of(dir.path()), &whole[..length]).unwrap();
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(text(&journal.load(&id(1)).unwrap()), "one");
        // Either it never began, or nobody knows how it ended.
        let second = journal.look_up(&id(2));
        assert!(matches!(second, None | Some(Known::Unknown { digest: 1 })), "{length}: {second:?}");
        run(&journal, 3, "three");
        drop(journal);
        let journal = Journal::open(dir.path()).unwrap();
        assert_eq!(text(&journal.load(&id(3)).unwrap()), "three");
    }
}

#[test]
fn damage_refuses_the_start_and_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    run(&journal, 1, "one");
    run(&journal, 2, "two");
    drop(journal);
    let whole = String::from_utf8(std::fs::read(journal_of(dir.path())).unwrap()).unwrap();
    for (from, to) in [
        (MAGIC, "remuda-hand journal 2\n"),
        ("{\"finished\":{\"id\":\"call1\"", "{\"finished\":{\"is\":\"call1\""),
        ("\"bytes\":5", "\"bytes\":4"),
        ("\"bytes\":5", "\"bytes\":6"),
        ("\"bytes\":5", "\"bytes\":500000"),
        ("\"one\"\n", "\"one\""),
        ("\"one\"\n", "\"one\"\n\n"),
    ] {
        let damaged = whole.replacen(from, to, 1);
        assert_ne!(damaged, whole);
        std::fs::write(journal_of(dir.path()), &damaged).unwrap();
        let outcome = Journal::open(dir.path());
        assert!(matches!(outcome, Err(JournalError::Foreign { .. })), "{from:?} to {to:?}: {outcome:?}");
        assert_eq!(std::fs::read_to_string(journal_of(dir.path())).unwrap(), damaged);
    }
    // A damaged result is the matter of its call alone.
    std::fs::write(journal_of(dir.path()), whole.replacen("\"one\"", "\"one]", 1)).unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    assert!(journal.load(&id(1)).is_err());
    assert_eq!(text(&journal.load(&id(2)).unwrap()), "two");
}

#[test]
fn ids_are_plain() {
    for good in ["sevt_01AbC", "a.b:c-d", &"x".repeat(MAX_CALL_ID_BYTES)] {
        assert!(is_valid(good));
    }
    for bad in ["", "a/b", "ü", "a b", "a\n", &"x".repeat(MAX_CALL_ID_BYTES + 1)] {
        assert!(!is_valid(bad));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    Finish(usize),
    Forbid,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Start),
        4 => (0usize..8).prop_map(Step::Finish),
        1 => Just(Step::Forbid),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// After any history, and any number of restarts in it, every call is known as what became of it.
    #[test]
    fn property_no_call_is_forgotten(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Some(Journal::open(dir.path()).unwrap());
        let mut model: Vec<Known> = Vec::new();
        let mut live: Vec<usize> = Vec::new();
        for step in steps {
            let open = journal.as_ref().unwrap();
            match step {
                Step::Start => {
                    open.start(&id(model.len()), 1).unwrap();
                    live.push(model.len());
                    model.push(Known::Started { digest: 1 });
                }
                Step::Finish(nth) if nth < live.len() => {
                    let number = live.remove(nth);
                    open.finish(&id(number), Some(1), stored(&number.to_string()));
                    model[number] = Known::Finished { digest: Some(1) };
                }
                Step::Finish(_) => {}
                Step::Forbid => {
                    open.forbid(&id(model.len()), stored(&model.len().to_string())).unwrap();
                    model.push(Known::Finished { digest: None });
                }
                Step::Restart => {
                    // The lock goes with the old one.
                    journal = None;
                    journal.replace(Journal::open(dir.path()).unwrap());
                    for number in live.drain(..) {
                        model[number] = Known::Unknown { digest: 1 };
                    }
                }
            }
            let open = journal.as_ref().unwrap();
            for (number, known) in model.iter().enumerate() {
                prop_assert_eq!(open.look_up(&id(number)), Some(*known));
                if let Known::Finished { .. } = known {
                    prop_assert_eq!(text(&open.load(&id(number)).unwrap()), number.to_string());
                }
            }
        }
    }
}
