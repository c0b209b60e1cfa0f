//! Folders as a whole.

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::Method;
use percent_encoding::utf8_percent_encode;

use super::{ClientError, HandClient, MAX_ANSWER_BYTES, Message, PLAIN, read};
use crate::hand::wire::{Change, Changed, Expect, MAX_CHANGE_BYTES, MAX_CHANGES, Skipped, Tree};

/// A file to be put into a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFile {
    /// From the folder on.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// What is in it.
    pub contents: Bytes,
}

impl HandClient {
    /// What is in the folder at `path`; files of more than `hashed` bytes come without a hash.
    ///
    /// # Errors
    /// Nothing has changed, whatever the error. A folder that is not there is no error.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    pub async fn list_tree(&self, path: &str, hashed: u64) -> Result<Tree, ClientError> {
        let target = format!("{}?hash={hashed}", tree_target(path));
        let message = Message { method: Method::GET, target, body: Bytes::new() };
        read(&self.short(message, MAX_ANSWER_BYTES).await?)
    }

    /// Makes changes to the files of the folder at `path`, which is made if it is not there, in the order given. Those
    /// that could not be made are told.
    ///
    /// # Errors
    /// Any part of the changes may have been made.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn change_tree(
        &self,
        path: &str,
        changes: impl IntoIterator<Item = (Change, Bytes)>,
    ) -> Result<Vec<Skipped>, ClientError> {
        let (mut skipped, mut body, mut count) = (Vec::new(), BytesMut::new(), 0);
        for (change, contents) in changes {
            if contents.len() > MAX_CHANGE_BYTES / 2 {
                skipped.extend(self.send_changes(path, &mut body, &mut count).await?);
                let whole = format!("{}/{}", path.trim_end_matches('/'), change.path);
                self.put_file(&whole, Some(change.mode), contents).await?;
                continue;
            }
            let head = serde_json::to_vec(&change).map_err(|error| ClientError::Unreached(error.into()))?;
            if count == MAX_CHANGES || body.len() + head.len() + 1 + contents.len() > MAX_CHANGE_BYTES {
                skipped.extend(self.send_changes(path, &mut body, &mut count).await?);
            }
            body.put_slice(&head);
            body.put_u8(b'\n');
            body.put_slice(&contents);
            count += 1;
        }
        skipped.extend(self.send_changes(path, &mut body, &mut count).await?);
        Ok(skipped)
    }

    async fn send_changes(
        &self,
        path: &str,
        body: &mut BytesMut,
        count: &mut usize,
    ) -> Result<Vec<Skipped>, ClientError> {
        if std::mem::take(count) == 0 {
            return Ok(Vec::new());
        }
        let body = body.split().freeze();
        let message = Message { method: Method::PATCH, target: tree_target(path), body };
        let changed: Changed = read(&self.short(message, MAX_ANSWER_BYTES).await?)?;
        Ok(changed.skipped)
    }

    /// Makes the folder at `path` have these files and no others, in one step; `stage` is a place beside it that is
    /// used for it, and emptied first.
    ///
    /// # Errors
    /// The folder is as it was, or new; what is left at `stage` goes the next time.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn put_tree(
        &self,
        path: &str,
        stage: &str,
        files: impl IntoIterator<Item = TreeFile>,
    ) -> Result<(), ClientError> {
        self.remove_tree(stage).await?;
        let changes = files.into_iter().map(|TreeFile { path, mode, contents }| {
            let size = Some(contents.len() as u64);
            (Change { path, mode, size, expect: Expect::Anything }, contents)
        });
        // A folder without files is one, too.
        let message = Message { method: Method::PATCH, target: tree_target(stage), body: Bytes::new() };
        self.short(message, MAX_ANSWER_BYTES).await?;
        let skipped = self.change_tree(stage, changes).await?;
        if let Some(Skipped { path, why }) = skipped.first() {
            return Err(ClientError::Unreadable(format!("{path} could not be written: {why}")));
        }
        let target = format!("{}?from={}", tree_target(path), utf8_percent_encode(stage, &PLAIN));
        let message = Message { method: Method::POST, target, body: Bytes::new() };
        self.short(message, MAX_ANSWER_BYTES).await.map(drop)
    }

    /// Removes what is at `path`, a folder with all that is in it.
    ///
    /// # Errors
    /// A part of it may be gone. What is not there is no error.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn remove_tree(&self, path: &str) -> Result<(), ClientError> {
        let message = Message { method: Method::DELETE, target: tree_target(path), body: Bytes::new() };
        self.short(message, MAX_ANSWER_BYTES).await.map(drop)
    }

    /// Says in which folders the file tools may write nothing, in place of what was said before.
    ///
    /// # Errors
    /// It was said or it was not; it can be repeated.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn set_read_only(&self, paths: &[String]) -> Result<(), ClientError> {
        let body = serde_json::to_vec(paths).map_err(|error| ClientError::Unreached(error.into()))?;
        let target = "/v1/read-only".to_owned();
        let message = Message { method: Method::PUT, target, body: body.into() };
        self.short(message, MAX_ANSWER_BYTES).await.map(drop)
    }
}

fn tree_target(path: &str) -> String {
    format!("/v1/trees/{}", utf8_percent_encode(path, &PLAIN))
}
