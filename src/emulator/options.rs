//! How an emulator behaves: limits, durations and the choices the protocol leaves open.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::EmulatorError;
use super::scenario::Scenario;
use super::work::{Lapse, MIN_TTL, Policy};

/// How an emulator behaves. Start from [`Options::default`] and change what matters.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen. Default `127.0.0.1:0`, a free port of the loopback interface.
    pub listen: SocketAddr,
    /// Whether `listen` may be reachable from other machines. Default no.
    pub listen_anywhere: bool,
    /// The organisation's API key. None (the default) makes one up.
    pub api_key: Option<String>,
    /// Lease granted by a heartbeat, in whole seconds of at least 2 because official workers never beat
    /// faster than once a second. Default 120 s, the figure in the official clients' fixtures.
    pub lease_ttl: Duration,
    /// The longest lease a heartbeat may ask for with `desired_ttl_seconds`. Default 300 s.
    pub max_lease_ttl: Duration,
    /// Time between an acknowledgement and the first heartbeat. Default 30 s.
    pub startup_lease: Duration,
    /// Age at which an offered but unacknowledged item is offered again to a poll that names no age of its
    /// own. Default 5 s, as the service documents.
    pub reclaim_age: Duration,
    /// What a lapsed item comes back as. Default [`Lapse::NewItem`]; the protocol leaves it open.
    pub lapse: Lapse,
    /// Silence after which a stream carries a `ping`. Default 15 s.
    pub ping_interval: Duration,
    /// The largest page of any listing, whatever a client asks for. Default 1000; tests make it small.
    pub max_page: usize,
    /// Answer every page twice, first empty with a cursor. Default no; finds clients that stop at an empty
    /// page although it has a successor.
    pub empty_pages: bool,
    /// Whether listing work items refuses API keys, as the method's own description says. Default no: the
    /// operations page of the same service lists with one.
    pub strict_work_list: bool,
    /// Sessions held at once; creating more is refused. Default 50 000.
    pub max_sessions: usize,
    /// Events kept for each thread of a session; the oldest are forgotten first. Default 10 000.
    pub max_events: usize,
    /// Frames a stream may lag behind before it is cut, as a slow reader would be. Default 1024.
    pub stream_buffer: usize,
    /// Finished work items remembered, so that late calls on them are answered like the service would.
    /// Default 10 000.
    pub max_finished_work: usize,
    /// Requests remembered by the request log; 0 turns it off. Default 10 000.
    pub log_requests: usize,
    /// Bytes of request bodies remembered by the request log. Default 64 MiB.
    pub log_bytes: usize,
    /// The largest request body accepted, in bytes. Default 32 MiB: tool results carry pictures.
    pub max_body: usize,
    /// Directory under which sessions are told to mount their memory stores. Default `/mnt/memory`, as the
    /// service does; tests that run workers on their own host point it to a directory they may write.
    pub memory_root: String,
    /// Seed of the fault rules' probabilities. Default 0.
    pub fault_seed: u64,
    /// Scenarios beyond the built-in ones; one of the same name replaces a built-in.
    pub scenarios: Vec<Scenario>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            listen_anywhere: false,
            api_key: None,
            lease_ttl: Duration::from_secs(120),
            max_lease_ttl: Duration::from_secs(300),
            startup_lease: Duration::from_secs(30),
            reclaim_age: Duration::from_secs(5),
            lapse: Lapse::NewItem,
            ping_interval: Duration::from_secs(15),
            max_page: 1000,
            empty_pages: false,
            strict_work_list: false,
            max_sessions: 50_000,
            max_events: 10_000,
            stream_buffer: 1024,
            max_finished_work: 10_000,
            log_requests: 10_000,
            log_bytes: 64 << 20,
            max_body: 32 << 20,
            memory_root: "/mnt/memory".into(),
            fault_seed: 0,
            scenarios: Vec::new(),
        }
    }
}

impl Options {
    /// Checks every limit before anything is bound.
    pub(super) fn validate(&self) -> Result<(), EmulatorError> {
        let whole_seconds = |option, value: Duration| {
            if value < MIN_TTL || value.subsec_nanos() != 0 {
                let got = format!("{value:?}");
                return Err(EmulatorError::Option { option, got, expected: "whole seconds, 2 or more" });
            }
            Ok(())
        };
        whole_seconds("lease_ttl", self.lease_ttl)?;
        whole_seconds("max_lease_ttl", self.max_lease_ttl)?;
        if self.max_lease_ttl < self.lease_ttl {
            let got = format!("{:?}", self.max_lease_ttl);
            let expected = "at least `lease_ttl`";
            return Err(EmulatorError::Option { option: "max_lease_ttl", got, expected });
        }
        let positive = [
            ("startup_lease", self.startup_lease.is_zero()),
            ("ping_interval", self.ping_interval.is_zero()),
            ("max_page", self.max_page == 0),
            ("max_sessions", self.max_sessions == 0),
            ("max_events", self.max_events == 0),
            ("stream_buffer", self.stream_buffer == 0),
            ("max_body", self.max_body == 0),
        ];
        if let Some((option, _)) = positive.iter().find(|(_, zero)| *zero) {
            return Err(EmulatorError::Option { option, got: "0".into(), expected: "more than 0" });
        }
        if !self.listen_anywhere && !self.listen.ip().is_loopback() {
            return Err(EmulatorError::NotLoopback { address: self.listen });
        }
        Ok(())
    }

    /// The part the work machine needs.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            ttl: self.lease_ttl,
            max_ttl: self.max_lease_ttl,
            startup: self.startup_lease,
            lapse: self.lapse,
        }
    }
}
