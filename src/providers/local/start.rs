//! Starting a sandbox: its folder, its groups, its launcher.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use rand::RngExt as _;
use remuda_actors::ports::{ProviderError, SandboxSpec};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStdout, Command};

use super::cgroup::Groups;
use super::provider::{LocalProvider, unavailable};
use crate::launch::{Folder, Refusal, RefusalKind, Spec, locked_by};

/// Where folders are made before they get their name.
pub(super) const NEW: &str = ".new";

/// The first of the host's ids that sandboxes run under when remuda is root. High enough to be nobody's: the
/// ranges that systemd and subordinate ids take end far below.
const FIRST_ID: u32 = 1_879_048_192;

/// How many there are, which bounds the sandboxes on one host.
const IDS: u32 = 65_536;

/// Longest line that a launcher writes, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// Longest part of a sandbox's log that goes into an error, in characters.
const MAX_LOG: usize = 500;

impl LocalProvider {
    /// Makes the sandbox and waits until its hand answers.
    pub(super) async fn start(&self, wanted: &SandboxSpec) -> Result<Spec, ProviderError> {
        let folder = self.folder(&wanted.id)?;
        let spec = self.reserve(&folder, wanted).await?;
        let started = self.launch(&folder).await;
        if let Err(error) = started {
            // Whatever of it runs goes with it. Should we die here, the next listing shows it.
            let _ = self.remove(&wanted.id).await;
            return Err(error);
        }
        Ok(spec)
    }

    /// Makes the folder under its name, with everything in it.
    async fn reserve(&self, folder: &Path, wanted: &SandboxSpec) -> Result<Spec, ProviderError> {
        if Self::read(folder)?.is_some() {
            let locked =
                locked_by(Folder(folder)).map_err(|error| unavailable("look at a sandbox's lock", error))?;
            if locked.is_some() {
                return Err(ProviderError::AlreadyExists { id: wanted.id.clone() });
            }
            // Dead, so the name is free.
            self.remove(&wanted.id).await?;
        }
        let _choosing = self.choosing.lock().await;
        let run_as = if rustix::process::geteuid().is_root() { Some(self.free_id()?) } else { None };
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let groups = self
            .hierarchies
            .create(&name, &self.options.limits)
            .map_err(|error| unavailable("make the sandbox's cgroup", error))?;
        let spec = Spec {
            id: wanted.id.clone(),
            owner: wanted.owner.clone(),
            session: wanted.session.clone(),
            created_ms: now_ms(),
            isolation: self.options.isolation,
            network: self.options.network,
            limits: self.options.limits.clone(),
            run_as,
            cgroups: groups.paths(),
        };
        if let Err(error) = self.furnish(folder, &spec) {
            Groups::of(&spec.cgroups).remove().await;
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
                    ProviderError::AlreadyExists { id: wanted.id.clone() }
                }
                _ => unavailable("make the sandbox's folder", error),
            });
        }
        Ok(spec)
    }

    /// An id that no other sandbox of this host's has.
    fn free_id(&self) -> Result<u32, ProviderError> {
        let failed = |error| unavailable("list the sandboxes' folders", error);
        let mut taken = BTreeSet::new();
        for entry in fs::read_dir(&self.options.dir).map_err(failed)? {
            let spec = Self::read(&entry.map_err(failed)?.path())?;
            taken.extend(spec.and_then(|spec| spec.run_as));
        }
        // Others may make sandboxes elsewhere on this host: a random start makes meeting them unlikely.
        let start = rand::rng().random_range(0..IDS);
        let mut ids = (0..IDS).map(|n| FIRST_ID + (start + n) % IDS);
        ids.find(|id| !taken.contains(id)).ok_or_else(|| ProviderError::Refused {
            what: format!("there are {IDS} sandboxes on this host already, one for each id there is"),
        })
    }

    /// Fills a folder and gives it its name, in one step.
    fn furnish(&self, folder: &Path, spec: &Spec) -> io::Result<()> {
        let new = tempfile::Builder::new().prefix("").tempdir_in(self.options.dir.join(NEW))?;
        let here = Folder(new.path());
        fs::write(here.spec(), serde_json::to_vec_pretty(spec)?)?;
        let token = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(here.token())?;
        io::Write::write_all(&mut &token, token_text().as_bytes())?;
        for own in [here.workspace(), here.memory(), here.tmp(), here.run()] {
            fs::DirBuilder::new().mode(0o700).create(&own)?;
            if let Some(id) = spec.run_as {
                chown(&own, Some(id), Some(id))?;
            }
        }
        fs::create_dir(here.root())?;
        // The sandbox's own id passes through, and sees nothing but what is its own.
        fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
        fs::rename(new.path(), folder)?;
        // It has its name now, and is not temporary any more.
        drop(new.keep());
        Ok(())
    }

    /// Starts the launcher, detached, and waits for its word.
    async fn launch(&self, folder: &Path) -> Result<(), ProviderError> {
        let failed = |error| unavailable("start the sandbox's launcher", error);
        let log =
            fs::OpenOptions::new().create(true).append(true).open(Folder(folder).log()).map_err(failed)?;
        let mut launcher = Command::new(&self.options.program)
            .args(&self.options.arguments)
            .args([OsStr::new("launch"), folder.as_os_str()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let word = match launcher.stdout.take() {
            Some(stdout) => word(stdout).await.map_err(failed)?,
            None => String::new(),
        };
        // It is on its own from here: the runtime reaps it should it end before we do.
        drop(launcher);
        if word.trim_end() == "\"ready\"" {
            return Ok(());
        }
        Err(match serde_json::from_str(&word) {
            Ok(Refusal { kind: RefusalKind::Unusable, message }) => ProviderError::Unusable { what: message },
            Ok(Refusal { kind: RefusalKind::Failed, message }) => {
                unavailable("start the sandbox", io::Error::other(message))
            }
            Err(_) => unavailable("start the sandbox", io::Error::other(last_words(&Folder(folder).log()))),
        })
    }
}

async fn word(stdout: ChildStdout) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(tokio::io::AsyncReadExt::take(stdout, MAX_LINE)).read_line(&mut line).await?;
    Ok(line)
}

/// What a launcher that died without a word left in its log.
fn last_words(log: &PathBuf) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let log = log.trim();
    match log.char_indices().rev().nth(MAX_LOG) {
        _ if log.is_empty() => "its launcher died without a word".to_owned(),
        Some((at, _)) => format!("its launcher died: …{}", &log[at..]),
        None => format!("its launcher died: {log}"),
    }
}

/// 256 bits that only the hand and we know.
fn token_text() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
