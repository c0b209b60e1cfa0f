//! Environments: a name, a work queue and its keys.

use std::collections::BTreeMap;

use jiff::Timestamp;
use remuda_actors::ids::EnvironmentId;
use serde_json::{Value, json};

use super::auth::Identity;
use super::clock::rfc3339;
use super::http::ApiError;
use super::metadata;
use super::work::WorkQueue;
use super::world::World;

/// Environments held at once.
const MAX_ENVIRONMENTS: usize = 10_000;

/// One self-hosted environment.
#[derive(Debug)]
pub(super) struct Environment {
    id: EnvironmentId,
    name: String,
    description: Value,
    metadata: BTreeMap<String, String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    archived_at: Option<Timestamp>,
    pub(super) queue: WorkQueue,
}

impl Environment {
    /// The environment object.
    pub(super) fn wire(&self) -> Value {
        json!({
            "id": self.id,
            "type": "environment",
            "name": self.name,
            "description": self.description,
            "config": {"type": "self_hosted"},
            "metadata": self.metadata,
            "scope": "organization",
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "archived_at": self.archived_at.map(rfc3339),
        })
    }

    pub(super) fn is_archived(&self) -> bool {
        self.archived_at.is_some()
    }

    /// Refuses what an archived environment cannot do.
    pub(super) fn check_unarchived(&self) -> Result<(), ApiError> {
        if !self.is_archived() {
            return Ok(());
        }
        Err(ApiError::invalid(format!("environment {} is archived", self.id)).code("environment_archived"))
    }
}

impl World {
    /// Makes an environment from a request's body.
    pub(super) fn create_environment(&mut self, body: &Value) -> Result<EnvironmentId, ApiError> {
        if self.environments.len() >= MAX_ENVIRONMENTS {
            let message = format!("the emulator holds at most {MAX_ENVIRONMENTS} environments; delete some");
            return Err(ApiError::invalid(message));
        }
        let name = name_of(body)?.ok_or_else(|| ApiError::invalid("name: expected a non-empty string"))?;
        check_config(body)?;
        let metadata = metadata::read(body.get("metadata"))?;
        let id = EnvironmentId::from(self.mint.id("env"));
        let wall = self.wall();
        let environment = Environment {
            id: id.clone(),
            name,
            description: body["description"].clone(),
            metadata,
            created_at: wall,
            updated_at: wall,
            archived_at: None,
            queue: WorkQueue::new(self.options.max_finished_work),
        };
        self.environments.insert(id.clone(), environment);
        Ok(id)
    }

    /// Makes one more key for an environment. The service issues keys in its console only, so no request does.
    pub(super) fn issue_key(&mut self, environment: &EnvironmentId) -> Result<String, ApiError> {
        self.environment(environment)?;
        let key = self.mint.environment_key();
        self.credentials.insert(key.clone(), Identity::Environment(environment.clone()));
        Ok(key)
    }

    /// Changes what a request's body names.
    pub(super) fn update_environment(&mut self, id: &EnvironmentId, body: &Value) -> Result<Value, ApiError> {
        self.environment(id)?.check_unarchived()?;
        check_config(body)?;
        let name = name_of(body)?;
        let wall = self.wall();
        let Some(environment) = self.environments.get_mut(id) else {
            return Err(ApiError::not_found(format!("there is no environment {id}")));
        };
        metadata::merge(&mut environment.metadata, body.get("metadata"))?;
        if let Some(name) = name {
            environment.name = name;
        }
        if let Some(description) = body.get("description") {
            environment.description = description.clone();
        }
        environment.updated_at = wall;
        Ok(environment.wire())
    }

    /// Archives an environment; what is queued stays and can still be worked off.
    pub(super) fn archive_environment(&mut self, id: &EnvironmentId) -> Result<Value, ApiError> {
        self.environment(id)?;
        let wall = self.wall();
        let environment = self.environments.get_mut(id).map(|environment| {
            environment.archived_at.get_or_insert(wall);
            environment.wire()
        });
        Ok(environment.unwrap_or_default())
    }

    /// Deletes an environment nothing lives in any more.
    pub(super) fn delete_environment(&mut self, id: &EnvironmentId) -> Result<Value, ApiError> {
        if self.environment(id)?.queue.has_live() {
            return Err(ApiError::conflict(format!("environment {id} has work; stop it first")));
        }
        self.environments.remove(id);
        self.credentials.forget_environment(id);
        Ok(json!({"id": id, "type": "environment_deleted"}))
    }
}

fn name_of(body: &Value) -> Result<Option<String>, ApiError> {
    match body.get("name") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if !name.is_empty() => Ok(Some(name.clone())),
        Some(_) => Err(ApiError::invalid("name: expected a non-empty string")),
    }
}

fn check_config(body: &Value) -> Result<(), ApiError> {
    match body.get("config") {
        None | Some(Value::Null) => Ok(()),
        Some(config) if config["type"] == "self_hosted" => Ok(()),
        Some(_) => {
            let message = "config.type: this emulator has `self_hosted` environments only";
            Err(ApiError::invalid(message).code("invalid_config_type_change"))
        }
    }
}
