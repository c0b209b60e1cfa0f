//! What a hand and its client say to each other: HTTP/1.1 with JSON bodies, over a unix socket or TCP.
//!
//! | Request | Answer |
//! |---|---|
//! | `POST /v1/calls/{call}` with a [`CallRequest`] | 200 [`CallReply`] once the call has ended, whoever started it |
//! | `GET /v1/calls/{call}` | 200 [`CallStatus`]; 404 if the hand never heard of it |
//! | `DELETE /v1/calls/{call}?reason=TEXT` | 200 [`CallStatus`] after the cancellation took effect |
//! | `GET /v1/files/{path}`, `PUT /v1/files/{path}?mode=0644` | the file's bytes; 204 |
//! | `GET /v1/trees/{path}?hash=BYTES` | 200 [`Tree`]: what is in a folder; files of up to so many bytes with their hashes |
//! | `PATCH /v1/trees/{path}`: for each [`Change`] a line of JSON and then its bytes | 200 [`Changed`] |
//! | `DELETE /v1/trees/{path}`, `POST /v1/trees/{path}?from=PATH` | 204; the folder goes, or another takes its place |
//! | `PUT /v1/read-only` with a list of paths | 204; from then on file tools write nothing there |
//! | `GET /v1/health` | 200 [`Health`] |
//! | `POST /mcp`, `DELETE /mcp` | the sandbox as an MCP server, as its streamable HTTP has it |
//!
//! A call is named by the control plane's id for it. Posting the same id again never runs it a second time:
//! it attaches to the running call or returns the journaled answer. The reply of `POST` is held open until
//! the call ends; if the connection breaks the call goes on, and the same `POST` attaches to it again. A
//! `DELETE` that comes before its `POST` counts too: the call then never runs.
//!
//! A file's path is percent-encoded; one that starts with `/` once decoded (`/v1/files/%2Fsrv%2Fa`) is
//! absolute, any other is taken from the working directory. With a token, every request carries
//! `authorization: Bearer TOKEN`. Every refusal is an [`Error`] with a status that says which kind it is.

use remuda_actors::ids::{CallId, ThreadId};
use remuda_actors::tool::ToolResult;
use serde::{Deserialize, Serialize};

/// Version of this protocol. A client refuses a hand with another one.
pub const PROTOCOL: u32 = 1;

/// Largest body of a call, in bytes: the control plane's largest inputs with room to spare.
pub const MAX_CALL_BYTES: usize = 32 << 20;

/// Largest file accepted by `PUT /v1/files`, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Largest body of `PATCH /v1/trees`, in bytes.
pub const MAX_CHANGE_BYTES: usize = 16 << 20;

/// Most changes in it.
pub const MAX_CHANGES: usize = 4096;

/// Most folders that file tools are kept from writing.
pub const MAX_READ_ONLY: usize = 64;

/// Longest id of a call or thread the hand accepts, in bytes; the control plane's have about 30.
pub const MAX_CALL_ID_BYTES: usize = 128;

/// Longest reason that a cancellation may give, in bytes; the agent reads it in the call's answer.
pub const MAX_REASON_BYTES: usize = 500;

/// Most calls queued or running at once; one more is refused with [`ErrorCode::Busy`].
pub const MAX_LIVE_CALLS: usize = 64;

/// Body of `POST /v1/calls/{call}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallRequest {
    /// `bash`, `read`, `write`, `edit`, `glob` or `grep`.
    pub tool: String,
    /// The arguments as the agent gave them; the hand checks them and answers with an error result.
    pub input: serde_json::Value,
    /// The session thread whose shell is used; none is the primary thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadId>,
    /// Whether the call may run once more if its outcome is unknown because the hand that ran it died.
    #[serde(default)]
    pub again: bool,
    /// Outer limit of the whole call in milliseconds, counted from when it starts to run; whatever the
    /// tool's own limits say, it is ended then. None: only the tool's own limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// How a `POST` came by its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// This request started the call.
    Ran,
    /// The call was running already, and this request waited for it.
    Attached,
    /// The call had ended before; nothing ran.
    Journal,
}

