//! The emulator as its in-process user holds it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use remuda_actors::ids::{EnvironmentId, SessionId, WorkId};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::EmulatorError;
use super::auth::Identity;
use super::faults::Faults;
use super::http::{ApiError, serve};
use super::log::RequestLog;
use super::options::Options;
use super::scenario::{Scenario, builtin};
use super::session_handle::SessionHandle;
use super::skills::SkillUpload;
use super::work::Subject;
use super::world::{Shared, lapse_leases};

/// A running control plane. Dropping it stops everything it started; [`Emulator::shutdown`] also waits for it.
#[derive(Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    api_key: String,
}

/// An environment and one of its keys.
#[derive(Clone)]
pub struct EnvironmentHandle {
    /// The environment.
    pub id: EnvironmentId,
    /// A key for its workers.
    pub key: String,
}

impl fmt::Debug for EnvironmentHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvironmentHandle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl From<ApiError> for EmulatorError {
    fn from(refusal: ApiError) -> Self {
        Self::Refused(refusal.message().to_owned())
    }
}

impl Emulator {
    /// Starts a control plane; it accepts connections when this returns.
    ///
    /// # Errors
    /// An option outside its limits, an address that cannot be bound.
    ///
    /// # Cancel safety
    /// Dropped before it returns, nothing is left running.
    pub async fn start(options: Options) -> Result<Self, EmulatorError> {
        options.validate()?;
        let mut scenarios = builtin()?;
        scenarios.extend(options.scenarios.iter().cloned());
        let address = options.listen;
        let listening = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, bound) =
            listening.await.map_err(|source| EmulatorError::Listen { address, source })?;
        let shared = Arc::new(Shared::new(Arc::new(options), scenarios));
        let api_key = shared.with(|world| {
            let key = world.options.api_key.clone().unwrap_or_else(|| world.mint.api_key());
            world.credentials.insert(key.clone(), Identity::Organization);
            key
        });
        shared.spawn(serve(listener, Arc::clone(&shared)));
        shared.spawn(lapse_leases(Arc::clone(&shared)));
        Ok(Self { shared, address: bound, api_key })
    }

    /// Where it listens, as `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The organisation's API key.
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// What clients sent.
    pub fn log(&self) -> &RequestLog {
        &self.shared.log
    }

    /// What goes wrong.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// Makes an environment with one key.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the name is empty or there are too many.
    pub fn create_environment(&self, name: &str) -> Result<EnvironmentHandle, EmulatorError> {
        self.shared.with(|world| {
            let id = world.create_environment(&json!({"name": name}))?;
            let key = world.issue_key(&id)?;
            Ok(EnvironmentHandle { id, key })
        })
    }

    /// Makes one more key for an environment.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if there is no such environment.
    pub fn issue_key(&self, environment: &EnvironmentId) -> Result<String, EmulatorError> {
        Ok(self.shared.with(|world| world.issue_key(environment))?)
    }

    /// Revokes a credential of any kind, from the next request on. False if it was not in force.
    pub fn revoke(&self, credential: &str) -> bool {
        self.shared.with(|world| world.credentials.revoke(credential))
    }

    /// Makes an agent with the whole toolset, allowed without asking. Its id.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if the name is empty or there are too many.
    pub fn create_agent(&self, name: &str) -> Result<String, EmulatorError> {
        self.create_agent_with(&json!({
            "name": name,
            "model": "claude-opus-5-5",
            "tools": [{"type": "agent_toolset_20260401"}],
        }))
    }

    /// Makes an agent from the body of a creation request. Its id.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] as the request would be.
    pub fn create_agent_with(&self, body: &Value) -> Result<String, EmulatorError> {
        let agent = self.shared.with(|world| world.create_agent(body))?;
        Ok(agent["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes a session that starts with a message.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] as the request would be.
    pub fn create_session(
        &self,
        environment: &EnvironmentId,
        agent: &str,
        message: &str,
    ) -> Result<SessionHandle, EmulatorError> {
        let content = json!([{"type": "text", "text": message}]);
        self.create_session_with(&json!({
            "environment_id": environment,
            "agent": agent,
            "initial_events": [{"type": "user.message", "content": content}],
        }))
    }

    /// Makes a session that plays a scenario.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if there is no such scenario, or as the request would be.
    pub fn create_scenario(
        &self,
        environment: &EnvironmentId,
        agent: &str,
        scenario: &str,
        variables: &[(&str, &str)],
    ) -> Result<SessionHandle, EmulatorError> {
        let mut metadata = json!({"scenario": scenario});
        for (name, value) in variables {
            metadata[format!("var.{name}")] = Value::from(*value);
        }
        self.create_session_with(
            &json!({"environment_id": environment, "agent": agent, "metadata": metadata}),
        )
    }

    /// Makes a session from the body of a creation request.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] as the request would be.
    pub fn create_session_with(&self, body: &Value) -> Result<SessionHandle, EmulatorError> {
        let session = self.shared.with(|world| world.create_session(body))?;
        Ok(self.session(&SessionId::from(session["id"].as_str().unwrap_or_default())))
    }

    /// A handle on a session, whether it exists or not.
    pub fn session(&self, id: &SessionId) -> SessionHandle {
        SessionHandle::new(Arc::clone(&self.shared), id.clone())
    }

    /// Queues an item that is not about a session, such as a `healthcheck`.
    ///
    /// # Errors
    /// [`EmulatorError::Refused`] if there is no such environment.
    pub fn enqueue(
        &self,
        environment: &EnvironmentId,
        kind: &str,
        id: &str,
    ) -> Result<WorkId, EmulatorError> {
        let subject = Subject::Other { kind: kind.to_owned(), id: id.to_owned() };
        let missing = || EmulatorError::Refused(format!("there is no environment {environment}"));
        self.shared.with(|world| world.enqueue(environment, subject)).ok_or_else(missing)
    }

    /// Adds a scenario, or replaces the one of the same name for sessions made from now on.
    pub fn add_scenario(&self, scenario: Scenario) {
        self.shared.with(|world| world.scenarios.insert(scenario.name.clone(), Arc::new(scenario)));
    }

    /// Adds a version to a skill, making the skill if need be. The version's id.
    pub fn add_skill(&self, skill: &str, upload: SkillUpload) -> String {
        self.shared.with(|world| world.add_skill(skill, upload))
    }

    /// Stops everything and waits until it has stopped.
    ///
    /// # Cancel safety
    /// Dropped before it returns, everything stops all the same, only later.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
    }
}
