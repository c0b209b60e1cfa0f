//! Files that a session's metadata asks for, brought into its workspace, and files that are collected from there when
//! the session is over. Both are off unless the operator allows places to take from, or names one to bring to.

mod collect;
mod fetch;
mod public;
mod wish;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use globset::{GlobBuilder, GlobMatcher};
use reqwest::Url;

pub(super) use self::collect::collect;
use self::fetch::Fetcher;
pub(super) use self::wish::Wish;
use super::archive::{self, Bounds};
use super::trouble::Trouble;
use crate::hand::client::{HandClient, TreeFile};
use crate::hand::wire::{Change, Expect};

/// Where a session's files are.
const WORKSPACE: &str = "/workspace";

/// Most files of one archive, and most that are collected.
const MAX_FILES: usize = 10_000;

/// What may be brought in, and what is collected.
#[derive(Clone, Debug, Default)]
pub struct StagingOptions {
    /// URLs below which inputs may be; none: no input comes from a URL.
    pub urls: Vec<Url>,
    /// Folders of this host in which inputs may be; none: no input comes from this host.
    pub folders: Vec<PathBuf>,
    /// Bytes of one session's inputs together, packed and unpacked.
    pub max_input: u64,
    /// What is collected; none: nothing.
    pub outputs: Option<Outputs>,
}

/// What is collected when a session is over.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Where to: a folder that gets one for each session.
    pub folder: PathBuf,
    /// Which files of the workspace.
    pub files: OutputGlob,
    /// Bytes of one session's files together.
    pub max_bytes: u64,
}

/// A pattern of paths below the workspace.
#[derive(Clone, Debug)]
pub struct OutputGlob(GlobMatcher);

impl std::str::FromStr for OutputGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Err(
                "expected a pattern of paths from /workspace on, without a slash before it".to_owned()
            );
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        glob.map(|glob| Self(glob.compile_matcher())).map_err(|error| error.to_string())
    }
}

/// Brings inputs and collects outputs.
#[derive(Debug)]
pub(super) struct Staging {
    fetcher: Arc<Fetcher>,
    max_input: u64,
    pub(super) outputs: Option<Outputs>,
}

impl Staging {
    pub(super) fn new(options: StagingOptions) -> Result<Self, reqwest::Error> {
        let StagingOptions { urls, folders, max_input, outputs } = options;
        Ok(Self { fetcher: Arc::new(Fetcher::new(urls, folders)?), max_input, outputs })
    }

    /// Whether sessions can have inputs at all.
    pub(super) fn has_inputs(&self) -> bool {
        self.fetcher.has_places()
    }

    /// Brings what is wished for into the workspace: into a new one whatever is there, which can only be a part of an
    /// attempt before, and into another only what is not there.
    pub(super) async fn bring(
        &self,
        hand: &HandClient,
        wishes: &[Wish],
        is_new: bool,
    ) -> Result<(), Trouble> {
        let there = if is_new { Vec::new() } else { hand.list_tree(WORKSPACE, 0).await?.entries };
        let mut room = self.max_input;
        for wish in wishes {
            let below = |path: &str| {
                path.strip_prefix(&*wish.to).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if there.iter().any(|entry| below(&entry.path)) {
                continue;
            }
            let refuse =
                |what: String| Trouble::supply(format!("the session's metadata `{}`: {what}", wish.key));
            let contents = self.fetcher.fetch(wish, room).await.map_err(|error| error.trouble(&wish.key))?;
            let files = if wish.unpack {
                let bounds = Bounds { bytes: room, members: MAX_FILES };
                let unpacked = tokio::task::spawn_blocking(move || archive::unpack(&contents, bounds)).await;
                let unpacked = unpacked.map_err(|error| refuse(error.to_string()))?;
                unpacked.map_err(|error| refuse(format!("{} was not unpacked: {error}", wish.from)))?
            } else {
                vec![TreeFile { path: String::new(), mode: 0o644, contents }]
            };
            room = room.saturating_sub(files.iter().map(|file| file.contents.len() as u64).sum());
            let changes = files.into_iter().map(|file| change(&wish.to, file));
            let skipped = hand.change_tree(WORKSPACE, changes).await?;
            if let Some(file) = skipped.first() {
                return Err(refuse(format!("{WORKSPACE}/{} could not be written: {}", file.path, file.why)));
            }
        }
        Ok(())
    }
}

/// A file at `to`, or below it.
fn change(to: &str, file: TreeFile) -> (Change, Bytes) {
    let path = if file.path.is_empty() { to.to_owned() } else { format!("{to}/{}", file.path) };
    let size = Some(file.contents.len() as u64);
    (Change { path, mode: file.mode, size, expect: Expect::Anything }, file.contents)
}
