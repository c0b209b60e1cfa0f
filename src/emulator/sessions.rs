//! The sessions of the world: made, changed, ended, and given to their brains.

use std::collections::BTreeMap;
use std::sync::Arc;

use remuda_actors::ids::{EnvironmentId, SessionId};
use serde_json::{Value, json};

use super::auth::Kind;
use super::brain::{Assigned, Script};
use super::events::Event;
use super::http::ApiError;
use super::metadata;
use super::scenario::Variables;
use super::session::{self, Moment, Session, SessionSetup, Status};
use super::work::Subject;
use super::world::{Effect, World};

/// Deleted sessions remembered for those who ask how they ended.
const MAX_BURIED: usize = 1000;
/// Events a session can be created with.
const MAX_INITIAL: usize = 50;
/// Memory stores a session can have.
const MAX_STORES: usize = 8;
/// Characters of a resource's instructions.
const MAX_INSTRUCTIONS: usize = 4096;

impl World {
    /// Makes a session from a request's body, queues its work and starts its first turn.
    pub(super) fn create_session(&mut self, body: &Value) -> Result<Value, ApiError> {
        if self.sessions.len() >= self.options.max_sessions {
            let most = self.options.max_sessions;
            return Err(ApiError::invalid(format!(
                "the emulator holds at most {most} sessions; delete some"
            )));
        }
        let id = SessionId::from(self.mint.id("sesn"));
        let environment = body["environment_id"].as_str().map(EnvironmentId::from);
        let environment = environment.ok_or_else(|| ApiError::invalid("environment_id: required"))?;
        self.environment(&environment)?.check_unarchived()?;
        let (agent, agent_metadata) = self.resolve_agent(&body["agent"])?;
        let metadata = metadata::read(body.get("metadata"))?;
        let resources = self.resolve_resources(&environment, body.get("resources"))?;
        let initial = match body.get("initial_events") {
            None | Some(Value::Null) => Vec::new(),
            Some(events) if events.as_array().is_some_and(Vec::is_empty) => Vec::new(),
            Some(events) => session::parse(events)?,
        };
        if initial.len() > MAX_INITIAL {
            return Err(ApiError::invalid(format!("initial_events: at most {MAX_INITIAL} events")));
        }
        if !initial.iter().all(session::ClientEvent::may_be_initial) {
            let message = "initial_events: only user.message and user.define_outcome can be sent at creation";
            return Err(ApiError::invalid(message));
        }
        let brain = self.assign(&id, &environment, &metadata, agent_metadata)?;
        let opens = initial.is_empty() && matches!(&brain, Assigned::Script(script) if script.opens());
        let setup = SessionSetup {
            environment: environment.clone(),
            agent,
            title: body["title"].clone(),
            metadata,
            resources,
            budget: body["budget"].clone(),
            vault_ids: body
                .get("vault_ids")
                .filter(|ids| ids.is_array())
                .cloned()
                .unwrap_or_else(|| json!([])),
            brain,
            max_events: self.options.max_events,
        };
        let (now, wall) = (self.now, self.wall());
        let session = Session::new(id.clone(), setup, &mut Moment { now, wall, mint: &mut self.mint });
        self.sessions.insert(id.clone(), session);
        self.enqueue(&environment, Subject::Session(id.clone()));
        if !initial.is_empty() {
            self.post(&id, None, initial)?;
        }
        if opens {
            self.effects.push(Effect::OpenScenario { session: id.clone() });
        }
        Ok(self.session(&id)?.wire(wall))
    }

