//! Skills: which version is meant, and what is in it.

use bytes::Bytes;
use remuda_actors::ports::{ControlError, WorkItem};
use reqwest::Method;
use serde::Deserialize;

use super::client::{Beta, Client, credential};
use super::http::{body, json, send, send_for};

/// A version of a skill.
#[derive(Clone, Debug, Deserialize)]
pub struct SkillVersion {
    /// What it is downloaded by; it never means anything else.
    pub id: String,
    /// The skill's name, which its folder is named after.
    #[serde(default)]
    pub name: String,
}

impl Client {
    /// What a version of a skill is, `latest` among them, with the item's credential.
    ///
    /// # Errors
    /// [`ControlError`]; nothing has changed.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    pub async fn skill_version(
        &self,
        item: &WorkItem,
        skill: &str,
        version: &str,
    ) -> Result<SkillVersion, ControlError> {
        let path = ["v1", "skills", skill, "versions", version];
        let request = self.request_under(Beta::None, Method::GET, &path);
        json(send(request, credential(item)?).await?, "a version of a skill").await
    }

    /// The archive of a version, by the id that [`skill_version`](Self::skill_version) gave, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ControlError`], also if it is larger.
    ///
    /// # Cancel safety
    /// It can be dropped at any time.
    pub async fn skill_archive(
        &self,
        item: &WorkItem,
        skill: &str,
        version: &str,
        limit: usize,
    ) -> Result<Bytes, ControlError> {
        let path = ["v1", "skills", skill, "versions", version, "content"];
        let request = self.request_under(Beta::None, Method::GET, &path);
        body(send_for(request, credential(item)?, "application/binary").await?, limit).await
    }
}
