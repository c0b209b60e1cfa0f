//! Agents: what a session's model, tools and skills are, in numbered versions.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::clock::rfc3339;
use super::http::ApiError;
use super::metadata;
use super::world::World;

/// Agents held at once.
const MAX_AGENTS: usize = 10_000;
/// Versions of one agent.
const MAX_VERSIONS: usize = 1000;
/// Tools of one agent, all toolsets together.
const MAX_TOOLS: usize = 256;
/// Skills of one agent.
const MAX_SKILLS: usize = 500;

/// The tools of `agent_toolset_20260401`; no custom tool may have one of these names.
const TOOLSET: [&str; 8] = ["bash", "read", "write", "edit", "glob", "grep", "web_fetch", "web_search"];

/// One agent with every version of it, oldest first.
#[derive(Debug)]
pub(super) struct Agent {
    id: String,
    versions: Vec<Value>,
    /// What sessions of each version have of it, shared by them all.
    snapshots: Vec<Arc<Value>>,
    archived_at: Option<Timestamp>,
}

impl Agent {
    /// The agent object of its latest version.
    pub(super) fn latest(&self) -> &Value {
        // There is a version from the start, and none is ever removed.
        self.versions.last().unwrap_or(&Value::Null)
    }

    /// Every version's object, oldest first.
    pub(super) fn versions(&self) -> &[Value] {
        &self.versions
    }

    /// The agent object of one version.
    pub(super) fn version(&self, number: u64) -> Result<&Value, ApiError> {
        let found = usize::try_from(number).ok().and_then(|number| self.versions.get(number.checked_sub(1)?));
        found.ok_or_else(|| ApiError::not_found(format!("agent {} has no version {number}", self.id)))
    }

    pub(super) fn is_archived(&self) -> bool {
        self.archived_at.is_some()
    }
}

impl World {
    /// An agent, or the refusal that names it.
    pub(super) fn agent(&self, id: &str) -> Result<&Agent, ApiError> {
        self.agents.get(id).ok_or_else(|| ApiError::not_found(format!("there is no agent {id}")))
    }

    /// Makes an agent from a request's body.
    pub(super) fn create_agent(&mut self, body: &Value) -> Result<Value, ApiError> {
        if self.agents.len() >= MAX_AGENTS {
            return Err(ApiError::invalid(format!("the emulator holds at most {MAX_AGENTS} agents")));
        }
        for required in ["name", "model"] {
            if body.get(required).is_none_or(Value::is_null) {
                return Err(ApiError::invalid(format!("{required}: required")));
            }
        }
        let (id, at) = (self.mint.id("agent"), rfc3339(self.wall()));
        let mut agent = json!({
            "id": id,
            "type": "agent",
            "version": 1,
            "name": null,
            "description": null,
            "model": null,
            "system": null,
            "tools": [],
            "skills": [],
            "mcp_servers": [],
            "multiagent": null,
            "execution_identity": {"type": "service_account"},
            "metadata": {},
            "created_at": at,
            "updated_at": at,
            "archived_at": null,
        });
        configure(&mut agent, body)?;
        self.check_brain(&agent)?;
        let (versions, snapshots) = (vec![agent.clone()], vec![Arc::new(snapshot(agent.clone()))]);
        self.agents.insert(id.clone(), Agent { id, versions, snapshots, archived_at: None });
        Ok(agent)
    }

    /// Publishes a new version of an agent.
    pub(super) fn update_agent(&mut self, id: &str, body: &Value) -> Result<Value, ApiError> {
        let agent = self.agent(id)?;
        if agent.is_archived() {
            return Err(ApiError::invalid(format!("agent {id} is archived")));
        }
        if agent.versions.len() >= MAX_VERSIONS {
            return Err(ApiError::invalid(format!(
                "agent {id} has {MAX_VERSIONS} versions, which is the most"
            )));
        }
        let mut next = agent.latest().clone();
        let current = next["version"].as_u64().unwrap_or_default();
        if let Some(expected) = body.get("version").filter(|version| !version.is_null())
            && expected.as_u64() != Some(current)
        {
            return Err(ApiError::conflict(format!(
                "version: agent {id} is at version {current}, not {expected}"
            )));
        }
        configure(&mut next, body)?;
        self.check_brain(&next)?;
        next["version"] = Value::from(current + 1);
        next["updated_at"] = Value::from(rfc3339(self.wall()));
        if let Some(agent) = self.agents.get_mut(id) {
            agent.versions.push(next.clone());
            agent.snapshots.push(Arc::new(snapshot(next.clone())));
        }
        Ok(next)
    }

