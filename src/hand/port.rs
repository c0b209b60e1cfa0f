//! The client as the tree knows it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use remuda_actors::event::Input;
use remuda_actors::ids::CallId;
use remuda_actors::ports::{CallReply, CallRequest, Hand, HandError, HandHealth, Origin};

use super::client::{ClientError, HandClient};
use super::content;
use super::wire::{self, ErrorCode};

#[async_trait]
impl Hand for HandClient {
    async fn call(&self, request: &CallRequest) -> Result<CallReply, HandError> {
        let Input::Json(raw) = &request.input else {
            return Err(HandError::Refused {
                message: "the call has no arguments that could be sent".to_owned(),
            });
        };
        let input = serde_json::from_str(raw.get());
        let input = input.map_err(|error| HandError::Refused { message: error.to_string() })?;
        let asked = wire::CallRequest {
            tool: request.tool.to_string(),
            input,
            thread: request.thread.clone(),
            again: request.again,
            timeout_ms: Some(u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX)),
        };
        let reply = Self::call(self, &request.call, &asked).await?;
        Ok(CallReply {
            result: Arc::new(content::checked(reply.result)),
            run: Duration::from_micros(reply.run_us),
            origin: match reply.origin {
                wire::Origin::Ran => Origin::Ran,
                wire::Origin::Attached => Origin::Attached,
                wire::Origin::Journal => Origin::Journal,
            },
        })
    }

    async fn cancel(&self, call: &CallId, reason: &str) -> Result<(), HandError> {
        Ok(Self::cancel(self, call, reason).await.map(drop)?)
    }

    async fn health(&self) -> Result<HandHealth, HandError> {
        let health = Self::health(self).await?;
        Ok(HandHealth {
            running: health.running,
            background: health.background,
            rss_bytes: health.rss_bytes,
            private_bytes: health.private_bytes,
        })
    }
}

impl From<ClientError> for HandError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreached(source) => Self::Unreachable(source),
            ClientError::TimedOut { waited } => Self::TimedOut { waited },
            ClientError::Refused(refusal) if refusal.code == ErrorCode::Busy => {
                Self::Busy { message: refusal.message }
            }
            ClientError::Refused(refusal) => Self::Refused { message: refusal.message },
            ClientError::Broken(source) => Self::Broken(source),
            // It answered, and will answer the same again.
            error @ (ClientError::TooLarge { .. } | ClientError::Unreadable(_)) => {
                Self::Refused { message: error.to_string() }
            }
        }
    }
}
