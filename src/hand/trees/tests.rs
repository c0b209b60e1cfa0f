use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

struct World {
    dir: tempfile::TempDir,
    confinement: Confinement,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("w")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    let confinement = Confinement::new(&dir.path().join("w"), &[], &[]).unwrap();
    World { dir, confinement }
}

impl World {
    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("w").join(path)
    }

    fn put(&self, path: &str, contents: &str, expect: Expect) -> Vec<Skipped> {
        let size = Some(contents.len() as u64);
        let wanted = Change { path: path.into(), mode: 0o600, size, expect };
        change(&self.confinement, "t", [(&wanted, contents.as_bytes())].into_iter()).unwrap()
    }

    fn delete(&self, path: &str, expect: Expect) -> Vec<Skipped> {
        let wanted = Change { path: path.into(), mode: 0, size: None, expect };
        change(&self.confinement, "t", [(&wanted, &b""[..])].into_iter()).unwrap()
    }
}

fn sha(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

#[test]
fn files_are_listed_with_their_hashes_and_links_are_not_followed() {
    let world = world();
    assert!(world.put("a/b", "text", Expect::Absent).is_empty());
    fs::write(world.dir.path().join("outside/secret"), "secret").unwrap();
    symlink(world.dir.path().join("outside"), world.path("t/way")).unwrap();
    let tree = list(&world.confinement, "t", 100).unwrap();
    assert!(tree.exists && tree.complete);
    let found: Vec<_> = tree.entries.iter().map(|entry| (entry.path.as_str(), entry.file)).collect();
    assert_eq!(found, [("way", false), ("a/b", true)]);
    assert_eq!(tree.entries[1].sha256, Some(sha("text")));
    assert_eq!(list(&world.confinement, "t", 3).unwrap().entries[1].sha256, None, "it is larger");
    assert_eq!(list(&world.confinement, "none", 0).unwrap(), Tree::default());
    assert!(list(&world.confinement, "../outside", 0).is_err());
}

#[test]
fn a_change_is_made_only_to_what_it_expects() {
    let world = world();
    assert!(world.put("f", "one", Expect::Absent).is_empty());
    assert_eq!(world.put("f", "two", Expect::Absent).len(), 1);
    assert_eq!(world.put("f", "two", Expect::Sha256(sha("other"))).len(), 1);
    assert_eq!(fs::read_to_string(world.path("t/f")).unwrap(), "one");
    assert!(world.put("f", "two", Expect::Sha256(sha("one"))).is_empty());
    assert_eq!(fs::metadata(world.path("t/f")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(world.delete("f", Expect::Sha256(sha("one"))).len(), 1);
    assert!(world.delete("f", Expect::Sha256(sha("two"))).is_empty());
    assert!(!world.path("t/f").exists());
}

#[test]
fn no_change_leaves_its_folder() {
    let world = world();
    world.put("f", "x", Expect::Anything);
    symlink(world.dir.path().join("outside"), world.path("t/way")).unwrap();
    for path in ["../f", "/f", "a/../../f", "", ".", "a//b", "way/f", "a\0b"] {
        assert_eq!(world.put(path, "x", Expect::Anything).len(), 1, "{path}");
    }
    assert_eq!(fs::read_dir(world.dir.path().join("outside")).unwrap().count(), 0);
}

#[test]
fn a_link_in_the_place_of_a_file_is_not_written_through() {
    let world = world();
    let secret = world.dir.path().join("outside/secret");
    fs::write(&secret, "secret").unwrap();
    world.put("f", "x", Expect::Anything);
    fs::remove_file(world.path("t/f")).unwrap();
    symlink(&secret, world.path("t/f")).unwrap();
    assert_eq!(world.put("f", "y", Expect::Anything).len(), 1);
    assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
}

#[test]
fn what_is_left_of_a_folder_makes_way_for_a_file() {
    let world = world();
    world.put("a/b", "x", Expect::Absent);
    world.delete("a/b", Expect::Anything);
    assert!(world.put("a", "y", Expect::Absent).is_empty());
}

#[test]
fn a_folder_takes_another_ones_place_and_a_removed_one_is_gone() {
    let world = world();
    world.put("old", "x", Expect::Absent);
    fs::create_dir(world.path("stage")).unwrap();
    fs::write(world.path("stage/new"), "y").unwrap();
    relocate(&world.confinement, "stage", "t").unwrap();
    let tree = list(&world.confinement, "t", 0).unwrap();
    assert_eq!(tree.entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["new"]);
    assert!(!world.path("stage").exists());
    remove(&world.confinement, "t").unwrap();
    assert!(!world.path("t").exists());
    remove(&world.confinement, "t").unwrap();
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), 0, "nothing is left beside it");
}
