//! What sessions find in their sandboxes: skills and memory stores, and what becomes of them.

use remuda::emulator::{CallRequest, Operation, Options, SessionHandle, SkillUpload, StopReason, zip};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bench::{Bench, PATIENCE, Running, until};

/// A bench whose sessions have resources.
struct Furnished {
    bench: Bench,
    http: reqwest::Client,
}

impl Furnished {
    async fn new() -> Self {
        Self::at("/mnt/memory").await
    }

    /// With its memory stores in this folder.
    async fn at(memory_root: &str) -> Self {
        let options = Options { memory_root: memory_root.to_owned(), ..Options::default() };
        Self { bench: Bench::with(options).await, http: reqwest::Client::new() }
    }

    /// A request of an operator of the control plane.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let url = format!("{}{path}", self.bench.emulator.url());
        let mut request = self.http.request(method, url).bearer_auth(self.bench.emulator.api_key());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// A memory store with these texts.
    async fn store(&self, name: &str, texts: &[(&str, &str)]) -> String {
        let store = self.ask(Method::POST, "/v1/memory_stores", Some(json!({ "name": name }))).await;
        let store = store["id"].as_str().unwrap().to_owned();
        for (path, content) in texts {
            self.remember(&store, path, content).await;
        }
        store
    }

    /// Puts a text into a store.
    async fn remember(&self, store: &str, path: &str, content: &str) {
        let memories = format!("/v1/memory_stores/{store}/memories");
        let known = self.ask(Method::GET, &format!("{memories}?view=basic&limit=100"), None).await;
        let known = known["data"].as_array().unwrap().iter().find(|memory| memory["path"] == path);
        let (path, body) = match known {
            Some(memory) => {
                (format!("{memories}/{}", memory["id"].as_str().unwrap()), json!({ "content": content }))
            }
            None => (memories, json!({ "path": path, "content": content })),
        };
        self.ask(Method::POST, &path, Some(body)).await;
    }

    /// What a store holds.
    async fn memories(&self, store: &str) -> Vec<(String, String)> {
        let path = format!("/v1/memory_stores/{store}/memories?view=full");
        let memories = self.ask(Method::GET, &path, None).await;
        let text = |memory: &Value, field| memory[field].as_str().unwrap().to_owned();
        let memories = memories["data"].as_array().unwrap().iter();
        memories.map(|memory| (text(memory, "path"), text(memory, "content"))).collect()
    }

    /// A session that only the test drives, with these skills and resources.
    fn session(&self, skills: &[&str], resources: Value) -> SessionHandle {
        let skills: Vec<_> =
            skills.iter().map(|id| json!({"type": "custom", "skill_id": id, "version": "latest"})).collect();
        let agent = json!({
            "name": "furnished",
            "model": "m",
            "tools": [{"type": "agent_toolset_20260401"}],
            "skills": skills,
            "metadata": {"brain": "silent"},
        });
        let agent = self.bench.emulator.create_agent_with(&agent).unwrap();
        let body = json!({
            "environment_id": self.bench.environment.id,
            "agent": agent,
            "resources": resources,
        });
        self.bench.emulator.create_session_with(&body).unwrap()
    }

