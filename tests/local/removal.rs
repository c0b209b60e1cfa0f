//! That a sandbox's files go away, whatever an agent made of them.

use std::path::Path;

use remuda::launch::Spec;
use remuda_actors::ports::SandboxProvider as _;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::bench::{Bench, Sandbox, until};

/// Nests so many folders in the workspace.
async fn nest(sandbox: &Sandbox, levels: u32) {
    let script = format!(
        "import os\nfor _ in range({levels}):\n os.mkdir('d')\n os.chdir('d')\nos.chmod('.', 0)\nprint('nested')"
    );
    assert_eq!(sandbox.bash(&format!("python3 -c \"{script}\"")).await, "nested");
}

fn count(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("a folder").count()
}

#[tokio::test]
async fn folders_nested_deeper_than_a_stack_are_deleted() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    nest(&sandbox, 15_000).await;
    bench.provider.delete(&sandbox.id).await.expect("delete");
    assert!(!bench.folder(&sandbox).exists());
    assert_eq!(count(&bench.dir.path().join("sandboxes/.old")), 0);
}

#[tokio::test]
async fn what_a_dead_process_left_half_removed_is_removed_at_the_next_start() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    nest(&sandbox, 3_000).await;
    let sandboxes = bench.dir.path().join("sandboxes");
    for place in [".old", ".new"] {
        std::fs::create_dir_all(sandboxes.join(place).join("left/root")).expect("folders");
    }
    std::fs::rename(bench.folder(&sandbox).join("files/workspace"), sandboxes.join(".old/left/workspace"))
        .expect("a move");
    bench.reopened();
    until(|| count(&sandboxes.join(".old")) + count(&sandboxes.join(".new")) == 0).await;
    bench.close().await;
}

#[tokio::test]
async fn what_cannot_be_removed_does_not_keep_a_provider_from_starting() {
    let bench = Bench::new();
    let left = bench.dir.path().join("sandboxes/.old/left");
    std::fs::create_dir(&left).expect("a folder");
    std::fs::write(left.join("gone"), "x").expect("a file");
    let kept = std::fs::File::create(left.join("kept")).expect("a file");
    let plain = ioctl_getflags(&kept).unwrap_or(IFlags::empty());
    if ioctl_setflags(&kept, plain | IFlags::IMMUTABLE).is_err() {
        // Only an administrator can make such a file, and not in every file system.
        return;
    }
    bench.reopened();
    until(|| !left.join("gone").exists()).await;
    assert!(left.join("kept").exists(), "it is still there");
    ioctl_setflags(&kept, plain).expect("to take it back");
    bench.reopened();
    until(|| count(&bench.dir.path().join("sandboxes/.old")) == 0).await;
    bench.close().await;
}

#[tokio::test]
async fn groups_of_sandboxes_that_were_never_finished_are_removed_at_the_next_start() {
    let bench = Bench::new();
    let sandbox = bench.sandbox("sesn_1.1").await;
    let spec = std::fs::read(bench.folder(&sandbox).join("sandbox.json")).expect("what it is");
    let spec: Spec = serde_json::from_slice(&spec).expect("what it is");
    let left: Vec<_> = spec.cgroups.iter().map(|group| group.with_file_name("sesn_1.2")).collect();
    left.iter().for_each(|group| std::fs::create_dir(group).expect("a group"));
    bench.reopened();
    assert!(left.iter().all(|group| !group.exists()));
    assert!(spec.cgroups.iter().all(|group| group.exists()), "what lives keeps its own");
    assert_eq!(sandbox.bash("echo and lives").await, "and lives");
    bench.close().await;
}
