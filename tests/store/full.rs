//! A disk that is full for a while.
//!
//! The kernel's limit on the size of a file stands in for the disk: it needs no privileges, ends a write in
//! its middle as a full disk does, and can be lifted again. It is the process's, so this test runs in one of
//! its own, under a shell that has the signal ignored which comes with it.

use std::path::Path;
use std::process::Command;

use remuda_actors::ports::{Journal as _, JournalError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::records::{Model, append, claimed, finished, image, open, started, tell};

/// Names the folder of the journal to the child.
const DIR: &str = "REMUDA_TEST_FULL";
/// More than the log has before the tables are to take it over, and less than the tables need for what comes.
const LIMIT: u64 = 1 << 20;

#[test]
fn a_full_disk_is_reported_loses_nothing_and_is_forgotten_when_there_is_room() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this test"))
        .args(["full::child", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir.path())
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "the process that gets the limit"]
async fn child() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let (store, mut model) = (open(dir), Model::default());
    let unlimited = getrlimit(Resource::Fsize);
    let limit = |current| setrlimit(Resource::Fsize, Rlimit { current, ..unlimited }).expect("setrlimit");
    for round in 0..3 {
        limit(Some(LIMIT * (round + 1)));
        let failure = loop {
            let work = format!("work_{}", model.records.len());
            let mut failure = None;
            for record in [claimed(&work), started("call"), finished("call", &"output ".repeat(200))] {
                match store.append(&work.as_str().into(), record.clone()).await {
                    Ok(()) => model.append(&work.as_str().into(), record),
                    Err(error) => failure = Some(error),
                }
            }
            if let Some(failure) = failure {
                break failure;
            }
        };
        assert!(matches!(failure, JournalError::Write(_)), "{failure:?}");
        assert!(format!("{failure:?}").contains("journal.log"), "it names the file: {failure:?}");
        limit(None);
        let killed = tempfile::tempdir().expect("temporary folder");
        image(dir, killed.path());
        assert!(tell(&open(killed.path())).await == model.told(), "a crash now would lose nothing");

        let again = format!("again_{round}");
        append(&store, &again, claimed(&again)).await;
        model.append(&again.as_str().into(), claimed(&again));
        assert!(tell(&store).await == model.told(), "there is room again, and nothing is missing");
    }
    drop(store);
    assert!(tell(&open(dir)).await == model.told(), "nothing is missing after the end");
}
