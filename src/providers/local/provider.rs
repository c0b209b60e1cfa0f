//! The provider: which sandboxes there are, and what is done about them.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{
    Capabilities, Hand, OwnerId, ProviderError, Sandbox, SandboxProvider, SandboxSpec, Standby,
};
use rustix::process::Signal;

use super::cgroup::{Groups, Hierarchies};
use super::hand::LocalHand;
use super::processes::signal_below;
use crate::launch::{Folder, Isolation, Limits, Network, Spec, locked_by};

/// Characters of a sandbox's id that its folder's name keeps; a leading dot is not among them, and neither is
/// anything that means something to a file system.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Longest name of a folder, in bytes.
const MAX_NAME: usize = 200;

/// How sandboxes are made on this host.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where their folders are; made if it is not there.
    pub dir: PathBuf,
    /// The program that is started for each, as the hand: `remuda` itself (with `hand` as its first argument)
    /// or `remuda-hand`.
    pub program: PathBuf,
    /// What comes before its subcommand.
    pub arguments: Vec<String>,
    /// Whose they are.
    pub owner: OwnerId,
    /// How they are kept apart from the host.
    pub isolation: Isolation,
    /// What they can reach.
    pub network: Network,
    /// What each may use.
    pub limits: Limits,
}

/// Why sandboxes cannot be made here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The folder cannot be used.
    #[error("could not use the folder {} for sandboxes", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Sandboxes could not get to their folders.
    #[error(
        "without isolation, sandboxes run as users of their own, who cannot get through {}: open it with \
         `chmod o+x`, or choose another state directory", path.display()
    )]
    Closed {
        /// The folder that lets nobody through.
        path: PathBuf,
    },
}

impl SetupError {
    /// Sandboxes without isolation reach their folders the way every program does, under an id of their own.
    fn check_reachable(options: &Options) -> Result<(), Self> {
        if options.isolation != Isolation::None || !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let is_closed =
            |folder: &&Path| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 == 0);
        match options.dir.ancestors().find(is_closed) {
            Some(closed) => Err(Self::Closed { path: closed.to_owned() }),
            None => Ok(()),
        }
    }
}

/// Makes sandboxes on this host.
#[derive(Debug)]
pub struct LocalProvider {
    pub(super) options: Options,
    pub(super) hierarchies: Hierarchies,
    /// Held while an id of the host is chosen and the sandbox that gets it is written down.
    pub(super) choosing: tokio::sync::Mutex<()>,
}

impl LocalProvider {
    /// Sets the provider up. Nothing is started.
    ///
    /// # Errors
    /// [`SetupError`] if the folder cannot be used.
    pub fn new(options: Options) -> Result<Self, SetupError> {
        let prepare = || {
            fs::DirBuilder::new().recursive(true).mode(0o711).create(&options.dir)?;
            // Each sandbox runs under an id of its own, which has to get to its folder, but to see no other.
            fs::set_permissions(&options.dir, fs::Permissions::from_mode(0o711))?;
            // What a process that died was in the middle of making or removing.
            for unfinished in [super::start::NEW, super::delete::OLD] {
                let unfinished = options.dir.join(unfinished);
                if unfinished.exists() {
                    super::delete::discard_all(&unfinished)?;
                }
                fs::DirBuilder::new().mode(0o700).create(&unfinished)?;
            }
            Ok(())
        };
        prepare().map_err(|source| SetupError::Folder { path: options.dir.clone(), source })?;
        SetupError::check_reachable(&options)?;
        let hierarchies = Hierarchies::find(options.owner.as_str());
        tracing::debug!(cgroups = hierarchies.describe(), "local sandboxes are set up");
        Ok(Self { options, hierarchies, choosing: tokio::sync::Mutex::new(()) })
    }

    /// The folder of a sandbox.
    pub(super) fn folder(&self, id: &SandboxId) -> Result<PathBuf, ProviderError> {
        let name = utf8_percent_encode(id.as_str(), NAME).to_string();
        if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') {
            let what =
                format!("`{id}` cannot name a sandbox: expected 1 to {MAX_NAME} bytes without a leading dot");
            return Err(ProviderError::Refused { what });
        }
        Ok(self.options.dir.join(name))
    }

    /// What is written about a sandbox; none if it has no folder.
    pub(super) fn read(folder: &Path) -> Result<Option<Spec>, ProviderError> {
        match fs::read(Folder(folder).spec()) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| unavailable("read what is written about a sandbox", io::Error::from(error))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable("read what is written about a sandbox", error)),
        }
    }

    /// A sandbox that lives.
    fn alive(&self, id: &SandboxId) -> Result<Option<(Spec, u32)>, ProviderError> {
        let folder = self.folder(id)?;
        let Some(spec) = Self::read(&folder)? else { return Ok(None) };
        let launcher =
            locked_by(Folder(&folder)).map_err(|error| unavailable("look at a sandbox's lock", error))?;
        Ok(launcher.map(|launcher| (spec, launcher)))
    }
}

pub(super) fn unavailable(what: &str, source: io::Error) -> ProviderError {
    ProviderError::Unavailable { what: format!("could not {what}"), source: source.into() }
}

fn describe(spec: Spec) -> Sandbox {
    let age = spec.age();
    Sandbox { id: spec.id, owner: spec.owner, session: spec.session, age }
}

impl Drop for LocalProvider {
    fn drop(&mut self) {
        self.hierarchies.remove();
    }
}

#[async_trait]
impl SandboxProvider for LocalProvider {
    fn name(&self) -> &'static str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { standby: Standby::Memory }
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError> {
        self.start(spec).await.map(describe)
    }

    async fn find(&self, id: &SandboxId) -> Result<Option<Sandbox>, ProviderError> {
        Ok(self.alive(id)?.map(|(spec, _)| describe(spec)))
    }

    async fn list(&self, owner: &OwnerId) -> Result<Vec<Sandbox>, ProviderError> {
        let listing = || -> Result<Vec<Sandbox>, ProviderError> {
            let failed = |error| unavailable("list the sandboxes' folders", error);
            let mut sandboxes = Vec::new();
            for entry in fs::read_dir(&self.options.dir).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                // One that went while we looked is not there.
                if let Some(spec) = Self::read(&entry.path())?.filter(|spec| spec.owner == *owner) {
                    sandboxes.push(describe(spec));
                }
            }
            sandboxes.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(sandboxes)
        };
        listing()
    }

    fn hand(&self, id: &SandboxId) -> Arc<dyn Hand> {
        Arc::new(LocalHand::new(self.folder(id)))
    }

    async fn standby(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let Some((spec, launcher)) = self.alive(id)? else {
            return Err(ProviderError::NotFound { id: id.clone() });
        };
        let frozen = Groups::of(&spec.cgroups).freeze().await;
        if !frozen.map_err(|error| unavailable("freeze the sandbox", error))? {
            signal_below(launcher, Signal::STOP);
        }
        Ok(())
    }

    async fn resume(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let Some((spec, launcher)) = self.alive(id)? else {
            return Err(ProviderError::NotFound { id: id.clone() });
        };
        let thawed = Groups::of(&spec.cgroups).thaw();
        if !thawed.map_err(|error| unavailable("thaw the sandbox", error))? {
            signal_below(launcher, Signal::CONT);
        }
        Ok(())
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.remove(id).await
    }
}
