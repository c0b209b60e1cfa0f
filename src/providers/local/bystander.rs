//! A look at local sandboxes by somebody who does not keep them.
//!
//! Another process may keep them meanwhile: nothing here makes, moves or removes any.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use remuda_actors::ids::{SandboxId, SessionId};
use remuda_actors::ports::ProviderError;

use super::processes::is_dead;
use super::provider::{LocalProvider, folder_of, folders, living, unavailable};
use super::{hand, standby};
use crate::hand::client::HandClient;
use crate::hand::journal;
use crate::launch::{Folder, Spec, keeper};

/// The sandboxes in a provider's folder.
#[derive(Clone, Debug)]
pub struct Bystander(PathBuf);

/// A sandbox, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its id.
    pub id: SandboxId,
    /// The session it was made for; none if it was made ahead.
    pub session: Option<SessionId>,
    /// How long ago it was made.
    pub age: Duration,
    /// How it stands.
    pub standing: Standing,
    /// Whether nothing was ever run in it, and it was made for no session: it is kept for one that comes.
    pub is_blank: bool,
}

/// How a sandbox stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs.
    Running,
    /// It is frozen.
    Standby,
    /// Its launcher is at work, and its hand is not there yet.
    Starting,
    /// It has ended.
    Dead,
}

impl Standing {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Standby => "standby",
            Self::Starting => "starting",
            Self::Dead => "dead",
        }
    }
}

impl Bystander {
    /// Those whose folders are in `dir`, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// All of them, oldest first. What cannot be read is left out.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn all(&self) -> Result<Vec<Seen>, ProviderError> {
        let folders = match folders(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            folders => folders.map_err(|error| unavailable("list the sandboxes' folders", error))?,
        };
        let mut all: Vec<_> = folders.iter().filter_map(|folder| see(folder)).collect();
        all.sort_by(|one, other| (other.age, &one.id).cmp(&(one.age, &other.id)));
        Ok(all)
    }

    /// The sandbox of this id, or the last one that was made for the session of this id.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Seen>, ProviderError> {
        let is_meant = |seen: &Seen| {
            seen.id.as_str() == name || seen.session.as_ref().is_some_and(|session| session.as_str() == name)
        };
        Ok(self.all()?.into_iter().rfind(is_meant))
    }

    /// The way to its hand.
    ///
    /// # Errors
    /// If it has ended, or may not be used by this process's user.
    pub fn hand(&self, id: &SandboxId) -> Result<HandClient, ProviderError> {
        hand::client(&self.folder(id)?).map_err(|error| unavailable("find the sandbox's hand", error))
    }

    /// Lets everything in it go on, if it stands by. Whoever keeps it may put it in standby again.
    ///
    /// # Errors
    /// If it has ended.
    ///
    /// # Cancel safety
    /// It can be repeated.
    pub async fn wake(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let folder = self.folder(id)?;
        let (spec, keeper) = living(&folder)?.ok_or_else(|| ProviderError::NotFound { id: id.clone() })?;
        standby::thaw(&folder, &spec, &keeper).await
    }

    fn folder(&self, id: &SandboxId) -> Result<PathBuf, ProviderError> {
        folder_of(&self.0, id).ok_or_else(|| ProviderError::NotFound { id: id.clone() })
    }
}

fn see(folder: &Path) -> Option<Seen> {
    let spec: Spec = LocalProvider::read(folder).ok()??;
    let standing = match living(folder) {
        Ok(Some(_)) if standby::is_frozen(folder, &spec) => Standing::Standby,
        Ok(Some(_)) => Standing::Running,
        _ => match keeper(Folder(folder)) {
            Ok(Some(keeper)) if keeper.first.is_none_or(|first| !is_dead(first)) => Standing::Starting,
            _ => Standing::Dead,
        },
    };
    let is_blank = spec.session.is_none() && !journal::tells_of_calls(&Folder(folder).calls());
    let age = spec.age();
    Some(Seen { id: spec.id, session: spec.session, age, standing, is_blank })
}
