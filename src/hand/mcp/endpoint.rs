//! From a message to its answer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt as _;
use remuda_actors::ids::{CallId, ThreadId};
use remuda_actors::tool::ToolResult;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::content::to_mcp;
use super::processes::Processes;
use super::tools::{self, Own};
use crate::custom::answer::cut;
use crate::custom::mcp::{INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, PROTOCOL_VERSIONS};
use crate::hand::calls::Calls;
use crate::hand::wire::{CallRequest, MAX_REASON_BYTES};

/// Longest name of a session that is accepted, in bytes. Ours have 20.
const MAX_SESSION_BYTES: usize = 64;

/// Sessions whose shells are kept; the one that was used longest ago makes room.
const MAX_SESSIONS: usize = 32;

/// The session of clients that name none.
const NAMELESS: &str = "mcp";

/// What clients are told about the sandbox.
const INSTRUCTIONS: &str = "A sandbox of its own, with a shell that keeps its state from call to call. Relative paths \
                            begin in its working directory. Use process_start for what is to run on after a call.";

/// The name of a client's session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionName(Arc<str>);

impl SessionName {
    /// A new one.
    fn new() -> Self {
        Self(format!("mcp-{:016x}", rand::rng().random::<u64>()).into())
    }

    /// One that a client has named; none if that can be no session's.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (plain && (1..=MAX_SESSION_BYTES).contains(&name.len())).then(|| Self(name.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The thread whose shell it has.
    fn thread(&self) -> ThreadId {
        ThreadId::from(&*self.0)
    }
}

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It was taken in, and has no answer.
    Accepted,
    /// Its answer.
    Answer(Value),
    /// It is no message.
    Refused(Value),
}

/// Answers messages. See the module's documentation.
#[derive(Debug)]
pub(crate) struct Endpoint {
    calls: Calls,
    processes: Processes,
    /// The calls that are waited for, by their session and the client's id for them.
    live: Mutex<HashMap<(SessionName, String), CallId>>,
    /// The sessions that have made calls, the last one to do so at the end.
    sessions: Mutex<VecDeque<SessionName>>,
}

/// A message, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Map<String, Value>,
}

impl Message {
    /// Reads one; what is wrong with it is the answer.
    fn read(body: &[u8]) -> Result<Self, Value> {
        let refused = |code, what: String| failure(&Value::Null, code, &what);
        let message: Value = serde_json::from_slice(body)
            .map_err(|error| refused(PARSE_ERROR, format!("this is no JSON: {error}")))?;
        let message: Self = serde_json::from_value(message).map_err(|error| {
            refused(INVALID_REQUEST, format!("expected one message of JSON-RPC: {error}"))
        })?;
        let is_id = |id: &Value| matches!(id, Value::String(_) | Value::Number(_));
        if message.id.as_ref().is_some_and(|id| !is_id(id))
            || (message.id.is_none() && message.method.is_none())
        {
            return Err(refused(
                INVALID_REQUEST,
                "expected a method, and an id that is a text or a number".to_owned(),
            ));
        }
        Ok(message)
    }
}

/// An answer that says what went wrong.
fn failure(id: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// An entry among the live calls.
struct Live<'a>(&'a Endpoint, (SessionName, String));

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.live.lock().remove(&self.1);
    }
}

/// An error of JSON-RPC's: its code, and its words.
type RpcError = (i64, String);

impl Endpoint {
    pub(crate) fn new(calls: Calls) -> Self {
        let processes = Processes::new(Arc::clone(calls.sandbox()));
        Self { calls, processes, live: Mutex::default(), sessions: Mutex::default() }
    }

    /// Answers a message, together with the session that it is of: the one that is named, or a new one for a client
    /// that says hello.
    ///
    /// # Cancel safety
    /// Dropping it stops the waiting alone; a call goes on.
    pub(crate) async fn answer(&self, session: Option<SessionName>, body: &[u8]) -> (SessionName, Reply) {
        let nameless = || SessionName(NAMELESS.into());
        let message = match Message::read(body) {
            Ok(message) => message,
            Err(error) => return (session.unwrap_or_else(nameless), Reply::Refused(error)),
        };
        let session = session.unwrap_or_else(|| match message.method.as_deref() {
            Some("initialize") => SessionName::new(),
            _ => nameless(),
        });
        let reply = match (message.id, message.method) {
            (Some(id), Some(method)) => {
                let answered = self.request(&session, &id, &method, message.params, body.len()).await;
                Reply::Answer(match answered {
                    Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                    Err((code, message)) => failure(&id, code, &message),
                })
            }
            (None, Some(method)) => {
                self.notified(&session, &method, &message.params);
                Reply::Accepted
            }
            // An answer, though nothing was asked.
            (_, None) => Reply::Accepted,
        };
        (session, reply)
    }

