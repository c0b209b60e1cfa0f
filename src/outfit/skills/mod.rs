//! Skills: folders of files that an agent's session finds under `/workspace/skills`.

mod cache;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

pub(super) use self::cache::Cache;
use super::archive::{ArchiveError, Bounds, unpack};
use super::document::Skill;
use super::patient::Patient;
use crate::cma::{Client, SkillVersion};
use crate::hand::client::TreeFile;

/// Where skills are in a sandbox.
const FOLDER: &str = "/workspace/skills";

/// Largest archive of a skill, in bytes.
const MAX_ARCHIVE: usize = 64 << 20;

/// Most that one skill may hold.
const BOUNDS: Bounds = Bounds { bytes: 256 << 20, members: 10_000 };

/// A skill that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Its folder in the sandbox.
    pub(super) folder: String,
    /// A place beside it.
    pub(super) stage: String,
    pub(super) files: Vec<TreeFile>,
}

/// Why a skill was not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum SkillError {
    #[error(transparent)]
    Control(#[from] remuda_actors::ports::ControlError),
    #[error("its archive was not unpacked: {0}")]
    Archive(#[from] ArchiveError),
    #[error("neither its name {name:?} nor its id can name a folder")]
    Name { name: String },
    #[error("another skill of the session is called {name:?}, too")]
    Taken { name: String },
}

/// Fetches a skill. `taken` are the names of those before it.
pub(super) async fn fetch(
    control: &Client,
    cache: &Arc<Cache>,
    patient: &Patient<'_>,
    skill: &Skill,
    taken: &mut BTreeSet<String>,
) -> Result<Fetched, SkillError> {
    let Skill { skill_id, version } = skill;
    let found = patient.ask(|| control.skill_version(patient.item(), skill_id, version)).await?;
    let name = folder_name(&found.name, skill_id).ok_or(SkillError::Name { name: found.name.clone() })?;
    if !taken.insert(name.clone()) {
        return Err(SkillError::Taken { name });
    }
    let archive = archive_of(control, cache, patient, skill_id, &found).await?;
    let unpacked = tokio::task::spawn_blocking(move || unpack(&archive, BOUNDS)).await;
    let files =
        unpacked.unwrap_or_else(|error| Err(ArchiveError::Unreadable(std::io::Error::other(error))))?;
    Ok(Fetched { folder: format!("{FOLDER}/{name}"), stage: format!("{FOLDER}/.skill-{name}"), files })
}

async fn archive_of(
    control: &Client,
    cache: &Arc<Cache>,
    patient: &Patient<'_>,
    skill: &str,
    found: &SkillVersion,
) -> Result<Bytes, SkillError> {
    // The version was just resolved with the session's own credential, so it may have what others have fetched.
    let kept = {
        let (cache, skill, version) = (Arc::clone(cache), skill.to_owned(), found.id.clone());
        tokio::task::spawn_blocking(move || cache.get(&skill, &version)).await.ok().flatten()
    };
    if let Some(archive) = kept {
        return Ok(archive);
    }
    let fetched =
        patient.ask(|| control.skill_archive(patient.item(), skill, &found.id, MAX_ARCHIVE)).await?;
    let (cache, skill, version, archive) =
        (Arc::clone(cache), skill.to_owned(), found.id.clone(), fetched.clone());
    let kept = tokio::task::spawn_blocking(move || cache.put(&skill, &version, &archive)).await;
    if let Ok(Err(error)) = kept {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a skill's archive could not be kept for later"
        );
    }
    Ok(fetched)
}

/// The folder of a skill: the last part of its name, or else its id.
fn folder_name(name: &str, id: &str) -> Option<String> {
    let usable = |name: &&str| {
        !matches!(*name, "" | "." | "..") && name.len() <= 200 && !name.chars().any(char::is_control)
    };
    let last = name.trim().rsplit(['/', '\\']).next().filter(usable);
    let id = Some(id).filter(usable).filter(|id| !id.contains(['/', '\\']));
    last.or(id).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_after_the_skill_and_after_nothing_else() {
        let named = |name| folder_name(name, "skill_1");
        for (name, folder) in [
            (" pdf ", "pdf"),
            ("a/b/pdf", "pdf"),
            ("..\\x", "x"),
            ("", "skill_1"),
            ("..", "skill_1"),
            ("a/", "skill_1"),
        ] {
            assert_eq!(named(name).as_deref(), Some(folder), "{name:?}");
        }
        assert_eq!(folder_name("..", "../evil"), None);
    }
}
