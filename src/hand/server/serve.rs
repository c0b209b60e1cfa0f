//! Coming up, serving, and going down in order.
//!
//! ```text
//! check roots ► open journal ► own children ► listen ► ready ► serve … shutdown
//!     ► accept no more ► cancel calls, kill shells ► finish replies ► kill what is left ► gone
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::http::Service;
use super::listener::{Listen, Listener};
use crate::hand::calls::Calls;
use crate::hand::children::Children;
use crate::hand::confine::{Confinement, RootError};
use crate::hand::environment::Environment;
use crate::hand::journal::{Journal, JournalError};
use crate::hand::lane::Sandbox;
use crate::hand::procfs;
use crate::inherited;

/// Connections served at once; more wait to be accepted. Twice what the live calls can use.
const MAX_CONNECTIONS: usize = 128;

/// Time a client has for the head of a request, and may leave its connection unused.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait after a client could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Time for cancelled calls to end, and after that for their replies to be sent.
const CALLS_GRACE: Duration = Duration::from_secs(8);
const REPLIES_GRACE: Duration = Duration::from_secs(1);

/// Threads for file tools and files; a new one is started only when all others are busy.
const MAX_BLOCKING_THREADS: usize = 8;

/// How long an idle one of them is kept. Short, for the hand should be small while nothing happens.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// What a hand is given.
#[derive(Debug)]
pub struct ServeOptions {
    /// Where to listen.
    pub listen: Listen,
    /// What every request must carry; may be none on a unix socket only.
    pub token: Option<SecretString>,
    /// Where shells start and relative paths begin. Tools may read and write below it.
    pub workdir: PathBuf,
    /// Other folders that file tools may read and write.
    pub allow_roots: Vec<PathBuf>,
    /// Folders that file tools may only read; also inside the others. The files interface may write them.
    pub read_only_roots: Vec<PathBuf>,
    /// Where the journal is kept; outside every root, and for one hand at a time.
    pub state_dir: PathBuf,
    /// The whole environment of the shells.
    pub environment: Environment,
    /// How many processes and threads the shells' user may have for one of them to start another. None: as
    /// many as the hand.
    pub max_processes: Option<u64>,
}

/// Why a hand could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A root cannot be used.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The tools could change the journal.
    #[error("the state directory {} lies in a folder that tools may use; put it elsewhere", state_dir.display())]
    StateExposed {
        /// The directory.
        state_dir: PathBuf,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Listening failed.
    #[error("could not listen on {listen}")]
    Listen {
        /// Where.
        listen: Listen,
        /// Why.
        source: io::Error,
    },
    /// TCP without a token.
    #[error("a hand that listens on TCP needs a token")]
    TokenMissing,
    /// The process could not be set up.
    #[error("could not take over the children of this process")]
    Children(#[source] io::Error),
    /// What the process was left open could not be kept from its children.
    #[error("could not keep back what this process was left open")]
    Inherited(#[source] io::Error),
    /// The runtime could not be set up.
    #[error("could not start the runtime")]
    Runtime(#[source] io::Error),
}

/// Runs a hand until `shutdown` is over; `ready` is told where it listens, with the
/// port it was given, as soon as it does.
///
/// It takes over this process's children, makes it the reaper of its orphans, keeps what it was left open from
/// them and forbids its memory to be read by others of the same user, so it is meant for a process of its own; a second one in the same
/// process is refused.
///
/// # Errors
/// When it cannot start; once ready it ends only through `shutdown`.
///
/// # Cancel safety
/// None: dropping it leaves shells running. End it through `shutdown`.
pub async fn serve(
    options: ServeOptions,
    ready: impl FnOnce(&Listen),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    if options.token.is_none() && matches!(options.listen, Listen::Tcp(_)) {
        return Err(ServeError::TokenMissing);
    }
    // A tool of the same user could otherwise read the token and the results of other calls.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|errno| ServeError::Children(errno.into()))?;
    inherited::keep_back().map_err(ServeError::Inherited)?;
    let confinement = Confinement::new(&options.workdir, &options.allow_roots, &options.read_only_roots)?;
    let state_dir = std::path::absolute(&options.state_dir).unwrap_or(options.state_dir);
    if confinement.at(&state_dir, |_| Ok(())).is_ok() {
        return Err(ServeError::StateExposed { state_dir });
    }
    let journal = Journal::open(&state_dir)?;
    let (children, _reaping) = Children::own().map_err(ServeError::Children)?;
    let failed = |source| ServeError::Listen { listen: options.listen.clone(), source };
    let listener = Listener::open(&options.listen).await.map_err(failed)?;
    let address = listener.address().map_err(failed)?;
    let sandbox = Arc::new(Sandbox {
        children,
        confinement,
        environment: options.environment,
        max_processes: options.max_processes,
    });
    let calls = Calls::new(journal, sandbox);
    let service = Arc::new(Service::new(calls.clone(), options.token, Instant::now()));

    ready(&address);
    let closing = CancellationToken::new();
    let mut connections = accept_until(shutdown, listener, service, &closing).await;

    // A process that cannot be killed must not keep the hand, which then is the one to be killed.
    if timeout(CALLS_GRACE, calls.close()).await.is_err() {
        tracing::warn!("some calls could not be ended in time");
    }
    closing.cancel();
    let replied = async { while connections.join_next().await.is_some() {} };
    drop(timeout(REPLIES_GRACE, replied).await);
    drop(procfs::kill_descendants());
    Ok(())
}

/// Serves clients until `shutdown`, and then drops the listener; the connections are left to their tasks.
async fn accept_until(
    shutdown: impl Future<Output = ()>,
    listener: Listener,
    service: Arc<Service>,
    closing: &CancellationToken,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut shutdown => return connections,
            Some(_) = connections.join_next() => continue,
            accepted = next => accepted,
        };
        let Ok(stream) = accepted else {
            // Out of descriptors, most likely; that passes when a connection closes.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (service, closing) = (Arc::clone(&service), closing.clone());
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let service = Arc::clone(&service);
                async move { Ok::<_, Infallible>(service.answer(request).await) }
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
            let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), answer));
            // How a connection ends is the client's business; its calls go on.
            tokio::select! {
                _ = &mut connection => {}
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    drop(connection.await);
                }
            }
            drop(permit);
        });
    }
}

/// [`serve`] on a runtime of its own, one thread and a few for blocking work, until `shutdown` is over.
///
/// # Errors
/// As [`serve`], or when the runtime cannot be made.
pub fn run<S: Future<Output = ()>>(
    options: ServeOptions,
    ready: impl FnOnce(&Listen),
    shutdown: impl FnOnce() -> S,
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .build()
        .map_err(ServeError::Runtime)?;
    // The signals of `shutdown` belong to this runtime, hence the closure.
    let served = runtime.block_on(async { serve(options, ready, shutdown()).await });
    // A file tool stuck in the kernel must not keep the process.
    runtime.shutdown_background();
    served
}
