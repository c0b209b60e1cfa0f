//! From standard input and output to the MCP endpoint of a sandbox, and back.
//!
//! ```text
//! a line of standard input ──► the sandbox is woken ──► POST /mcp ──► a line of standard output
//!                                    ▲                     │
//!                                    └── while it waits ◄──┘
//! ```
//!
//! Messages go side by side, as their client wants it. Whoever keeps the sandbox may put it in standby while nothing
//! of its own runs there, so it is woken again for as long as somebody waits here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use remuda_actors::ids::SandboxId;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::hand::client::HandClient;
use crate::hand::wire::{MAX_CALL_BYTES, MAX_LIVE_CALLS};
use crate::providers::local::Bystander;

/// How often a sandbox is woken while somebody waits for it.
const WAKE: Duration = Duration::from_secs(2);

/// Messages on their way at once: all calls that a hand takes, and as many others.
const MAX_MESSAGES: usize = 2 * MAX_LIVE_CALLS;

/// How long the end of the session may take to be told.
const FAREWELL: Duration = Duration::from_secs(2);

/// JSON-RPC's codes for what is no message, and for what went wrong on our side.
const PARSE_ERROR: i64 = -32700;
const INTERNAL_ERROR: i64 = -32603;

/// A sandbox, and the way to its hand.
#[derive(Clone)]
pub(super) struct Bridge {
    bystander: Bystander,
    sandbox: SandboxId,
    hand: HandClient,
}

impl Bridge {
    pub(super) fn new(bystander: Bystander, sandbox: SandboxId, hand: HandClient) -> Self {
        Self { bystander, sandbox, hand: hand.with_mcp_session() }
    }

    /// Carries messages until `input` ends, and answers as long as anybody reads them.
    pub(super) async fn carry(
        &self,
        input: impl AsyncRead + Unpin,
        output: impl AsyncWrite + Unpin + Send + 'static,
    ) {
        let (mut input, output) = (BufReader::new(input), Arc::new(Mutex::new(output)));
        let (room, mut carried) = (Arc::new(Semaphore::new(MAX_MESSAGES)), JoinSet::new());
        loop {
            let mut line = Vec::new();
            let read = (&mut input).take(MAX_CALL_BYTES as u64).read_until(b'\n', &mut line).await;
            if !read.is_ok_and(|count| count > 0) {
                // Nobody is there to read the answers.
                return;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            while carried.try_join_next().is_some() {}
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let (bridge, output) = (self.clone(), Arc::clone(&output));
            carried.spawn(async move {
                if let Some(answer) = bridge.answer(line.into()).await {
                    let mut output = output.lock().await;
                    // A client that has gone closes our input, too.
                    let written = async {
                        output.write_all(&answer).await?;
                        output.write_all(b"\n").await?;
                        output.flush().await
                    };
                    drop(written.await);
                }
                drop(place);
            });
        }
    }

    /// Ends the session in the sandbox.
    pub(super) async fn end(&self) {
        drop(timeout(FAREWELL, self.hand.end_mcp_session()).await);
    }

    /// The answer to one message; none if it has none.
    async fn answer(&self, message: Bytes) -> Option<Bytes> {
        let failure = |id: Value, code: i64, what: String| {
            let error = json!({"code": code, "message": what});
            Some(Bytes::from(json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()))
        };
        let parsed: Value = match serde_json::from_slice(&message) {
            Ok(parsed) => parsed,
            Err(error) => return failure(Value::Null, PARSE_ERROR, format!("this is no JSON: {error}")),
        };
        let answered = match self.asked(message).await {
            Ok(answer) => return answer,
            Err(what) => what,
        };
        // A notification has nobody to be told.
        let id = parsed.get("id").filter(|_| parsed.get("method").is_some())?.clone();
        failure(id, INTERNAL_ERROR, answered)
    }

    async fn asked(&self, message: Bytes) -> Result<Option<Bytes>, String> {
        let asked = self.hand.mcp(message);
        tokio::pin!(asked);
        loop {
            self.bystander.wake(&self.sandbox).await.map_err(|error| error.to_string())?;
            if let Ok(answered) = timeout(WAKE, &mut asked).await {
                return answered.map_err(|error| error.to_string());
            }
        }
    }
}
