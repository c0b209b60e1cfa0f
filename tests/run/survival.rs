//! What survives: a sleep, a break, a kill.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use remuda::emulator::{CallRequest, Operation, SessionHandle, StopReason};
use remuda_actors::ids::CallId;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bench::{Bench, PATIENCE, Running, until};

fn bash(command: &str) -> CallRequest {
    CallRequest::tool("bash", json!({ "command": command }))
}

/// What a command prints, in a turn of its own.
async fn output(session: &SessionHandle, command: &str) -> String {
    let calls = session.call(vec![bash(command)]).unwrap();
    session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered").result.text()
}

/// How many answers a call has in the session's log.
fn answers(session: &SessionHandle, call: &CallId) -> usize {
    let events = session.events();
    let answers = events.iter().filter(|event| event.kind() == "user.tool_result");
    let of = |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap()["tool_use_id"] == call.as_str();
    answers.filter(|event| of(event.json())).count()
}

/// The file of the only sandbox's workspace, as the host sees it.
fn in_workspace(running: &Running, name: &str) -> Option<PathBuf> {
    let [folder] = &running.sandboxes()[..] else { return None };
    Some(folder.join("files/workspace").join(name))
}

fn exists(running: &Running, name: &str) -> bool {
    in_workspace(running, name).is_some_and(|path| path.exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_froze_between_two_calls_has_its_shell_and_its_jobs() {
    let bench = Bench::new().await;
    let arguments = ["--standby-after", "0s", "--background", "freeze", "--log-format", "json"];
    let mut command = bench.command(&arguments);
    command.env("RUST_LOG", "remuda_actors=debug");
    let running = bench.start(command);
    let session = bench.session();
    let job = "(while :; do sleep 0.02; echo tick >>ticks; done) & echo $! >job; kept=yes; until [ -e ticks ]; do sleep 0.01; done; echo set";
    assert_eq!(output(&session, job).await, "set");
    let ticks = || {
        let path = in_workspace(&running, "ticks")?;
        Some(std::fs::read(path).ok()?.len())
    };
    // Frozen: nothing more is written.
    let mut last = (0, std::time::Instant::now());
    until("the job stands still", || {
        let now = ticks().unwrap_or_default();
        if now != last.0 {
            last = (now, std::time::Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    })
    .await;
    let before = ticks();
    let found = output(&session, "echo $kept; kill -0 $(cat job) && echo alive").await;
    assert_eq!(found, "yes\nalive");
    assert_eq!(
        output(&session, "while [ $(wc -c <ticks) -le ${n:=$(wc -c <ticks)} ]; do sleep 0.01; done; echo on")
            .await,
        "on"
    );
    assert!(ticks() > before, "the same job goes on");
    session.rest(StopReason::EndTurn).unwrap();
    let log = running.stop().await.stderr;
    for to in ["freezing", "standby", "thawing"] {
        assert!(log.contains(&format!("\"to\":\"{to}\"")), "no {to}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_comes_back_finds_its_files_processes_and_shell() {
    let bench = Bench::new().await;
    let running = bench.start(bench.keeping(&["--max-idle", "200ms"]));
    let session = bench.session();
    let left = output(&session, "echo mine >file; sleep 1000 & echo $! >job; kept=yes; echo $$").await;
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    let other = bench.session();
    let seen = output(&other, "ls -A; echo $kept; pgrep sleep || echo none").await;
    assert!(seen.ends_with("none") && !seen.contains("file"), "{seen}");
    other.rest(StopReason::EndTurn).unwrap();
    session.message("more").unwrap();
    let found = output(&session, "cat file; kill -0 $(cat job) && echo alive; echo $kept; echo $$").await;
    assert_eq!(found, format!("mine\nalive\nyes\n{left}"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outlives_the_process_that_gave_it() {
    let bench = Bench::new().await;
    let running = bench.start(bench.keeping(&[]));
    let session = bench.session();
    let work = session.live_work().unwrap();
    let slow = "for n in $(seq 30); do echo line $n >>log; sleep 0.1; done; echo done";
    let calls = session.call(vec![bash(slow)]).unwrap();
    let path = |running: &Running| {
        let folders = running.sandboxes().into_iter();
        folders.map(|folder| folder.join("files/workspace/log")).find(|path| path.exists())
    };
    until("it runs", || path(&running).is_some()).await;
    let path = path(&running).unwrap();
    running.kill().await;
    let written = || std::fs::read_to_string(&path).unwrap().lines().count();
    let at_death = written();
    until("it goes on without us", || written() > at_death + 3).await;
    let running = bench.start(bench.keeping(&[]));
    let resolved = session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered");
    assert_eq!((resolved.result.is_error, resolved.result.text().as_str()), (false, "done"));
    let expected: Vec<_> = (1..=30).map(|n| format!("line {n}")).collect();
    assert_eq!(output(&session, "cat log").await, expected.join("\n"));
    assert_eq!(answers(&session, &calls[0]), 1);
    assert_eq!(session.live_work(), Some(work), "the item was never lost");
    assert_eq!(bench.emulator.log().of(Operation::Ack).len(), 1);
    running.stop().await;
}

/// Fifty processes die at moments of the dice's choosing, and the next ones go on.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_run_twice_whenever_the_process_is_killed() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..10 {
        let five = std::array::from_fn::<_, 5, _>(|_| Duration::from_millis(rng.random_range(0..1_800)));
        let five = five.map(killed_after);
        futures_util::future::join_all(five).await;
    }
}

async fn killed_after(moment: Duration) {
    let bench = Bench::new().await;
    let start = || bench.start(bench.keeping(&["--warm", "1", "--max-idle", "300ms"]));
    let running = start();
    let session = bench.session();
    let slow = "for n in $(seq 10); do echo line $n >>log; sleep 0.08; done; echo done";
    let write = json!({"file_path": "notes", "content": "one\n"});
    let edit = json!({"file_path": "notes", "old_string": "one", "new_string": "two"});
    let calls = session
        .call(vec![
            CallRequest::tool("write", write),
            CallRequest::tool("edit", edit),
            CallRequest::tool("read", json!({"file_path": "notes"})),
            bash(slow),
            CallRequest::tool(
                "edit",
                json!({"file_path": "notes", "old_string": "two", "new_string": "three"}),
            ),
            CallRequest::tool("grep", json!({"pattern": "three", "path": "notes"})),
        ])
        .unwrap();
    tokio::time::sleep(moment).await;
    running.kill().await;
    let running = start();
    for call in &calls {
        let Some(resolved) = session.wait_resolved(call, PATIENCE).await else {
            let said = running.stop().await.stderr;
            panic!("killed after {moment:?}: {call} is not answered\n{said}");
        };
        assert!(!resolved.result.is_error, "killed after {moment:?}: {}", resolved.result.text());
        assert_eq!(answers(&session, call), 1, "killed after {moment:?}");
    }
    let expected: Vec<_> = (1..=10).map(|n| format!("line {n}")).collect();
    let found = output(&session, "cat log; cat notes").await;
    assert_eq!(found, format!("{}\nthree", expected.join("\n")), "killed after {moment:?}");
    let log = bench.emulator.log();
    assert!(log.of(Operation::Stop).is_empty(), "killed after {moment:?}");
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
    running.stop().await;
}

/// The process of a sandbox that is its launcher, as its folder tells.
fn launcher(folder: &Path) -> Pid {
    let lock = std::fs::read_to_string(folder.join("lock")).unwrap();
    Pid::from_raw(lock.split_whitespace().next().unwrap().parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_dies_in_the_middle_of_a_call_is_replaced_with_its_files() {
    for dies in ["launcher", "hand"] {
        let bench = Bench::new().await;
        let running = bench.run(&[]);
        let session = bench.session();
        let calls = session.call(vec![bash("echo kept >file; touch begun; sleep 100")]).unwrap();
        until("it runs", || exists(&running, "begun")).await;
        let launcher = launcher(&running.sandboxes()[0]);
        let pid = if dies == "hand" { child(launcher) } else { launcher };
        kill_process(pid, Signal::KILL).unwrap();
        let resolved = session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered");
        let text = resolved.result.text();
        assert!(resolved.result.is_error && text.contains("Nobody knows how far it came"), "{dies}: {text}");
        assert_eq!(output(&session, "cat file").await, "kept", "{dies}");
        session.rest(StopReason::EndTurn).unwrap();
        assert_eq!(running.stop().await.code, Some(0), "{dies}");
    }
}

/// The only child of a process.
fn child(of: Pid) -> Pid {
    let of = of.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_stop_leaves_its_sessions_to_the_next() {
    let bench = Bench::new().await;
    let running = bench.start(bench.keeping(&["--grace", "300ms"]));
    let (quiet, busy) = (bench.session(), bench.session());
    assert_eq!(output(&quiet, "kept=yes; echo set").await, "set");
    let calls = busy.call(vec![bash("touch begun; sleep 3; echo done")]).unwrap();
    until("it runs", || {
        running.sandboxes().iter().any(|folder| folder.join("files/workspace/begun").exists())
    })
    .await;
    let ended = running.stop().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(bench.emulator.log().of(Operation::Stop).is_empty(), "no item is given up");
    let running = bench.start(bench.keeping(&[]));
    let resolved = busy.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered");
    assert_eq!(resolved.result.text(), "done");
    assert_eq!(output(&quiet, "echo $kept").await, "yes");
    assert_eq!(bench.emulator.log().of(Operation::Ack).len(), 2, "the leases went on");
    running.stop().await;
}