    /// Does something to a session at this moment, then starts the turn that may be due and asks for a worker
    /// if calls came up that need one.
    pub(super) fn in_session<R>(
        &mut self,
        id: &SessionId,
        deed: impl FnOnce(&mut Session, &mut Moment<'_>) -> R,
    ) -> Option<R> {
        let (now, wall) = (self.now, self.wall());
        let session = self.sessions.get_mut(id)?;
        let mut at = Moment { now, wall, mint: &mut self.mint };
        let emitted = session.emitted;
        let result = deed(session, &mut at);
        let turn = session.begin_turn(&mut at);
        let calls = session.emitted > emitted;
        let needs_worker = calls && session.calls.iter().any(|call| call.is_pending() && !call.for_client);
        if let Some(turn) = turn.filter(|_| !matches!(session.brain, Assigned::Silent)) {
            self.effects.push(Effect::RunTurn { session: id.clone(), turn });
        }
        if needs_worker {
            self.ensure_work(id);
        }
        Some(result)
    }

    /// Takes events a client sent; the events as stored.
    pub(super) fn post(
        &mut self,
        id: &SessionId,
        sender: Option<Kind>,
        events: Vec<session::ClientEvent>,
    ) -> Result<Vec<Arc<Event>>, ApiError> {
        let missing = || ApiError::not_found(format!("there is no session {id}"));
        let posted =
            self.in_session(id, |session, at| session.post(at, sender, events)).ok_or_else(missing)??;
        if posted.wants_work {
            self.ensure_work(id);
        }
        Ok(posted.events)
    }

    /// Changes a session's title and metadata.
    pub(super) fn update_session(&mut self, id: &SessionId, body: &Value) -> Result<Value, ApiError> {
        let wall = self.wall();
        let missing = || ApiError::not_found(format!("there is no session {id}"));
        let session = self.sessions.get_mut(id).ok_or_else(missing)?;
        if session.is_terminated() {
            return Err(ApiError::invalid(format!("session {id} is terminated")));
        }
        for fixed in ["agent", "resources", "environment_id", "vault_ids"] {
            if body.get(fixed).is_some() {
                return Err(ApiError::invalid(format!(
                    "{fixed}: this emulator does not change it after creation"
                )));
            }
        }
        metadata::merge(&mut session.metadata, body.get("metadata"))?;
        if let Some(title) = body.get("title") {
            session.title = title.clone();
        }
        session.updated_at = wall;
        Ok(session.wire(wall))
    }

    /// Archives a session that is not running; from then on it reads as terminated.
    pub(super) fn archive_session(&mut self, id: &SessionId) -> Result<Value, ApiError> {
        self.check_not_running(id, "archived")?;
        let archived = self.in_session(id, |session, at| {
            session.archived_at.get_or_insert(at.wall);
            session.brain.session_over("archived");
            session.terminate(at);
            session.wire(at.wall)
        });
        Ok(archived.unwrap_or_default())
    }

    /// Deletes a session that is not running; its streams end.
    pub(super) fn delete_session(&mut self, id: &SessionId) -> Result<Value, ApiError> {
        self.check_not_running(id, "deleted")?;
        let work = self.session(id).map(|found| (found.environment.clone(), found.live_work.clone()))?;
        if let (environment, Some(work)) = work {
            // Its holder learns of it at the next heartbeat. An item that has just ended is as good.
            drop(self.stop(&environment, &work, false));
        }
        let wall = self.wall();
        let mint = &mut self.mint;
        if let Some(mut session) = self.sessions.remove(id) {
            let mut at = Moment { now: self.now, wall, mint };
            session.brain.session_over("deleted");
            session.close_pending(&mut at, None);
            session.status = Status::Terminated;
            session.timing.ended_at.get_or_insert(self.now);
            session.emit(&mut at, "session.deleted", json!({}));
            session.primary.log.cut();
            for child in &mut session.children {
                child.log.cut();
            }
            session.changed.notify_waiters();
            if self.buried.len() == MAX_BURIED
                && let Some(oldest) = self.buried.pop_front()
            {
                // Until now its tokens were good: a worker that still holds its item has to stop it.
                self.credentials.forget_session(&oldest.id);
            }
            self.buried.push_back(session);
        }
        Ok(json!({"id": id, "type": "session_deleted"}))
    }

    /// A session, even a deleted one.
    pub(super) fn session_or_buried(&self, id: &SessionId) -> Option<&Session> {
        self.sessions.get(id).or_else(|| self.buried.iter().rev().find(|session| session.id == *id))
    }

    fn check_not_running(&self, id: &SessionId, what: &str) -> Result<(), ApiError> {
        if self.session(id)?.status == Status::Running {
            return Err(ApiError::invalid(format!(
                "session {id} is running and cannot be {what}; interrupt it first"
            )));
        }
        Ok(())
    }

    /// The brain a session's metadata chooses, else its agent's, else the shell.
    fn assign(
        &self,
        session: &SessionId,
        environment: &EnvironmentId,
        metadata: &BTreeMap<String, String>,
        agent_metadata: &Value,
    ) -> Result<Assigned, ApiError> {
        let scenario =
            metadata.get("scenario").map(String::as_str).or_else(|| agent_metadata["scenario"].as_str());
        if let Some(name) = scenario {
            let scenario = self.scenario(name)?;
            let variables =
                Variables::new(&scenario.variables, session.as_str(), environment.as_str(), metadata)
                    .map_err(ApiError::invalid)?;
            return Ok(Assigned::Script(Box::new(Script::new(Arc::clone(scenario), variables))));
        }
        Ok(match agent_metadata["brain"].as_str() {
            Some("silent") => Assigned::Silent,
            _ => Assigned::Shell,
        })
    }

    /// Refuses an agent whose metadata chooses a brain there is not.
    pub(super) fn check_brain(&self, agent: &Value) -> Result<(), ApiError> {
        let metadata = &agent["metadata"];
        if let Some(name) = metadata["scenario"].as_str() {
            self.scenario(name)?;
        }
        match metadata["brain"].as_str() {
            None | Some("shell" | "silent") => Ok(()),
            Some(other) => {
                let message = format!(
                    "metadata.brain: there is no brain `{other}`; known are `shell` and `silent`, and `metadata.scenario` names a scenario"
                );
                Err(ApiError::invalid(message))
            }
        }
    }

    fn scenario(&self, name: &str) -> Result<&Arc<super::scenario::Scenario>, ApiError> {
        self.scenarios.get(name).ok_or_else(|| {
            let mut known: Vec<&str> = self.scenarios.keys().map(String::as_str).collect();
            known.sort_unstable();
            let known = known.join("`, `");
            ApiError::invalid(format!(
                "metadata.scenario: there is no scenario `{name}`; known are `{known}`"
            ))
        })
    }

    /// The resources of a new session, with what the service adds to each.
    fn resolve_resources(
        &self,
        environment: &EnvironmentId,
        resources: Option<&Value>,
    ) -> Result<Vec<Value>, ApiError> {
        let resources = match resources {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(resources)) => resources,
            Some(_) => return Err(ApiError::invalid("resources: expected an array")),
        };
        if resources.len() > MAX_STORES {
            return Err(ApiError::invalid(format!("resources: at most {MAX_STORES} memory stores")));
        }
        let mut resolved: Vec<Value> = Vec::new();
        for (n, resource) in resources.iter().enumerate() {
            if resource["type"] != "memory_store" {
                let kind = resource["type"].as_str().unwrap_or("?");
                let message = format!(
                    "resources.{n}: environment {environment} is self-hosted, where `{kind}` resources are unsupported; only `memory_store` can be attached"
                );
                return Err(ApiError::invalid(message));
            }
            let store = resource["memory_store_id"].as_str().unwrap_or_default();
            if resolved.iter().any(|other| other["memory_store_id"] == store) {
                return Err(ApiError::invalid(format!(
                    "resources.{n}: memory store {store} is attached twice"
                )));
            }
            let access = match resource["access"].as_str() {
                None if resource["access"].is_null() => "read_write",
                Some(access @ ("read_write" | "read_only")) => access,
                _ => {
                    let message = format!("resources.{n}.access: expected `read_write` or `read_only`");
                    return Err(ApiError::invalid(message));
                }
            };
            let instructions = resource["instructions"].as_str();
            if instructions.is_some_and(|text| text.chars().count() > MAX_INSTRUCTIONS) {
                let message = format!("resources.{n}.instructions: at most {MAX_INSTRUCTIONS} characters");
                return Err(ApiError::invalid(message));
            }
            let taken: Vec<&str> = resolved.iter().filter_map(|other| other["mount_path"].as_str()).collect();
            resolved.push(self.store(store)?.as_resource(access, instructions, &taken)?);
        }
        Ok(resolved)
    }
}
