//! What is remembered of calls: across connections, cancellations, crashes and full disks.

use std::time::{Duration, Instant};

use remuda::hand::client::{ClientError, HandClient};
use remuda::hand::wire::{CallStatus, ErrorCode, Origin};
use remuda_actors::ids::CallId;
use serde_json::json;

use crate::fixture::{Hand, Options, PATIENCE, bash, bounded, request, spawn};

async fn until_running(client: &HandClient, id: &CallId) {
    let start = Instant::now();
    while !matches!(client.status(id).await.unwrap(), Some(CallStatus::Running)) {
        assert!(start.elapsed() < PATIENCE, "{id} never runs");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn refused(outcome: &Result<impl std::fmt::Debug, ClientError>, code: ErrorCode) -> bool {
    matches!(outcome, Err(ClientError::Refused(error)) if error.code == code)
}

#[tokio::test]
async fn a_call_runs_once_however_often_it_is_asked_for() {
    let mut hand = Hand::start();
    let (id, call) = ("once".into(), bash("echo x >>runs; wc -l <runs"));
    let first = bounded(hand.client.call(&id, &call)).await.unwrap();
    assert_eq!((first.origin, first.result.text().as_str()), (Origin::Ran, "1"));
    let second = bounded(hand.client.call(&id, &call)).await.unwrap();
    assert_eq!((second.origin, &second.result), (Origin::Journal, &first.result));
    hand.crash_and_restart();
    let third = bounded(hand.client.call(&id, &call)).await.unwrap();
    assert_eq!((third.origin, &third.result), (Origin::Journal, &first.result));
    assert_eq!(third.run_us, first.run_us);
    let status = hand.client.status(&id).await.unwrap();
    assert_eq!(status, Some(CallStatus::Finished { result: first.result, run_us: first.run_us }));
    assert_eq!(hand.read("runs"), "x\n");
    assert_eq!(hand.client.status(&"never".into()).await.unwrap(), None);
}

#[tokio::test]
async fn a_call_goes_on_without_its_connection_and_can_be_attached_to() {
    let hand = Hand::start();
    let (id, call) =
        (CallId::from("long"), bash("until [ -e go ]; do sleep 0.01; done; echo x >>runs; echo done"));
    let client = hand.client.clone();
    let (asked, gone) = (id.clone(), call.clone());
    let asking = tokio::spawn(async move { client.call(&asked, &gone).await });
    until_running(&hand.client, &id).await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    let other = HandClient::unix(hand.outside("s"));
    let attaching = tokio::spawn(async move { other.call(&id, &call).await });
    // It is sent before these are, and the hand has seen it when it has answered them.
    for _ in 0..3 {
        hand.client.health().await.unwrap();
    }
    hand.write("go", "");
    let attached = bounded(attaching).await.unwrap().unwrap();
    assert_eq!((attached.origin, attached.result.text().as_str()), (Origin::Attached, "done"));
    assert_eq!(hand.read("runs"), "x\n");
}

#[tokio::test]
async fn a_call_that_was_running_when_the_hand_died_is_unknown_and_never_repeated() {
    let mut hand = Hand::start();
    let (id, call) = (CallId::from("lost"), bash("echo $$ >shell; echo x >>runs; sleep 300"));
    let client = hand.client.clone();
    let (asked, running) = (id.clone(), call.clone());
    let asking = tokio::spawn(async move { client.call(&asked, &running).await });
    while !hand.path("runs").exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // A queued one has not begun, so nothing is lost with it.
    let client = hand.client.clone();
    let queued = tokio::spawn(async move { client.call(&"queued".into(), &bash("echo first")).await });
    let start = Instant::now();
    while hand.client.status(&"queued".into()).await.unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    hand.crash();
    let broken = bounded(asking).await.unwrap().unwrap_err();
    assert!(matches!(broken, ClientError::Broken(_)), "{broken:?}");
    drop(bounded(queued).await);
    hand.kill_left("shell");
    hand.restart();
    assert_eq!(hand.client.status(&id).await.unwrap(), Some(CallStatus::Unknown));
    let reply = bounded(hand.client.call(&id, &call)).await.unwrap();
    assert!(reply.origin == Origin::Journal && reply.result.is_error, "{reply:?}");
    assert!(reply.result.text().contains("nobody knows how far it came"));
    assert_eq!(hand.client.cancel(&id, "").await.unwrap(), CallStatus::Unknown);
    assert_eq!(hand.read("runs"), "x\n");
    let queued = bounded(hand.client.call(&"queued".into(), &bash("echo first"))).await.unwrap();
    assert_eq!((queued.origin, queued.result.text().as_str()), (Origin::Ran, "first"));
}

#[tokio::test]
async fn the_same_id_for_something_else_is_refused() {
    let hand = Hand::start();
    let id = "id".into();
    bounded(hand.client.call(&id, &bash("echo a"))).await.unwrap();
    let other = bounded(hand.client.call(&id, &bash("echo b"))).await;
    assert!(refused(&other, ErrorCode::CallMismatch), "{other:?}");
    let thread = bounded(hand.client.call(&id, &{
        let mut call = bash("echo a");
        call.thread = Some("t".into());
        call
    }))
    .await;
    assert!(refused(&thread, ErrorCode::CallMismatch), "{thread:?}");
    // Another limit is not another call: what is left of it differs each time.
    let mut later = bash("echo a");
    later.timeout_ms = Some(5);
    assert_eq!(bounded(hand.client.call(&id, &later)).await.unwrap().origin, Origin::Journal);
    // A live one is as strict.
    let client = hand.client.clone();
    let live = tokio::spawn(async move {
        client.call(&"live".into(), &bash("until [ -e go ]; do sleep 0.01; done")).await
    });
    until_running(&hand.client, &"live".into()).await;
    assert!(refused(
        &bounded(hand.client.call(&"live".into(), &bash("echo b"))).await,
        ErrorCode::CallMismatch
    ));
    hand.write("go", "");
    bounded(live).await.unwrap().unwrap();
}

#[tokio::test]
async fn cancelling_ends_a_running_call_and_keeps_what_it_printed() {
    let hand = Hand::start();
    let (id, client) = (CallId::from("long"), hand.client.clone());
    let asked = id.clone();
    let asking =
        tokio::spawn(async move { client.call(&asked, &bash("echo begun; echo >begun; sleep 300")).await });
    while !hand.path("begun").exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Behind it in the same shell, and cancelled before its turn.
    let client = hand.client.clone();
    let queued = tokio::spawn(async move { client.call(&"queued".into(), &bash("touch never")).await });
    let start = Instant::now();
    while hand.client.status(&"queued".into()).await.unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let cancelled = bounded(hand.client.cancel(&"queued".into(), "")).await.unwrap();
    assert!(
        matches!(cancelled, CallStatus::Finished { .. }),
        "it need not wait for the shell: {cancelled:?}"
    );
    let text = bounded(queued).await.unwrap().unwrap().result.text();
    assert_eq!(text, "the call was cancelled before it started");
    let CallStatus::Finished { result, .. } = bounded(hand.client.cancel(&id, "")).await.unwrap() else {
        panic!("cancelled and yet not finished");
    };
    let text = result.text();
    assert!(result.is_error && text.starts_with("begun\nbash: the call was cancelled; "), "{text}");
    assert_eq!(bounded(asking).await.unwrap().unwrap().result, result);
    assert!(!hand.path("never").exists());
    assert!(hand.output("echo next").await.ends_with("\nnext"));
}

#[tokio::test]
async fn a_cancellation_that_comes_first_keeps_the_call_from_running() {
    let mut hand = Hand::start();
    let (id, call) = ("early".into(), bash("touch never"));
    assert!(matches!(hand.client.cancel(&id, "").await.unwrap(), CallStatus::Finished { .. }));
    for _ in 0..2 {
        let reply = bounded(hand.client.call(&id, &call)).await.unwrap();
        assert_eq!(reply.origin, Origin::Journal);
        assert_eq!(reply.result.text(), "the call was cancelled before it started");
        hand.crash_and_restart();
    }
    assert!(!hand.path("never").exists());
}

#[tokio::test]
async fn old_results_go_but_their_calls_never_run_again() {
    let mut hand = Hand::start();
    let (id, call) = ("first".into(), bash("echo x >>runs"));
    bounded(hand.client.call(&id, &call)).await.unwrap();
    // More than are kept, each a wrong one so that nothing needs to run.
    for number in 0..300 {
        let id = format!("filler{number}").into();
        bounded(hand.client.call(&id, &request("read", json!({})))).await.unwrap();
    }
    for _ in 0..2 {
        let reply = bounded(hand.client.call(&id, &call)).await.unwrap();
        assert!(reply.origin == Origin::Journal && reply.result.is_error);
        assert!(reply.result.text().contains("no longer kept"), "{reply:?}");
        assert_eq!(hand.read("runs"), "x\n");
        hand.crash_and_restart();
    }
    let last = bounded(hand.client.call(&"filler299".into(), &request("read", json!({})))).await.unwrap();
    assert!(last.result.text().starts_with("read: file_path is required"));
}

#[tokio::test]
async fn nothing_runs_when_the_journal_cannot_be_written() {
    // No file of this hand may grow beyond 1 KiB; ignoring the signal turns that into an error.
    let prelude = "trap '' XFSZ; ulimit -f 1".to_owned();
    let mut hand = Hand::with(Options { prelude, ..Options::default() });
    let (id, call) = (CallId::from("id"), bash("mkdir ran"));
    for number in 0.. {
        let outcome = hand.reply("bash", json!({"command": format!("mkdir d{number}")})).await;
        if refused(&outcome, ErrorCode::JournalFull) {
            assert!(!hand.path(&format!("d{number}")).exists());
            break;
        }
        assert!(number < 10 && !outcome.unwrap().result.is_error);
    }
    let outcome = bounded(hand.client.call(&id, &call)).await;
    assert!(refused(&outcome, ErrorCode::JournalFull), "{outcome:?}");
    assert!(!hand.path("ran").exists());
    // It was not started, so it is not known, and runs once there is room.
    assert_eq!(hand.client.status(&id).await.unwrap(), None);
    hand.stop();
    let root = hand.workdir.parent().unwrap().to_path_buf();
    let listen = format!("unix:{}", root.join("s").display());
    let (_process, _) = spawn(&root, &Options::default(), &listen).unwrap();
    let client = HandClient::unix(root.join("s"));
    assert_eq!(bounded(client.call(&id, &call)).await.unwrap().origin, Origin::Ran);
}

#[tokio::test]
async fn a_result_the_disk_does_not_take_is_kept_in_memory() {
    // Room for records of calls that begin, not for their results.
    let prelude = "trap '' XFSZ; ulimit -f 4".to_owned();
    let mut hand = Hand::with(Options { prelude, ..Options::default() });
    let (id, call) = ("id".into(), bash("seq 2000; mkdir ran"));
    let first = bounded(hand.client.call(&id, &call)).await.unwrap();
    let second = bounded(hand.client.call(&id, &call)).await.unwrap();
    assert_eq!((second.origin, &second.result), (Origin::Journal, &first.result));
    // Nothing of it is left in the way of the next record, which is shorter.
    let client = hand.client.clone();
    let next = tokio::spawn(async move {
        client.call(&"b".into(), &bash("echo $$ >new; mv new shell; sleep 300")).await
    });
    until_running(&hand.client, &"b".into()).await;
    while !hand.path("shell").exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    hand.crash();
    drop(bounded(next).await);
    hand.kill_left("shell");
    hand.restart();
    assert_eq!(hand.client.status(&id).await.unwrap(), Some(CallStatus::Unknown));
    assert!(bounded(hand.client.call(&id, &call)).await.unwrap().result.is_error);
}

#[tokio::test]
async fn a_damaged_result_is_an_error_of_its_call_and_other_damage_of_the_start() {
    let mut hand = Hand::start();
    let call = bash("echo result >>runs; echo result");
    for id in ["one", "two"] {
        bounded(hand.client.call(&id.into(), &call)).await.unwrap();
    }
    hand.crash();
    let journal = hand.outside("state/journal");
    let whole = std::fs::read_to_string(&journal).unwrap();
    let damaged = whole.replacen("\"text\":\"result\"", "\"text\":!result\"", 1);
    std::fs::write(&journal, &damaged).unwrap();
    hand.restart();
    assert_eq!(hand.client.status(&"one".into()).await.unwrap(), Some(CallStatus::Unknown));
    let reply = bounded(hand.client.call(&"one".into(), &call)).await.unwrap();
    assert!(reply.result.is_error && reply.result.text().contains("is damaged"), "{reply:?}");
    let reply = bounded(hand.client.call(&"two".into(), &call)).await.unwrap();
    assert_eq!((reply.origin, reply.result.text().as_str()), (Origin::Journal, "result"));
    hand.stop();
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), damaged);
    for content in ["not a journal", &whole.replacen("finished", "finish", 1), &whole.replacen('\n', "", 1)] {
        std::fs::write(&journal, content).unwrap();
        let root = hand.workdir.parent().unwrap().to_path_buf();
        let listen = format!("unix:{}", root.join("s").display());
        let said = spawn(&root, &Options::default(), &listen).map(|_| ()).unwrap_err();
        assert!(said.contains("is damaged or not a journal") && said.contains("state/journal"), "{said}");
        assert_eq!(std::fs::read_to_string(&journal).unwrap(), content);
    }
    assert_eq!(hand.read("runs"), "result\n".repeat(2));
}

#[tokio::test]
async fn a_second_hand_on_the_same_directories_is_refused() {
    let hand = Hand::start();
    let root = hand.workdir.parent().unwrap().to_path_buf();
    let try_start = |socket: &str| {
        let listen = format!("unix:{}", root.join(socket).display());
        spawn(&root, &Options::default(), &listen).map(|_| ()).unwrap_err()
    };
    let said = try_start("other");
    assert!(said.contains("is in use by another hand"), "{said}");
    assert_eq!(hand.output("echo still here").await, "still here");
}
