//! An MCP server of the operator's, outside all sandboxes.
//!
//! ```text
//! Absent ──a call──► being reached ──initialized──► reached ──calls of all sessions──┐
//!   ▲                    │ failed                    └──── lost, or no answer to a ping when the end of
//!   └────────────────────┴─────────────────────────────── a call was not heard ────────┘
//! ```
//!
//! One connection serves all sessions; each call says in its `_meta` which one it is of. Nothing is repeated: a call
//! that was sent to a server which is then lost has an error that says so.

use std::fmt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use remuda_actors::event::Input;
use remuda_actors::ids::SessionId;
use remuda_actors::ports::{CallRequest, OutsideTool};
use remuda_actors::tool::ToolResult;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ClientCapabilities, ClientConfig, ClientRequest, Implementation,
    PingRequest, RequestMetaObject,
};
use rmcp::service::{RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{RoleClient, ServiceExt as _};
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::answer::{self, MAX_ANSWER_BYTES};

/// Time for a server to be reached. One that is started may have to be fetched first.
const REACH: Duration = Duration::from_secs(30);

/// Time for a server to show that it is there, after a call of which the end was not heard.
const PONG: Duration = Duration::from_secs(2);

/// Beginning of the variables that are kept from servers: the control plane's credentials.
const KEPT_BACK: &str = "ANTHROPIC_";

/// Longest line of a server's standard error that is logged, in bytes.
const MAX_LINE: u64 = 2_000;

/// Where each call says which session it is of.
const SESSION: &str = "remuda/session";

/// Where a server is.
pub(super) enum Reach {
    /// A command of this host, on its standard input and output.
    Command(Vec<String>),
    /// An address of streamable HTTP, and the token that it wants.
    Url(String, Option<SecretString>),
}

/// A server, shared by its tools.
pub(super) struct Server {
    name: Arc<str>,
    reach: Arc<Reach>,
    /// The connection, or the attempt to make it, which goes on when the call that began it has no more time.
    reached: Mutex<Option<Reached>>,
}

type Reached = Shared<BoxFuture<'static, Result<Arc<Connection>, String>>>;

/// A connection to a server; it ends with the last call that uses it once nobody else does.
struct Connection {
    client: RunningService<RoleClient, ClientConfig>,
    /// Whether nothing more is to be expected of it.
    is_lost: AtomicBool,
    /// Whether it is being found out if the server is still there.
    is_probed: AtomicBool,
    _process: Option<Process>,
}

/// A server that was started. What is dropped was lost or fell silent, and is killed with all that it has started.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody has waited for it, so the number still means it.
        let leader = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        // It may have gone by itself.
        let _ = leader.map(|leader| kill_process_group(leader, Signal::KILL));
    }
}

/// A call that was sent, until its end is heard. If it is not, the server has to show that it is there.
struct Sent(Option<Arc<Connection>>);

