//! Archives, as strangers made them: unpacked in memory, and what is odd in them is left out or refused.
//!
//! # Invariants
//! - Nothing here touches a file system. What comes out are plain relative paths, names alone, with bytes.
//! - What comes out is bounded whatever goes in: the bytes read from a compressed stream count, not what it claims.
//! - One member that leads out of the archive refuses it whole, also if that member would have been left out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read};

use bytes::Bytes;
use tar::EntryType;
use zip::ZipArchive;

use crate::hand::client::TreeFile;

/// Memory that unpacking xz may take, in KiB: twice what its largest usual setting needs.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// How much one archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Bytes of all its files.
    pub(super) bytes: u64,
    /// Members, whatever they are.
    pub(super) members: usize,
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    /// It is no archive, or a damaged one.
    #[error("it is neither a zip nor a tar archive that can be read: {0}")]
    Unreadable(io::Error),
    /// A member is not where it belongs.
    #[error("its member {name:?} leads out of the archive")]
    Escape {
        /// As it is in the archive.
        name: String,
    },
    /// A member's name cannot be used.
    #[error("its member {name:?} has no name that can be used")]
    Name {
        /// As it is in the archive, what is no text replaced.
        name: String,
    },
    /// A member is a file and a folder.
    #[error("its member {path:?} is both a file and a folder")]
    Both {
        /// Where.
        path: String,
    },
    /// It holds too much.
    #[error("it holds more than {} files or {} bytes", .0.members, .0.bytes)]
    TooLarge(Bounds),
    /// There is nothing in it.
    #[error("it holds no files")]
    Empty,
}

/// The files in an archive: a zip, or a tar as it is or compressed with gzip, bzip2 or xz. A single folder that holds
/// everything is left out of their paths.
///
/// Links, devices, pipes and sockets are left out; permissions become 0755 for what anyone may execute, and 0644.
///
/// # Errors
/// [`ArchiveError`] if it cannot be read, or must not be.
pub(super) fn unpack(archive: &[u8], bounds: Bounds) -> Result<Vec<TreeFile>, ArchiveError> {
    let mut unpacking =
        Unpacking { bounds, members: 0, bytes: 0, files: BTreeMap::new(), tops: BTreeSet::new() };
    match ZipArchive::new(Cursor::new(archive)) {
        Ok(zip) => unpacking.zip(zip)?,
        Err(_) => unpacking.tar(decompressed(archive))?,
    }
    unpacking.finish()
}

/// A tar stream, by what its first bytes say it is compressed with.
fn decompressed(archive: &[u8]) -> Box<dyn Read + '_> {
    match archive {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(archive)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2::read::MultiBzDecoder::new(archive)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(archive, true, XZ_MEMORY_KIB))
        }
        _ => Box::new(archive),
    }
}

struct Unpacking {
    bounds: Bounds,
    members: usize,
    bytes: u64,
    files: BTreeMap<String, TreeFile>,
    /// First names of everything, folders included.
    tops: BTreeSet<String>,
}

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Other,
}

impl Unpacking {
    fn zip(&mut self, mut zip: ZipArchive<Cursor<&[u8]>>) -> Result<(), ArchiveError> {
        let unreadable = |error: zip::result::ZipError| ArchiveError::Unreadable(io::Error::other(error));
        for index in 0..zip.len() {
            let mut member = zip.by_index(index).map_err(unreadable)?;
            let (name, mode) = (member.name_raw().to_vec(), member.unix_mode());
            // Regular files need not say that they are.
            let kind = match mode.map(|mode| mode & 0o170_000) {
                _ if member.is_dir() => Kind::Folder,
                None | Some(0 | 0o100_000) => Kind::File,
                Some(_) => Kind::Other,
            };
            self.member(&name, kind, mode.unwrap_or(0), &mut member)?;
        }
        Ok(())
    }

    fn tar<'a>(&mut self, stream: Box<dyn Read + 'a>) -> Result<(), ArchiveError> {
        // Headers and what is left out cost time, too: a stream may not be endless because of them.
        let headers = 2048 * (self.bounds.members as u64 + 1);
        let mut archive =
            tar::Archive::new(stream.take(self.bounds.bytes.saturating_mul(2).saturating_add(headers)));
        for member in archive.entries().map_err(ArchiveError::Unreadable)? {
            let mut member = member.map_err(ArchiveError::Unreadable)?;
            let kind = match member.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => Kind::File,
                EntryType::Directory => Kind::Folder,
                EntryType::XGlobalHeader => continue,
                _ => Kind::Other,
            };
            let (name, mode) = (member.path_bytes().into_owned(), member.header().mode().unwrap_or(0));
            self.member(&name, kind, mode, &mut member)?;
        }
        Ok(())
    }

    fn member(
        &mut self,
        name: &[u8],
        kind: Kind,
        mode: u32,
        contents: &mut impl Read,
    ) -> Result<(), ArchiveError> {
        self.members += 1;
        if self.members > self.bounds.members {
            return Err(ArchiveError::TooLarge(self.bounds));
        }
        let unusable = || ArchiveError::Name { name: String::from_utf8_lossy(name).into_owned() };
        let name = std::str::from_utf8(name).map_err(|_| unusable())?;
        let path = plain(name)?;
        if path.is_empty() || kind == Kind::Other {
            return Ok(());
        }
        if path.len() > 4096 || path.chars().any(char::is_control) {
            return Err(unusable());
        }
        self.tops.extend(path.split('/').next().map(str::to_owned));
        if kind == Kind::Folder {
            return Ok(());
        }
        let room = self.bounds.bytes - self.bytes;
        let mut bytes = Vec::new();
        let read = contents.take(room + 1).read_to_end(&mut bytes).map_err(ArchiveError::Unreadable)? as u64;
        if read > room {
            return Err(ArchiveError::TooLarge(self.bounds));
        }
        self.bytes += read;
        let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        let file = TreeFile { path: path.clone(), mode, contents: Bytes::from(bytes) };
        self.files.insert(path, file);
        Ok(())
    }

    fn finish(self) -> Result<Vec<TreeFile>, ArchiveError> {
        if self.files.is_empty() {
            return Err(ArchiveError::Empty);
        }
        let folder = |path: &str| {
            self.files
                .range(format!("{path}/")..)
                .next()
                .is_some_and(|(next, _)| next.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
        };
        if let Some(path) = self.files.keys().find(|path| folder(path)) {
            return Err(ArchiveError::Both { path: path.clone() });
        }
        // A lone file at the top is no folder.
        let only = self.tops.first().filter(|_| self.tops.len() == 1).map(|top| format!("{top}/"));
        let strip = |mut file: TreeFile| {
            if let Some(rest) = only.as_ref().and_then(|top| file.path.strip_prefix(top)) {
                file.path = rest.to_owned();
            }
            file
        };
        Ok(self.files.into_values().map(strip).collect())
    }
}

/// The path made of a member's names, or the refusal. Backslashes separate names, too.
fn plain(name: &str) -> Result<String, ArchiveError> {
    let escape = || ArchiveError::Escape { name: name.to_owned() };
    let slashed = name.replace('\\', "/");
    let drive = slashed.as_bytes().get(1) == Some(&b':') && slashed.as_bytes()[0].is_ascii_alphabetic();
    if slashed.starts_with('/') || drive {
        return Err(escape());
    }
    let mut names = Vec::new();
    for part in slashed.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(escape()),
            part => names.push(part),
        }
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests;
