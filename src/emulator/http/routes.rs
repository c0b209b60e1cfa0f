//! The route of every operation, from the operations' own table.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::observe::observe;
use super::{ApiError, App, agents, environments, events, inspect, memory, sessions, skills, work};
use crate::emulator::operation::Operation;

/// Every route, each behind the log, the fault rules and the authorisation of its operation.
pub(super) fn router(app: &App) -> Router {
    let router = Operation::ALL.iter().fold(Router::new(), |router, operation| {
        // The guard bounds bodies by our own option; the framework's much lower bound would come after it.
        let handler = handler(*operation).layer(DefaultBodyLimit::disable());
        let guarded = handler.layer(from_fn_with_state((app.clone(), *operation), observe));
        router.route(operation.path(), guarded)
    });
    router
        .method_not_allowed_fallback(|method: Method, uri: Uri| async move {
            ApiError::method(format!("{method} is not a method of {}", uri.path()))
        })
        .fallback(|method: Method, uri: Uri| async move {
            ApiError::not_found(format!("there is nothing at {method} {}", uri.path()))
        })
        .with_state(app.clone())
}

/// The handler of an operation, under its method. Total on purpose: a new operation does not compile until it
/// has one.
fn handler(operation: Operation) -> MethodRouter<App> {
    use Operation as O;
    let method = match operation.method() {
        Method::POST => MethodFilter::POST,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    };
    match operation {
        O::Poll => on(method, work::poll),
        O::Ack => on(method, work::ack),
        O::Heartbeat => on(method, work::heartbeat),
        O::Stop => on(method, work::stop),
        O::WorkStats => on(method, work::stats),
        O::ListWork => on(method, work::list),
        O::GetWork => on(method, work::get),
        O::UpdateWork => on(method, work::update),
        O::CreateEnvironment => on(method, environments::create),
        O::ListEnvironments => on(method, environments::list),
        O::GetEnvironment => on(method, environments::get),
        O::UpdateEnvironment => on(method, environments::update),
        O::ArchiveEnvironment => on(method, environments::archive),
        O::DeleteEnvironment => on(method, environments::delete),
        O::CreateAgent => on(method, agents::create),
        O::ListAgents => on(method, agents::list),
        O::GetAgent => on(method, agents::get),
        O::UpdateAgent => on(method, agents::update),
        O::ArchiveAgent => on(method, agents::archive),
        O::ListAgentVersions => on(method, agents::versions),
        O::CreateSession => on(method, sessions::create),
        O::ListSessions => on(method, sessions::list),
        O::GetSession => on(method, sessions::get),
        O::UpdateSession => on(method, sessions::update),
        O::ArchiveSession => on(method, sessions::archive),
        O::DeleteSession => on(method, sessions::delete),
        O::ListEvents => on(method, events::list),
        O::PostEvents => on(method, events::post),
        O::StreamEvents => on(method, events::stream),
        O::ListThreads => on(method, sessions::threads),
        O::GetThread => on(method, sessions::thread),
        O::ListThreadEvents => on(method, events::list_thread),
        O::StreamThread => on(method, events::stream_thread),
        O::GetSkillVersion => on(method, skills::version),
        O::DownloadSkill => on(method, skills::download),
        O::CreateMemoryStore => on(method, memory::create_store),
        O::ListMemoryStores => on(method, memory::list_stores),
        O::GetMemoryStore => on(method, memory::get_store),
        O::UpdateMemoryStore => on(method, memory::update_store),
        O::ArchiveMemoryStore => on(method, memory::archive_store),
        O::DeleteMemoryStore => on(method, memory::delete_store),
        O::ListMemories => on(method, memory::list),
        O::CreateMemory => on(method, memory::create),
        O::GetMemory => on(method, memory::get),
        O::UpdateMemory => on(method, memory::update),
        O::DeleteMemory => on(method, memory::delete),
        O::Inspect => on(method, inspect::session),
    }
}