/// Answer of `POST /v1/calls/{call}`.
///
/// `R` is the result as a type, or, inside the hand, as the JSON text the journal holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallReply<R = ToolResult> {
    /// Who started the call.
    pub origin: Origin,
    /// What it answered.
    pub result: R,
    /// How long the tool ran, in microseconds, without waiting for its shell.
    pub run_us: u64,
}

/// Answer of `GET` and `DELETE` on a call; `R` as in [`CallReply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum CallStatus<R = ToolResult> {
    /// Waiting for its shell.
    Queued,
    /// Running.
    Running,
    /// Ended with this result.
    Finished {
        /// What it answered.
        result: R,
        /// How long the tool ran, in microseconds.
        run_us: u64,
    },
    /// The hand that ran it died before it ended, and nobody knows how far it came; or its result is damaged.
    Unknown,
}

/// Answer of `GET /v1/trees/{path}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Whether there is such a folder.
    pub exists: bool,
    /// Whether this is all that is in it.
    pub complete: bool,
    /// Everything in it but folders, sorted within each folder.
    pub entries: Vec<Listed>,
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// From the folder on. Its bytes that are no text are replaced, and then it is no file here.
    pub path: String,
    /// Whether it is a regular file.
    pub file: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// The hash of its contents, in lower-case hexadecimal, if that was asked for and could be had.
    pub sha256: Option<String>,
}

/// One change to a file in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// From the folder on: names alone, separated by slashes.
    pub path: String,
    /// The permission bits it is to have.
    pub mode: u32,
    /// How many bytes of contents follow; none if the file is to be removed.
    pub size: Option<u64>,
    /// What the file must be for the change to be made.
    pub expect: Expect,
}

/// What a file must be for a change to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Whatever it is.
    Anything,
    /// It must not be there.
    Absent,
    /// It must have contents of this hash.
    Sha256(String),
}

/// Answer of `PATCH /v1/trees/{path}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// The changes that were not made.
    pub skipped: Vec<Skipped>,
}

/// A change that was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The file it was about.
    pub path: String,
    /// Why, for people.
    pub why: String,
}

/// Answer of `GET /v1/health`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Health {
    /// Always [`PROTOCOL`] of the hand's build.
    pub protocol: u32,
    /// The hand's version.
    pub version: String,
    /// Milliseconds since the hand was ready.
    pub uptime_ms: u64,
    /// Calls queued or running, oldest first.
    pub running: Vec<CallId>,
    /// Processes started by tools that outlived their call: the reason not to freeze.
    pub background: u32,
    /// Resident memory of the hand itself, in bytes.
    pub rss_bytes: u64,
    /// The part of it that is not the program's own file, which all hands of a host share; in bytes.
    pub private_bytes: u64,
}

/// Body of every refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Which kind, for programs.
    pub code: ErrorCode,
    /// What is wrong, what was expected and how to mend it, for people.
    pub message: String,
}

impl Error {
    /// A refusal of this kind with these words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Kind of a refusal, with the status it comes under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request cannot be read.
    BadRequest,
    /// 401: the token is missing or wrong.
    Unauthorized,
    /// 404: no such call, file or route.
    NotFound,
    /// 409: the call's id was used before with other contents.
    CallMismatch,
    /// 413: the body is over its limit.
    TooLarge,
    /// 429: too many calls at once.
    Busy,
    /// 403: the path lies outside the sandbox's own folders.
    Forbidden,
    /// 500: the hand could not do it, for example because the disk failed.
    Internal,
    /// 507: the journal could not be written, so the call was not started.
    JournalFull,
}

impl ErrorCode {
    /// The HTTP status it comes under.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::CallMismatch => 409,
            Self::TooLarge => 413,
            Self::Busy => 429,
            Self::Internal => 500,
            Self::JournalFull => 507,
        }
    }
}
