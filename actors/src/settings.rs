//! Everything a host decides about the tree, as finished values.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Environment;
use crate::backoff::Backoff;
use crate::ids::EnvironmentId;
use crate::ports::{CareLimits, ControlPlane, Journal, Outfitter, OwnerId, SandboxProvider};
use crate::{
    admission, breaker, governor, herd, poller, reaper, retry_budget, sandbox, session, supervision,
};

/// The host's side of the tree.
#[derive(Clone)]
pub struct Ports {
    /// Where work comes from and answers go.
    pub control: Arc<dyn ControlPlane>,
    /// Where sandboxes come from.
    pub provider: Arc<dyn SandboxProvider>,
    /// What is remembered beyond this process; [`Volatile`](crate::ports::Volatile) remembers nothing.
    pub journal: Arc<dyn Journal>,
}

/// How the tree works. Every field has the default its own documentation gives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The queues to serve, one poller each, with the weights by which they share the sessions.
    pub environments: Vec<Environment>,
    /// Whose sandboxes these are. Must be the same after a restart, and another's nowhere else.
    pub owner: OwnerId,
    /// Sessions held at once, over all queues. Default 100.
    pub max_sessions: usize,
    /// Where all randomness comes from: the same seed, the same jitter. Hosts pass a random one.
    pub seed: u64,
    /// How work is admitted.
    pub admission: admission::Policy,
    /// How requests to the control plane are governed.
    pub governor: governor::Policy,
    /// When a provider that fails is left alone.
    pub breaker: breaker::Policy,
    /// How much may be repeated, all in all.
    pub retries: retry_budget::Policy,
    /// How queues are polled.
    pub poller: poller::Policy,
    /// How sessions are served.
    pub session: session::Policy,
    /// How sandboxes are kept.
    pub sandbox: sandbox::Policy,
    /// Who furnishes sandboxes before their first call; none if that is nobody's business. Default none.
    pub outfitter: Option<Arc<dyn Outfitter>>,
    /// How sandboxes without a work item are kept.
    pub herd: herd::Policy,
    /// How orphans are found.
    pub reaper: reaper::Policy,
    /// What a drain does with sessions that do not end by themselves. Default [`OnDrain::Release`].
    pub on_drain: OnDrain,
    /// How failed actors are restarted.
    pub supervision: supervision::Policy,
    /// Delays between attempts.
    pub backoffs: Backoffs,
    /// Limits of single requests.
    pub deadlines: Deadlines,
}

impl Settings {
    /// The defaults, for these queues, which share equally.
    pub fn new(owner: OwnerId, environments: impl IntoIterator<Item = EnvironmentId>) -> Self {
        Self {
            environments: environments.into_iter().map(Environment::from).collect(),
            owner,
            max_sessions: 100,
            seed: 0,
            admission: admission::Policy::default(),
            governor: governor::Policy::default(),
            breaker: breaker::Policy::default(),
            retries: retry_budget::Policy::default(),
            poller: poller::Policy::default(),
            session: session::Policy::default(),
            sandbox: sandbox::Policy::default(),
            outfitter: None,
            herd: herd::Policy::default(),
            reaper: reaper::Policy::default(),
            on_drain: OnDrain::default(),
            supervision: supervision::Policy::default(),
            backoffs: Backoffs::default(),
            deadlines: Deadlines::default(),
        }
    }
}

/// What a drain does with sessions that do not end by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDrain {
    /// They finish the turn they are in; what is left after the grace period is cut, and its item lapses to
    /// another worker. Sandboxes that wait for sessions are deleted.
    #[default]
    Release,
    /// They finish the calls that run, and the next process on the same journal and provider goes on with
    /// them: leases are kept, sandboxes are frozen, and calls that outlast the grace period run on.
    Leave,
}

/// Delays between attempts, by what is attempted.
#[derive(Clone, Debug)]
pub struct Backoffs {
    /// Polls. Default 1 s up to 60 s, as the official pollers have it.
    pub poll: Backoff,
    /// Acknowledgements. Default 200 ms up to 1 s, so that all fit before the item is offered to others.
    pub ack: Backoff,
    /// Heartbeats. Default 1 s up to 10 s, and never later than the next regular one.
    pub beat: Backoff,
    /// Retrievals of the session. Default 500 ms up to 8 s.
    pub retrieve: Backoff,
    /// Openings of the event stream. Default 500 ms up to 10 s, as the official runners have it.
    pub stream: Backoff,
    /// Posts of an answer. Default 1 s up to 30 s, as the official runners have it.
    pub post: Backoff,
    /// Stops. Default 500 ms up to 5 s.
    pub stop: Backoff,
    /// Creates, look-ups, thaws and deletes of a sandbox. Default 200 ms up to 10 s.
    pub sandbox: Backoff,
    /// Requests to a hand that was not heard. Default 50 ms up to 2 s.
    pub call: Backoff,
    /// Making of blank sandboxes. Default 1 s up to 60 s.
    pub herd: Backoff,
}

impl Default for Backoffs {
    fn default() -> Self {
        let of = |base, cap| Backoff::new(Duration::from_millis(base), Duration::from_millis(cap));
        Self {
            poll: of(1_000, 60_000),
            ack: of(200, 1_000),
            beat: of(1_000, 10_000),
            retrieve: of(500, 8_000),
            stream: of(500, 10_000),
            post: of(1_000, 30_000),
            stop: of(500, 5_000),
            sandbox: of(200, 10_000),
            call: of(50, 2_000),
            herd: of(1_000, 60_000),
        }
    }
}

/// How long single requests may take. One that takes longer counts as
/// [`Ambiguous`](crate::fault::FaultClass::Ambiguous).
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// An acknowledgement. Default 1.5 s: three of them fit before the item is offered to others.
    pub ack: Duration,
    /// Any other single request to the control plane. Default 30 s.
    pub control: Duration,
    /// The whole history, all pages. Default 120 s.
    pub history: Duration,
    /// Creating a sandbox. Default 60 s.
    pub create: Duration,
    /// Any other request to the provider. Default 30 s.
    pub provider: Duration,
    /// One call, whatever the tool's own limits say. Default 150 s, as the official runner has it: longer
    /// than the shell's own default of 120 s, so that the shell can say what it has.
    pub call: Duration,
    /// Furnishing a sandbox. Default 10 min: skills and memory stores may be large, and many.
    pub fit: Duration,
    /// Looking after it.
    pub care: CareLimits,
    /// How much longer than a call's limit its hand may take to answer. Default 10 s.
    pub hand: Duration,
    /// One write of the journal. Default 10 s.
    pub journal: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            ack: Duration::from_millis(1_500),
            control: secs(30),
            history: secs(120),
            create: secs(60),
            provider: secs(30),
            call: secs(150),
            fit: secs(600),
            care: CareLimits::default(),
            hand: secs(10),
            journal: secs(10),
        }
    }
}
