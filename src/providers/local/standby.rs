//! Standing by and going on.
//!
//! | Where the host allows | A sandbox is frozen by |
//! |---|---|
//! | cgroups of the unified hierarchy | its group; it can be killed while frozen |
//! | cgroups of the older hierarchies | its freezer group; what is killed dies when it is thawed |
//! | neither | [signals](super::signals) |

use std::io;
use std::path::Path;
use std::sync::Arc;

use remuda_actors::ids::SandboxId;
use remuda_actors::ports::ProviderError;

use super::groups::Groups;
use super::provider::{LocalProvider, unavailable};
use super::signals;
use crate::launch::{Folder, Keeper, Spec};

impl LocalProvider {
    /// Stops everything in a sandbox.
    pub(super) async fn freeze(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let (spec, keeper) = self.alive(id)?;
        let failed = |error| unavailable("freeze the sandbox", error);
        if Groups::of(&spec.cgroups).freeze().await.map_err(failed)? {
            return Ok(());
        }
        let note = Folder(&self.folder(id)?).stopped();
        off_the_runtime(move |wanted| signals::stop(keeper.launcher, &note, wanted)).await.map_err(failed)
    }

    /// Lets everything in a sandbox go on.
    pub(super) async fn thaw(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let (spec, keeper) = self.alive(id)?;
        thaw(&self.folder(id)?, &spec, &keeper).await
    }
}

/// Lets everything in the sandbox of a folder go on.
pub(super) async fn thaw(folder: &Path, spec: &Spec, keeper: &Keeper) -> Result<(), ProviderError> {
    let failed = |error| unavailable("thaw the sandbox", error);
    // Takes microseconds, which is less than going elsewhere for it would.
    if Groups::of(&spec.cgroups).thaw().map_err(failed)? {
        return Ok(());
    }
    let (launcher, note) = (keeper.launcher, Folder(folder).stopped());
    off_the_runtime(move |wanted| signals::go_on(launcher, &note, wanted)).await.map_err(failed)
}

/// Whether everything in the sandbox of a folder stands still.
pub(super) fn is_frozen(folder: &Path, spec: &Spec) -> bool {
    Groups::of(&spec.cgroups).is_frozen().unwrap_or_else(|| Folder(folder).stopped().exists())
}

/// Does something on a thread of its own, which can ask whether anybody still wants it: whoever has stopped waiting may
/// have asked for the opposite since.
async fn off_the_runtime(
    work: impl FnOnce(&dyn Fn() -> bool) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let waiting = Arc::new(());
    let waits = Arc::downgrade(&waiting);
    let work = move || work(&|| waits.strong_count() > 0);
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    drop(waiting);
    done
}
