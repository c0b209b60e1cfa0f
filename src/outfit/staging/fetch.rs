//! How an input is had: from a folder of this host, or from a URL, and only from where that is allowed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use remuda_actors::backoff::Backoff;
use remuda_actors::fault::{Fault, FaultClass};
use reqwest::{Client, Url, redirect};
use sha2::{Digest as _, Sha256};

use super::public::OtherHosts;
use super::wish::Wish;
use crate::hand::trees::hex;
use crate::outfit::trouble::Trouble;

/// Attempts at one URL.
const ATTEMPTS: u32 = 3;

/// Time between them.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(2));

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Fetches what is allowed.
#[derive(Debug)]
pub(super) struct Fetcher {
    client: Client,
    urls: Vec<Url>,
    folders: Vec<PathBuf>,
}

/// Why an input was not had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(
        "{from} is in no place that inputs may come from; the operator allows them by `--input-dir` and `--input-url`"
    )]
    Forbidden { from: String },
    #[error("what comes from a URL needs a `sha256`")]
    NoDigest,
    #[error("{from} is larger than the {limit} bytes that are left for inputs")]
    TooLarge { from: String, limit: u64 },
    #[error("{from} hashes to {found}, and not to the `sha256` given")]
    Other { from: String, found: String },
    #[error("{from} is no file that can be read: {error}")]
    Unreadable { from: String, error: io::Error },
    #[error("{from} could not be fetched: {what}")]
    Unfetched { from: String, what: String, class: FaultClass },
}

impl FetchError {
    pub(super) fn trouble(&self, key: &str) -> Trouble {
        let class = if let Self::Unfetched { class, .. } = self { *class } else { FaultClass::Permanent };
        Trouble::Supply(Fault::new(class, format!("the session's metadata `{key}`: {self}")))
    }
}

impl Fetcher {
    pub(super) fn new(urls: Vec<Url>, folders: Vec<PathBuf>) -> Result<Self, reqwest::Error> {
        // Whatever it is told to ask instead, nobody has allowed.
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .dns_resolver(Arc::new(OtherHosts))
            .no_proxy()
            .connect_timeout(SILENCE)
            .read_timeout(SILENCE)
            .build()?;
        Ok(Self { client, urls, folders })
    }

    /// Whether there is any place that inputs may come from.
    pub(super) fn has_places(&self) -> bool {
        !self.urls.is_empty() || !self.folders.is_empty()
    }

    /// What a wish is for, of at most `limit` bytes.
    pub(super) async fn fetch(&self, wish: &Wish, limit: u64) -> Result<Bytes, FetchError> {
        let from = || wish.from.clone();
        let contents = if Path::new(&wish.from).is_absolute() {
            let path = self.allowed_path(&wish.from)?;
            let read = tokio::task::spawn_blocking(move || read(&path, limit)).await;
            let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
            let contents = read.map_err(|error| FetchError::Unreadable { from: from(), error })?;
            contents.ok_or_else(|| FetchError::TooLarge { from: from(), limit })?
        } else {
            let url = self.allowed_url(&wish.from)?;
            if wish.sha256.is_none() {
                return Err(FetchError::NoDigest);
            }
            self.download(url, &wish.from, limit).await?
        };
        let found = hex(&Sha256::digest(&contents));
        match &wish.sha256 {
            Some(expected) if *expected != found => Err(FetchError::Other { from: from(), found }),
            _ => Ok(contents),
        }
    }

    /// The file itself, wherever links lead, if it is in a folder that is allowed.
    fn allowed_path(&self, from: &str) -> Result<PathBuf, FetchError> {
        let forbidden = || FetchError::Forbidden { from: from.to_owned() };
        let named = Path::new(from);
        if !self.folders.iter().any(|folder| named.starts_with(folder)) {
            return Err(forbidden());
        }
        let unreadable = |error| FetchError::Unreadable { from: from.to_owned(), error };
        let path = named.canonicalize().map_err(unreadable)?;
        let inside = |folder: &PathBuf| folder.canonicalize().is_ok_and(|folder| path.starts_with(folder));
        if self.folders.iter().any(inside) { Ok(path) } else { Err(forbidden()) }
    }

    fn allowed_url(&self, from: &str) -> Result<Url, FetchError> {
        let forbidden = || FetchError::Forbidden { from: from.to_owned() };
        let url = Url::parse(from).map_err(|_| forbidden())?;
        let bare = url.username().is_empty() && url.password().is_none();
        if bare && self.urls.iter().any(|allowed| is_below(&url, allowed)) {
            Ok(url)
        } else {
            Err(forbidden())
        }
    }

