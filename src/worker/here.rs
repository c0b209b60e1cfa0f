//! A sandbox that is none: the place where this process runs, with a hand of its own to run tools there.
//!
//! For a worker inside a sandbox of somebody else's, which keeps the session apart from everything else already.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{
    Capabilities, Hand, OwnerId, ProviderError, Sandbox, SandboxProvider, SandboxSpec, Usage,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::hand::client::HandClient;

/// Time for a hand to end by itself, before it is killed: it has to end what its tools have started.
const GRACE: Duration = Duration::from_secs(10);

/// Makes one sandbox, here.
#[derive(Debug)]
pub struct HereProvider {
    /// The program that is started as the hand, with what comes before its subcommand.
    program: (PathBuf, Vec<String>),
    workdir: PathBuf,
    /// Where hands keep their sockets and journals.
    folder: PathBuf,
    present: Mutex<Option<Present>>,
}

#[derive(Debug)]
struct Present {
    sandbox: SandboxId,
    owner: OwnerId,
    session: Option<remuda_actors::ids::SessionId>,
    since: Instant,
    hand: Child,
}

impl HereProvider {
    /// Tools work in `workdir`; hands keep what is theirs in `folder`, where tools must not get.
    pub fn new(program: PathBuf, arguments: Vec<String>, workdir: PathBuf, folder: &Path) -> Self {
        Self { program: (program, arguments), workdir, folder: folder.to_owned(), present: Mutex::default() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("hand.sock")
    }

    /// The present sandbox, if its hand lives.
    fn alive(&self) -> Option<Sandbox> {
        let mut present = self.present.lock();
        let present = present.as_mut()?;
        if !matches!(present.hand.try_wait(), Ok(None)) {
            return None;
        }
        let (id, owner, session) = (present.sandbox.clone(), present.owner.clone(), present.session.clone());
        Some(Sandbox { id, owner, session, age: present.since.elapsed() })
    }

    async fn begin(&self) -> io::Result<Child> {
        let (program, arguments) = &self.program;
        let mut listen = std::ffi::OsString::from("unix:");
        listen.push(self.socket());
        let mut hand = Command::new(program)
            .args(arguments)
            .args(["serve", "--listen"])
            .arg(listen)
            .arg("--workdir")
            .arg(&self.workdir)
            .arg("--state-dir")
            .arg(self.folder.join("calls"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = hand.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).await?;
        }
        if line.starts_with("ready") {
            Ok(hand)
        } else {
            Err(io::Error::other("the hand died without a word"))
        }
    }
}

#[async_trait]
impl SandboxProvider for HereProvider {
    fn name(&self) -> &'static str {
        "here"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError> {
        if let Some(present) = self.alive() {
            return Err(ProviderError::AlreadyExists { id: present.id });
        }
        let unavailable = |source: io::Error| ProviderError::Unavailable {
            what: format!("could not start a hand in {}", self.workdir.display()),
            source: source.into(),
        };
        let hand = self.begin().await.map_err(unavailable)?;
        *self.present.lock() = Some(Present {
            sandbox: spec.id.clone(),
            owner: spec.owner.clone(),
            session: spec.session.clone(),
            since: Instant::now(),
            hand,
        });
        self.alive().ok_or_else(|| unavailable(io::Error::other("it ended at once")))
    }

    async fn find(&self, id: &SandboxId) -> Result<Option<Sandbox>, ProviderError> {
        Ok(self.alive().filter(|present| present.id == *id))
    }

    async fn list(&self, owner: &OwnerId) -> Result<Vec<Sandbox>, ProviderError> {
        Ok(self.alive().filter(|present| present.owner == *owner).into_iter().collect())
    }

    fn hand(&self, _: &SandboxId) -> Arc<dyn Hand> {
        Arc::new(HandClient::unix(self.socket()))
    }

    async fn standby(&self, id: &SandboxId) -> Result<(), ProviderError> {
        Err(ProviderError::Refused { what: format!("{id} cannot stand by: it is where this process runs") })
    }

    async fn resume(&self, _: &SandboxId) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn usage(&self, _: &SandboxId) -> Result<Usage, ProviderError> {
        Ok(Usage::default())
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let ended = {
            let mut present = self.present.lock();
            present.take_if(|present| present.sandbox == *id)
        };
        let Some(Present { mut hand, .. }) = ended else { return Ok(()) };
        if let Some(pid) =
            hand.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(GRACE, hand.wait()).await.is_err() {
            let _ = hand.kill().await;
        }
        Ok(())
    }
}
