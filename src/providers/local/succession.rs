//! How a new sandbox takes over the files of an old one.
//!
//! | Step | The old one's folder | The new one's folder |
//! |---|---|---|
//! | 1. end the old one | dead, has the files | |
//! | 2. make the new one's folder | dead, has the files | names the old one |
//! | 3. move the files, in one step | dead | names the old one, has the files |
//! | 4. start the new one | dead | names the old one, has the files, lives |
//! | 5. remove the old one's folder | | has the files, lives |
//!
//! # Invariants
//! - The files are in one of the two folders, whole, at any time.
//! - As long as the old one's folder is there, they are the old one's: whatever ends the new one before step 5
//!   (a start that fails, a deletion, the next attempt, the next start of remuda) gives them back.
//! - The new one runs under the old one's id on the host, so that the files need no other owner. The old one is
//!   dead by then and stays so, since its lock is held; and no third one gets the id, since there is always a
//!   folder that has it.
//!
//! The hand's journal is one of the files: a session that comes back under another work item may find its sandbox
//! dead, and ask the new one for calls that the old one has made. They are answered from there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{ProviderError, SandboxSpec};

use super::groups::Groups;
use super::provider::{LocalProvider, folder_of, folders, unavailable};
use super::start::Files;
use crate::launch::{Folder, Seizure, Spec, seize};

/// A dead sandbox whose files another is to take over.
#[derive(Debug)]
pub(super) struct Predecessor {
    pub(super) folder: PathBuf,
    pub(super) run_as: Option<u32>,
    /// Its lock: as long as we have that, it stays as it is.
    pub(super) dead: File,
}

impl Predecessor {
    /// Whether it has any files. It has none if it was itself about to take over another's.
    pub(super) fn has_files(&self) -> bool {
        Folder(&self.folder).files().exists()
    }

    /// Moves its files into the folder of its successor.
    pub(super) fn hand_over(&self, to: &Path) -> Result<(), ProviderError> {
        let to = Folder(to);
        let move_files = || {
            fs::rename(Folder(&self.folder).files(), to.files())?;
            // The old one may have closed them to itself, and the new one could not even start there.
            [to.workspace(), to.memory(), to.tmp()].iter().try_for_each(|own| {
                let mode = fs::metadata(own)?.permissions().mode();
                fs::set_permissions(own, fs::Permissions::from_mode(mode | 0o700))
            })
        };
        move_files().map_err(|error| unavailable("move the old sandbox's files", error))
    }
}

impl LocalProvider {
    /// Makes sure that a sandbox may be made in a folder, and removes the remains of one that is dead.
    pub(super) async fn vacate(&self, folder: &Path, wanted: &SandboxSpec) -> Result<(), ProviderError> {
        if wanted.files_of.as_ref() == Some(&wanted.id) {
            let what =
                format!("{} cannot take over its own files: give the new sandbox another id", wanted.id);
            return Err(ProviderError::Refused { what });
        }
        match self.alive(&wanted.id) {
            Ok(_) => return Err(ProviderError::AlreadyExists { id: wanted.id.clone() }),
            Err(ProviderError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        if let Some(remains) = Self::read_if_kept(folder)?
            && let Some(old) = remains.files_of.as_ref().filter(|old| wanted.files_of.as_ref() == Some(*old))
        {
            // It took the same files over before it died, and nobody was told.
            self.restore(old, folder, &remains)?;
        }
        self.remove(&wanted.id).await
    }

    /// Brings the folder of an old sandbox back, for the files that a dead one took over from it.
    fn restore(&self, old: &SandboxId, successor: &Path, spec: &Spec) -> Result<(), ProviderError> {
        let folder = self.folder(old)?;
        if Self::read(&folder)?.is_some() || !Folder(successor).files().exists() {
            return Ok(());
        }
        let spec = Spec { id: old.clone(), cgroups: Vec::new(), files_of: None, ..spec.clone() };
        self.furnish(&folder, &spec, Files::Later)
            .map_err(|error| unavailable("bring the old sandbox's folder back", error))
    }

    /// Ends the sandbox whose files a new one is to take over; none if there is no such sandbox.
    pub(super) async fn predecessor(
        &self,
        wanted: &SandboxSpec,
    ) -> Result<Option<Predecessor>, ProviderError> {
        let Some(old) = &wanted.files_of else { return Ok(None) };
        let folder = self.folder(old)?;
        let Some(spec) = Self::read_if_kept(&folder)? else { return Ok(None) };
        check(&spec, wanted)?;
        let dead = self.kill(&folder, &Groups::of(&spec.cgroups)).await?;
        Ok(dead.map(|dead| Predecessor { folder, run_as: spec.run_as, dead }))
    }

    /// Gives back what a dead sandbox was about to take over.
    pub(super) fn give_back(&self, folder: &Path, spec: &Spec) -> Result<(), ProviderError> {
        give_back(&self.options.dir, folder, spec)
            .map_err(|error| unavailable("give the files back to the old sandbox", error))
    }
}

/// Undoes what a process that died was in the middle of. A sandbox that lives nevertheless keeps the files.
pub(super) fn undo_all(dir: &Path) -> io::Result<()> {
    for folder in folders(dir)? {
        // One that cannot be read is reported when the sandboxes are listed.
        let spec = LocalProvider::read(&folder).ok().flatten();
        let Some(spec) = spec.filter(|spec| spec.files_of.is_some()) else { continue };
        if let Seizure::Seized(_dead) = seize(Folder(&folder))? {
            give_back(dir, &folder, &spec)?;
        }
    }
    Ok(())
}

fn give_back(dir: &Path, folder: &Path, spec: &Spec) -> io::Result<()> {
    let Some(old) = spec.files_of.as_ref().and_then(|old| folder_of(dir, old)) else { return Ok(()) };
    match fs::rename(Folder(folder).files(), Folder(&old).files()) {
        // The old one is gone, or has its files still.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Whether a new sandbox may have the files of an old one.
fn check(old: &Spec, wanted: &SandboxSpec) -> Result<(), ProviderError> {
    let refuse = |why: &str| {
        let what = format!("{} cannot take over the files of {}: {why}", wanted.id, old.id);
        Err(ProviderError::Refused { what })
    };
    if old.owner != wanted.owner {
        return refuse("they are another owner's");
    }
    match (&old.session, &wanted.session) {
        (_, None) => return refuse("a sandbox for no session yet begins without files"),
        (Some(old), Some(new)) if old != new => return refuse("they are another session's"),
        // One that was made for no session got one later, which is not written here.
        (None | Some(_), Some(_)) => {}
    }
    if old.run_as.is_some() != rustix::process::geteuid().is_root() {
        return refuse("remuda ran as another user then; run it as that one, or delete the old sandbox");
    }
    Ok(())
}
