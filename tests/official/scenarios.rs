//! Every worker serves the scenario set, to the verdict "passed" and to the same transcript.

use std::path::{Path, PathBuf};
use std::time::Duration;

use remuda::emulator::scenario::Scenario;
use remuda::emulator::{CredentialKind, Emulator, Entry, Operation, Options};

use super::install;
use super::workers::{Mode, Worker};

/// Interpreters start slowly on a busy machine; nothing here waits that long when all is well.
const PATIENCE: Duration = Duration::from_secs(120);

/// The scenarios of this folder, by name.
pub(crate) fn all() -> Vec<Scenario> {
    let folder = install::root().join("tests/official/scenarios");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Scenario::load(path).unwrap()).collect()
}

/// Serves every scenario with one worker process; the transcripts, by scenario.
pub(crate) async fn serve_all(worker: Worker) -> Vec<(String, Vec<Entry>)> {
    let scenarios = all();
    let mut names: Vec<String> = scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    names.extend(["permissions", "program", "server"].map(str::to_owned));
    let emulator = Emulator::start(Options { scenarios, ..Options::default() }).await.unwrap();
    let environment = emulator.create_environment(worker.name()).unwrap();
    let agent = emulator.create_agent("official").unwrap();
    let workdir = tempfile::tempdir().unwrap();
    let path = worker.workspace(workdir.path());
    names.retain(|name| worker.serves(name));
    // All at once, so that the worker never finds the queue empty and pauses.
    let sessions: Vec<_> = names
        .iter()
        .map(|name| emulator.create_scenario(&environment.id, &agent, name, &[("WORKDIR", &path)]).unwrap())
        .collect();
    let process = worker.start(
        Mode::Poll,
        workdir.path(),
        &[
            ("ANTHROPIC_BASE_URL", &emulator.url()),
            ("ANTHROPIC_ENVIRONMENT_ID", environment.id.as_str()),
            ("ANTHROPIC_ENVIRONMENT_KEY", &environment.key),
        ],
    );
    let mut transcripts = Vec::new();
    for (name, session) in names.into_iter().zip(&sessions) {
        let verdict = session.wait_verdict(PATIENCE).await;
        let verdict = verdict.unwrap_or_else(|| panic!("{name}: no verdict, still {:?}", session.verdict()));
        assert!(
            verdict.passed(),
            "{} on {name}: {:?}\n{:#?}",
            worker.name(),
            verdict,
            session.transcript(&[])
        );
        session.wait_released(PATIENCE).await.expect("the worker lets go of a session that is idle or over");
        transcripts.push((name, session.transcript(&[(&path, "${WORKDIR}")])));
    }
    // The environment key is for the queue; everything about a session goes by its own token.
    for record in emulator.log().records() {
        let expected = match record.operation {
            Operation::Poll | Operation::Ack => CredentialKind::EnvironmentKey,
            _ => CredentialKind::SessionsToken,
        };
        assert_eq!(record.credential, Some(expected), "{record:?}");
        assert!(
            record.status().is_none_or(|status| status < 300) || record.operation == Operation::PostEvents,
            "{record:?}"
        );
    }
    process.end().await;
    emulator.shutdown().await;
    keep(worker, &transcripts);
    transcripts
}

/// Keeps transcripts for people, under `target/official-transcripts`.
fn keep(worker: Worker, transcripts: &[(String, Vec<Entry>)]) {
    let folder: &Path = &install::root().join("target/official-transcripts").join(worker.name());
    std::fs::create_dir_all(folder).unwrap();
    for (name, entries) in transcripts {
        let text = serde_json::to_string_pretty(entries).unwrap();
        std::fs::write(folder.join(format!("{name}.json")), text).unwrap();
    }
}

/// What must be equal between workers. Every worker words its own messages, so of a result that is wording
/// rather than data only the outcome counts: that of `write` and `edit`, and that of a failed file tool.
pub(crate) fn comparable(entries: &[Entry]) -> Vec<Entry> {
    let name_of = |wanted: usize| {
        entries.iter().find_map(|entry| match entry {
            Entry::Call { call, name, .. } if *call == wanted => Some(name.as_str()),
            _ => None,
        })
    };
    let plain = |entry: &Entry| match entry {
        Entry::Result { call, kind, is_error, .. } => {
            let wording = match name_of(*call) {
                Some("write" | "edit") => true,
                // A failed command without output has the worker's own words for it.
                Some("bash") => *is_error && no_data(entry),
                Some("read" | "glob" | "grep") => *is_error,
                _ => false,
            };
            let mut entry = entry.clone();
            if let (true, Entry::Result { content, .. }) = (wording && kind == "user.tool_result", &mut entry)
            {
                *content = "wording".into();
            }
            entry
        }
        other => other.clone(),
    };
    entries.iter().map(plain).collect()
}

/// Whether a result's text is what a worker says in place of output.
fn no_data(entry: &Entry) -> bool {
    let Entry::Result { content, .. } = entry else { return false };
    let text = content[0]["text"].as_str().unwrap_or_default();
    text == "(no output)" || text.starts_with("exit ")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_passes_every_scenario_and_leaves_the_same_transcript() {
    let mut reference: Option<Vec<(String, Vec<Entry>)>> = None;
    for worker in Worker::ALL {
        let transcripts = serve_all(worker).await;
        let Some(reference) = &reference else {
            reference = Some(transcripts);
            continue;
        };
        for (name, got) in &transcripts {
            let (_, expected) = reference.iter().find(|(served, _)| served == name).expect("all are served");
            pretty_equal(name, worker, &comparable(expected), &comparable(got));
        }
    }
}

fn pretty_equal(name: &str, worker: Worker, expected: &[Entry], got: &[Entry]) {
    let lines = |entries: &[Entry]| {
        entries.iter().map(|entry| serde_json::to_string(entry).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(expected),
        lines(got),
        "{name}: {} is not like {}",
        worker.name(),
        Worker::ALL[0].name()
    );
}
