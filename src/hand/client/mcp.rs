//! The sandbox as an MCP server.

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;
use rand::RngExt as _;

use super::pool::Pool;
use super::{ClientError, HandClient, MAX_ANSWER_BYTES, Message, Shared};

/// The header that names the session of a request.
pub(super) const MCP_SESSION: &str = "mcp-session-id";

impl HandClient {
    /// The same hand for one client of its MCP endpoint, with a session of its own.
    #[must_use]
    pub fn with_mcp_session(self) -> Self {
        let name = format!("mcp-{:016x}", rand::rng().random::<u64>());
        let Shared { connections, authorization, deadline, .. } = &*self.0;
        Self(std::sync::Arc::new(Shared {
            connections: std::sync::Arc::new(Pool::new(connections.address().clone(), *deadline)),
            authorization: authorization.clone(),
            mcp_session: HeaderValue::try_from(name).ok(),
            deadline: *deadline,
        }))
    }

    /// Passes a message of MCP's on, and waits for its answer as long as that takes; none if it has none.
    ///
    /// # Errors
    /// Whatever the message asks for may have been done if the error is ambiguous.
    ///
    /// # Cancel safety
    /// Dropping it stops the waiting alone.
    pub async fn mcp(&self, message: impl Into<Bytes>) -> Result<Option<Bytes>, ClientError> {
        let message = Message { method: Method::POST, target: "/mcp".to_owned(), body: message.into() };
        let answer = self.exchange(message, None, MAX_ANSWER_BYTES).await?;
        Ok(Some(answer).filter(|answer| !answer.is_empty()))
    }

    /// Ends the session: its calls are cancelled, and its shell is ended.
    ///
    /// # Errors
    /// It may have been ended if the error is ambiguous.
    ///
    /// # Cancel safety
    /// As after an error.
    pub async fn end_mcp_session(&self) -> Result<(), ClientError> {
        let message = Message { method: Method::DELETE, target: "/mcp".to_owned(), body: Bytes::new() };
        self.short(message, MAX_ANSWER_BYTES).await.map(drop)
    }
}
