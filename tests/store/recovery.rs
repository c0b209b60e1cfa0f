//! What is there again after the process ended, in whichever way.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;
use remuda_actors::ports::{Journal as _, Parked, Record, Shelved};
use tempfile::TempDir;

use crate::records::{
    Model, append, beat, claimed, finished, image, intended, left, open, posted, started, tell,
};

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

/// What happens to a journal.
#[derive(Clone, Debug)]
enum Step {
    Append(String, Record),
    Shelve(Shelved),
    Unshelve(String),
    /// Everything is moved from the log to the tables.
    Replay,
    /// The process is killed, and another starts.
    Kill,
    /// It ends in order.
    Close,
}

/// Few names, so that they meet.
fn name(prefix: &'static str) -> impl Strategy<Value = String> {
    (1..4).prop_map(move |n| format!("{prefix}{n}"))
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        4 => Just(claimed("")),
        2 => name("t").prop_map(|token| beat(&token)),
        3 => name("s").prop_map(|sandbox| intended(&sandbox)),
        3 => name("c").prop_map(|call| started(&call)),
        3 => (name("c"), name("output")).prop_map(|(call, output)| finished(&call, &output)),
        2 => name("c").prop_map(|call| posted(&call)),
        1 => name("c").prop_map(|call| left(&call)),
        1 => Just(Record::Ended),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let parked = Parked { session: "sesn_1".into(), instance: 1, disk_bytes: 2, memory_bytes: 3 };
    prop_oneof![
        20 => (name("w"), record()).prop_map(|(work, record)| {
            let record = if matches!(record, Record::Claimed { .. }) { claimed(&work) } else { record };
            Step::Append(work, record)
        }),
        3 => (name("s"), prop::option::of(Just(parked)))
            .prop_map(|(sandbox, parked)| Step::Shelve(Shelved { sandbox: sandbox.into(), parked })),
        1 => name("s").prop_map(Step::Unshelve),
        1 => Just(Step::Replay),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn property_what_was_appended_is_told_whatever_came_between(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let mut dir = folder();
            let (mut store, mut model) = (open(dir.path()), Model::default());
            for step in &steps {
                match step.clone() {
                    Step::Append(work, record) => {
                        model.append(&work.as_str().into(), record.clone());
                        append(&store, &work, record).await;
                    }
                    Step::Shelve(shelved) => {
                        store.shelve(&shelved).await.expect("shelve");
                        model.shelve(shelved);
                    }
                    Step::Unshelve(sandbox) => {
                        store.unshelve(&sandbox.as_str().into()).await.expect("unshelve");
                        model.unshelve(&sandbox.into());
                    }
                    Step::Replay => prop_assert_eq!(tell(&store).await, model.told()),
                    Step::Kill => {
                        let next = folder();
                        image(dir.path(), next.path());
                        store = open(next.path());
                        dir = next;
                    }
                    Step::Close => {
                        drop(store);
                        store = open(dir.path());
                    }
                }
            }
            prop_assert_eq!(tell(&store).await, model.told());
            Ok(())
        })?;
    }
}

/// A loss of power keeps some of what was not synced, and not always the older part of it.
#[tokio::test]
async fn a_log_that_lost_something_tells_what_came_before_that() {
    let (dir, mut states) = (folder(), vec![Vec::new()]);
    let (store, mut model) = (open(dir.path()), Model::default());
    // A first round, so that the second is written over another one.
    for n in 0..40 {
        let work = format!("work_{n}");
        append(&store, &work, claimed(&work)).await;
        append(&store, &work, Record::Ended).await;
    }
    assert_eq!(tell(&store).await, [""; 0]);
    for n in 0..10 {
        let work = format!("work_{n}");
        for record in [claimed(&work), started("call"), finished("call", &"output ".repeat(n))] {
            model.append(&work.as_str().into(), record.clone());
            append(&store, &work, record).await;
            states.push(model.told());
        }
    }
    let log = fs::read(dir.path().join("journal.log")).expect("log");
    let known = |told: &Vec<String>| states.iter().position(|state| state == told);
    let opened = async |log: &[u8]| {
        let lost = folder();
        image(dir.path(), lost.path());
        fs::write(lost.path().join("journal.log"), log).expect("write");
        known(&tell(&open(lost.path())).await).expect("it tells what was told at some time")
    };
    assert_eq!(opened(&log).await, 30, "nothing was lost");
    let mut told = Vec::new();
    for at in (30..log.len()).step_by(251) {
        told.push(opened(&log[..at]).await);
        let mut hole = log.clone();
        hole.iter_mut().skip(at).take(512).for_each(|byte| *byte = 0);
        assert_eq!(Some(&opened(&hole).await), told.last(), "what follows a hole is not told");
    }
    assert!(told.is_sorted() && told.first() == Some(&0) && told.last() == Some(&30), "{told:?}");
}

#[tokio::test]
async fn times_go_on_and_files_are_the_owners_alone() {
    let dir = folder();
    let before = std::time::SystemTime::now();
    let store = open(dir.path());
    append(&store, "work", claimed("work")).await;
    append(&store, "work", beat("1")).await;
    store.shelve(&Shelved { sandbox: "s".into(), parked: None }).await.expect("shelve");
    drop(store);
    for file in ["journal.redb", "journal.log"] {
        let path = dir.path().join(file);
        let mode = || fs::metadata(&path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600, "{file}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
        drop(open(dir.path()));
        assert_eq!(mode(), 0o600, "{file} is taken away from others again");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2, "nothing else is left behind");
    let store = open(dir.path());
    // The same once more does not make it younger.
    append(&store, "work", beat("1")).await;
    let replay = store.replay().await.expect("replay");
    let since = before.elapsed().expect("the clock goes forward");
    let ages: Vec<_> =
        replay.work.iter().map(|replayed| replayed.age).chain(replay.shelf.iter().map(|on| on.1)).collect();
    assert!(ages.len() == 3 && ages.iter().all(|age| *age <= since), "{ages:?} in {since:?}");
}
