//! Taking over the files of another sandbox, and that they are never lost on the way.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use remuda::launch::{Folder, keeper};
use remuda::providers::local::LocalProvider;
use remuda_actors::ports::{CallRequest, Origin, ProviderError, SandboxProvider};
use rustix::process::Signal;
use serde_json::json;

use crate::bench::{Bench, Sandbox, kill, request, until};

/// Longest time that a launcher which never comes up is waited for.
const MOMENT: Duration = Duration::from_millis(200);

async fn old(bench: &Bench) -> Sandbox {
    let old = bench.sandbox("sesn_1.1").await;
    // Closed to itself, which must not keep the next one out.
    let write = "echo w > f; mkdir -p d/e; echo m > /mnt/memory/f; echo t > /tmp/f; chmod 0 d/e .; echo";
    old.bash(write).await;
    old
}

async fn assert_saved(heir: &Sandbox) {
    let read = "cat /workspace/f /mnt/memory/f /tmp/f; stat -c %a /workspace/d/e";
    assert_eq!(heir.bash(read).await, "w\nm\nt\n0");
}

/// A provider whose launchers never come up: a creation stops there, with everything before it done.
fn stuck(bench: &Bench) -> LocalProvider {
    bench.reopened_with(|options| {
        options.program = "/bin/sh".into();
        options.arguments = vec!["-c".into(), "exec sleep 2".into()];
    })
}

/// Leaves a creation where its process died after it moved the files.
async fn die_on_the_way(bench: &Bench, stuck: &LocalProvider) {
    let spec = bench.heir_spec("sesn_1.2", "sesn_1.1");
    assert!(tokio::time::timeout(MOMENT, stuck.create(&spec)).await.is_err(), "its launcher never comes up");
    let dir = bench.dir.path().join("sandboxes");
    assert!(
        Folder(&dir.join("sesn_1.2")).files().exists() && !Folder(&dir.join("sesn_1.1")).files().exists()
    );
}

#[tokio::test]
async fn all_files_are_taken_over_under_the_same_id_and_nothing_else() {
    let bench = Bench::new();
    let old = old(&bench).await;
    let owner = |sandbox| fs::metadata(bench.workspace(sandbox)).expect("a workspace").uid();
    let id = owner(&old);
    let heir = bench.heir("sesn_1.2", "sesn_1.1").await;
    assert_saved(&heir).await;
    assert_eq!(owner(&heir), id);
    assert_eq!(heir.bash("echo more >> f; cat f").await, "w\nmore");
    assert!(!bench.folder(&old).exists());
    let other = bench.sandbox("sesn_1.3").await;
    if rustix::process::geteuid().is_root() {
        assert_ne!(owner(&other), id, "two sandboxes share an id");
    }
    bench.close().await;
}

#[tokio::test]
async fn what_was_done_to_the_files_is_not_done_again() {
    let bench = Bench::new();
    let old = bench.sandbox("sesn_1.1").await;
    let done = request("bash", json!({"command": "echo done >> log; echo $RANDOM"}));
    let reply = old.hand.call(&done).await.expect("a reply");
    let begun = request("bash", json!({"command": "echo begun >> log; sleep 100"}));
    let _ = tokio::time::timeout(MOMENT, old.hand.call(&begun)).await;
    let heir = bench.heir("sesn_1.2", "sesn_1.1").await;
    let again = heir.hand.call(&done).await.expect("a reply");
    assert_eq!((again.origin, &again.result), (Origin::Journal, &reply.result));
    let unknown = heir.hand.call(&begun).await.expect("a reply");
    assert!(unknown.result.is_error && unknown.result.text().contains("nobody knows"), "{unknown:?}");
    assert_eq!(heir.bash("cat log").await, "done\nbegun");
    // Unless whoever asks knows that it may be done twice.
    let repeated = CallRequest { again: true, timeout: MOMENT, ..begun };
    assert_eq!(heir.hand.call(&repeated).await.expect("a reply").origin, Origin::Ran);
    // Behind what the hand has to say about its shell, which was cut.
    assert!(heir.bash("cat log").await.ends_with("done\nbegun\nbegun"));
    bench.close().await;
}

