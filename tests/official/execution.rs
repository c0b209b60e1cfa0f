//! Sessions of remuda's that the official worker serves: started in a sandbox, or by a command on this host.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use remuda::emulator::{CredentialKind, Emulator, Operation, Options};
use serde_json::json;

use super::install;
use super::scenarios;
use super::workers::{Mode, Worker};

const PATIENCE: Duration = Duration::from_secs(30);

/// A worker as a rule starts it: its command, and the variables that it needs besides.
struct Started {
    command: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Started {
    /// What starts this worker for one item, from anywhere; what others cannot reach is brought to `place`.
    fn new(worker: Worker, place: &Path) -> Self {
        let folder = install::folder();
        let script = |name: &str| text(&reachable(&install::root().join("tests/official"), place).join(name));
        let item = |program: String, script: String| vec![program, script, "item".to_owned(), ".".to_owned()];
        match worker {
            Worker::Python => {
                let (prefix, program, packages) = python(&folder.join("python/bin/python"));
                let (prefix, packages) = (reachable(&prefix, place), reachable(&packages, place));
                Self {
                    command: item(text(&prefix.join(program)), script("worker.py")),
                    // Some interpreters look for their library where they were installed, which others cannot reach.
                    variables: vec![
                        ("PYTHONPATH", text(&packages)),
                        ("LD_LIBRARY_PATH", text(&prefix.join("lib"))),
                    ],
                }
            }
            Worker::TypeScript => {
                let node = reachable(&folder.join("node"), place);
                Self {
                    command: item(text(&node.join("node_modules/.bin/node")), script("worker.mjs")),
                    variables: vec![("OFFICIAL_NODE", text(&node))],
                }
            }
            Worker::Remuda => {
                let program = reachable(Path::new(env!("CARGO_BIN_EXE_remuda")), place);
                let command = [&text(&program), "worker", "--max-idle", "600ms"];
                Self { command: command.map(str::to_owned).to_vec(), variables: Vec::new() }
            }
        }
    }
}

/// Where the interpreter of an environment of Python's is installed, where in there, and where the packages are.
fn python(python: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let ask = "import os, sys, sysconfig; print(sys.base_prefix, os.path.realpath(sys.executable), \
               sysconfig.get_paths()['purelib'], sep='\\n')";
    let output = Command::new(python).args(["-c", ask]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let [prefix, program, packages] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    let inside = Path::new(program).strip_prefix(prefix).unwrap();
    (prefix.into(), inside.to_owned(), packages.into())
}

fn text(path: &Path) -> String {
    path.to_str().expect("paths here are text").to_owned()
}

/// The same file or folder where every user can reach it. Sandboxes of root's are other users', and what is in root's
/// home is not for those.
fn reachable(path: &Path, place: &Path) -> PathBuf {
    let lets_pass = |folder: &Path| folder.metadata().unwrap().permissions().mode() & 0o001 != 0;
    let path = path.canonicalize().unwrap();
    if path.ancestors().skip(1).all(lets_pass) {
        return path;
    }
    let there = place.join(path.file_name().unwrap());
    // Links are made in no time; over a border of file systems there are none.
    let brought = ["-al", "-a"].iter().any(|how| {
        there.exists() || Command::new("cp").arg(how).arg(&path).arg(&there).status().unwrap().success()
    });
    assert!(brought, "{}", path.display());
    there
}

/// Serves one scenario with a `remuda run` whose one rule says `execution` and `worker`.
async fn serve(execution: &str, worker: Worker) {
    let options = Options { scenarios: scenarios::all(), ..Options::default() };
    let emulator = Emulator::start(options).await.unwrap();
    let environment = emulator.create_environment("workers").unwrap();
    let agent = emulator.create_agent("official").unwrap();
    let session = emulator.create_scenario(&environment.id, &agent, "parallel", &[]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    open(dir.path());
    std::fs::create_dir(dir.path().join("state")).unwrap();
    open(&dir.path().join("state"));
    let config = dir.path().join("config.toml");
    let Started { command, variables } = Started::new(worker, dir.path());
    let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
    let passed = if names.is_empty() { String::new() } else { format!("variables = {}\n", json!(names)) };
    let rule = format!(
        "[[route]]\nname = 'workers'\nexecution = '{execution}'\ncommand = {}\n{passed}",
        json!(command)
    );
    std::fs::write(&config, rule).unwrap();
    let url = emulator.url();
    let mut set: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    set.extend([
        ("ANTHROPIC_BASE_URL", &*url),
        ("ANTHROPIC_ENVIRONMENT_ID", environment.id.as_str()),
        ("ANTHROPIC_ENVIRONMENT_KEY", &environment.key),
        ("REMUDA_CONFIG", config.to_str().unwrap()),
        // The clients are no part of the host's system, which is all that a sandbox has of it.
        ("REMUDA_ISOLATION", "none"),
        ("REMUDA_STANDBY_AFTER", "1ms"),
        ("REMUDA_PARK_FOR", "0s"),
    ]);
    let process = Worker::Remuda.start(Mode::Poll, dir.path(), &set);
    let verdict = session.wait_verdict(PATIENCE).await.expect("the scenario ends");
    assert!(verdict.passed(), "{execution} {worker:?}: {verdict:?}");
    session.wait_released(PATIENCE).await.expect("the worker lets go");
    for record in emulator.log().records() {
        let expected = match record.operation {
            Operation::Poll | Operation::Ack | Operation::ListWork => CredentialKind::EnvironmentKey,
            _ => CredentialKind::SessionsToken,
        };
        assert_eq!(record.credential, Some(expected), "{execution} {worker:?}: {record:?}");
    }
    process.end().await;
    emulator.shutdown().await;
}

/// Without isolation sandboxes are other users', who have to get to their folders.
fn open(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_serves_a_session_in_its_sandbox() {
    for worker in Worker::ALL {
        serve("worker", worker).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_serves_a_session_as_a_command_on_this_host() {
    for worker in Worker::ALL {
        serve("command", worker).await;
    }
}
