//! Standing by and going on, in each of the ways there are.

use std::fs;
use std::time::Duration;

use remuda::providers::local::Cgroups;
use remuda_actors::ports::SandboxProvider;
use serde_json::json;

use crate::bench::{Bench, Sandbox, marked, request, until};

/// The ways a sandbox is frozen: by the unified hierarchy, by the older freezer, by signals. What the host does
/// not allow falls back to the last.
const WAYS: [Cgroups; 3] = [Cgroups::Unified, Cgroups::Older, Cgroups::None];

/// A host that lets us make groups must freeze by them, or the tests below would all test signals.
#[tokio::test]
async fn each_way_is_taken_where_the_host_allows_it() {
    for way in WAYS {
        let bench = Bench::on(way, |_| {});
        let sandbox = bench.sandbox("sesn_1.1").await;
        let spec = fs::read(bench.folder(&sandbox).join("sandbox.json")).expect("a spec");
        let spec: serde_json::Value = serde_json::from_slice(&spec).expect("JSON");
        let groups: Vec<std::path::PathBuf> = serde_json::from_value(spec["cgroups"].clone()).expect("paths");
        let has = |file: &str| groups.iter().any(|group| group.join(file).exists());
        bench.provider.standby(&sandbox.id).await.expect("standby");
        let note = bench.folder(&sandbox).join("stopped").exists();
        match way {
            Cgroups::Unified => assert_eq!((has("freezer.state"), note), (false, groups.is_empty())),
            Cgroups::Older => assert_eq!((has("cgroup.freeze"), note), (false, !has("freezer.state"))),
            _ => assert_eq!((groups.len(), note), (0, true)),
        }
        bench.close().await;
    }
}

#[tokio::test]
async fn everything_survives() {
    for way in WAYS {
        let bench = Bench::on(way, |_| {});
        let sandbox = bench.sandbox("sesn_1.1").await;
        sandbox.bash("X=kept; cd /tmp; echo one > f; exec 3<>f; cat <&3; echo mem > /dev/shm/m").await;
        sandbox.bash("(while :; do echo >> ticks; sleep 0.01; done) & JOB=$!; echo").await;
        for _ in 0..5 {
            bench.provider.standby(&sandbox.id).await.expect("standby");
            bench.provider.resume(&sandbox.id).await.expect("resume");
        }
        let said =
            sandbox.bash("echo two >&3; echo $X; pwd; cat f /dev/shm/m; kill -0 $JOB && echo runs").await;
        assert_eq!(said, "kept\n/tmp\none\ntwo\nmem\nruns", "{way:?}");
        let before = sandbox.bash("wc -l < ticks").await;
        sandbox.says(&format!("[ $(wc -l < ticks) -gt {before} ] && echo more"), "more").await;
        bench.close().await;
    }
}

