//! Sandboxes whose description cannot be read: damaged by a power cut, or none of ours in the first place.
//!
//! Such a one must not keep the others from being listed, made and removed. Without a launcher it is dead, and is
//! listed as nobody's so that it goes the way of all that nobody owns. With one it is left alone, since whose it is
//! and what it is for is not known; only who asks for it by its id is told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{OwnerId, ProviderError, Sandbox};

use super::provider::{LocalProvider, folder_of};
use crate::launch::{Folder, Spec, keeper};

/// What was said about such folders.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Those that were told of: once is enough.
    told: Mutex<BTreeSet<PathBuf>>,
}

impl Unreadable {
    /// Tells of a folder that cannot be read. Returns it as a dead sandbox of `owner`'s, whose place `dir` is, if it
    /// is one.
    pub(super) fn found(
        &self,
        dir: &Path,
        folder: &Path,
        owner: &OwnerId,
        error: &ProviderError,
    ) -> Option<Sandbox> {
        let dead = dead(dir, folder, owner);
        if self.told.lock().insert(folder.to_owned()) {
            let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(
                %error, cause, folder = %folder.display(), removable = dead.is_some(),
                "a sandbox is left out, since nothing is known about it"
            );
        }
        dead
    }
}

/// The sandbox of a folder, by its name and age alone; none if a launcher keeps it or no sandbox has such a name.
fn dead(dir: &Path, folder: &Path, owner: &OwnerId) -> Option<Sandbox> {
    let name = percent_decode_str(folder.file_name()?.to_str()?).decode_utf8().ok()?;
    let id = SandboxId::from(name.into_owned());
    if folder_of(dir, &id)? != folder || !is_abandoned(folder) {
        return None;
    }
    let age = fs::metadata(folder).ok()?.modified().ok()?.elapsed().unwrap_or(Duration::ZERO);
    Some(Sandbox { id, owner: owner.clone(), session: None, age })
}

/// Whether no launcher keeps a folder, as far as can be seen.
fn is_abandoned(folder: &Path) -> bool {
    matches!(keeper(Folder(folder)), Ok(None))
}

impl LocalProvider {
    /// What is written about a sandbox that may live; none if there is no such sandbox, or it is dead and what is
    /// written cannot be read.
    pub(super) fn read_if_kept(folder: &Path) -> Result<Option<Spec>, ProviderError> {
        Self::read(folder).or_else(|error| if is_abandoned(folder) { Ok(None) } else { Err(error) })
    }
}
