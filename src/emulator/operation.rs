//! Every call the emulator answers: its method, its path and the credentials it accepts. One table, read by
//! the router, the authorisation, the request log and the fault rules.

use axum::http::Method;
use serde::{Deserialize, Serialize};

use super::auth::Kind;
use Kind::{ApiKey, EnvironmentKey, SessionsToken};

const OPERATOR: &[Kind] = &[ApiKey];
const WORKER: &[Kind] = &[EnvironmentKey, SessionsToken];
const ANYONE: &[Kind] = &[ApiKey, EnvironmentKey, SessionsToken];

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident $method:ident $path:literal $accepts:expr;)*) => {
        /// One call of the control plane, named in fault rules by its name in snake case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its method.
            pub fn method(self) -> Method {
                match self {
                    $(Self::$name => Method::$method,)*
                }
            }

            /// Its path, with `{parameters}`.
            pub fn path(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }

            /// The kinds of credential it accepts. Whether a key or token is one of the right environment or
            /// session is decided by its handler.
            pub fn accepts(self) -> &'static [Kind] {
                match self {
                    $(Self::$name => $accepts,)*
                }
            }
        }
    };
}

operations! {
    /// Asks for a work item.
    Poll GET "/v1/environments/{environment}/work/poll" &[EnvironmentKey];
    /// Takes a work item out of the queue.
    Ack POST "/v1/environments/{environment}/work/{work}/ack" WORKER;
    /// Takes or extends a lease.
    Heartbeat POST "/v1/environments/{environment}/work/{work}/heartbeat" WORKER;
    /// Ends a work item.
    Stop POST "/v1/environments/{environment}/work/{work}/stop" ANYONE;
    /// Counts the queue.
    WorkStats GET "/v1/environments/{environment}/work/stats" &[ApiKey, EnvironmentKey];
    /// Lists work items.
    ListWork GET "/v1/environments/{environment}/work" &[ApiKey, EnvironmentKey];
    /// Reads one work item.
    GetWork GET "/v1/environments/{environment}/work/{work}" OPERATOR;
    /// Merges metadata into one work item.
    UpdateWork POST "/v1/environments/{environment}/work/{work}" OPERATOR;

    /// Makes an environment.
    CreateEnvironment POST "/v1/environments" OPERATOR;
    /// Lists environments.
    ListEnvironments GET "/v1/environments" OPERATOR;
    /// Reads an environment.
    GetEnvironment GET "/v1/environments/{environment}" OPERATOR;
    /// Changes an environment.
    UpdateEnvironment POST "/v1/environments/{environment}" OPERATOR;
    /// Archives an environment.
    ArchiveEnvironment POST "/v1/environments/{environment}/archive" OPERATOR;
    /// Deletes an environment.
    DeleteEnvironment DELETE "/v1/environments/{environment}" OPERATOR;

    /// Makes an agent.
    CreateAgent POST "/v1/agents" OPERATOR;
    /// Lists agents.
    ListAgents GET "/v1/agents" OPERATOR;
    /// Reads an agent, its latest version unless the query names one.
    GetAgent GET "/v1/agents/{agent}" OPERATOR;
    /// Publishes a new version of an agent.
    UpdateAgent POST "/v1/agents/{agent}" OPERATOR;
    /// Archives an agent.
    ArchiveAgent POST "/v1/agents/{agent}/archive" OPERATOR;
    /// Lists the versions of an agent.
    ListAgentVersions GET "/v1/agents/{agent}/versions" OPERATOR;

    /// Makes a session.
    CreateSession POST "/v1/sessions" OPERATOR;
    /// Lists sessions.
    ListSessions GET "/v1/sessions" OPERATOR;
    /// Reads a session.
    GetSession GET "/v1/sessions/{session}" ANYONE;
    /// Changes a session's title or metadata.
    UpdateSession POST "/v1/sessions/{session}" OPERATOR;
    /// Archives a session.
    ArchiveSession POST "/v1/sessions/{session}/archive" OPERATOR;
    /// Deletes a session.
    DeleteSession DELETE "/v1/sessions/{session}" OPERATOR;

    /// Lists a session's events.
    ListEvents GET "/v1/sessions/{session}/events" ANYONE;
    /// Sends events to a session.
    PostEvents POST "/v1/sessions/{session}/events" ANYONE;
    /// Follows a session's events.
    StreamEvents GET "/v1/sessions/{session}/events/stream" ANYONE;
    /// Lists a session's threads.
    ListThreads GET "/v1/sessions/{session}/threads" ANYONE;
    /// Reads a thread.
    GetThread GET "/v1/sessions/{session}/threads/{thread}" ANYONE;
    /// Lists a thread's events.
    ListThreadEvents GET "/v1/sessions/{session}/threads/{thread}/events" ANYONE;
    /// Follows a thread's events.
    StreamThread GET "/v1/sessions/{session}/threads/{thread}/stream" ANYONE;

    /// Resolves a skill's version.
    GetSkillVersion GET "/v1/skills/{skill}/versions/{version}" ANYONE;
    /// Downloads a skill's archive.
    DownloadSkill GET "/v1/skills/{skill}/versions/{version}/content" ANYONE;

    /// Makes a memory store.
    CreateMemoryStore POST "/v1/memory_stores" OPERATOR;
    /// Lists memory stores.
    ListMemoryStores GET "/v1/memory_stores" OPERATOR;
    /// Reads a memory store.
    GetMemoryStore GET "/v1/memory_stores/{store}" &[ApiKey, SessionsToken];
    /// Changes a memory store.
    UpdateMemoryStore POST "/v1/memory_stores/{store}" OPERATOR;
    /// Archives a memory store.
    ArchiveMemoryStore POST "/v1/memory_stores/{store}/archive" OPERATOR;
    /// Deletes a memory store.
    DeleteMemoryStore DELETE "/v1/memory_stores/{store}" OPERATOR;
    /// Lists memories.
    ListMemories GET "/v1/memory_stores/{store}/memories" &[ApiKey, SessionsToken];
    /// Makes a memory.
    CreateMemory POST "/v1/memory_stores/{store}/memories" &[ApiKey, SessionsToken];
    /// Reads a memory.
    GetMemory GET "/v1/memory_stores/{store}/memories/{memory}" &[ApiKey, SessionsToken];
    /// Changes a memory.
    UpdateMemory POST "/v1/memory_stores/{store}/memories/{memory}" &[ApiKey, SessionsToken];
    /// Deletes a memory.
    DeleteMemory DELETE "/v1/memory_stores/{store}/memories/{memory}" &[ApiKey, SessionsToken];

    /// Reads what the emulator knows about a session beyond the protocol: verdict, work and timing.
    Inspect GET "/_emulator/sessions/{session}" OPERATOR;
}

impl Operation {
    /// Whether its answer is a stream of events.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::StreamEvents | Self::StreamThread)
    }

    /// Whether it belongs to the memory endpoints, which have a beta header of their own.
    pub(super) fn is_memory(self) -> bool {
        self.path().starts_with("/v1/memory_stores")
    }
}
