//! What is said about a sandbox cannot be read, and the others go on.

use remuda_actors::ids::SandboxId;
use remuda_actors::ports::SandboxProvider as _;

use crate::bench::Bench;

/// The ids that are listed.
async fn listed(bench: &Bench) -> Vec<SandboxId> {
    let listed = bench.provider.list(bench.owner()).await.expect("a listing");
    listed.into_iter().map(|sandbox| sandbox.id).collect()
}

#[tokio::test]
async fn what_is_damaged_or_strange_keeps_nothing_from_being_listed_made_and_removed() {
    let bench = Bench::new();
    let one = bench.sandbox("sesn_1.1").await;
    let sandboxes = bench.dir.path().join("sandboxes");
    for (name, text) in [("sesn_2.1", ""), ("sesn%5F3.1", "{\"id\":"), ("sesn_4.1", "[]")] {
        std::fs::create_dir_all(sandboxes.join(name).join("files/workspace")).expect("a folder");
        std::fs::write(sandboxes.join(name).join("sandbox.json"), text).expect("a file");
    }
    std::fs::write(sandboxes.join("a file"), "").expect("a file");
    std::fs::create_dir(sandboxes.join("a folder")).expect("a folder");
    let two = bench.sandbox("sesn_5.1").await;
    // The second is no name that we would give.
    let dead: [SandboxId; 2] = ["sesn_2.1".into(), "sesn_4.1".into()];
    let expected = [one.id.clone(), dead[0].clone(), dead[1].clone(), two.id.clone()];
    assert_eq!(listed(&bench).await, expected, "the dead are listed, so that they are removed");
    assert_eq!(bench.provider.find(&dead[0]).await.expect("find"), None);
    bench.provider.delete(&dead[0]).await.expect("delete");
    let again = bench.sandbox("sesn_4.1").await;
    assert_eq!(again.bash("echo new").await, "new", "and their names are free");
    assert_eq!(listed(&bench).await, [one.id.clone(), again.id.clone(), two.id.clone()]);
    assert!(sandboxes.join("a file").exists() && sandboxes.join("a folder").exists());
    drop(bench.reopened());
    bench.close().await;
}

#[tokio::test]
async fn what_a_later_version_wrote_is_read() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let path = bench.folder(&sandbox).join("sandbox.json");
    let mut spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("a spec")).expect("JSON");
    spec["colour"] = "blue".into();
    spec["limits"]["colours"] = 3.into();
    std::fs::write(path, spec.to_string()).expect("write");
    assert!(bench.provider.find(&sandbox.id).await.expect("find").is_some());
    assert_eq!(listed(&bench).await, [sandbox.id]);
    bench.close().await;
}

#[tokio::test]
async fn one_that_lives_is_not_taken_for_dead() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let path = bench.folder(&sandbox).join("sandbox.json");
    let whole = std::fs::read(&path).expect("a spec");
    std::fs::write(&path, "").expect("write");
    assert_eq!(listed(&bench).await, [], "nobody removes it");
    assert!(bench.provider.find(&sandbox.id).await.is_err(), "unknown is not gone");
    std::fs::write(&path, whole).expect("write");
    assert_eq!(sandbox.bash("echo lives").await, "lives");
    std::fs::write(&path, "").expect("write");
    bench.provider.delete(&sandbox.id).await.expect("who asks for it by its id can remove it");
    assert!(!bench.folder(&sandbox).exists());
    bench.close().await;
}
