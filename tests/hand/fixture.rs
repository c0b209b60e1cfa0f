//! A hand of one's own, in a temporary directory, gone with the test.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use remuda::hand::client::{ClientError, HandClient};
use remuda::hand::wire::{CallReply, CallRequest};
use remuda_actors::ids::CallId;
use remuda_actors::tool::ToolResult;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest time anything in these tests may take to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Hand {
    pub(crate) dir: TempDir,
    pub(crate) workdir: PathBuf,
    pub(crate) client: HandClient,
    process: Process,
    options: Options,
    calls: AtomicU32,
}

/// How a hand is started.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// Arguments behind the usual ones.
    pub(crate) arguments: Vec<String>,
    /// Environment variables besides those of the test.
    pub(crate) environment: Vec<(String, String)>,
    /// Shell text that runs before the hand takes the shell's place.
    pub(crate) prelude: String,
}

impl Hand {
    pub(crate) fn start() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let workdir = root.join("w");
        std::fs::create_dir(&workdir).unwrap();
        let (process, _) = spawn(&root, &options, &socket_argument(&root)).expect("the hand starts");
        let client = HandClient::unix(root.join("s"));
        Self { dir, workdir, client, process, options, calls: AtomicU32::new(0) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.workdir.join(name)
    }

    /// A path beside the working directory.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.workdir.with_file_name(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a tool under an id of its own.
    pub(crate) async fn tool(&self, tool: &str, input: Value) -> ToolResult {
        self.reply(tool, input).await.unwrap().result
    }

    pub(crate) async fn reply(&self, tool: &str, input: Value) -> Result<CallReply, ClientError> {
        let id = CallId::from(format!("call_{}", self.calls.fetch_add(1, Ordering::Relaxed)));
        bounded(self.client.call(&id, &request(tool, input))).await
    }

    pub(crate) async fn bash(&self, command: &str) -> ToolResult {
        self.tool("bash", json!({ "command": command })).await
    }

    /// The output of a command that must succeed.
    pub(crate) async fn output(&self, command: &str) -> String {
        let result = self.bash(command).await;
        assert!(!result.is_error, "{command}: {}", result.text());
        result.text()
    }

    /// Waits until `command` succeeds in a thread of its own.
    pub(crate) async fn eventually(&self, command: &str) {
        let start = Instant::now();
        loop {
            let id = CallId::from(format!("eventually_{}", self.calls.fetch_add(1, Ordering::Relaxed)));
            let mut request = request("bash", json!({ "command": command }));
            request.thread = Some("eventually".into());
            if !bounded(self.client.call(&id, &request)).await.unwrap().result.is_error {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{command} never came true");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills the hand without warning and starts another one on the same directories.
    pub(crate) fn crash_and_restart(&mut self) {
        self.crash();
        self.restart();
    }

    pub(crate) fn crash(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        let root = self.dir.path().canonicalize().unwrap();
        self.process = spawn(&root, &self.options, &socket_argument(&root)).expect("the hand restarts").0;
        self.client = HandClient::unix(root.join("s"));
    }

    /// Kills the process group whose number is in the file `name`: what a crashed hand has left behind. In a
    /// sandbox it would be gone with the hand, which is process 1 there.
    pub(crate) fn kill_left(&self, name: &str) {
        let leader = self.read(name).trim().parse().ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process_group(leader.unwrap(), rustix::process::Signal::KILL).unwrap();
    }

    /// Asks the hand to end and waits until it has.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "the hand does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // A failing test must fail with its own words; then the process is killed.
        if !std::thread::panicking() && matches!(self.process.0.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}

pub(crate) fn request(tool: &str, input: Value) -> CallRequest {
    CallRequest { tool: tool.to_owned(), input, thread: None, again: false, timeout_ms: None }
}

pub(crate) fn bash(command: &str) -> CallRequest {
    request("bash", json!({ "command": command }))
}

pub(crate) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes too long")
}

fn socket_argument(root: &Path) -> String {
    format!("unix:{}", root.join("s").display())
}

/// A process that does not outlive its owner.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Harmless when it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a hand below `root`, and returns it with the address it said it was ready at, or its complaint.
pub(crate) fn spawn(root: &Path, options: &Options, listen: &str) -> Result<(Process, String), String> {
    let script = format!("{}\nexec \"$@\"", options.prelude);
    let mut command = Command::new("/bin/bash");
    command.args(["-c", &script, "bash", env!("CARGO_BIN_EXE_remuda-hand"), "serve"]);
    command.args(["--listen", listen]);
    command.arg("--workdir").arg(root.join("w"));
    command.arg("--state-dir").arg(root.join("state"));
    command.args(&options.arguments);
    command.envs(options.environment.iter().map(|(name, value)| (name, value)));
    let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = Process(process.unwrap());
    let mut out = BufReader::new(process.0.stdout.take().unwrap());
    let mut err = BufReader::new(process.0.stderr.take().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        if line.is_empty() {
            std::io::Read::read_to_string(&mut err, &mut line).unwrap();
            let _ = tell.send(Err(line));
        } else {
            let _ = tell.send(Ok(line.trim_end().strip_prefix("ready ").unwrap().to_owned()));
        }
    });
    let told = told.recv_timeout(PATIENCE).expect("the hand says something");
    told.map(|address| (process, address))
}