    /// Archives an agent; sessions that have it go on.
    pub(super) fn archive_agent(&mut self, id: &str) -> Result<Value, ApiError> {
        self.agent(id)?;
        let wall = self.wall();
        let Some(agent) = self.agents.get_mut(id) else { return Ok(Value::Null) };
        let at = rfc3339(*agent.archived_at.get_or_insert(wall));
        for version in &mut agent.versions {
            version["archived_at"] = Value::from(at.as_str());
        }
        Ok(agent.latest().clone())
    }

    /// What a new session has of its agent, and the agent's metadata, which chooses a brain.
    pub(super) fn resolve_agent(&self, wanted: &Value) -> Result<(Arc<Value>, &Value), ApiError> {
        let (id, reference) = match wanted {
            Value::String(id) => (id.as_str(), None),
            Value::Object(reference) => (wanted["id"].as_str().unwrap_or_default(), Some(reference)),
            _ => return Err(ApiError::invalid("agent: expected an agent's id or a reference to one")),
        };
        let agent = self.agent(id)?;
        if agent.is_archived() {
            return Err(ApiError::invalid(format!("agent {id} is archived")));
        }
        let number = match reference.and_then(|reference| reference.get("version")) {
            None | Some(Value::Null) => agent.versions.len() as u64,
            Some(version) => {
                version.as_u64().ok_or_else(|| ApiError::invalid("agent.version: expected a number"))?
            }
        };
        let metadata = &agent.version(number)?["metadata"];
        let shared =
            usize::try_from(number).ok().and_then(|number| agent.snapshots.get(number.checked_sub(1)?));
        let shared = shared.cloned().unwrap_or_default();
        let Some(reference) = reference else { return Ok((shared, metadata)) };
        match wanted["type"].as_str() {
            Some("agent") => Ok((shared, metadata)),
            Some("agent_with_overrides") => {
                let keys = ["model", "system", "tools", "skills", "mcp_servers"];
                let overrides = keys.iter().filter_map(|key| Some((*key, reference.get(*key)?)));
                let overrides: Map<String, Value> =
                    overrides.map(|(key, value)| (key.to_owned(), value.clone())).collect();
                let mut own = (*shared).clone();
                configure(&mut own, &Value::Object(overrides))?;
                Ok((Arc::new(snapshot(own)), metadata))
            }
            _ => Err(ApiError::invalid("agent.type: expected `agent` or `agent_with_overrides`")),
        }
    }
}

/// What a session has of an agent: everything but its metadata and its dates.
fn snapshot(mut agent: Value) -> Value {
    if let Value::Object(fields) = &mut agent {
        for key in ["metadata", "created_at", "updated_at", "archived_at"] {
            fields.remove(key);
        }
    }
    agent
}

