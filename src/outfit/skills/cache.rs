//! Archives of skills on disk, by what is in them.
//!
//! ```text
//! archives/SHA256           the archive
//! versions/SKILL@VERSION    the SHA256 of its archive
//! ```
//!
//! A version never changes, and an archive says itself what it must hash to: whatever is damaged is fetched again.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::hand::trees::hex;
use crate::outfit::record::replace;

/// What a file's name keeps of an id.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// Archives on disk.
#[derive(Debug)]
pub(in crate::outfit) struct Cache {
    dir: PathBuf,
    /// Bytes of all archives, at most.
    limit: u64,
    /// Held while room is made.
    making_room: Mutex<()>,
}

impl Cache {
    /// Opens a cache, which is made if it is not there.
    pub(in crate::outfit) fn open(dir: PathBuf, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(dir.join("archives"))?;
        fs::create_dir_all(dir.join("versions"))?;
        Ok(Self { dir, limit, making_room: Mutex::new(()) })
    }

    fn version(&self, skill: &str, version: &str) -> PathBuf {
        let escape = |id| utf8_percent_encode(id, NAME);
        self.dir.join("versions").join(format!("{}@{}", escape(skill), escape(version)))
    }

    fn archive(&self, hash: &str) -> PathBuf {
        self.dir.join("archives").join(hash)
    }

    /// The archive of a version, if it is here and whole.
    pub(in crate::outfit) fn get(&self, skill: &str, version: &str) -> Option<Bytes> {
        let hash = fs::read_to_string(self.version(skill, version)).ok()?;
        let plain = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = self.archive(Some(&hash).filter(|_| plain)?);
        let archive = fs::read(&path).ok().filter(|archive| hex(&Sha256::digest(archive)) == hash)?;
        // Those that were used longest ago go first.
        if let Ok(file) = fs::File::open(path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(archive.into())
    }

    /// Keeps the archive of a version, for which older ones may have to go.
    pub(in crate::outfit) fn put(&self, skill: &str, version: &str, archive: &[u8]) -> io::Result<()> {
        let size = archive.len() as u64;
        if size > self.limit {
            return Ok(());
        }
        let _alone = self.making_room.lock();
        self.make_room(size)?;
        let hash = hex(&Sha256::digest(archive));
        replace(&self.archive(&hash), archive)?;
        replace(&self.version(skill, version), hash.as_bytes())
    }

    fn make_room(&self, size: u64) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(self.dir.join("archives"))? {
            let entry = entry?;
            let found = entry.metadata()?;
            kept.push((found.modified()?, found.len(), entry.path()));
        }
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, size, _)| size).sum();
        for (_, freed, path) in kept {
            if total + size <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            total -= freed;
        }
        self.forget_versions()
    }

    /// Forgets the versions whose archives are gone.
    fn forget_versions(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.dir.join("versions"))? {
            let path = entry?.path();
            let there = fs::read_to_string(&path).is_ok_and(|hash| self.archive(&hash).exists());
            if !there {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_kept_within_the_limit_and_the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned(), 10).unwrap();
        cache.put("s", "1", b"aaaa").unwrap();
        cache.put("s", "2", b"bbbb").unwrap();
        let old = SystemTime::now() - std::time::Duration::from_secs(60);
        let second = cache.archive(&hex(&Sha256::digest(b"bbbb")));
        fs::File::open(second).unwrap().set_modified(old).unwrap();
        assert_eq!(cache.get("s", "1").as_deref(), Some(&b"aaaa"[..]));
        cache.put("../s", "3", b"cccc").unwrap();
        let kept = [("s", "1"), ("s", "2"), ("../s", "3")]
            .map(|(skill, version)| cache.get(skill, version).is_some());
        assert_eq!(kept, [true, false, true]);
        cache.put("s", "4", b"more than ten").unwrap();
        assert_eq!(cache.get("s", "4"), None);
        assert_eq!(fs::read_dir(dir.path().join("versions")).unwrap().count(), 2);
    }

    #[test]
    fn what_is_damaged_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().to_owned(), 100).unwrap();
        cache.put("s", "1", b"aaaa").unwrap();
        fs::write(cache.archive(&hex(&Sha256::digest(b"aaaa"))), b"aaab").unwrap();
        assert_eq!(cache.get("s", "1"), None);
        fs::write(cache.version("s", "1"), "../../etc/passwd").unwrap();
        assert_eq!(cache.get("s", "1"), None);
        cache.put("s", "1", b"aaaa").unwrap();
        assert!(cache.get("s", "1").is_some());
    }
}
