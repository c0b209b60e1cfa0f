//! Starting a sandbox: its folder, its groups, its launcher.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::SystemTime;

use rand::RngExt as _;
use remuda_actors::ports::{ProviderError, SandboxSpec};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStdout, Command};

use super::provider::{LocalProvider, folders, unavailable};
use super::succession::Predecessor;
use crate::launch::{Folder, Limits, Network, Refusal, RefusalKind, Spec};

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

/// What becomes of the files of a sandbox whose folder is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Files {
    /// There are none yet.
    New,
    /// They are moved there later.
    Later,
}

impl LocalProvider {
    /// Makes the sandbox and waits until its hand answers.
    pub(super) async fn start(&self, wanted: &SandboxSpec) -> Result<Spec, ProviderError> {
        let folder = self.folder(&wanted.id)?;
        self.vacate(&folder, wanted).await?;
        let old = self.predecessor(wanted).await?;
        let spec = self.reserve(&folder, wanted, old.as_ref()).await?;
        let started = match old.as_ref().filter(|old| old.has_files()).map(|old| old.hand_over(&folder)) {
            None | Some(Ok(())) => self.launch(&folder).await,
            Some(failed) => failed,
        };
        if let Err(error) = started {
            // Whatever of it runs goes with it. Should we die here, the next listing shows it.
            let _ = self.remove(&wanted.id).await;
            return Err(error);
        }
        if let Some(Predecessor { folder, dead, .. }) = old
            && let Err(error) = self.discard(folder, dead).await
        {
            // The new one lives and has the files; the remains are listed until they are deleted.
            tracing::warn!(error = %error, "the remains of an old sandbox are left");
        }
        Ok(spec)
    }

    /// Makes the folder under its name, with everything in it but what it takes over.
    async fn reserve(
        &self,
        folder: &Path,
        wanted: &SandboxSpec,
        old: Option<&Predecessor>,
    ) -> Result<Spec, ProviderError> {
        let heir_of = old.filter(|old| old.has_files());
        let _choosing = self.choosing.lock().await;
        let run_as = match heir_of {
            Some(old) => old.run_as,
            None if rustix::process::geteuid().is_root() => Some(self.free_id()?),
            None => None,
        };
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let (limits, network) = self.bounds(wanted);
        let groups = self
            .hierarchies
            .create(&name, &limits)
            .map_err(|error| unavailable("make the sandbox's cgroup", error))?;
        let spec = Spec {
            id: wanted.id.clone(),
            owner: wanted.owner.clone(),
            session: wanted.session.clone(),
            created_ms: now_ms(),
            isolation: self.options.isolation,
            network,
            limits,
            run_as,
            cgroups: groups.paths(),
            files_of: wanted.files_of.clone(),
        };
        let files = if heir_of.is_some() { Files::Later } else { Files::New };
        if let Err(error) = self.furnish(folder, &spec, files) {
            groups.remove().await;
            return Err(match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
                    ProviderError::AlreadyExists { id: wanted.id.clone() }
                }
                _ => unavailable("make the sandbox's folder", error),
            });
        }
        Ok(spec)
    }

    /// What a sandbox may use and reach: what is wanted, and for the rest what all may.
    fn bounds(&self, wanted: &SandboxSpec) -> (Limits, Network) {
        let (all, wanted) = (&self.options.limits, &wanted.limits);
        let limits = Limits {
            processes: wanted.processes.unwrap_or(all.processes),
            memory_bytes: wanted.memory_bytes.unwrap_or(all.memory_bytes),
            file_bytes: wanted.file_bytes.unwrap_or(all.file_bytes),
            ..all.clone()
        };
        let network = match wanted.network {
            Some(true) => Network::Host,
            Some(false) => Network::None,
            None => self.options.network,
        };
        (limits, network)
    }

    /// An id that no other sandbox of this host's has.
    fn free_id(&self) -> Result<u32, ProviderError> {
        let folders = folders(&self.options.dir);
        let folders = folders.map_err(|error| unavailable("list the sandboxes' folders", error))?;
        // Each has something that is its own from the beginning to the end.
        let owner = |folder: PathBuf| fs::symlink_metadata(Folder(&folder).run()).ok().map(|run| run.uid());
        let taken: BTreeSet<u32> = folders.into_iter().filter_map(owner).collect();
        // Others may make sandboxes elsewhere on this host: a random start makes meeting them unlikely.
        let start = rand::rng().random_range(0..IDS);
        let mut ids = (0..IDS).map(|n| FIRST_ID + (start + n) % IDS);
        ids.find(|id| !taken.contains(id)).ok_or_else(|| ProviderError::Refused {
            what: format!("there are {IDS} sandboxes on this host already, one for each id there is"),
        })
    }

    /// Fills a folder and gives it its name, in one step.
    pub(super) fn furnish(&self, folder: &Path, spec: &Spec, files: Files) -> io::Result<()> {
        let new = tempfile::Builder::new().prefix("").tempdir_in(self.options.dir.join(NEW))?;
        let here = Folder(new.path());
        let mut written = File::create_new(here.spec())?;
        written.write_all(&serde_json::to_vec_pretty(spec)?)?;
        // A folder that has its name has this too, even after a power cut.
        written.sync_all()?;
        let token = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(here.token())?;
        (&token).write_all(token_text().as_bytes())?;
        let mut own = vec![here.run()];
        if files == Files::New {
            fs::create_dir(here.files())?;
            let_pass(&here.files())?;
            own.extend([here.workspace(), here.memory(), here.tmp(), here.calls()]);
        }
        for own in own {
            fs::DirBuilder::new().mode(0o700).create(&own)?;
            if let Some(id) = spec.run_as {
                chown(&own, Some(id), Some(id))?;
            }
        }
        fs::create_dir(here.root())?;
        let_pass(new.path())?;
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
            // Where it starts is what it is for, even if the folder loses its name to another's before that.
            .current_dir(folder)
            .args(["launch", "."])
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

/// Lets the sandbox's own id pass through a folder, and see nothing but what is its own.
fn let_pass(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))
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
