//! How sandboxes live on, stand by, end, and leave nothing behind.

use std::time::Duration;

use remuda::launch::{Isolation, Limits, Network};
use remuda::providers::local::{LocalProvider, Options};
use remuda_actors::ports::{OwnerId, ProviderError, SandboxProvider, SandboxSpec};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::bench::{Bench, Sandbox, request};

fn launcher(bench: &Bench, sandbox: &Sandbox) -> Pid {
    let pid = std::fs::read_to_string(bench.folder(sandbox).join("lock")).expect("a lock");
    Pid::from_raw(pid.parse().expect("a process id")).expect("a process id")
}

/// The host's ids of everything in a sandbox whose command line holds `mark`.
fn marked(mark: &str) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let marked = pids.filter(|pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(mark))
    });
    marked.filter_map(Pid::from_raw).collect()
}

async fn until(mut is: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to that");
}

#[tokio::test]
async fn a_sandbox_outlives_the_provider_that_made_it_and_is_found_by_the_next() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    sandbox.bash("X=kept; cd /tmp; echo file > /workspace/f").await;
    let next = bench.reopened();
    let found = next.find(&sandbox.id).await.expect("find").expect("it lives");
    assert_eq!(found.session.as_str(), "sesn_1");
    let again = Sandbox { hand: next.hand(&sandbox.id), id: sandbox.id.clone() };
    assert_eq!(again.bash("echo $X; pwd; cat /workspace/f").await, "kept\n/tmp\nfile");
    bench.close().await;
}

#[tokio::test]
async fn when_the_launcher_dies_everything_in_the_sandbox_does() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let mark = "31536001";
    sandbox.bash(&format!("setsid sleep {mark} >/dev/null 2>&1 & sleep {mark} >/dev/null 2>&1 & echo")).await;
    until(|| marked(mark).len() == 2).await;
    kill_process(launcher(&bench, &sandbox), Signal::KILL).expect("kill");
    until(|| marked(mark).is_empty()).await;
    assert!(bench.provider.find(&sandbox.id).await.expect("find").is_none(), "the dead are not found");
    let listed = bench.provider.list(bench.owner()).await.expect("list");
    assert_eq!(listed.len(), 1, "but listed until they are deleted");
    bench.close().await;
}

#[tokio::test]
async fn when_its_first_process_dies_the_launcher_notes_how() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let launcher = launcher(&bench, &sandbox);
    let children =
        std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).expect("children");
    let first = Pid::from_raw(children.trim().parse().expect("one child")).expect("a process id");
    kill_process(first, Signal::KILL).expect("kill");
    until(|| test_kill_process(launcher).is_err()).await;
    let exit = std::fs::read_to_string(bench.folder(&sandbox).join("exit")).expect("a note");
    assert_eq!(exit, "signal 9\n");
    bench.close().await;
}