#[tokio::test]
async fn no_time_is_used_however_much_is_going_on() {
    for way in WAYS {
        let bench = Bench::on(way, |_| {});
        let sandbox = bench.sandbox("sesn_1.1").await;
        // One that only runs, one that forks all the time, and one that left its session and its parent.
        let busy = "(while :; do :; done) & (while :; do /bin/true; done) & \
                    (setsid sh -c 'while :; do /bin/true; done' &) ; echo";
        sandbox.bash(busy).await;
        let cpu = async || bench.provider.usage(&sandbox.id).await.expect("usage").cpu;
        for _ in 0..3 {
            let running = cpu().await;
            for _ in 0..1_000 {
                if cpu().await > running + Duration::from_millis(50) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(cpu().await > running, "{way:?}");
            let standby = bench.provider.standby(&sandbox.id).await;
            standby.unwrap_or_else(|error| panic!("{way:?}: {error:?}"));
            let frozen = cpu().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            // What was about to end when the rest stopped takes the moment that needs.
            let used = cpu().await.saturating_sub(frozen);
            assert!(used < Duration::from_millis(20), "{way:?}: {used:?}");
            bench.provider.resume(&sandbox.id).await.expect("resume");
        }
        bench.close().await;
    }
}

#[tokio::test]
async fn a_call_that_comes_while_it_freezes_is_answered_after_the_thaw() {
    for way in WAYS {
        let bench = Bench::on(way, |_| {});
        let sandbox = bench.sandbox("sesn_1.1").await;
        sandbox.bash("true").await;
        for n in 0..20 {
            let call = request("bash", json!({"command": format!("echo {n}")}));
            let (frozen, answer) = tokio::join!(
                async {
                    // Each time at another moment of the call.
                    tokio::time::sleep(Duration::from_micros(100 * n)).await;
                    bench.provider.standby(&sandbox.id).await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    bench.provider.resume(&sandbox.id).await
                },
                sandbox.hand.call(&call)
            );
            frozen.expect("standby and resume");
            assert_eq!(answer.expect("an answer").result.text(), n.to_string(), "{way:?}");
        }
        bench.close().await;
    }
}

#[tokio::test]
async fn what_stands_by_is_found_listed_adopted_and_deleted() {
    for (way, mark) in WAYS.into_iter().zip(["31536011", "31536012", "31536013"]) {
        let bench = Bench::on(way, |_| {});
        let sandbox = bench.sandbox("sesn_1.1").await;
        sandbox.bash(&format!("X=kept; (setsid sleep {mark} >/dev/null 2>&1 &); echo")).await;
        bench.provider.standby(&sandbox.id).await.expect("standby");

        let next = bench.reopened();
        assert!(next.find(&sandbox.id).await.expect("find").is_some(), "{way:?}");
        assert_eq!(next.list(bench.owner()).await.expect("list").len(), 1);
        let usage = next.usage(&sandbox.id).await.expect("usage");
        assert!(usage.memory_bytes > 0, "{usage:?}");
        next.resume(&sandbox.id).await.expect("resume");
        let adopted = Sandbox { hand: next.hand(&sandbox.id), id: sandbox.id.clone() };
        assert_eq!(adopted.bash("echo $X").await, "kept");

        until(|| marked(mark).len() == 1).await;
        next.standby(&sandbox.id).await.expect("standby");
        next.delete(&sandbox.id).await.expect("delete");
        assert_eq!(marked(mark), Vec::<u32>::new(), "{way:?}");
        assert!(next.standby(&sandbox.id).await.is_err() && next.resume(&sandbox.id).await.is_err());
    }
}

#[tokio::test]
async fn what_the_agent_stopped_stays_stopped() {
    for way in WAYS {
        let bench = Bench::on(way, |_| {});
        let sandbox = bench.sandbox("sesn_1.1").await;
        sandbox.bash("sleep 1000 & JOB=$!; kill -STOP $JOB; echo").await;
        let state = "ps -o stat= -p $JOB | cut -c1";
        sandbox.says(state, "T").await;
        for _ in 0..2 {
            bench.provider.standby(&sandbox.id).await.expect("standby");
            bench.provider.standby(&sandbox.id).await.expect("standby");
            bench.provider.resume(&sandbox.id).await.expect("resume");
            bench.provider.resume(&sandbox.id).await.expect("resume");
        }
        assert_eq!(sandbox.bash(state).await, "T", "{way:?}");
        sandbox.bash("kill -CONT $JOB").await;
        bench.provider.standby(&sandbox.id).await.expect("standby");
        bench.provider.resume(&sandbox.id).await.expect("resume");
        sandbox.says(state, "S").await;
        bench.close().await;
    }
}

#[tokio::test]
async fn a_standby_that_nobody_waits_for_can_be_undone() {
    for way in WAYS {
        let bench = Bench::on(way, |_| {});
        let sandbox = bench.sandbox("sesn_1.1").await;
        sandbox.bash("(while :; do /bin/true; done) & echo").await;
        for n in 0..20 {
            let limit = Duration::from_micros(50 * n);
            let _ = tokio::time::timeout(limit, bench.provider.standby(&sandbox.id)).await;
            bench.provider.resume(&sandbox.id).await.expect("resume");
            assert_eq!(sandbox.bash("echo awake").await, "awake", "{way:?}");
        }
        bench.close().await;
    }
}
