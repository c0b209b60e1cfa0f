//! Skills: archives by version, and a writer for the zip archives they come in.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::clock::rfc3339;
use super::http::ApiError;
use super::world::World;

/// A version of a skill to add.
#[derive(Clone, Debug)]
pub struct SkillUpload {
    /// The skill's name, also the archive's top directory.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The archive as workers download it; whatever bytes a test wants to send.
    pub archive: Bytes,
}

impl SkillUpload {
    /// A version with a well-formed archive of `files`, all under a directory of the skill's name.
    pub fn new(name: &str, description: &str, files: &[(&str, &[u8])]) -> Self {
        let files: Vec<(String, &[u8])> =
            files.iter().map(|(path, bytes)| (format!("{name}/{path}"), *bytes)).collect();
        let archive = Bytes::from(zip(&files));
        Self { name: name.to_owned(), description: description.to_owned(), archive }
    }
}

/// A skill and its versions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Skill {
    versions: Vec<Version>,
}

#[derive(Debug)]
struct Version {
    id: String,
    created_at: Timestamp,
    upload: SkillUpload,
}

impl World {
    /// Adds a version to a skill, making the skill if need be; the version's id.
    pub(super) fn add_skill(&mut self, skill: &str, upload: SkillUpload) -> String {
        let (id, created_at) = (self.mint.id("skillver"), self.wall());
        let version = Version { id: id.clone(), created_at, upload };
        self.skills.entry(skill.to_owned()).or_default().versions.push(version);
        id
    }

    /// The version object of a version's id, or of `latest`.
    pub(super) fn skill_version(&self, skill: &str, version: &str) -> Result<Value, ApiError> {
        let versions = &self.skill(skill)?.versions;
        let found = match version {
            "latest" => versions.last(),
            id => versions.iter().find(|version| version.id == id),
        };
        let missing = || ApiError::not_found(format!("skill {skill} has no version {version}"));
        let found = found.ok_or_else(missing)?;
        Ok(json!({
            "id": found.id,
            "type": "skill_version",
            "skill_id": skill,
            "name": found.upload.name,
            "description": found.upload.description,
            "created_at": rfc3339(found.created_at),
        }))
    }

    /// The archive of a version. Only the id that resolving gave is taken: `latest` is not.
    pub(super) fn skill_archive(&self, skill: &str, version: &str) -> Result<Bytes, ApiError> {
        let found = self.skill(skill)?.versions.iter().find(|known| known.id == version);
        let missing = || {
            let hint = "resolve it first and use the id of the answer";
            ApiError::not_found(format!("skill {skill} has no version {version} to download; {hint}"))
        };
        found.map(|version| version.upload.archive.clone()).ok_or_else(missing)
    }

    fn skill(&self, skill: &str) -> Result<&Skill, ApiError> {
        self.skills.get(skill).ok_or_else(|| ApiError::not_found(format!("there is no skill {skill}")))
    }
}

/// A zip archive of uncompressed files, each with mode 0644.
pub fn zip(files: &[(String, &[u8])]) -> Vec<u8> {
    // The layout is that of PKWARE's APPNOTE, 4.3: local headers with data, central directory, its end.
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let offset = size(out.len());
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes()); // version needed
        common.extend(0x0800_u16.to_le_bytes()); // names are UTF-8
        common.extend(0_u16.to_le_bytes()); // stored
        common.extend([0, 0, 0x21, 0]); // 1980-01-01 00:00
        common.extend(crc32(bytes).to_le_bytes());
        common.extend(size(bytes.len()).to_le_bytes());
        common.extend(size(bytes.len()).to_le_bytes());
        common.extend(u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
        common.extend(0_u16.to_le_bytes()); // no extra field

        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(*bytes);

        directory.extend(b"PK\x01\x02");
        directory.extend([20, 3]); // made on Unix, so the mode below counts
        directory.extend(&common);
        directory.extend([0; 6]); // no comment, first disk, binary
        directory.extend((0o100_644_u32 << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(files.len()).unwrap_or(u16::MAX).to_le_bytes();
    let (start, length) = (size(out.len()), size(directory.len()));
    out.extend(directory);
    out.extend(b"PK\x05\x06");
    out.extend([0; 4]);
    out.extend(count);
    out.extend(count);
    out.extend(length.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0; 2]);
    out
}

/// A size or offset; archives of skills are far below 4 GiB.
fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The checksum zip uses, bit by bit: archives here are small.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn archives_open_with_the_usual_tool() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("skill.zip");
        let upload = SkillUpload::new("greet", "says hello", &[("SKILL.md", b"# hi"), ("bin/run", b"echo")]);
        std::fs::write(&archive, &upload.archive).unwrap();
        let listed = std::process::Command::new("python3")
            .args(["-m", "zipfile", "-t"])
            .arg(&archive)
            .output()
            .unwrap();
        assert!(listed.status.success(), "{listed:?}");
        let listed = std::process::Command::new("python3")
            .args(["-m", "zipfile", "-l"])
            .arg(&archive)
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("greet/SKILL.md") && listed.contains("greet/bin/run"), "{listed}");
    }
}
