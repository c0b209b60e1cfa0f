use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

struct World {
    _dir: TempDir,
    top: PathBuf,
    confinement: Confinement,
}

/// A working directory `w`, another root `other`, a read-only one inside the first, and `out` outside.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap();
    for name in ["w/d/e", "w/ro/d", "w2", "other", "out/d"] {
        std::fs::create_dir_all(top.join(name)).unwrap();
    }
    for name in ["w/d/f", "w/ro/f", "w2/f", "other/f", "out/f", "out/d/f"] {
        std::fs::write(top.join(name), name).unwrap();
    }
    let confinement = Confinement::new(&top.join("w"), &[top.join("other")], &[top.join("w/ro")]).unwrap();
    World { _dir: dir, top, confinement }
}

impl World {
    fn link(&self, target: &str, name: &str) {
        symlink(target.replace("TOP", self.top.to_str().unwrap()), self.top.join(name)).unwrap();
    }

    /// The path found from the top, or the error in words.
    fn find(&self, given: &str) -> Result<String, String> {
        let given = given.replace("TOP", self.top.to_str().unwrap());
        let found = self.confinement.at(Path::new(&given), |place| Ok(place.path.clone()));
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.strip_prefix(&self.top).unwrap().to_str().unwrap().to_owned())
    }

    fn content(&self, given: &str) -> Result<String, String> {
        let opened = self.confinement.at(Path::new(given), |place| place.open_regular());
        let (file, _) = opened.map_err(|error| error.to_string())?;
        std::io::read_to_string(file).map_err(|error| error.to_string())
    }
}

const OUTSIDE: &str = "outside the permitted directories";

#[test]
fn paths_are_collapsed_before_links_are_followed() {
    let world = world();
    world.link("TOP/other", "w/link");
    // By the kernel's rules this would be `TOP/f`, outside.
    assert_eq!(world.find("link/../d/f").unwrap(), "w/d/f");
    assert_eq!(world.find("./d//e/../f").unwrap(), "w/d/f");
    assert_eq!(world.find("TOP/w").unwrap(), "w");
    assert_eq!(world.find("../../../../..").unwrap_err(), OUTSIDE);
    assert_eq!(world.find("~/f").unwrap(), "w/~/f");
}

#[test]
fn links_are_followed_to_where_they_lead_even_if_nothing_is_there() {
    let world = world();
    world.link("d", "w/to_d");
    world.link("../other/f", "w/to_other");
    world.link("TOP/out/f", "w/to_out");
    world.link("TOP/out/new", "w/dangling_out");
    world.link("d/new", "w/dangling_in");
    world.link("../out", "w/d/out");
    world.link("to_d/./../d/e", "w/twice");
    assert_eq!(world.find("to_d/f").unwrap(), "w/d/f");
    assert_eq!(world.find("to_other").unwrap(), "other/f");
    assert_eq!(world.find("to_out").unwrap_err(), OUTSIDE);
    assert_eq!(world.find("dangling_out").unwrap_err(), OUTSIDE);
    assert_eq!(world.find("dangling_in/x").unwrap(), "w/d/new/x");
    assert_eq!(world.find("d/out/f").unwrap(), "w/out/f");
    assert_eq!(world.find("twice/x").unwrap(), "w/d/e/x");
    assert_eq!(world.find("/proc/self/root/etc/passwd").unwrap_err(), OUTSIDE);
}

#[test]
fn a_name_that_begins_like_a_root_is_not_in_it() {
    let world = world();
    assert_eq!(world.find("TOP/w2/f").unwrap_err(), OUTSIDE);
    assert_eq!(world.find("TOP/other/f").unwrap(), "other/f");
}

#[test]
fn the_most_specific_root_decides_whether_writing_is_allowed() {
    let world = world();
    world.link("ro", "w/to_ro");
    let writable = |given: &str| world.confinement.at(Path::new(given), |place| place.writable());
    assert!(writable("d/new").is_ok());
    for given in ["ro/f", "ro", "to_ro/d/new", "d/../ro/x"] {
        let error = writable(given).unwrap_err().to_string();
        assert_eq!(error, format!("inside read-only directory {}", world.top.join("w/ro").display()));
    }
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let world = world();
    world.link("d/f", "w/l1");
    for number in 2..=41 {
        world.link(&format!("l{}", number - 1), &format!("w/l{number}"));
    }
    assert_eq!(world.find("l40").unwrap(), "w/d/f");
    assert!(matches!(
        world.confinement.at(Path::new("l41"), |_| Ok(())),
        Err(PathError::System(Errno::LOOP))
    ));
}

#[test]
fn only_regular_files_are_opened() {
    let world = world();
    let pipe = world.top.join("w/pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.top.join("w/socket")).unwrap();
    for given in ["pipe", "socket", "d", "."] {
        assert_eq!(world.content(given).unwrap_err(), "not a regular file", "{given}");
    }
    assert_eq!(world.content("d/f").unwrap(), "w/d/f");
}

#[test]
fn a_component_swapped_for_a_link_after_the_check_is_not_followed() {
    let world = world();
    let folder = world.top.join("w/d");
    let mut lookups = 0;
    let opened = world.confinement.at(Path::new("d/f"), |place| {
        lookups += 1;
        // Back to a folder for the next lookup, and to a link outside as soon as it is over.
        std::fs::rename(&folder, world.top.join("w/aside")).unwrap();
        symlink(world.top.join("out"), &folder).unwrap();
        let opened = place.open_regular();
        std::fs::remove_file(&folder).unwrap();
        std::fs::rename(world.top.join("w/aside"), &folder).unwrap();
        opened
    });
    assert!(matches!(opened, Err(PathError::Changed)));
    assert_eq!(lookups, MAX_LOOKUPS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever links there are and whatever path is given: it leads to a file inside, as the kernel would
    /// find it for the spelled path, or nowhere.
    #[test]
    fn property_no_path_leads_outside(
        links in prop::collection::vec(("w/[a-c]", prop::sample::select(vec![
            "a", "b", "d", "d/e", "..", "../out", "../other", ".", "./d/../..", "/", "TOP/out", "TOP/w/d",
            "../w/a", "c/c",
        ])), 0..4),
        given in prop::collection::vec(prop::sample::select(vec![
            "a", "b", "c", "d", "e", "f", "..", ".", "", "out", "w",
        ]), 1..6),
    ) {
        let world = world();
        for (name, target) in &links {
            let target = target.replace("TOP", world.top.to_str().unwrap());
            // Two links may want one name.
            let _ = symlink(target, world.top.join(name));
        }
        let given = given.join("/");
        if let Ok(content) = world.content(&given) {
            prop_assert!(content.starts_with("w/") || content.starts_with("other/"), "{}", content);
            let spelled = collapse(&world.top.join("w").join(&given));
            prop_assert_eq!(std::fs::read_to_string(spelled).unwrap(), content);
        }
    }
}
