//! Processes and memory: orphans, floods of output, and the way down.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fixture::{Hand, Options, PATIENCE, Process, bash, bounded, request};

/// What a hand may take, whatever its commands print.
const MAX_RESIDENT: u64 = 16 << 20;

/// Children of a process that have ended and were not waited for.
fn zombies_of(parent: u32) -> usize {
    let stats = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.unwrap().path().join("stat");
        std::fs::read_to_string(path).ok()
    });
    let wanted = format!(" Z {parent} ");
    stats.filter(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(&wanted))).count()
}

#[tokio::test]
async fn orphans_are_reaped_and_no_status_is_stolen() {
    let hand = Hand::start();
    // Parents that do not wait, children that end at once and in droves.
    let command = "for i in $(seq 300); do (true & true & exec true) & done; wait; (exit 7)";
    for _ in 0..3 {
        assert!(hand.bash(command).await.is_error);
        assert!(hand.bash("exit 5").await.is_error);
        let text = hand.output("echo after").await;
        assert!(text.contains("exited with status 5"), "{text}");
    }
    let start = Instant::now();
    while zombies_of(hand.pid()) > 0 {
        assert!(start.elapsed() < PATIENCE, "zombies are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(hand.client.health().await.unwrap().background, 0);
}

/// As in a sandbox: process 1 of its own, so that everything ends with it.
#[tokio::test]
async fn a_hand_that_is_process_one_reaps_its_sandbox_and_takes_it_along() {
    if !rustix::process::geteuid().is_root() {
        // Making a namespace takes root, or more preparation than a test should have.
        return;
    }
    let prelude = "exec unshare --pid --fork --mount-proc --kill-child \"$@\"".to_owned();
    let mut hand = Hand::with(Options { prelude, ..Options::default() });
    assert_eq!(hand.output("echo $PPID").await, "1");
    hand.output("for i in $(seq 50); do (setsid sleep 0.01 &) ; done").await;
    hand.eventually("! cat /proc/[0-9]*/stat 2>/dev/null | grep -qE 'sleep|\\) Z '").await;
    hand.output("setsid sleep 3456 >/dev/null 2>&1 & touch begun").await;
    let sleeping = || {
        let commands = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read(entry.unwrap().path().join("cmdline")).ok());
        commands.filter(|command| command == b"sleep\x003456\0").count()
    };
    assert_eq!((hand.client.health().await.unwrap().background, sleeping()), (1, 1));
    hand.crash();
    let start = Instant::now();
    while sleeping() > 0 {
        assert!(start.elapsed() < PATIENCE, "something outlives the sandbox");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_gigabyte_of_output_takes_no_memory() {
    let hand = Hand::start();
    let flood = "head -c 1G /dev/zero | tr '\\0' x";
    let client = hand.client.clone();
    let flooded = tokio::spawn(async move { client.call(&"flood".into(), &bash(flood)).await });
    let mut peak = 0;
    while !flooded.is_finished() {
        peak = peak.max(hand.client.health().await.unwrap().rss_bytes);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let text = bounded(flooded).await.unwrap().unwrap().result.text();
    assert!(text.starts_with("[output truncated]\nxxx"));
    assert_eq!(text.len(), 19 + 102_400 - 52);
    peak = peak.max(hand.client.health().await.unwrap().rss_bytes);
    assert!(peak < MAX_RESIDENT, "{peak} bytes");
    // An endless line, cut off by the clock, with everything else still being served.
    let endless = json!({"command": "tr '\\0' y </dev/zero", "timeout_ms": 400});
    let client = hand.client.clone();
    let flooded = tokio::spawn(async move { client.call(&"line".into(), &request("bash", endless)).await });
    while !flooded.is_finished() {
        peak = peak.max(hand.client.health().await.unwrap().rss_bytes);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let result = bounded(flooded).await.unwrap().unwrap().result;
    assert!(result.is_error && result.text().contains("yyy\nbash: bash command timed out"));
    assert!(peak < MAX_RESIDENT, "{peak} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn going_down_kills_what_is_left_and_answers_who_waits() {
    let mut hand = Hand::start();
    hand.output("setsid sleep 2345 >/dev/null 2>&1 & disown; echo $! >daemon").await;
    let client = hand.client.clone();
    let waiting =
        tokio::spawn(async move { client.call(&"long".into(), &bash("echo a >begun; sleep 2346")).await });
    while !hand.path("begun").exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let stopped = tokio::task::block_in_place(|| hand.stop());
    assert!(stopped.success());
    let result = bounded(waiting).await.unwrap().unwrap().result;
    assert!(result.is_error && result.text().starts_with("bash: the call was cancelled"), "{result:?}");
    assert!(!hand.outside("s").exists());
    let daemon = hand.read("daemon");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    // What it answered on the way down is in the journal.
    hand.restart();
    let again = bounded(hand.client.call(&"long".into(), &bash("echo a >begun; sleep 2346"))).await.unwrap();
    assert_eq!(again.result, result);
}

#[tokio::test]
async fn what_the_hand_was_left_open_stays_with_it() {
    let hand = Hand::with(Options { prelude: "exec 9</".to_owned(), ..Options::default() });
    assert!(std::fs::symlink_metadata(format!("/proc/{}/fd/9", hand.pid())).is_ok(), "it was left open");
    // The last one is the listing itself.
    assert_eq!(hand.output("ls /proc/self/fd").await, "0\n1\n2\n3");
}

#[tokio::test]
async fn a_tool_of_the_same_user_cannot_read_the_hands_memory() {
    let hand = Hand::start();
    let pid = hand.pid();
    let own = std::fs::metadata(format!("/proc/{pid}/mem")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&own), 0, "the kernel gives it to root alone");
    // Root may read anything; somebody else of the same id may not. That takes an id of no power.
    if !rustix::process::geteuid().is_root() {
        let read = hand.bash("head -c1 /proc/$PPID/environ").await;
        assert!(read.is_error, "{read:?}");
    }
}

/// The hand as a user without power, in a place of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_without_root_works_and_meets_permissions() {
    if !rustix::process::geteuid().is_root() {
        // The other tests are this one then.
        return;
    }
    const NOBODY: u32 = 65_534;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let binary = root.join("remuda-hand");
    std::fs::copy(env!("CARGO_BIN_EXE_remuda-hand"), &binary).unwrap();
    for name in ["w", "w/closed"] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    std::fs::write(root.join("w/closed/x"), "1").unwrap();
    std::fs::write(root.join("w/mine"), "1").unwrap();
    std::fs::write(root.join("w/roots"), "1").unwrap();
    for name in ["", "w", "w/closed/x", "w/mine"] {
        std::os::unix::fs::chown(root.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let set_mode = |name: &str, mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(root.join(name), mode).unwrap();
    };
    set_mode("w/closed", 0o700);
    set_mode("w/roots", 0o644);
    set_mode("w/mine", 0o600);
    let process = std::process::Command::new(&binary)
        .args(["serve", "--listen", &format!("unix:{}", root.join("s").display())])
        .arg("--workdir")
        .arg(root.join("w"))
        .arg("--state-dir")
        .arg(root.join("state"))
        .uid(NOBODY)
        .gid(NOBODY)
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut process = Process(process.unwrap());
    process.0.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    let client = remuda::hand::client::HandClient::unix(root.join("s"));
    let tool = async |id: &str, tool: &str, input| {
        bounded(client.call(&id.into(), &request(tool, input))).await.unwrap().result
    };
    let mut answers = Vec::new();
    for (number, (name, input)) in [
        ("read", json!({"file_path": "closed/x"})),
        ("write", json!({"file_path": "closed/y", "content": "2"})),
        ("write", json!({"file_path": "roots", "content": "2"})),
        ("write", json!({"file_path": "mine", "content": "2"})),
        ("bash", json!({"command": "stat -c '%a %u' mine; head -c1 /proc/$PPID/environ"})),
        ("grep", json!({"pattern": "[12]"})),
        ("glob", json!({"pattern": "**/x"})),
    ]
    .into_iter()
    .enumerate()
    {
        answers.push(tool(&number.to_string(), name, input).await);
    }
    let health = client.health().await;
    drop(process);
    let texts: Vec<String> = answers.iter().map(|answer| answer.text()).collect();
    assert_eq!(texts[0], "read: closed/x: permission denied");
    assert_eq!(texts[1], "write: closed/y: permission denied");
    assert_eq!(texts[2], "write: roots: permission denied");
    assert_eq!(texts[3], "wrote 1 bytes to mine");
    assert!(texts[4].starts_with("600 65534\n") && texts[4].contains("Permission denied"), "{}", texts[4]);
    let w = root.join("w");
    assert_eq!(texts[5], format!("{0}/mine:1:2\n{0}/roots:1:1", w.display()));
    assert_eq!(texts[6], "no matches");
    assert!(health.unwrap().rss_bytes > 0);
}