impl Drop for Sent {
    fn drop(&mut self) {
        let Some(connection) = self.0.take() else { return };
        // Without a runtime this process is about to end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !connection.is_probed.swap(true, Ordering::Relaxed)
        {
            runtime.spawn(async move { connection.probe().await });
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Server {
    pub(super) fn new(name: String, reach: Reach) -> Self {
        Self { name: name.into(), reach: Arc::new(reach), reached: Mutex::new(None) }
    }

    /// The connection, made anew if there is none or it is lost.
    fn reached(&self) -> Reached {
        let mut reached = self.reached.lock();
        match &*reached {
            Some(reached)
                if reached.peek().is_none_or(|made| made.as_ref().is_ok_and(|made| !made.is_over())) =>
            {
                reached.clone()
            }
            _ => {
                let (name, reach) = (Arc::clone(&self.name), Arc::clone(&self.reach));
                let task = tokio::spawn(async move {
                    let connected = timeout(REACH, connect(&name, &reach)).await;
                    let connected =
                        connected.unwrap_or_else(|_| Err(format!("it was not there within {REACH:?}")))?;
                    tracing::info!(server = &*name, "reached an MCP server");
                    Ok(Arc::new(connected))
                });
                let made = async { task.await.unwrap_or_else(|error| Err(error.to_string())) };
                reached.insert(made.boxed().shared()).clone()
            }
        }
    }

    /// Has the server run `tool`; the error is in words that follow the tool's name.
    async fn call(
        &self,
        tool: &str,
        session: &SessionId,
        arguments: Map<String, Value>,
    ) -> Result<Value, String> {
        let server = &self.name;
        let connection = self.reached().await;
        let connection =
            connection.map_err(|what| format!("the MCP server `{server}` could not be reached: {what}"))?;
        let mut meta = RequestMetaObject::new();
        meta.0.insert(SESSION.to_owned(), session.as_str().into());
        let mut request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        request.meta = Some(meta);
        let mut sent = Sent(Some(Arc::clone(&connection)));
        let answered = connection.client.peer().call_tool_once(request).await;
        sent.0 = None;
        if matches!(&answered, Err(ServiceError::TransportSend(_) | ServiceError::TransportClosed)) {
            connection.is_lost.store(true, Ordering::Relaxed);
        }
        match answered {
            Ok(CallToolResponse::Complete(result)) => {
                serde_json::to_value(result).map_err(|error| error.to_string())
            }
            Ok(_) => Err(format!("the MCP server `{server}` wants what nobody can give it here")),
            Err(ServiceError::McpError(error)) => {
                Err(format!("the MCP server `{server}` refused: {}", error.message))
            }
            Err(error @ (ServiceError::TransportSend(_) | ServiceError::TransportClosed)) => Err(format!(
                "the MCP server `{server}` was lost while it had this call, and nobody knows how far it came: {}",
                chain(&error)
            )),
            Err(error) => Err(format!("the MCP server `{server}` gave no answer: {}", chain(&error))),
        }
    }
}

async fn connect(name: &str, reach: &Reach) -> Result<Connection, String> {
    let us = Implementation::new("remuda", env!("CARGO_PKG_VERSION"));
    let us = ClientConfig::new(ClientCapabilities::default(), us);
    let (client, process) = match reach {
        Reach::Command(argv) => {
            let mut process = start(argv).map_err(|error| format!("it could not be started: {error}"))?;
            let (Some(stdin), Some(stdout), Some(stderr)) =
                (process.stdin.take(), process.stdout.take(), process.stderr.take())
            else {
                return Err("it could not be started: it has no pipes".to_owned());
            };
            tokio::spawn(log(name.to_owned(), stderr));
            let process = Process(process);
            (us.serve((stdout, stdin)).await, Some(process))
        }
        Reach::Url(url, token) => {
            let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                .max_sse_event_size(MAX_ANSWER_BYTES)
                .max_json_response_size(MAX_ANSWER_BYTES);
            if let Some(token) = token {
                config = config.auth_header(token.expose_secret());
            }
            (us.serve(StreamableHttpClientTransport::from_config(config)).await, None)
        }
    };
    let client = client.map_err(|error| chain(&error))?;
    let (is_lost, is_probed) = (AtomicBool::new(false), AtomicBool::new(false));
    Ok(Connection { client, is_lost, is_probed, _process: process })
}

impl Connection {
    fn is_over(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed) || self.client.is_closed() || self.client.is_transport_closed()
    }

    /// Finds out whether the server is still there.
    async fn probe(&self) {
        let ping = self.client.peer().send_request(ClientRequest::PingRequest(PingRequest::default()));
        if !matches!(timeout(PONG, ping).await, Ok(Ok(_) | Err(ServiceError::McpError(_)))) {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        self.is_probed.store(false, Ordering::Relaxed);
    }
}

/// Starts a server with everything that this process's environment holds but what is the control plane's.
fn start(argv: &[String]) -> std::io::Result<Child> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().to_ascii_uppercase().starts_with(KEPT_BACK.as_bytes()) {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A signal for us is not for it: it ends when its input does.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Passes on what a server says to people.
async fn log(server: String, stderr: ChildStderr) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while (&mut stderr).take(MAX_LINE).read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        tracing::info!(server, "{}", String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

/// An error and what it came from, in one line that is not endless.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.chars().take(1_000).collect()
}

/// One tool of a server.
#[derive(Debug)]
pub(super) struct Remote {
    /// The tool's name by the server.
    pub(super) tool: String,
    pub(super) server: Arc<Server>,
}

#[async_trait]
impl OutsideTool for Remote {
    async fn call(&self, session: &SessionId, request: &CallRequest) -> ToolResult {
        let name = &request.tool;
        let arguments = match &request.input {
            Input::Json(raw) => serde_json::from_str(raw.get()).map_err(|error| error.to_string()),
            Input::Malformed(what) => Err(what.to_string()),
        };
        let answered = match arguments {
            Ok(arguments) => self.server.call(&self.tool, session, arguments).await,
            Err(what) => Err(what),
        };
        match answered {
            Ok(answer) => answer::from_mcp(name, answer),
            Err(what) => ToolResult::error(format!("{name}: {what}")),
        }
    }
}
