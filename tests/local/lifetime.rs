//! How sandboxes live on, stand by, end, and leave nothing behind.

use remuda::launch::{Folder, Isolation, Limits, Network, keeper};
use remuda::providers::local::{LocalProvider, Options};
use remuda_actors::ports::{OwnerId, ProviderError, SandboxProvider, SandboxSpec};
use rustix::process::Signal;

use crate::bench::{Bench, Sandbox, kill, marked, request, until};

#[tokio::test]
async fn a_sandbox_outlives_the_provider_that_made_it_and_is_found_by_the_next() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    sandbox.bash("X=kept; cd /tmp; echo file > /workspace/f").await;
    let next = bench.reopened();
    let found = next.find(&sandbox.id).await.expect("find").expect("it lives");
    assert_eq!(found.session, Some("sesn_1".into()));
    let again = Sandbox { hand: next.hand(&sandbox.id), id: sandbox.id.clone() };
    assert_eq!(again.bash("echo $X; pwd; cat /workspace/f").await, "kept\n/tmp\nfile");
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
        assert_eq!(marked(mark), Vec::<u32>::new(), "nothing of it runs when that returns");
        assert!(!bench.folder(&sandbox).exists());
        assert_eq!(groups.iter().filter(|group| group.exists()).count(), 0, "{groups:?}");
        let left: Vec<_> =
            std::fs::read_dir(bench.dir.path().join("sandboxes/.old")).expect("the folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn a_dead_sandbox_gives_its_name_back() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    sandbox.bash("echo old > /workspace/f").await;
    kill(bench.keeper(&sandbox).launcher, Signal::KILL);
    let folder = bench.folder(&sandbox);
    until(|| keeper(Folder(&folder)).expect("a lock").is_none()).await;
    let again = bench.sandbox("sesn_1.1").await;
    assert!(again.bash("cat /workspace/f").await.contains("No such file"), "nothing of the old one is left");
    bench.close().await;
}

#[tokio::test]
async fn what_cannot_start_is_cleared_away_and_says_why() {
    let bench = Bench::with(|options| options.program = "/bin/false".into());
    let spec = bench.spec("sesn_1.1");
    let refused = bench.provider.create(&spec).await.expect_err("it cannot start");
    let source = std::error::Error::source(&refused).expect("a reason").to_string();
    assert_eq!(
        (refused.to_string().as_str(), source.as_str()),
        ("could not start the sandbox", "its launcher died without a word")
    );
    assert_eq!(bench.provider.list(bench.owner()).await.expect("list"), []);
    let choosy = SandboxSpec { image: Some("ubuntu".into()), ..spec.clone() };
    let odd = SandboxSpec { id: ".hidden".into(), ..spec };
    for spec in [choosy, odd] {
        let refused = bench.provider.create(&spec).await.expect_err("there is no such thing");
        assert!(matches!(refused, ProviderError::Refused { .. }), "{refused}");
    }
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