    async fn download(&self, url: Url, from: &str, limit: u64) -> Result<Bytes, FetchError> {
        let mut attempt = 1;
        loop {
            match self.attempt(url.clone(), from, limit).await {
                Err(FetchError::Unfetched { class, .. }) if class.is_retryable() && attempt < ATTEMPTS => {}
                done => return done,
            }
            let delay = BACKOFF.delay(attempt, None, &mut rand::rng());
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, url: Url, from: &str, limit: u64) -> Result<Bytes, FetchError> {
        let unfetched = |class, what: String| FetchError::Unfetched { from: from.to_owned(), what, class };
        let broken = |error: reqwest::Error| {
            let error = error.without_url();
            unfetched(FaultClass::Transient, Fault::of(FaultClass::Transient, &error).message.to_string())
        };
        let answer = self.client.get(url).send().await.map_err(broken)?;
        let status = answer.status();
        if !status.is_success() {
            let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
            let class = if passing { FaultClass::Transient } else { FaultClass::Permanent };
            return Err(unfetched(class, format!("HTTP {status}")));
        }
        let (mut chunks, mut contents) = (answer.bytes_stream(), BytesMut::new());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(broken)?;
            if (contents.len() + chunk.len()) as u64 > limit {
                return Err(FetchError::TooLarge { from: from.to_owned(), limit });
            }
            contents.extend_from_slice(&chunk);
        }
        Ok(contents.freeze())
    }
}

/// A file's contents; none if there are more than `limit` bytes.
fn read(path: &Path, limit: u64) -> io::Result<Option<Bytes>> {
    // Looked at before it is opened: a pipe would not let go.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("expected a regular file, such as an archive"));
    }
    let mut contents = Vec::new();
    File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut contents)?;
    Ok((contents.len() as u64 <= limit).then(|| contents.into()))
}

/// Whether a URL is the same as another, or below it.
fn is_below(url: &Url, allowed: &Url) -> bool {
    let same_host = url.origin() == allowed.origin();
    let rest = url.path().strip_prefix(allowed.path());
    same_host
        && rest.is_some_and(|rest| rest.is_empty() || allowed.path().ends_with('/') || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_an_allowed_url_is_allowed() {
        let allowed: Url = "https://files.example/a/b".parse().unwrap();
        let is = |url: &str| is_below(&url.parse().unwrap(), &allowed);
        for url in [
            "https://files.example/a/b",
            "https://files.example/a/b/c?x=1",
            "https://files.example:443/a/b/c",
        ] {
            assert!(is(url), "{url}");
        }
        for url in [
            "http://files.example/a/b",
            "https://files.example/a/bc",
            "https://files.example/a/b/../c",
            "https://files.example.evil/a/b",
            "https://files.example@evil/a/b",
            "https://files.example:8443/a/b",
        ] {
            assert!(!is(url), "{url}");
        }
    }

    #[tokio::test]
    async fn only_files_of_allowed_folders_are_read_wherever_links_lead() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("open")).unwrap();
        std::fs::write(at("open/a"), "contents").unwrap();
        std::fs::write(at("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(at("secret"), at("open/link")).unwrap();
        let fetcher = Fetcher::new(Vec::new(), vec![at("open")]).unwrap();
        let fetch = async |name: &str, sha256: Option<&str>, limit| {
            let wish = Wish {
                key: "k".to_owned(),
                from: at(name).to_str().unwrap().to_owned(),
                to: "a".to_owned(),
                sha256: sha256.map(str::to_owned),
                unpack: false,
            };
            fetcher.fetch(&wish, limit).await.map_err(|error| error.to_string())
        };
        let hash = hex(&Sha256::digest("contents"));
        assert_eq!(fetch("open/a", Some(&hash), 8).await.unwrap(), "contents");
        for (name, sha256, limit, what) in [
            ("secret", None, 8, "in no place"),
            ("open/link", None, 8, "in no place"),
            ("open/../secret", None, 8, "in no place"),
            ("open/a", None, 7, "larger than the 7 bytes"),
            ("open", None, 8, "expected a regular file"),
            ("open/none", None, 8, "no file that can be read"),
            ("open/a", Some(&*"0".repeat(64)), 8, "hashes to"),
        ] {
            let error = fetch(name, sha256, limit).await.unwrap_err();
            assert!(error.contains(what), "{name}: {error}");
        }
    }
}