#[tokio::test]
async fn a_start_that_fails_leaves_the_files_where_they_were() {
    let bench = Bench::new();
    let old = old(&bench).await;
    let failing = bench.reopened_with(|options| options.program = "/bin/false".into());
    for _ in 0..2 {
        let failed = failing.create(&bench.heir_spec("sesn_1.2", "sesn_1.1")).await;
        assert!(matches!(failed, Err(ProviderError::Unavailable { .. })), "{failed:?}");
        assert!(bench.workspace(&old).exists());
        let listed = bench.provider.list(bench.owner()).await.expect("list");
        assert_eq!(listed.iter().map(|sandbox| sandbox.id.as_str()).collect::<Vec<_>>(), ["sesn_1.1"]);
    }
    assert_saved(&bench.heir("sesn_1.2", "sesn_1.1").await).await;
    bench.close().await;
}

#[tokio::test]
async fn the_next_attempt_finds_the_files_wherever_the_last_one_died() {
    let bench = Bench::new();
    let stuck = stuck(&bench);
    old(&bench).await;
    die_on_the_way(&bench, &stuck).await;
    assert_saved(&bench.heir("sesn_1.2", "sesn_1.1").await).await;
    bench.close().await;
}

#[tokio::test]
async fn an_attempt_that_died_is_undone_by_the_next_process() {
    let bench = Bench::new();
    let stuck = stuck(&bench);
    old(&bench).await;
    die_on_the_way(&bench, &stuck).await;
    let next = bench.reopened();
    next.create(&bench.heir_spec("sesn_1.3", "sesn_1.1")).await.expect("under another id");
    assert_saved(&bench.existing("sesn_1.3")).await;
    next.delete(&"sesn_1.2".into()).await.expect("delete");
    bench.close().await;
}

#[tokio::test]
async fn deleting_what_was_not_finished_gives_the_files_back() {
    let bench = Bench::new();
    let stuck = stuck(&bench);
    old(&bench).await;
    die_on_the_way(&bench, &stuck).await;
    bench.provider.delete(&"sesn_1.2".into()).await.expect("delete");
    assert_saved(&bench.heir("sesn_1.3", "sesn_1.1").await).await;
    // What is finished is deleted with its files.
    bench.provider.delete(&"sesn_1.3".into()).await.expect("delete");
    assert_eq!(bench.provider.list(bench.owner()).await.expect("list"), []);
}

#[tokio::test]
async fn one_that_died_before_anybody_was_told_of_it_hands_the_files_on() {
    let bench = Bench::new();
    old(&bench).await;
    let heir = bench.heir("sesn_1.2", "sesn_1.1").await;
    kill(bench.keeper(&heir).launcher, Signal::KILL);
    let folder = bench.folder(&heir);
    until(|| keeper(Folder(&folder)).expect("a lock").is_none()).await;
    assert_saved(&bench.heir("sesn_1.2", "sesn_1.1").await).await;
    bench.close().await;
}

/// Each creation is dropped at another moment; whatever it left, the next one has the files.
#[tokio::test]
async fn a_creation_that_is_dropped_anywhere_loses_nothing() {
    let bench = Bench::new();
    old(&bench).await;
    let mut last = "sesn_1.1".to_owned();
    let mut dropped = 0;
    for n in 2..62 {
        let spec = bench.heir_spec(&format!("sesn_1.{n}"), &last);
        let limit = Duration::from_micros(200 * (n % 40));
        if tokio::time::timeout(limit, bench.provider.create(&spec)).await.is_err() {
            dropped += 1;
            if n % 2 == 0 {
                bench.reopened();
            }
            match bench.provider.create(&spec).await {
                // It came up although nobody waited for it.
                Ok(_) | Err(ProviderError::AlreadyExists { .. }) => {}
                Err(error) => panic!("the same again: {error:?}"),
            }
        }
        assert_saved(&bench.existing(spec.id.as_str())).await;
        last = spec.id.to_string();
    }
    assert!(dropped > 10, "{dropped}");
    bench.close().await;
}

#[tokio::test]
async fn a_sandbox_cannot_take_over_its_own_files() {
    let bench = Bench::new();
    let old = old(&bench).await;
    kill(bench.keeper(&old).launcher, Signal::KILL);
    let refused = bench.provider.create(&bench.heir_spec("sesn_1.1", "sesn_1.1")).await;
    assert!(matches!(refused, Err(ProviderError::Refused { .. })), "{refused:?}");
    assert_saved(&bench.heir("sesn_1.2", "sesn_1.1").await).await;
    bench.close().await;
}
