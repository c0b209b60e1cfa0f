//! How outputs are collected.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use remuda_actors::ids::SessionId;

use super::{MAX_FILES, Outputs, WORKSPACE};
use crate::hand::client::HandClient;
use crate::outfit::record::replace;
use crate::outfit::trouble::Trouble;

/// What a folder's name keeps of a session's id.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Collects a session's outputs. Those of an earlier time are replaced by what they are now.
pub(in crate::outfit) async fn collect(
    hand: &HandClient,
    session: &SessionId,
    outputs: &Outputs,
) -> Result<(), Trouble> {
    let tree = hand.list_tree(WORKSPACE, 0).await?;
    let folder = outputs.folder.join(utf8_percent_encode(session.as_str(), NAME).to_string());
    let (mut room, mut count, mut left) = (outputs.max_bytes, 0, 0);
    let wanted = tree.entries.into_iter().filter(|entry| entry.file && outputs.files.0.is_match(&entry.path));
    for entry in wanted {
        // Whoever lives in the sandbox may have come to speak for it.
        let plain =
            entry.path.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'));
        if !plain || entry.size > room || count == MAX_FILES {
            left += 1;
            continue;
        }
        let limit = usize::try_from(room).unwrap_or(usize::MAX);
        let contents = hand.get_file(&format!("{WORKSPACE}/{}", entry.path), limit).await?;
        room -= contents.len() as u64;
        count += 1;
        keep(folder.join(&entry.path), contents).await?;
    }
    if left > 0 || !tree.complete {
        tracing::warn!(
            remuda.session.id = %session, collected = count, left,
            "not all outputs were collected: they are too many or too large"
        );
    } else if count > 0 {
        tracing::info!(remuda.session.id = %session, collected = count, folder = %folder.display(), "outputs were collected");
    }
    Ok(())
}

async fn keep(path: PathBuf, contents: Bytes) -> Result<(), Trouble> {
    let shown = path.display().to_string();
    let write = move || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        replace(&path, &contents)
    };
    let written =
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    written.map_err(|error| Trouble::supply(format!("{shown} could not be written: {error}")))
}
