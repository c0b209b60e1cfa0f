//! How each session is to be served: in what sandbox, and by whom.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::event::Input;
use crate::fault::Fault;
use crate::ids::EnvironmentId;
use crate::ports::{Limits, Session, WorkItem};
use crate::tool::ToolResult;

/// Decides how sessions are served.
///
/// Asked from async code, so it must not block. The same question must have the same answer as long as the process
/// lives, and had better after a restart: sessions that were begun one way are not changed over.
pub trait Router: fmt::Debug + Send + Sync + 'static {
    /// Whether a session of this queue may be served by a worker of its own. Of such a queue every session is
    /// retrieved before its lease is taken, for a lease that we hold cannot be given to a worker.
    fn may_delegate(&self, environment: &EnvironmentId) -> bool;

    /// How a session is served.
    fn route(&self, environment: &EnvironmentId, session: &Session) -> Arc<Route>;
}

/// How a session is served. Whatever it leaves open is as the tree's settings say.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// What it came from, for people; none for the defaults.
    pub rule: Option<Arc<str>>,
    /// What its sandbox is made from.
    pub image: Option<Arc<str>>,
    /// What its sandbox may use.
    pub limits: Limits,
    /// How long no call must run before its sandbox is put in standby.
    pub standby_after: Option<Duration>,
    /// How long it may be idle after its turn; an inner none means for ever.
    pub max_idle: Option<Option<Duration>>,
    /// By whom it is served.
    pub execution: Execution,
}

/// By whom a session is served.
#[derive(Clone, Debug, Default)]
pub enum Execution {
    /// By the tree: its sandbox has tools and no credential.
    #[default]
    Brokered,
    /// By a worker in its sandbox, which holds the lease and the item's credential itself.
    Sandboxed(Arc<dyn Program>),
    /// By a command on this host, which may do with the item as it likes.
    Hosted(Arc<dyn Errand>),
}

impl Execution {
    /// One word for logs and people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Brokered => "brokered",
            Self::Sandboxed(_) => "worker",
            Self::Hosted(_) => "command",
        }
    }
}

/// A worker for sandboxes.
pub trait Program: fmt::Debug + Send + Sync + 'static {
    /// What to ask a sandbox's hand for so that it serves this item: a tool and its arguments, the same each time.
    ///
    /// # Errors
    /// A permanent fault if it cannot serve the item, for example because that brought no credential of its own.
    fn call(&self, item: &WorkItem) -> Result<(Arc<str>, Input), Fault>;
}

/// A command on this host that serves items.
#[async_trait]
pub trait Errand: fmt::Debug + Send + Sync + 'static {
    /// Runs it for one item, to its end. When `cut` has something to say, or its sender is gone, the command is asked to
    /// end and waited for, within reason. The answer holds the end of what it printed; it is an error if the command
    /// failed or was cut.
    ///
    /// # Cancel safety
    /// Dropping it ends the command, with everything that it has started, and nobody waits for that.
    async fn run(&self, item: &WorkItem, cut: oneshot::Receiver<()>) -> ToolResult;
}