/// Puts what `body` names into `agent`. Null clears what can be cleared.
fn configure(agent: &mut Value, body: &Value) -> Result<(), ApiError> {
    let given = |key: &str| body.get(key);
    let not_null = |key: &str| body.get(key).filter(|value| !value.is_null());
    if let Some(name) = not_null("name") {
        agent["name"] = text(name, "name")?;
    }
    if let Some(model) = not_null("model") {
        agent["model"] = match model {
            Value::String(id) => json!({"id": id}),
            Value::Object(_) if model["id"].is_string() => model.clone(),
            _ => return Err(ApiError::invalid("model: expected a model's id or an object with `id`")),
        };
    }
    for key in ["description", "system", "multiagent"] {
        if let Some(value) = given(key) {
            agent[key] = value.clone();
        }
    }
    if let Some(identity) = not_null("execution_identity") {
        agent["execution_identity"] = identity.clone();
    }
    if let Some(tools) = given("tools") {
        agent["tools"] =
            list(tools, "tools", MAX_TOOLS)?.iter().enumerate().map(tool).collect::<Result<_, _>>()?;
    }
    if let Some(skills) = given("skills") {
        agent["skills"] =
            list(skills, "skills", MAX_SKILLS)?.iter().enumerate().map(skill).collect::<Result<_, _>>()?;
    }
    if let Some(servers) = given("mcp_servers") {
        agent["mcp_servers"] = Value::from(list(servers, "mcp_servers", 20)?.to_vec());
    }
    let mut merged = metadata::read(agent.get("metadata"))?;
    metadata::merge(&mut merged, given("metadata"))?;
    agent["metadata"] = json!(merged);
    Ok(())
}

fn text(value: &Value, key: &str) -> Result<Value, ApiError> {
    match value {
        Value::String(text) if !text.is_empty() => Ok(value.clone()),
        _ => Err(ApiError::invalid(format!("{key}: expected a non-empty string"))),
    }
}

fn list<'a>(value: &'a Value, key: &str, most: usize) -> Result<&'a [Value], ApiError> {
    let items: &[Value] = match value {
        Value::Null => &[],
        Value::Array(items) => items,
        _ => return Err(ApiError::invalid(format!("{key}: expected an array"))),
    };
    if items.len() > most {
        return Err(ApiError::invalid(format!("{key}: {} of them, at most {most} are allowed", items.len())));
    }
    Ok(items)
}

/// A tool as the service resolves it: policies filled in, custom names checked.
fn tool((n, tool): (usize, &Value)) -> Result<Value, ApiError> {
    let allow = json!({"type": "always_allow"});
    let mut tool = tool.clone();
    match tool["type"].as_str() {
        Some("agent_toolset_20260401") => {
            let default = &mut tool["default_config"];
            if default.is_null() {
                *default = json!({"enabled": true, "permission_policy": allow});
            }
            let inherited = default["permission_policy"].clone();
            let policy = if inherited.is_null() { allow } else { inherited };
            if tool["configs"].is_null() {
                tool["configs"] = json!([]);
            }
            for config in tool["configs"].as_array_mut().into_iter().flatten() {
                if config["permission_policy"].is_null() {
                    config["permission_policy"] = policy.clone();
                }
                if config["enabled"].is_null() {
                    config["enabled"] = Value::from(true);
                }
            }
        }
        Some("custom") => {
            let name = tool["name"].as_str().unwrap_or_default();
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let fits = (1..=128).contains(&name.len()) && name.chars().all(word);
            if !fits || TOOLSET.contains(&name) || name.starts_with("mcp__") || name.starts_with("ant__") {
                let message = format!(
                    "tools.{n}.name: `{name}` cannot be a custom tool's name: 1 to 128 of A-Z a-z 0-9 _ -, not a built-in tool's, not starting with mcp__ or ant__"
                );
                return Err(ApiError::invalid(message));
            }
        }
        Some("mcp_toolset") => {}
        _ => {
            let message =
                format!("tools.{n}.type: expected `agent_toolset_20260401`, `custom` or `mcp_toolset`");
            return Err(ApiError::invalid(message));
        }
    }
    Ok(tool)
}

fn skill((n, skill): (usize, &Value)) -> Result<Value, ApiError> {
    let known = matches!(skill["type"].as_str(), Some("custom" | "anthropic"));
    if !known || !skill["skill_id"].is_string() {
        let message = format!("skills.{n}: expected `type` (`custom` or `anthropic`) and `skill_id`");
        return Err(ApiError::invalid(message));
    }
    let mut skill = skill.clone();
    if skill["version"].is_null() {
        skill["version"] = Value::from("latest");
    }
    Ok(skill)
}