    /// A session that only the test drives, with this metadata beside.
    fn asking(&self, metadata: Value) -> SessionHandle {
        let agent = json!({
            "name": "asking",
            "model": "m",
            "tools": [{"type": "agent_toolset_20260401"}],
            "metadata": {"brain": "silent"},
        });
        let agent = self.bench.emulator.create_agent_with(&agent).unwrap();
        let body = json!({"environment_id": self.bench.environment.id, "agent": agent, "metadata": metadata});
        self.bench.emulator.create_session_with(&body).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Running {
        self.bench.run(&[&["--max-idle", "300ms"], arguments].concat())
    }
}

fn attached(store: &str) -> Value {
    json!([{"type": "memory_store", "memory_store_id": store}])
}

/// What a command prints, or is said in its place.
async fn refused_or(session: &SessionHandle, command: &str) -> Result<String, String> {
    let calls = session.call(vec![CallRequest::tool("bash", json!({ "command": command }))]).unwrap();
    let resolved = session.wait_resolved(&calls[0], PATIENCE).await.expect("it is answered");
    if resolved.result.is_error { Err(resolved.result.text()) } else { Ok(resolved.result.text()) }
}

/// What a command prints.
async fn output(session: &SessionHandle, command: &str) -> String {
    refused_or(session, command).await.unwrap()
}

/// What is said to a call that cannot run.
async fn refusal(session: &SessionHandle) -> String {
    refused_or(session, "true").await.unwrap_err()
}

async fn end(session: &SessionHandle) {
    session.rest(StopReason::EndTurn).unwrap();
    session.wait_released(PATIENCE).await.expect("its item is stopped");
}

fn pairs(memories: &[(String, String)]) -> Vec<(&str, &str)> {
    memories.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_57_a_skill_that_cannot_be_used_costs_the_session_nothing_else() {
    let here = Furnished::new().await;
    let script: &[(&str, &[u8])] = &[("SKILL.md", b"# Greet"), ("bin/greet", b"#!/bin/sh\necho hello\n")];
    here.bench.emulator.add_skill("good", SkillUpload::new("greet", "", script));
    for (id, member) in
        [("up", "../../../evil"), ("root", "/evil"), ("drive", "c:\\evil"), ("deep", "a/../../evil")]
    {
        let archive = zip(&[(member.to_owned(), &b"evil"[..]), ("SKILL.md".to_owned(), b"# Evil")]).into();
        let upload = SkillUpload { name: id.to_owned(), description: String::new(), archive };
        here.bench.emulator.add_skill(id, upload);
    }
    let upload = |archive: &'static [u8]| SkillUpload {
        name: "../..".to_owned(),
        description: String::new(),
        archive: archive.into(),
    };
    here.bench.emulator.add_skill("noise", upload(b"neither zip nor tar"));
    let running = here.run(&[]);
    let skills = ["up", "good", "root", "drive", "deep", "noise", "absent"];
    for number in 1..=2 {
        let session = here.session(&skills, json!([]));
        let found = output(&session, "cd /workspace/skills && ls -A . greet && sh greet/bin/greet").await;
        assert_eq!(found, ".:\ngreet\n\ngreet:\nSKILL.md\nbin\nhello");
        end(&session).await;
        let of_good = |path: &str| path.contains("/skills/good/");
        let downloads = here.bench.emulator.log().of(Operation::DownloadSkill);
        let downloads = downloads.iter().filter(|record| of_good(&record.path)).count();
        assert_eq!(downloads, 1, "it is kept for session {number}");
    }
    let log = running.stop().await.stderr;
    for what in ["leads out of the archive", "neither a zip nor a tar", "the session goes without a skill"] {
        assert!(log.contains(what), "no {what}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_58_a_store_is_not_put_over_what_is_there() {
    let here = Furnished::at("").await;
    let store = here.store("workspace", &[("/a.md", "a")]).await;
    let running = here.run(&[]);
    let session = here.session(&[], attached(&store));
    let said = refusal(&session).await;
    assert!(said.contains("is to be at /workspace, and something is there already"), "{said}");
    end(&session).await;
    assert_eq!(pairs(&here.memories(&store).await), [("/a.md", "a")]);
    // The next session is not troubled.
    let session = here.session(&[], json!([]));
    assert_eq!(output(&session, "echo served").await, "served");
    end(&session).await;
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_59_the_server_wins_where_both_have_changed() {
    let here = Furnished::new().await;
    let store = here.store("notes", &[("/both.md", "old"), ("/ours.md", "old"), ("/theirs.md", "old")]).await;
    let running = here.run(&["--standby-after", "1h"]);
    let session = here.session(&[], attached(&store));
    output(&session, "cd /mnt/memory/notes && echo -n ours | tee both.md >ours.md").await;
    here.remember(&store, "/both.md", "theirs").await;
    here.remember(&store, "/theirs.md", "theirs").await;
    end(&session).await;
    let kept = here.memories(&store).await;
    assert_eq!(pairs(&kept), [("/both.md", "theirs"), ("/ours.md", "ours"), ("/theirs.md", "theirs")]);
    for record in here.bench.emulator.log().of(Operation::UpdateMemory) {
        let of_worker = record.credential == Some(remuda::emulator::CredentialKind::SessionsToken);
        assert!(!of_worker || record.json()["precondition"]["type"] == "content_sha256", "{record:?}");
    }
    assert!(running.stop().await.stderr.contains("changed on both sides"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_60_a_folder_with_another_mark_is_left_alone() {
    for change in ["echo version 1 >.anthropic-memory-store", "rm .anthropic-memory-store"] {
        let here = Furnished::new().await;
        let store = here.store("notes", &[("/a.md", "a"), ("/b.md", "b")]).await;
        let running = here.run(&["--standby-after", "0s"]);
        let session = here.session(&[], attached(&store));
        let command =
            format!("cd /mnt/memory/notes && {change}; echo changed >a.md; rm b.md; echo new >c.md");
        output(&session, &command).await;
        end(&session).await;
        assert_eq!(pairs(&here.memories(&store).await), [("/a.md", "a"), ("/b.md", "b")], "{change}");
        let log = running.stop().await.stderr;
        assert!(log.contains("no longer marked as this memory store"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_61_everything_that_changed_is_sent_before_the_item_is_stopped() {
    let here = Furnished::new().await;
    let store = here.store("notes", &[("/gone.md", "x"), ("/stays.md", "x")]).await;
    let running = here.run(&["--standby-after", "1h"]);
    let session = here.session(&[], attached(&store));
    let change = "cd /mnt/memory/notes && rm gone.md && mkdir -p d/e && echo -n new >d/e/f.md \
                  && head -c 300000 /dev/zero >large && head -c 10 /dev/urandom >bytes && ln -s /etc/passwd link";
    output(&session, change).await;
    end(&session).await;
    assert_eq!(pairs(&here.memories(&store).await), [("/d/e/f.md", "new"), ("/stays.md", "x")]);
    let records = here.bench.emulator.log().records();
    let sent = records.iter().rposition(|record| record.operation == Operation::CreateMemory);
    let stopped = records.iter().rposition(|record| record.operation == Operation::Stop);
    assert!(sent.is_some() && sent < stopped, "{sent:?} {stopped:?}");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_files_leave_the_memory_where_that_is_said() {
    for deletes in ["log-only", "disabled"] {
        let here = Furnished::new().await;
        let store = here.store("notes", &[("/gone.md", "x"), ("/stays.md", "x")]).await;
        let running = here.run(&["--memory-deletes", deletes]);
        let session = here.session(&[], attached(&store));
        output(&session, "rm /mnt/memory/notes/gone.md").await;
        end(&session).await;
        assert_eq!(pairs(&here.memories(&store).await), [("/gone.md", "x"), ("/stays.md", "x")]);
        let log = running.stop().await.stderr;
        assert_eq!(log.contains("the memory is left, as configured"), deletes == "log-only", "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_are_in_step_before_a_sandbox_stands_by() {
    let here = Furnished::new().await;
    let store = here.store("notes", &[("/a.md", "old")]).await;
    let law = here.store("law", &[("/law.md", "law")]).await;
    let running = here.run(&["--standby-after", "0s"]);
    let resources = json!([
        {"type": "memory_store", "memory_store_id": store},
        {"type": "memory_store", "memory_store_id": law, "access": "read_only"},
    ]);
    let session = here.session(&[], resources);
    output(&session, "cd /mnt/memory && echo -n new >notes/a.md; echo -n no >law/law.md").await;
    until("it is sent", || !here.bench.emulator.log().of(Operation::UpdateMemory).is_empty()).await;
    here.remember(&store, "/b.md", "theirs").await;
    // It comes with the next synchronization, after some call.
    let begun = std::time::Instant::now();
    while output(&session, "cat /mnt/memory/notes/b.md 2>/dev/null || true").await != "theirs" {
        assert!(begun.elapsed() < PATIENCE);
    }
    end(&session).await;
    assert_eq!(pairs(&here.memories(&store).await), [("/a.md", "new"), ("/b.md", "theirs")]);
    assert_eq!(pairs(&here.memories(&law).await), [("/law.md", "law")], "nothing is ever sent there");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_loses_no_change_and_mounts_nothing_twice() {
    let here = Furnished::new().await;
    let store = here.store("notes", &[("/a.md", "old")]).await;
    here.bench.emulator.add_skill("good", SkillUpload::new("greet", "", &[("SKILL.md", b"# Greet")]));
    let arguments = ["--standby-after", "1h", "--max-idle", "300ms", "--warm", "0", "--park-for", "0s"];
    let running = here.bench.start(here.bench.keeping(&arguments));
    let session = here.session(&["good"], attached(&store));
    output(&session, "cat skills/greet/SKILL.md; echo -n new >/mnt/memory/notes/a.md").await;
    running.kill().await;
    let running = here.bench.start(here.bench.keeping(&arguments));
    assert_eq!(output(&session, "cat /mnt/memory/notes/a.md skills/greet/SKILL.md").await, "new# Greet");
    end(&session).await;
    assert_eq!(pairs(&here.memories(&store).await), [("/a.md", "new")]);
    assert_eq!(here.bench.emulator.log().of(Operation::GetSkillVersion).len(), 1, "it was furnished once");
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_sandbox_is_followed_by_one_with_everything_in_its_place() {
    let here = Furnished::new().await;
    let store = here.store("notes", &[("/a.md", "old")]).await;
    let law = here.store("law", &[("/law.md", "law")]).await;
    here.bench.emulator.add_skill("good", SkillUpload::new("greet", "", &[("SKILL.md", b"# Greet")]));
    let running = here.run(&["--standby-after", "1h"]);
    let resources = json!([
        {"type": "memory_store", "memory_store_id": store},
        {"type": "memory_store", "memory_store_id": law, "access": "read_only"},
    ]);
    let session = here.session(&["good"], resources);
    output(&session, "echo -n new >/mnt/memory/notes/a.md").await;
    let [sandbox] = &running.sandboxes()[..] else { panic!("it has one") };
    let keeper = std::fs::read_to_string(sandbox.join("lock")).unwrap();
    let keeper = Pid::from_raw(keeper.split_whitespace().next().unwrap().parse().unwrap()).unwrap();
    kill_process(keeper, Signal::KILL).unwrap();
    let mut found = refused_or(&session, "cat /mnt/memory/*/*.md skills/greet/SKILL.md").await;
    if found.is_err() {
        // It was on its way when the sandbox was lost.
        found = refused_or(&session, "cat /mnt/memory/*/*.md skills/greet/SKILL.md").await;
    }
    assert_eq!(found.unwrap(), "lawnew# Greet");
    let write = CallRequest::tool("write", json!({"file_path": "/mnt/memory/law/law.md", "content": "no"}));
    let call = session.call(vec![write]).unwrap().remove(0);
    let resolved = session.wait_resolved(&call, PATIENCE).await.expect("it is answered");
    assert!(resolved.result.is_error, "{}", resolved.result.text());
    end(&session).await;
    assert_eq!(pairs(&here.memories(&store).await), [("/a.md", "new")]);
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_comes_back_finds_its_stores_in_step() {
    let here = Furnished::new().await;
    let store = here.store("notes", &[("/a.md", "old")]).await;
    here.bench.emulator.add_skill("good", SkillUpload::new("greet", "", &[("SKILL.md", b"# Greet")]));
    let mut command = here.bench.keeping(&["--warm", "0", "--max-idle", "300ms"]);
    command.args(["--park-for", "1h", "--drain", "release"]);
    let running = here.bench.start(command);
    let session = here.session(&["good"], attached(&store));
    output(&session, "echo kept >/workspace/kept; echo -n mine >/mnt/memory/notes/mine.md").await;
    end(&session).await;
    let [sandbox] = &running.sandboxes()[..] else { panic!("it waits for the session") };
    assert!(!sandbox.join("files/workspace/skills/greet").exists(), "what was brought is taken out again");
    assert_eq!(std::fs::read_dir(here.bench.dir.path().join("state/outfits")).unwrap().count(), 0);
    here.remember(&store, "/a.md", "theirs").await;
    here.bench.emulator.add_skill("good", SkillUpload::new("greet", "", &[("SKILL.md", b"# Greet better")]));
    session.message("again").unwrap();
    let found = output(&session, "cat kept /mnt/memory/notes/*.md skills/greet/SKILL.md").await;
    assert_eq!(found, "kept\ntheirsmine# Greet better");
    end(&session).await;
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_store_is_refused_is_told_so_and_ends() {
    let here = Furnished::new().await;
    let store = here.store("notes", &[("/a.md", "a")]).await;
    let refuse = remuda::emulator::FaultRule::on(Operation::ListMemories).times(50).answer(403);
    here.bench.emulator.faults().add(refuse).unwrap();
    let running = here.run(&[]);
    let session = here.session(&[], attached(&store));
    let said = refusal(&session).await;
    assert!(said.contains("refused our credential"), "{said}");
    end(&session).await;
    assert_eq!(running.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_that_are_switched_off_are_not_there() {
    let here = Furnished::new().await;
    let store = here.store("notes", &[("/a.md", "a")]).await;
    let running = here.run(&["--memory-sync", "0"]);
    let session = here.session(&[], attached(&store));
    assert_eq!(output(&session, "ls -A /mnt/memory | wc -l").await, "0");
    end(&session).await;
    assert_eq!(running.stop().await.code, Some(0));
    let ended = here.run(&["--memory-sync", "1s"]).ended().await;
    assert_eq!(ended.code, Some(64));
    assert!(ended.stderr.contains("not asked about more often than every 5s"), "{}", ended.stderr);
}

/// A server of this one file, on loopback; its address.
async fn serve(contents: &'static [u8]) -> String {
    let app = axum::Router::new()
        .route("/inputs/a.txt", axum::routing::get(move || async move { contents }))
        .route(
            "/inputs/away",
            axum::routing::get(|| async { axum::response::Redirect::to("/inputs/a.txt") }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_come_from_where_they_may_and_outputs_go_where_they_shall() {
    let here = Furnished::new().await;
    let (inputs, outputs) = (here.bench.dir.path().join("inputs"), here.bench.dir.path().join("outputs"));
    std::fs::create_dir(&inputs).unwrap();
    std::fs::create_dir(&outputs).unwrap();
    std::fs::write(inputs.join("b.txt"), "from the host").unwrap();
    std::fs::write(inputs.join("c.zip"), zip(&[("c/d/e.txt".to_owned(), &b"packed"[..])])).unwrap();
    let server = serve(b"from a server").await;
    let (inputs, outputs) = (inputs.to_str().unwrap().to_owned(), outputs.to_str().unwrap().to_owned());
    let url = format!("{server}/inputs/");
    let mut command = here.bench.keeping(&["--warm", "0", "--max-idle", "300ms", "--drain", "release"]);
    command.args(["--input-dir", &inputs, "--input-url", &url, "--output-dir", &outputs]);
    let running = here.bench.start(command);
    let hash = "0".repeat(64);
    let hash = hash.as_str();
    let digest = sha256(b"from a server");
    let metadata = json!({
        "remuda.input.a": json!({"from": format!("{url}a.txt"), "to": "in/a.txt", "sha256": digest}).to_string(),
        "remuda.input.b": json!({"from": format!("{inputs}/b.txt"), "to": "in/b.txt"}).to_string(),
        "remuda.input.c": json!({"from": format!("{inputs}/c.zip"), "to": "in/c", "unpack": true}).to_string(),
    });
    let session = here.asking(metadata);
    let found =
        output(&session, "cd /workspace/in && cat a.txt b.txt c/d/e.txt && find . -type f | wc -l").await;
    assert_eq!(found, "from a serverfrom the hostpacked3");
    output(&session, "cd /workspace && mkdir -p outputs/x && cd outputs && echo -n 1 >x/one && ln -s /etc/passwd link && echo mine >../in/b.txt").await;
    end(&session).await;
    let collected = std::path::Path::new(&outputs).join(session.id().as_str());
    assert_eq!(std::fs::read_to_string(collected.join("outputs/x/one")).unwrap(), "1");
    assert!(!collected.join("outputs/link").exists() && !collected.join("in").exists(), "and nothing else");
    // It comes back to files of its own, which are not brought again.
    session.message("again").unwrap();
    assert_eq!(
        output(&session, "cat /workspace/in/b.txt; echo -n 2 >/workspace/outputs/x/one").await,
        "mine"
    );
    end(&session).await;
    assert_eq!(std::fs::read_to_string(collected.join("outputs/x/one")).unwrap(), "2");

    for (from, digest, what) in [
        (format!("{server}/other.txt"), Some(hash), "in no place that inputs may come from"),
        (format!("{url}a.txt"), None, "needs a `sha256`"),
        (format!("{url}a.txt"), Some(hash), "hashes to"),
        (format!("{url}away"), Some(hash), "HTTP 303"),
        (format!("{url}none"), Some(hash), "HTTP 404"),
        ("/etc/passwd".to_owned(), None, "in no place that inputs may come from"),
        (format!("{inputs}/../state/owner"), None, "in no place that inputs may come from"),
    ] {
        let mut wish = json!({"from": from, "to": "a"});
        if let Some(digest) = digest {
            wish["sha256"] = digest.into();
        }
        let session = here.asking(json!({"remuda.input.x": wish.to_string()}));
        let said = refusal(&session).await;
        assert!(said.contains("`remuda.input.x`") && said.contains(what), "{from}: {said}");
        end(&session).await;
    }
    assert_eq!(running.stop().await.code, Some(0));
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_brought_or_collected_unless_that_is_asked_for() {
    let here = Furnished::new().await;
    let running = here.run(&[]);
    let wish = json!({"from": "/etc/passwd", "to": "a"}).to_string();
    let session = here.asking(json!({"remuda.input.a": wish}));
    assert_eq!(output(&session, "ls -A /workspace | wc -l").await, "0");
    end(&session).await;
    assert_eq!(running.stop().await.code, Some(0));
}
