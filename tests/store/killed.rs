//! Processes killed in the middle of it.
//!
//! The process is this test itself, started again to run [`child`] alone. It tells each success on its
//! standard error, one write each, and is killed at some moment: everything it told must be there, and of
//! each work item at most one thing more.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use remuda::store::Store;
use remuda_actors::ports::Record;

use crate::records::{Model, append, beat, claimed, finished, intended, open, posted, started, tell};

/// Names the folder of the journal to the child.
const DIR: &str = "REMUDA_TEST_JOURNAL";
/// Tells the child how to name its work items.
const ROUND: &str = "REMUDA_TEST_ROUND";
const ROUNDS: usize = 24;
const APPENDERS: usize = 8;

/// The life of a work item, of which every second never ends.
fn script(work: &str, number: usize) -> Vec<Record> {
    let mut script = vec![
        claimed(work),
        intended(work),
        beat("1"),
        started("a"),
        finished("a", &"output ".repeat(number % 1000)),
        beat("2"),
        posted("a"),
        started("b"),
    ];
    if number.is_multiple_of(2) {
        script.push(Record::Ended);
    }
    script
}

/// Says something in one write, so that it is said whole or not at all.
fn say(what: &str) {
    std::io::stderr().write_all(format!("{what}\n").as_bytes()).expect("the test listens");
}

#[test]
#[ignore = "the process that is killed"]
fn child() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("runtime");
    say("opening");
    let store = Arc::new(open(Path::new(&dir)));
    say("open");
    let appenders = (0..APPENDERS).map(|appender| {
        let (store, round) = (Arc::clone(&store), round.clone());
        runtime.spawn(async move {
            // More than it can do before it is killed.
            for number in 0..100_000 {
                let work = format!("{round}-{appender}-{number}");
                for record in script(&work, number) {
                    append(&store, &work, record).await;
                    say(&format!("wrote {work}"));
                }
            }
        })
    });
    runtime.block_on(join_all(appenders.collect::<Vec<_>>()));
}

/// When to kill the child: some time after it has written so many records, or begun to open the journal if
/// that is none. While it moves its log to the tables it writes nothing, so the time must be random too.
#[derive(Debug)]
struct Moment {
    records: usize,
    pause: Duration,
}

/// Kills a child at that moment, and returns how many records of each work item it said it wrote.
fn run(dir: &Path, round: usize, moment: &Moment) -> BTreeMap<String, usize> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["killed::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut written = BTreeMap::new();
    let (mut total, mut is_killed) = (0, false);
    for line in lines {
        let line = line.expect("text");
        match line.strip_prefix("wrote ") {
            Some(work) => {
                *written.entry(work.to_owned()).or_default() += 1;
                total += 1;
            }
            None => assert!(line.starts_with("open"), "the child failed: {line}"),
        }
        if total >= moment.records && !is_killed {
            std::thread::sleep(moment.pause);
            child.kill().expect("kill");
            is_killed = true;
        }
    }
    let status = child.wait().expect("wait");
    assert!(is_killed && !status.success(), "it was killed, and not before it was time: {status}");
    written
}

/// What a journal tells about each work item.
async fn by_work(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut works: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in tell(store).await {
        let work = line.split(' ').next().unwrap_or_default().to_owned();
        works.entry(work).or_default().push(line);
    }
    works
}

/// What it should tell about one of which so many records were written.
fn expected(work: &str, written: usize) -> Vec<String> {
    let number = work.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number");
    let mut model = Model::default();
    for record in script(work, number).into_iter().take(written) {
        model.append(&work.into(), record);
    }
    model.told()
}

#[tokio::test]
async fn a_process_that_is_killed_loses_nothing_it_has_written() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let seed = rand::rng().random();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut settled: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for round in 0..ROUNDS {
        let records = if round % 4 == 0 { 0 } else { rng.random_range(1..4_000) };
        let moment = Moment { records, pause: Duration::from_micros(rng.random_range(0..30_000)) };
        let context = format!("seed {seed}, round {round}, {moment:?}");
        let written = run(dir.path(), round, &moment);
        let store = open(dir.path());
        let mut told = by_work(&store).await;
        for (work, lines) in &settled {
            assert_eq!(told.remove(work).as_ref(), Some(lines), "{context}: an earlier round's {work}");
        }
        for (work, written) in &written {
            let lines = told.get(work).cloned().unwrap_or_default();
            let may_be = [expected(work, *written), expected(work, written + 1)];
            assert!(may_be.contains(&lines), "{context}: {work} wrote {written}\n{lines:#?}\n{may_be:#?}");
        }
        for (work, lines) in &told {
            assert!(
                written.contains_key(work) || *lines == expected(work, 1),
                "{context}: nobody wrote {lines:?}"
            );
        }
        settled.append(&mut told);
        if round % 8 == 7 {
            for work in std::mem::take(&mut settled).into_keys() {
                append(&store, &work, Record::Ended).await;
            }
        }
    }
}
