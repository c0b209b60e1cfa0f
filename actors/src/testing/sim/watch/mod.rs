//! Looks at every request and answer, and knows what each process knows.
//!
//! What a process may do depends on what it was told, not on what is so: whoever has not heard that its lease was
//! taken may act until its own clock says that the lease is over. So the watch keeps, beside the truth, what every
//! host has heard.

mod calls;
mod leases;
mod load;
mod outfits;
mod sandboxes;

use std::collections::BTreeMap;
use std::fmt;

pub(super) use self::load::Load;
use super::invariant::Invariant;
use super::plan::Setup;
use super::world::Findings;
use crate::ids::CallId;

/// What every item's credential holds.
const SECRET: &str = "fake-session-token";

/// Everything that is remembered of a history in order to judge it.
pub(super) struct Watch {
    leases: leases::Leases,
    calls: calls::Calls,
    sandboxes: sandboxes::Sandboxes,
    outfits: outfits::Outfits,
    pub(super) load: BTreeMap<usize, Load>,
    bounds: load::Bounds,
    keeps_answers: bool,
    rerun: std::collections::BTreeSet<std::sync::Arc<str>>,
}

impl Watch {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            leases: leases::Leases::default(),
            calls: calls::Calls::default(),
            sandboxes: sandboxes::Sandboxes::default(),
            outfits: outfits::Outfits::new(setup.outfits),
            load: BTreeMap::new(),
            bounds: load::Bounds::new(setup),
            keeps_answers: setup.keeps_answers,
            rerun: setup.settings.session.rerun.clone(),
        }
    }

    /// Nothing that enters a sandbox holds a credential.
    pub(super) fn secret(&mut self, what: &fmt::Arguments<'_>, findings: &mut Findings) {
        if what.to_string().contains(SECRET) {
            findings.broken(Invariant::NoSecret, format!("a credential is in {what}"));
        }
    }
}

/// The session that a call belongs to: calls are named after theirs.
pub(super) fn session_of(call: &CallId) -> &str {
    call.as_str().split_once(".c").map_or(call.as_str(), |(session, _)| session)
}
