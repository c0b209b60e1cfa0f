//! The recorded behaviour of the official toolset, scenario by scenario.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use remuda_actors::tool::Block;
use serde::Deserialize;
use serde_json::Value;

use crate::fixture::Hand;

#[derive(Deserialize)]
struct Recording {
    scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Scenario {
    name: String,
    quirk: Option<String>,
    setup: Vec<Item>,
    calls: Vec<Call>,
    after: BTreeMap<String, After>,
}

#[derive(Deserialize)]
struct Item {
    path: String,
    #[serde(default)]
    content: String,
    base64: Option<String>,
    symlink: Option<String>,
    dirmode: Option<u32>,
}

#[derive(Deserialize)]
struct Call {
    tool: String,
    input: Value,
    expect: Expect,
}

#[derive(Clone, Deserialize)]
struct Expect {
    is_error: bool,
    text: Option<String>,
    #[serde(default)]
    unordered_lines: bool,
    matches: Option<usize>,
    blocks: Option<Value>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum After {
    File { sha256: String, bytes: u64 },
    Link { symlink: String },
}

/// What is expected instead of the recorded answer, where this hand does better on purpose: the scenario,
/// the number of the call in it, whether it is an error, and its text.
const BETTER: [(&str, usize, bool, &str); 8] = [
    (
        "bash_exit",
        1,
        false,
        "[this is a new shell: the previous one exited with status 3; its working directory, variables and functions are lost]\nafter",
    ),
    (
        "bash_timeout_state",
        1,
        true,
        "bash: bash command timed out after 0.3s; the shell and what this call had started were killed, jobs of earlier calls were not",
    ),
    (
        "bash_timeout_state",
        2,
        false,
        "[this is a new shell: the previous one was killed; its variables and functions are lost]\n[]",
    ),
    (
        "bash_syntax",
        1,
        false,
        "[this is a new shell: the previous one exited with status 2; its working directory, variables and functions are lost]\nok",
    ),
    (
        "bash_sete",
        1,
        false,
        "[this is a new shell: the previous one exited with status 1; its working directory, variables and functions are lost]\nnext",
    ),
    (
        "bash_exec",
        1,
        false,
        "[this is a new shell: the previous one exited with status 0; its working directory, variables and functions are lost]\nagain",
    ),
    ("glob_rec", 1, false, "${WORKDIR}/d\n${WORKDIR}/d/e\n${WORKDIR}/d/e/c.py\n${WORKDIR}/d/b.py"),
    ("glob_brace", 0, false, "${WORKDIR}/a.ts\n${WORKDIR}/a.js"),
];

#[tokio::test]
async fn every_recorded_scenario_is_reproduced() {
    let recording = std::fs::read("tests/data/toolset.json").unwrap();
    let Recording { scenarios } = serde_json::from_slice(&recording).unwrap();
    assert_eq!(scenarios.len(), 76);
    for (name, ..) in BETTER {
        let scenario = scenarios.iter().find(|scenario| scenario.name == name).unwrap();
        assert!(scenario.quirk.is_some(), "{name} leaves no room for doing better");
    }
    for scenario in scenarios {
        reproduce(scenario).await;
    }
}

async fn reproduce(scenario: Scenario) {
    let hand = Hand::start();
    let workdir = hand.workdir.to_str().unwrap().to_owned();
    set_up(&hand.workdir, &scenario.setup);
    for (number, call) in scenario.calls.into_iter().enumerate() {
        let context = format!("{} call {number}", scenario.name);
        let mut expect = call.expect;
        if let Some((.., is_error, text)) =
            BETTER.iter().find(|better| (better.0, better.1) == (scenario.name.as_str(), number))
        {
            let text = Some((*text).to_owned());
            expect =
                Expect { is_error: *is_error, text, unordered_lines: false, matches: None, blocks: None };
        }
        // Recorded as root, whom no permission stops.
        if scenario.name == "read_noperm" && !rustix::process::geteuid().is_root() {
            let text = Some("read: d/x: permission denied".to_owned());
            expect = Expect { is_error: true, text, ..expect };
        }
        let result = hand.tool(&call.tool, call.input).await;
        assert_eq!(result.is_error, expect.is_error, "{context}: {}", result.text());
        if let Some(blocks) = expect.blocks {
            assert_eq!(serde_json::to_value(&result.content).unwrap(), blocks, "{context}");
            continue;
        }
        let [Block::Text { text }] = result.content.as_slice() else {
            panic!("{context}: not one text: {result:?}");
        };
        if expect.matches == Some(0) {
            assert_eq!(text, "no matches", "{context}");
        } else if let Some(expected) = expect.text {
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
                if expect.unordered_lines {
                    lines.sort();
                }
                lines
            };
            assert_eq!(sorted(text), sorted(&expected.replace("${WORKDIR}", &workdir)), "{context}");
        } else {
            // Every error names the tool it comes from.
            assert!(!expect.is_error || text.starts_with(&format!("{}: ", call.tool)), "{context}: {text}");
        }
    }
    assert_eq!(tree(&hand.workdir), scenario.after, "{}", scenario.name);
}

/// Lays the files down, each newer than the one before, and folders newer than all of them.
fn set_up(workdir: &Path, items: &[Item]) {
    let mut time = SystemTime::now() - Duration::from_secs(10_000);
    for item in items {
        let path = workdir.join(&item.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = &item.symlink {
            symlink(target, &path).unwrap();
            continue;
        }
        let content = match &item.base64 {
            Some(base64) => base64::engine::general_purpose::STANDARD.decode(base64).unwrap(),
            None => item.content.clone().into_bytes(),
        };
        std::fs::write(&path, content).unwrap();
        time += Duration::from_secs(1);
        std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
    }
    time += Duration::from_secs(1);
    for item in items.iter().filter(|item| item.symlink.is_none()) {
        for folder in Path::new(&item.path).ancestors().skip(1) {
            std::fs::File::open(workdir.join(folder)).unwrap().set_modified(time).unwrap();
        }
    }
    for item in items {
        if let Some(mode) = item.dirmode {
            let folder = workdir.join(&item.path).parent().unwrap().to_path_buf();
            std::fs::set_permissions(folder, PermissionsExt::from_mode(mode)).unwrap();
        }
    }
}

/// The files and links below a folder.
fn tree(folder: &Path) -> BTreeMap<String, After> {
    let mut found = BTreeMap::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(next) = pending.pop() {
        // Laid down without permissions in one scenario.
        let _ = std::fs::set_permissions(&next, PermissionsExt::from_mode(0o755));
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            let kind = std::fs::symlink_metadata(&path).unwrap();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_symlink() {
                let symlink = std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned();
                found.insert(name, After::Link { symlink });
            } else if kind.is_file() {
                let sum = Command::new("sha256sum").arg("--").arg(&path).output().unwrap().stdout;
                // A name with unusual characters makes it put a backslash before the sum.
                let sum = String::from_utf8(sum).unwrap();
                let sha256 = sum.trim_start_matches('\\').split(' ').next().unwrap().to_owned();
                found.insert(name, After::File { sha256, bytes: kind.len() });
            }
        }
    }
    found
}
