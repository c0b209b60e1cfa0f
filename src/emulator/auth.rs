//! Credentials: told apart by value, never by the header that carried them.
//!
//! Which operation accepts which kind is in the table of [`operation`](super::operation); whether a key is
//! one of *this* environment, and a token one of *this* session, is checked here on the handler's request.

use std::collections::{HashMap, VecDeque};

use axum::http::{HeaderMap, header};
use remuda_actors::ids::{EnvironmentId, SessionId};
use serde::Serialize;

use super::http::ApiError;

/// Tokens remembered per session: one per work item it ever had, so that a holder that lost its lease can
/// still post a late result; the oldest go first.
const TOKENS_PER_SESSION: usize = 16;

/// What a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The organisation's API key.
    ApiKey,
    /// A key of one environment.
    EnvironmentKey,
    /// The token inside a work item's secret.
    SessionsToken,
}

/// Whom a credential stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The organisation.
    Organization,
    /// A worker of one environment.
    Environment(EnvironmentId),
    /// The worker of one session.
    Session {
        /// The session; none for a work item that is not about a session.
        session: Option<SessionId>,
        /// Its environment.
        environment: EnvironmentId,
    },
}

impl Identity {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Organization => Kind::ApiKey,
            Self::Environment(_) => Kind::EnvironmentKey,
            Self::Session { .. } => Kind::SessionsToken,
        }
    }

    /// Whether it may touch `environment`'s work.
    pub(super) fn check_environment(&self, environment: &EnvironmentId) -> Result<(), ApiError> {
        let own = match self {
            Self::Organization => return Ok(()),
            Self::Environment(own) | Self::Session { environment: own, .. } => own,
        };
        if own == environment {
            return Ok(());
        }
        Err(ApiError::permission(format!("this credential is not one of environment {environment}")))
    }

    /// Whether it may touch `session`, which lives in `environment`.
    pub(super) fn check_session(
        &self,
        session: &SessionId,
        environment: &EnvironmentId,
    ) -> Result<(), ApiError> {
        if let Self::Session { session: own, .. } = self
            && own.as_ref() != Some(session)
        {
            return Err(ApiError::permission(format!("this sessions token is not one of session {session}")));
        }
        self.check_environment(environment)
    }
}

/// What a request presented.
#[derive(Debug)]
pub(super) enum Presented<'a> {
    /// Nothing.
    Nothing,
    /// One credential.
    One(&'a str),
    /// More than one header with a credential, which the service refuses.
    Several,
}

impl<'a> Presented<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
            let value = value.to_str().unwrap_or_default();
            let (scheme, token) = value.split_once(' ').unwrap_or(("", value));
            if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }
        });
        let keys = headers.get_all("x-api-key").iter().map(|value| value.to_str().unwrap_or_default());
        let mut all = bearer.chain(keys);
        match (all.next(), all.next()) {
            (None, _) => Self::Nothing,
            (Some(one), None) => Self::One(one),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

/// Every credential in force.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    known: HashMap<String, Identity>,
    tokens: HashMap<SessionId, VecDeque<String>>,
}

impl Credentials {
    pub(super) fn insert(&mut self, credential: String, identity: Identity) {
        if let Identity::Session { session: Some(session), .. } = &identity {
            let tokens = self.tokens.entry(session.clone()).or_default();
            tokens.push_back(credential.clone());
            if tokens.len() > TOKENS_PER_SESSION
                && let Some(oldest) = tokens.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(credential, identity);
    }

    /// Revokes one credential; effective on the next request.
    pub(super) fn revoke(&mut self, credential: &str) -> bool {
        self.known.remove(credential).is_some()
    }

    /// Forgets the tokens of a deleted session.
    pub(super) fn forget_session(&mut self, session: &SessionId) {
        for token in self.tokens.remove(session).into_iter().flatten() {
            self.known.remove(&token);
        }
    }

    /// Forgets the keys of a deleted environment.
    pub(super) fn forget_environment(&mut self, environment: &EnvironmentId) {
        self.known
            .retain(|_, identity| !matches!(identity, Identity::Environment(own) if own == environment));
    }

    /// Whom `presented` stands for.
    pub(super) fn identify(&self, presented: &Presented<'_>) -> Result<Identity, ApiError> {
        match presented {
            Presented::Nothing => Err(ApiError::authentication(
                "no credential: send `Authorization: Bearer …` or `x-api-key: …`",
            )),
            Presented::Several => Err(ApiError::authentication(
                "more than one credential: send exactly one of `Authorization` and `x-api-key`",
            )),
            Presented::One(credential) => self
                .known
                .get(*credential)
                .cloned()
                .ok_or_else(|| ApiError::authentication("this emulator does not know the credential")),
        }
    }
}
