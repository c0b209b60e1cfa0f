//! What is known of a sandbox that died by itself, and what can be saved.

use std::time::Duration;

use remuda::launch::Isolation;
use remuda::providers::local::Cgroups;
use remuda_actors::ports::{HandError, SandboxProvider};
use rustix::process::Signal;
use serde_json::json;

use crate::bench::{Bench, Sandbox, children, kill, marked, request, until};

/// Longest time until a death is noticed.
const SOON: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Hand,
    Launcher,
    Everything,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Running,
    StandingBy,
    /// Killed while it stands by, and dead when it goes on: the older freezer keeps even the killed from dying.
    GoingOn,
}

impl Victim {
    fn kill(self, bench: &Bench, sandbox: &Sandbox) {
        let keeper = bench.keeper(sandbox);
        let first = keeper.first.expect("it was started");
        match self {
            Self::Hand => kill(first, Signal::KILL),
            Self::Launcher => kill(keeper.launcher, Signal::KILL),
            Self::Everything => {
                let mut next = vec![keeper.launcher];
                while let Some(pid) = next.pop() {
                    next.extend(children(pid));
                    kill(pid, Signal::KILL);
                }
            }
        }
    }
}

/// It is not found, but listed; who waits for it learns that soon; its files can be had.
async fn dies(bench: &Bench, victim: Victim, when: When) {
    let sandbox = bench.sandbox("sesn_1.1").await;
    sandbox.bash("echo saved > f").await;
    let call = request("bash", json!({"command": "sleep 60"}));
    let waiting = sandbox.hand.call(&call);
    let killing = async {
        while !sandbox.hand.health().await.expect("health").running.contains(&call.call) {}
        if when != When::Running {
            bench.provider.standby(&sandbox.id).await.expect("standby");
        }
        victim.kill(bench, &sandbox);
        if when == When::GoingOn {
            let _ = bench.provider.resume(&sandbox.id).await;
        }
    };
    let (answer, ()) = tokio::join!(tokio::time::timeout(SOON * 5, waiting), async {
        killing.await;
        let gone = async {
            while bench.provider.find(&sandbox.id).await.expect("find").is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SOON, gone).await.expect("the dead are not found");
    });
    let answer = answer.expect("who waits is told");
    assert!(matches!(answer, Err(HandError::Broken(_) | HandError::Unreachable(_))), "{answer:?}");
    let later = tokio::time::timeout(SOON, sandbox.hand.health()).await.expect("who asks is told");
    assert!(matches!(later, Err(HandError::Unreachable(_))), "{later:?}");
    let listed = bench.provider.list(bench.owner()).await.expect("list");
    assert_eq!(listed.iter().map(|sandbox| sandbox.id.as_str()).collect::<Vec<_>>(), ["sesn_1.1"]);
    assert!(
        bench.provider.resume(&sandbox.id).await.is_err() && bench.provider.usage(&sandbox.id).await.is_err()
    );

    let heir = bench.heir("sesn_1.2", "sesn_1.1").await;
    assert_eq!(heir.bash("cat f").await, "saved");
    bench.provider.delete(&heir.id).await.expect("delete");
    assert_eq!(bench.provider.list(bench.owner()).await.expect("list"), []);
}

#[tokio::test]
async fn a_death_is_noticed_soon_and_costs_no_files() {
    for cgroups in [Cgroups::Unified, Cgroups::Older, Cgroups::None] {
        let bench = Bench::on(cgroups, |_| {});
        for victim in [Victim::Hand, Victim::Launcher, Victim::Everything] {
            dies(&bench, victim, When::Running).await;
        }
    }
}

#[tokio::test]
async fn so_is_one_while_it_stands_by() {
    for cgroups in [Cgroups::Unified, Cgroups::Older, Cgroups::None] {
        let bench = Bench::on(cgroups, |_| {});
        let when = if cgroups == Cgroups::Older { When::GoingOn } else { When::StandingBy };
        for victim in [Victim::Hand, Victim::Launcher, Victim::Everything] {
            dies(&bench, victim, when).await;
        }
    }
}

#[tokio::test]
async fn without_isolation_a_death_is_noticed_just_the_same() {
    let bench = Bench::with(|options| options.isolation = Isolation::None);
    for victim in [Victim::Hand, Victim::Launcher, Victim::Everything] {
        dies(&bench, victim, When::Running).await;
    }
}

/// What is left of it belongs to nobody any more, and only a cgroup says whose it was.
#[tokio::test]
async fn without_isolation_a_cgroup_says_what_a_dead_launcher_left() {
    let bench = Bench::with(|options| options.isolation = Isolation::None);
    let sandbox = bench.sandbox("sesn_1.1").await;
    let mark = "31536021";
    sandbox.bash(&format!("(setsid sleep {mark} >/dev/null 2>&1 &) ; echo")).await;
    until(|| marked(mark).len() == 1).await;
    let spec = std::fs::read_to_string(bench.folder(&sandbox).join("sandbox.json")).expect("a spec");
    let spec: serde_json::Value = serde_json::from_str(&spec).expect("JSON");
    Victim::Launcher.kill(&bench, &sandbox);
    bench.provider.delete(&sandbox.id).await.expect("delete");
    let left = marked(mark);
    left.iter().for_each(|pid| kill(*pid, Signal::KILL));
    assert!(left.is_empty() || spec["cgroups"] == json!([]), "{left:?}");
}

#[tokio::test]
async fn when_the_launcher_dies_everything_in_the_sandbox_does() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let mark = "31536001";
    sandbox.bash(&format!("setsid sleep {mark} >/dev/null 2>&1 & sleep {mark} >/dev/null 2>&1 & echo")).await;
    until(|| marked(mark).len() == 2).await;
    kill(bench.keeper(&sandbox).launcher, Signal::KILL);
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
    let keeper = bench.keeper(&sandbox);
    kill(keeper.first.expect("it was started"), Signal::KILL);
    until(|| !std::path::Path::new(&format!("/proc/{}", keeper.launcher)).exists()).await;
    let exit = std::fs::read_to_string(bench.folder(&sandbox).join("exit")).expect("a note");
    assert_eq!(exit, "signal 9\n");
    bench.close().await;
}
