//! `list_files`: what is in a folder.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use remuda_actors::tool::ToolResult;
use rustix::fs::{AtFlags, FileType, OFlags, statat};

use crate::hand::lane::Sandbox;
use crate::hand::tools::failure::Failure;
use crate::hand::tools::limits::{Cancel, Limits};
use crate::hand::tools::walk::{Next, Walked, walk};

const TOOL: &str = "list_files";

/// Entries of one listing, at most.
const MAX_LISTED: usize = 1_000;

/// Time for one listing.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lists a folder, `depth` levels of it.
pub(super) async fn list(sandbox: &Arc<Sandbox>, given: String, depth: u64) -> ToolResult {
    let sandbox = Arc::clone(sandbox);
    let listed = tokio::task::spawn_blocking(move || listed(&sandbox, &given, depth)).await;
    match listed {
        Ok(Ok(text)) => ToolResult::ok(text),
        Ok(Err(failure)) => failure.into(),
        Err(error) => ToolResult::error(format!("{TOOL}: {error}")),
    }
}

fn listed(sandbox: &Sandbox, given: &str, depth: u64) -> Result<String, Failure> {
    let open =
        sandbox.confinement.at(Path::new(given), |place| place.open(OFlags::RDONLY | OFlags::DIRECTORY));
    let root = open.map_err(|error| Failure::path(TOOL, given, error))?;
    let limits = Limits::start(Cancel::default(), Some(PATIENCE));
    let (mut text, mut count) = (String::new(), 0);
    let walked = walk(&root, TOOL, &limits, |entry| {
        if count == MAX_LISTED {
            return Ok(Next::Stop);
        }
        count += 1;
        let path = entry.relative.display();
        let _ = match entry.kind {
            FileType::Directory => writeln!(text, "{path}/"),
            FileType::RegularFile => {
                let stat = statat(entry.folder, entry.name, AtFlags::SYMLINK_NOFOLLOW);
                writeln!(text, "{path}  {} bytes", stat.map_or(0, |stat| stat.st_size))
            }
            FileType::Symlink => writeln!(text, "{path}  (a link)"),
            _ => writeln!(text, "{path}  (no regular file)"),
        };
        let level = entry.relative.components().count() as u64;
        Ok(if level < depth { Next::Enter } else { Next::Pass })
    })?;
    if count == MAX_LISTED || walked == Walked::CutShort {
        let _ = writeln!(text, "[there is more; list a folder below, or fewer levels]");
    }
    text.truncate(text.trim_end().len());
    Ok(if text.is_empty() { "the folder is empty".to_owned() } else { text })
}
