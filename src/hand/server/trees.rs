//! The interface to folders as a whole.

use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::percent_decode_str;

use super::files::refused;
use crate::hand::lane::Sandbox;
use crate::hand::trees;
use crate::hand::wire::{Change, Changed, Error, ErrorCode, MAX_CHANGES, Tree};

/// Longest head of one change, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// What is in a folder: `hash=BYTES` says up to which size files are hashed.
pub(super) async fn list(sandbox: &Arc<Sandbox>, given: String, query: Option<&str>) -> Result<Tree, Error> {
    let hashed = match query.filter(|query| !query.is_empty()) {
        None => 0,
        Some(query) => {
            let bytes = query.strip_prefix("hash=").and_then(|bytes| bytes.parse().ok());
            bytes.ok_or_else(|| bad(format!("{query:?} is not understood; expected hash=BYTES")))?
        }
    };
    let sandbox = Arc::clone(sandbox);
    blocking(move || {
        trees::list(&sandbox.confinement, &given, hashed).map_err(|error| refused(&given, error))
    })
    .await
}

/// Changes files in a folder.
pub(super) async fn change(sandbox: &Arc<Sandbox>, given: String, body: Bytes) -> Result<Changed, Error> {
    let sandbox = Arc::clone(sandbox);
    blocking(move || {
        let changes = read(&body)?;
        let changes = changes.iter().map(|(change, contents)| (change, *contents));
        let skipped = trees::change(&sandbox.confinement, &given, changes);
        Ok(Changed { skipped: skipped.map_err(|error| refused(&given, error))? })
    })
    .await
}

/// Removes a folder, or a file.
pub(super) async fn remove(sandbox: &Arc<Sandbox>, given: String) -> Result<(), Error> {
    let sandbox = Arc::clone(sandbox);
    blocking(move || trees::remove(&sandbox.confinement, &given).map_err(|error| refused(&given, error)))
        .await
}

/// Puts the folder that the query names, `from=PATH`, in the place of this one.
pub(super) async fn relocate(
    sandbox: &Arc<Sandbox>,
    given: String,
    query: Option<&str>,
) -> Result<(), Error> {
    let from = query.and_then(|query| query.strip_prefix("from="));
    let from = from.and_then(|from| percent_decode_str(from).decode_utf8().ok().map(String::from));
    let from = from.ok_or_else(|| bad("the query must say from=PATH".to_owned()))?;
    let sandbox = Arc::clone(sandbox);
    blocking(move || {
        trees::relocate(&sandbox.confinement, &from, &given).map_err(|error| refused(&given, error))
    })
    .await
}

/// The changes in a body: for each a line of JSON, then as many bytes as it says.
fn read(body: &[u8]) -> Result<Vec<(Change, &[u8])>, Error> {
    let (mut changes, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        if changes.len() == MAX_CHANGES {
            return Err(Error::new(ErrorCode::TooLarge, format!("more than {MAX_CHANGES} changes at once")));
        }
        let end = rest.iter().take(MAX_HEAD).position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| bad("a change begins with a line of JSON".to_owned()))?;
        let change: Change = serde_json::from_slice(&rest[..end])
            .map_err(|error| bad(format!("the head of a change cannot be read: {error}")))?;
        rest = &rest[end + 1..];
        let size = usize::try_from(change.size.unwrap_or(0)).ok().filter(|size| *size <= rest.len());
        let size = size.ok_or_else(|| bad(format!("{}: the contents are not whole", change.path)))?;
        let (contents, after) = rest.split_at(size);
        rest = after;
        changes.push((change, contents));
    }
    Ok(changes)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::new(ErrorCode::Internal, error.to_string())))
}

fn bad(message: String) -> Error {
    Error::new(ErrorCode::BadRequest, message)
}
