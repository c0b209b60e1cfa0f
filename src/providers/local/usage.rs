//! What a sandbox uses. Nothing in it is asked, so nothing wakes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use remuda_actors::ids::SandboxId;
use remuda_actors::ports::{ProviderError, Usage};

use super::disk::disk_bytes;
use super::groups::Groups;
use super::processes;
use super::provider::{LocalProvider, unavailable};
use crate::launch::{Folder, Keeper, Spec};

/// How many sandboxes are measured at once: counting files keeps a disk busy.
pub(super) const AT_ONCE: usize = 2;

impl LocalProvider {
    /// Measures a sandbox. Time and memory are those of its cgroups, or of the processes it has and had. In the
    /// latter case time comes in the kernel's ticks, and for a moment what a process used that ends just now may
    /// be missing.
    pub(super) async fn measure(&self, id: &SandboxId) -> Result<Usage, ProviderError> {
        let folder = self.folder(id)?;
        let (spec, keeper) = self.alive(id)?;
        let failed = |error| unavailable("measure the sandbox", error);
        let permit = Arc::clone(&self.measuring).acquire_owned().await;
        let permit = permit.map_err(|closed| failed(io::Error::other(closed)))?;
        let measured = tokio::task::spawn_blocking(move || {
            let usage = usage(&folder, &spec, keeper);
            drop(permit);
            usage
        });
        measured.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
    }
}

fn usage(folder: &Path, spec: &Spec, keeper: Keeper) -> io::Result<Usage> {
    let groups = Groups::of(&spec.cgroups);
    Ok(Usage {
        cpu: groups.cpu().unwrap_or_else(|| processes::cpu(keeper.launcher)),
        memory_bytes: groups.memory_bytes().unwrap_or_else(|| processes::memory_bytes(keeper.launcher)),
        disk_bytes: disk_bytes(&Folder(folder).files())?,
    })
}