#[tokio::test]
async fn deleting_kills_everything_and_leaves_nothing() {
    for isolation in [Isolation::Namespaces, Isolation::None] {
        let bench = Bench::with(|options| options.isolation = isolation);
        let sandbox = bench.sandbox("sesn_1.1").await;
        let mark = if isolation == Isolation::None { "31536003" } else { "31536002" };
        sandbox.bash(&format!("(setsid nohup sleep {mark} >/dev/null 2>&1 &) ; mkdir -p d/e; echo x > d/e/f; chmod 0 d/e d; echo")).await;
        until(|| marked(mark).len() == 1).await;
        let groups: Vec<std::path::PathBuf> = {
            let spec = std::fs::read(bench.folder(&sandbox).join("sandbox.json")).expect("a spec");
            let spec: serde_json::Value = serde_json::from_slice(&spec).expect("JSON");
            serde_json::from_value(spec["cgroups"].clone()).expect("paths")
        };
        bench.provider.delete(&sandbox.id).await.expect("delete");
        assert_eq!(marked(mark), [], "nothing of it runs when that returns");
        assert!(!bench.folder(&sandbox).exists());
        assert_eq!(groups.iter().filter(|group| group.exists()).count(), 0, "{groups:?}");
        let left: Vec<_> =
            std::fs::read_dir(bench.dir.path().join("sandboxes/.old")).expect("the folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn a_frozen_sandbox_keeps_its_memory_and_gets_no_time() {
    for with_cgroups in [true, false] {
        let bench = Bench::new();
        let sandbox = bench.sandbox("sesn_1.1").await;
        let path = bench.folder(&sandbox).join("sandbox.json");
        let written = std::fs::read(&path).expect("a spec");
        if !with_cgroups {
            // As on a host that lets us make none: freezing is then done by signals.
            let mut spec: serde_json::Value = serde_json::from_slice(&written).expect("JSON");
            spec["cgroups"] = serde_json::json!([]);
            std::fs::write(&path, spec.to_string()).expect("write");
        }
        sandbox.bash("X=kept; (while :; do echo >> /workspace/ticks; sleep 0.02; done) & echo").await;
        let ticks = bench.folder(&sandbox).join("workspace/ticks");
        let count = || std::fs::metadata(&ticks).map_or(0, |ticks| ticks.len());
        until(|| count() > 3).await;
        bench.provider.standby(&sandbox.id).await.expect("standby");
        let then = count();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(count(), then, "it went on while frozen, with cgroups: {with_cgroups}");
        bench.provider.resume(&sandbox.id).await.expect("resume");
        until(|| count() > then).await;
        assert_eq!(sandbox.bash("echo $X").await, "kept");
        bench.provider.standby(&sandbox.id).await.expect("standby");
        std::fs::write(&path, written).expect("write");
        bench.provider.delete(&sandbox.id).await.expect("a frozen sandbox can be deleted");
    }
}

#[tokio::test]
async fn a_dead_sandbox_gives_its_name_back() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    sandbox.bash("echo old > /workspace/f").await;
    let launcher = launcher(&bench, &sandbox);
    kill_process(launcher, Signal::KILL).expect("kill");
    until(|| test_kill_process(launcher).is_err()).await;
    let again = bench.sandbox("sesn_1.1").await;
    assert!(again.bash("cat /workspace/f").await.contains("No such file"), "nothing of the old one is left");
    bench.close().await;
}

#[tokio::test]
async fn what_cannot_start_is_cleared_away_and_says_why() {
    let bench = Bench::with(|options| options.program = "/bin/false".into());
    let spec = SandboxSpec { id: "sesn_1.1".into(), owner: bench.owner().clone(), session: "sesn_1".into() };
    let refused = bench.provider.create(&spec).await.expect_err("it cannot start");
    let source = std::error::Error::source(&refused).expect("a reason").to_string();
    assert_eq!(
        (refused.to_string().as_str(), source.as_str()),
        ("could not start the sandbox", "its launcher died without a word")
    );
    assert_eq!(bench.provider.list(bench.owner()).await.expect("list"), []);
    let odd = SandboxSpec { id: ".hidden".into(), ..spec };
    let refused = bench.provider.create(&odd).await.expect_err("it has no such name");
    assert!(matches!(refused, ProviderError::Refused { .. }), "{refused}");
}

#[test]
fn a_folder_that_sandboxes_cannot_get_to_is_refused_at_the_start() {
    if !rustix::process::geteuid().is_root() {
        // They then run as we do, and we get everywhere they have to.
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(dir.path(), closed).expect("it is ours");
    let refused = LocalProvider::new(Options {
        dir: dir.path().join("sandboxes"),
        program: "/bin/false".into(),
        arguments: Vec::new(),
        owner: OwnerId::new("test"),
        isolation: Isolation::None,
        network: Network::None,
        limits: Limits::default(),
    });
    let said = refused.expect_err("nobody gets through").to_string();
    assert!(said.contains(&dir.path().display().to_string()) && said.contains("chmod o+x"), "{said}");
}

#[tokio::test]
async fn a_listing_that_cannot_be_read_whole_is_an_error() {
    let bench = Bench::new();
    let broken = bench.dir.path().join("sandboxes/broken");
    std::fs::create_dir(&broken).expect("a folder");
    std::fs::write(broken.join("sandbox.json"), "{").expect("a file");
    let listed = bench.provider.list(bench.owner()).await;
    assert!(listed.is_err(), "unknown is not empty: {listed:?}");
}

#[tokio::test]
async fn twenty_sandboxes_at_once_are_twenty() {
    let bench = std::sync::Arc::new(Bench::new());
    let making = (0..20).map(|n| {
        let bench = std::sync::Arc::clone(&bench);
        tokio::spawn(async move {
            let sandbox = bench.sandbox(&format!("sesn_{n}.1")).await;
            let said = sandbox
                .hand
                .call(&request("bash", serde_json::json!({"command": format!("echo {n}")})))
                .await;
            assert_eq!(said.expect("an answer").result.text(), n.to_string());
        })
    });
    for made in making.collect::<Vec<_>>() {
        made.await.expect("a sandbox");
    }
    assert_eq!(bench.provider.list(bench.owner()).await.expect("list").len(), 20);
    std::sync::Arc::into_inner(bench).expect("the only one").close().await;
}
