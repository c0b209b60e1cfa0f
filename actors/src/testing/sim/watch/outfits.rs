//! Which sandboxes are furnished, as far as each process knows.

use std::collections::BTreeSet;

use super::Watch;
use crate::ids::SandboxId;
use crate::testing::sim::invariant::Invariant;
use crate::testing::sim::world::Findings;

/// One life of one host.
type Process = (usize, u32);

#[derive(Debug)]
pub(super) struct Outfits {
    /// Whether any are to be.
    wanted: bool,
    furnished: BTreeSet<(Process, SandboxId)>,
}

impl Outfits {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, furnished: BTreeSet::new() }
    }
}

impl Watch {
    /// A process was told that a sandbox is furnished.
    pub(in crate::testing::sim) fn furnished(&mut self, process: Process, sandbox: &SandboxId) {
        self.outfits.furnished.insert((process, sandbox.clone()));
    }

    /// A process has let go of a sandbox, or deleted it.
    pub(in crate::testing::sim) fn unfurnished(&mut self, process: Process, sandbox: &SandboxId) {
        self.outfits.furnished.remove(&(process, sandbox.clone()));
    }

    /// A process gives a call to a sandbox.
    pub(in crate::testing::sim) fn uses(
        &mut self,
        process: Process,
        sandbox: &SandboxId,
        findings: &mut Findings,
    ) {
        if self.outfits.wanted && !self.outfits.furnished.contains(&(process, sandbox.clone())) {
            findings.broken(Invariant::Furnished, format!("a call enters {sandbox}, which is not furnished"));
        }
    }

    /// A process furnishes a sandbox or looks after it. If nothing ever went wrong with it, it is awake.
    pub(in crate::testing::sim) fn enters(
        &mut self,
        host: usize,
        sandbox: &SandboxId,
        frozen: bool,
        findings: &mut Findings,
    ) {
        if frozen && !self.is_suspect(host, sandbox) {
            findings.broken(Invariant::Furnished, format!("{sandbox} is looked after while it stands by"));
        }
    }
}
