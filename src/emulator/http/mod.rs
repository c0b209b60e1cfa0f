//! The emulator over HTTP/1.1: connections, routes, and a handler per operation.

mod agents;
mod body;
mod environments;
mod error;
mod events;
mod inspect;
mod memory;
mod observe;
mod page;
mod query;
mod routes;
mod server;
mod sessions;
mod skills;
mod work;

use std::sync::Arc;

use super::world::Shared;
use body::Object;
use page::Page;
use query::Query;

pub(super) use error::ApiError;
pub(super) use server::serve;

/// What every handler shares.
type App = Arc<Shared>;
