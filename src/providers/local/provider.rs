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
    Capabilities, Hand, HandError, OwnerId, ProviderError, Sandbox, SandboxProvider, SandboxSpec, Standby,
    Usage,
};
use tokio::sync::Semaphore;

use super::hand::LocalHand;
use super::hierarchies::{Cgroups, Hierarchies};
use super::leftovers;
use super::processes::is_dead;
use super::unreadable::Unreadable;
use super::usage::AT_ONCE;
use crate::hand::client::HandClient;
use crate::launch::{Folder, Isolation, Keeper, Limits, Network, Spec, keeper};
use crate::outfit::Hands;

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
    /// Bounds how many sandboxes are measured at once.
    pub(super) measuring: Arc<Semaphore>,
    unreadable: Arc<Unreadable>,
}

impl LocalProvider {
    /// Sets the provider up. Nothing is started.
    ///
    /// # Errors
    /// [`SetupError`] if the folder cannot be used.
    pub fn new(options: Options) -> Result<Self, SetupError> {
        Self::with_cgroups(options, Cgroups::Any)
    }

    /// The same, with a say in which control groups new sandboxes are put in. The others it leaves alone.
    ///
    /// # Errors
    /// [`SetupError`] if the folder cannot be used.
    pub fn with_cgroups(options: Options, cgroups: Cgroups) -> Result<Self, SetupError> {
        let prepare = || {
            fs::DirBuilder::new().recursive(true).mode(0o711).create(&options.dir)?;
            // Each sandbox runs under an id of its own, which has to get to its folder, but to see no other.
            fs::set_permissions(&options.dir, fs::Permissions::from_mode(0o711))?;
            let leftovers = leftovers::find(&options.dir)?;
            super::succession::undo_all(&options.dir)?;
            leftovers::remove(leftovers);
            Ok(())
        };
        prepare().map_err(|source| SetupError::Folder { path: options.dir.clone(), source })?;
        SetupError::check_reachable(&options)?;
        let hierarchies = Hierarchies::find(options.owner.as_str(), cgroups);
        hierarchies.sweep(|name| options.dir.join(name).exists());
        tracing::debug!(cgroups = hierarchies.describe(), "local sandboxes are set up");
        let measuring = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self {
            options,
            hierarchies,
            choosing: tokio::sync::Mutex::default(),
            measuring,
            unreadable: Arc::default(),
        })
    }

    /// The folder of a sandbox.
    pub(super) fn folder(&self, id: &SandboxId) -> Result<PathBuf, ProviderError> {
        folder_of(&self.options.dir, id).ok_or_else(|| ProviderError::Refused {
            what: format!(
                "`{id}` cannot name a sandbox: expected 1 to {MAX_NAME} bytes without a leading dot"
            ),
        })
    }

    /// What is written about a sandbox; none if it has no folder.
    pub(super) fn read(folder: &Path) -> Result<Option<Spec>, ProviderError> {
        match fs::read(Folder(folder).spec()) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| unavailable("read what is written about a sandbox", io::Error::from(error))),
            // What is not even a folder is no sandbox.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(unavailable("read what is written about a sandbox", error)),
        }
    }

    /// A sandbox that lives: its launcher does, so does process 1, and that has come so far as to listen.
    pub(super) fn alive(&self, id: &SandboxId) -> Result<(Spec, Keeper), ProviderError> {
        living(&self.folder(id)?)?.ok_or_else(|| ProviderError::NotFound { id: id.clone() })
    }
}

/// The sandbox in a folder, if it lives.
pub(super) fn living(folder: &Path) -> Result<Option<(Spec, Keeper)>, ProviderError> {
    let Some(spec) = LocalProvider::read_if_kept(folder)? else { return Ok(None) };
    let keeper = keeper(Folder(folder));
    let keeper = keeper.map_err(|error| unavailable("look at a sandbox's lock", error))?;
    // A frozen launcher does not notice that process 1 was killed.
    let living = keeper.filter(|keeper| {
        keeper.first.is_some_and(|first| !is_dead(first)) && Folder(folder).socket().exists()
    });
    Ok(living.map(|keeper| (spec, keeper)))
}

/// The folder of a sandbox; none if that cannot have one.
pub(super) fn folder_of(dir: &Path, id: &SandboxId) -> Option<PathBuf> {
    let name = utf8_percent_encode(id.as_str(), NAME).to_string();
    let is_usable = !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with('.');
    is_usable.then(|| dir.join(name))
}

/// Every sandbox's folder in the provider's.
pub(super) fn folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let is_sandbox = |entry: &fs::DirEntry| !entry.file_name().as_encoded_bytes().starts_with(b".");
    let entries = fs::read_dir(dir)?.filter(|entry| entry.as_ref().map_or(true, is_sandbox));
    entries.map(|entry| Ok(entry?.path())).collect()
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
        Capabilities { standby: Standby::Memory, keeps_files: true }
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError> {
        if let Some(image) = &spec.image {
            let what = format!("local sandboxes have no images, so `{image}` cannot be had: name none");
            return Err(ProviderError::Refused { what });
        }
        self.start(spec).await.map(describe)
    }

    async fn find(&self, id: &SandboxId) -> Result<Option<Sandbox>, ProviderError> {
        match self.alive(id) {
            Ok((spec, _)) => Ok(Some(describe(spec))),
            Err(ProviderError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, owner: &OwnerId) -> Result<Vec<Sandbox>, ProviderError> {
        let (dir, owner) = (self.options.dir.clone(), owner.clone());
        let (ours, unreadable) = (self.options.owner.clone(), Arc::clone(&self.unreadable));
        let failed = |error| unavailable("list the sandboxes' folders", error);
        let listing = tokio::task::spawn_blocking(move || -> Result<Vec<Sandbox>, ProviderError> {
            let mut sandboxes = Vec::new();
            for folder in folders(&dir).map_err(failed)? {
                // One that went while we looked is not there.
                let found = match Self::read(&folder) {
                    Ok(spec) => spec.map(describe),
                    Err(error) => unreadable.found(&dir, &folder, &ours, &error),
                };
                sandboxes.extend(found.filter(|sandbox| sandbox.owner == owner));
            }
            sandboxes.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(sandboxes)
        });
        listing.await.unwrap_or_else(|error| Err(failed(io::Error::other(error))))
    }

    fn hand(&self, id: &SandboxId) -> Arc<dyn Hand> {
        Arc::new(LocalHand::new(self.folder(id)))
    }

    async fn standby(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.freeze(id).await
    }

    async fn resume(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.thaw(id).await
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, ProviderError> {
        self.measure(id).await
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.remove(id).await
    }
}

#[async_trait]
impl Hands for LocalProvider {
    async fn client(&self, sandbox: &SandboxId) -> Result<HandClient, HandError> {
        LocalHand::new(self.folder(sandbox)).client().await.cloned()
    }
}