    /// A session is over: its calls are cancelled, and its shell is ended.
    pub(crate) fn end(&self, session: &SessionName) {
        let live = self.live.lock();
        let calls: Vec<_> =
            live.iter().filter(|((of, _), _)| of == session).map(|(_, call)| call.clone()).collect();
        drop(live);
        for call in calls {
            self.cancel(call, "the client has ended its session".to_owned());
        }
        self.sessions.lock().retain(|known| known != session);
        self.calls.lanes().end(&session.thread());
    }

    /// A session makes a call.
    fn touch(&self, session: &SessionName) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|known| known != session);
        sessions.push_back(session.clone());
        if sessions.len() > MAX_SESSIONS
            && let Some(oldest) = sessions.pop_front()
        {
            self.calls.lanes().end(&oldest.thread());
        }
    }

    async fn request(
        &self,
        session: &SessionName,
        id: &Value,
        method: &str,
        params: Map<String, Value>,
        bytes: usize,
    ) -> Result<Value, RpcError> {
        match method {
            "initialize" => Ok(hello(&params)),
            "ping" => Ok(json!({})),
            "tools/list" => Ok(json!({"tools": tools::definitions()})),
            "tools/call" => self.call(session, id, params, bytes).await.map(|result| to_mcp(&result)),
            _ => Err((METHOD_NOT_FOUND, format!("there is no `{method}` here"))),
        }
    }

    fn notified(&self, session: &SessionName, method: &str, params: &Map<String, Value>) {
        let Some(id) = params.get("requestId").filter(|_| method == "notifications/cancelled") else {
            return;
        };
        let call = self.live.lock().get(&(session.clone(), id.to_string())).cloned();
        let reason = params.get("reason").and_then(Value::as_str).unwrap_or("the client has cancelled it");
        if let Some(call) = call {
            self.cancel(call, reason.to_owned());
        }
    }

    fn cancel(&self, call: CallId, mut reason: String) {
        cut(&mut reason, MAX_REASON_BYTES);
        reason.retain(|c| !c.is_control());
        let calls = self.calls.clone();
        tokio::spawn(async move { drop(calls.cancel(&call, Some(reason)).await) });
    }

    async fn call(
        &self,
        session: &SessionName,
        id: &Value,
        mut params: Map<String, Value>,
        bytes: usize,
    ) -> Result<ToolResult, RpcError> {
        let Some(Value::String(name)) = params.remove("name") else {
            return Err((INVALID_PARAMS, "expected `name`, the tool's".to_owned()));
        };
        let input = params.remove("arguments").filter(|input| !input.is_null()).unwrap_or_else(|| json!({}));
        if tools::is_of_sandbox(&name) {
            return Ok(self.run(session, id, name, input, bytes).await);
        }
        let own =
            Own::parse(&name, input).ok_or_else(|| (INVALID_PARAMS, format!("there is no tool {name:?}")))?;
        Ok(match own {
            Ok(own) => own.run(&self.processes, self.calls.sandbox()).await,
            Err(wrong) => wrong,
        })
    }

    /// Runs one of the sandbox's tools as a call like any other.
    async fn run(
        &self,
        session: &SessionName,
        id: &Value,
        tool: String,
        input: Value,
        bytes: usize,
    ) -> ToolResult {
        let call = CallId::from(format!("{}.{:016x}", session.as_str(), rand::rng().random::<u64>()));
        self.touch(session);
        let key = (session.clone(), id.to_string());
        self.live.lock().insert(key.clone(), call.clone());
        let _live = Live(self, key);
        let thread = Some(session.thread());
        let request = CallRequest { tool, input, thread, again: false, timeout_ms: None };
        match self.calls.post(&call, request, bytes).await {
            Ok(reply) => serde_json::from_str(reply.result.get())
                .unwrap_or_else(|error| ToolResult::error(format!("the result cannot be read: {error}"))),
            Err(error) => ToolResult::error(error.message),
        }
    }
}

/// The answer to a client's first words: in its version, if that is known.
fn hello(params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let version =
        PROTOCOL_VERSIONS.iter().find(|known| Some(**known) == asked).unwrap_or(&PROTOCOL_VERSIONS[0]);
    json!({
        "protocolVersion": version,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "remuda-hand", "version": env!("CARGO_PKG_VERSION")},
        "instructions": INSTRUCTIONS,
    })
}
