//! The rules a worker of the queue has to keep, and that each has a test which names it.
//!
//! A test takes part by its name: `row_21_…`, or `row_6_and_7_…` where it shows two. A rule without a test
//! fails here, and so does a test that names a rule there is not.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;

/// Who keeps a rule: the poller, a session, or the tools.
#[derive(Debug)]
enum Keeper {
    Poller,
    Session,
    Tools,
}
use Keeper::{Poller, Session, Tools};

/// The rules that remuda keeps, by their numbers, which are stable. The number between belongs to what remuda does not
/// do: webhooks (62).
const RULES: &[(u32, Keeper, &str)] = &[
    (1, Poller, "a poll is held for 1 to 999 ms, or no time is named"),
    (2, Poller, "`null`, no body, and an object without an id are an empty queue"),
    (3, Poller, "an empty poll that was held is repeated at once, any other after a pause"),
    (4, Poller, "a poll names its worker"),
    (5, Poller, "an item is acknowledged before anything slow, and nothing is started if that fails"),
    (6, Poller, "a refused key ends the polling and is reported"),
    (7, Poller, "overload and broken networks are met with backoff and jitter, 60 s at most"),
    (8, Poller, "work of an unknown type is given back and nothing is run for it"),
    (9, Poller, "the environment key polls and acknowledges"),
    (10, Poller, "no credential is logged or passed as an argument"),
    (11, Poller, "a sandbox never has the environment key; here it has no credential at all"),
    (12, Poller, "a session may come again under another item while its sandbox still runs"),
    (13, Poller, "`retry-after`, `retry-after-ms` and `x-should-retry` are honoured"),
    (14, Session, "a request has one credential header"),
    (15, Session, "a secret that cannot be read means the environment key"),
    (16, Session, "without any credential nothing is sent"),
    (17, Session, "the first beat is sent before anything slow"),
    (18, Session, "the first beat says `NO_HEARTBEAT`, the next ones echo the last to the byte"),
    (19, Session, "beats are half a lease apart, between 1 s and 30 s"),
    (20, Session, "a beat takes no longer than the time to the next"),
    (21, Session, "412 means the lease is lost, and the item is not stopped"),
    (22, Session, "a lease without a beat for its whole time is lost, and the item is not stopped"),
    (23, Session, "a stop request, or a lease that is not extended, ends the session and stops the item"),
    (24, Session, "every other end stops the item too"),
    (25, Session, "409 on stop is no failure, and no body is needed"),
    (26, Session, "beats go on until everything is put away"),
    (27, Session, "a lost lease ends the running call, and nothing is posted"),
    (28, Session, "nothing is run for a session that is terminated"),
    (29, Session, "no memory store is asked for without a token"),
    (30, Session, "the stream is opened before the history is read"),
    (31, Session, "the whole history is read before anything is run"),
    (32, Session, "a history in part starts nothing and is forgotten"),
    (33, Session, "a call that history and stream both tell of is one call, and an answered one is not run"),
    (34, Session, "`agent.tool_result` answers a call"),
    (35, Session, "each kind of call is answered by its own kind of result"),
    (36, Session, "a call that needs permission waits for it, and so does one of unknown need"),
    (37, Session, "a denied call is never run, whatever else is said"),
    (38, Session, "every verdict but `allow` denies, and nothing is posted"),
    (39, Session, "no permission named is none needed"),
    (40, Session, "tools of others are left to them, and ended threads are left alone"),
    (41, Session, "one call at a time"),
    (42, Session, "a result is never empty and always says whether it is an error"),
    (43, Session, "a result is sent again until the lease is over, unless it is refused for good"),
    (44, Session, "a broken stream is opened again, 0.5 s to 10 s later, and compared with the history"),
    (45, Session, "a live word that the session is over ends it"),
    (46, Session, "a session that waits for nobody is ended when it was idle for long enough"),
    (47, Session, "but not while a call waits for permission or runs"),
    (48, Tools, "no tool sees a variable of the control plane"),
    (49, Tools, "paths are resolved before they are judged, and used as judged"),
    (50, Tools, "what is read-only is not written"),
    (51, Tools, "the shell's state stays from call to call, and commands have no input"),
    (52, Tools, "of too much output the end is kept, and a failed command is an error"),
    (53, Tools, "a timeout kills all that the call started"),
    (54, Tools, "only regular files are opened"),
    (55, Tools, "files, matches and output have their limits"),
    (56, Tools, "no program of the agent's making takes part in a search"),
    (57, Session, "a skill that leads out of its archive is refused, and costs nothing else"),
    (58, Session, "no memory store is put over what is there"),
    (59, Session, "a memory is changed only if it is as it was found, and the server wins conflicts"),
    (60, Session, "a folder with another mark, or none, is left alone, and its store is"),
    (61, Session, "what changed is sent before the folder goes, within a bound"),
    (63, Poller, "sessions have 30 s to finish when the process is told to stop"),
];

/// The numbers in the names of tests, and the tests that have them.
fn tests() -> BTreeMap<u32, Vec<String>> {
    let name = Regex::new(r"fn (row((?:_and)?_\d+)+_\w+)\(").unwrap();
    let number = Regex::new(r"^row((?:_(?:and_)?\d+)+)_").unwrap();
    let mut tests = BTreeMap::<u32, Vec<String>>::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = ["src", "actors/src", "actors/tests", "tests"].map(|folder| root.join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let file = path.strip_prefix(root).unwrap().display().to_string();
                for found in name.captures_iter(&text) {
                    let numbers = &number.captures(&found[1]).unwrap()[1];
                    for number in numbers.split('_').filter_map(|word| word.parse().ok()) {
                        tests.entry(number).or_default().push(format!("{file}: {}", &found[1]));
                    }
                }
            }
        }
    }
    tests
}

#[test]
fn every_rule_has_a_test_and_every_test_its_rule() {
    let tests = tests();
    let mut table = String::new();
    for (number, keeper, rule) in RULES {
        let by = tests.get(number).map(|tests| tests.join("\n        ")).unwrap_or_default();
        table += &format!("{number:>2} {keeper:?}: {rule}\n        {by}\n");
    }
    // Shown with `cargo test --test checklist -- --nocapture`.
    println!("{table}");
    let known: BTreeSet<u32> = RULES.iter().map(|(number, ..)| *number).collect();
    let tested: BTreeSet<u32> = tests.keys().copied().collect();
    assert_eq!(known.difference(&tested).collect::<Vec<_>>(), Vec::<&u32>::new(), "rules without a test");
    assert_eq!(tested.difference(&known).collect::<Vec<_>>(), Vec::<&u32>::new(), "tests without a rule");
}

/// The rows of the table in `text` that begins with this head, as their cells.
fn rows(text: &str, head: &str) -> Vec<Vec<String>> {
    let cells = |row: &str| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    let table = text.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    table.take_while(|line| line.starts_with('|')).map(cells).collect()
}

#[test]
fn the_readme_lists_the_differences_that_the_tools_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let documented = std::fs::read_to_string(root.join("src/hand/tools/differences.md")).unwrap();
    let listed = rows(&readme, "| Tool | Official worker | remuda |");
    let mut documented = rows(&documented, "| Tool | Official | Here | Why |");
    assert!(!documented.is_empty() && documented.iter().all(|row| row.len() == 4), "{documented:?}");
    // Why is for those who read the code.
    documented.iter_mut().for_each(|row| row.truncate(3));
    assert_eq!(listed, documented);
}
