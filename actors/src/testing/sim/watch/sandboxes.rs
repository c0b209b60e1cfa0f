//! Whose every sandbox was, and whether it may be deleted.

use std::collections::{BTreeMap, BTreeSet};

use super::{Watch, session_of};
use crate::ids::{CallId, SandboxId};
use crate::ports::CallRequest;
use crate::testing::FakeControl;
use crate::testing::sim::invariant::Invariant;
use crate::testing::sim::request::{Operation, Port};
use crate::testing::sim::world::Findings;

#[derive(Debug, Default)]
pub(super) struct Sandboxes {
    /// The session whose calls were in each sandbox.
    sessions: BTreeMap<(usize, SandboxId), String>,
    /// Sandboxes about which something went wrong, so that giving one up may be right.
    suspects: BTreeSet<(usize, String)>,
    /// Sessions of which the same is true, because they were asked to end.
    ending: BTreeSet<String>,
    /// Whether actors were made to fail, so that giving a session up may be right.
    sabotaged: bool,
    /// Whether something could not be written down.
    unwritten: bool,
    /// Whether a listing may have lacked a sandbox that was made.
    misled: bool,
}

impl Watch {
    /// Something goes wrong with a request.
    pub(in crate::testing::sim) fn suspect(&mut self, host: usize, operation: Operation, subject: &str) {
        match operation.port() {
            Port::Provider | Port::Hand | Port::Outfitter => {
                self.sandboxes.suspects.insert((host, subject.to_owned()));
            }
            // What cannot be written down may cost a sandbox.
            Port::Journal => self.sandboxes.unwritten = true,
            Port::Control | Port::Tool => {}
        }
    }

    /// Whether anything went wrong with a sandbox.
    pub(super) fn is_suspect(&self, host: usize, sandbox: &SandboxId) -> bool {
        self.sandboxes.suspects.contains(&(host, sandbox.as_str().to_owned())) || self.sandboxes.sabotaged
    }

    /// An actor of a host is made to fail.
    pub(in crate::testing::sim) fn sabotaged(&mut self, host: usize) {
        self.sandboxes.sabotaged = true;
        self.forgets(host);
    }

    /// Sandboxes vanish, or are not listed though they are there.
    pub(in crate::testing::sim) fn misled(&mut self) {
        self.sandboxes.misled = true;
    }

    /// A host gives up a sandbox that waits for its session, since it is not there.
    pub(in crate::testing::sim) fn misses(
        &mut self,
        host: usize,
        sandbox: &SandboxId,
        findings: &mut Findings,
    ) {
        if self.keeps_answers && !self.sandboxes.misled {
            let what = format!("host {host} gives {sandbox} up as missing, and nothing has said that it is");
            findings.broken(Invariant::InUse, what);
        }
    }

    /// Whether actors were made to fail.
    pub(in crate::testing::sim) fn is_sabotaged(&self) -> bool {
        self.sandboxes.sabotaged
    }

    /// Whether something could not be written down; only the next process on that journal clears up after that.
    pub(in crate::testing::sim) fn is_unwritten(&self) -> bool {
        self.sandboxes.unwritten
    }

    /// A session has to end, and with it what runs in its sandbox.
    pub(in crate::testing::sim) fn ending(&mut self, session: &str) {
        self.sandboxes.ending.insert(session.to_owned());
    }

    /// A host gives a call to a hand.
    pub(in crate::testing::sim) fn calling(
        &mut self,
        host: usize,
        sandbox: &SandboxId,
        request: &CallRequest,
        control: &FakeControl,
        findings: &mut Findings,
    ) {
        let session = session_of(&request.call);
        self.begins(host, &request.call, control, findings);
        self.joined(host, sandbox, findings);
        let of = self.sandboxes.sessions.entry((host, sandbox.clone())).or_insert_with(|| session.to_owned());
        if of != session {
            let what = format!("{} is run in {sandbox}, in which {of} was", request.call);
            findings.broken(Invariant::Isolated, what);
        }
    }

    /// A host deletes a sandbox in which these calls run that nobody has cut.
    pub(in crate::testing::sim) fn deleting(
        &mut self,
        host: usize,
        sandbox: &SandboxId,
        running: &[CallId],
        findings: &mut Findings,
    ) {
        let excused =
            self.sandboxes.sabotaged
                || self.sandboxes.unwritten
                || self.sandboxes.suspects.contains(&(host, sandbox.as_str().to_owned()))
                || self.sandboxes.sessions.get(&(host, sandbox.clone())).is_some_and(|session| {
                    self.sandboxes.ending.contains(session) || !self.holds(host, session)
                });
        if let Some(call) = running.first().filter(|_| !excused) {
            findings.broken(Invariant::InUse, format!("{sandbox} is deleted while {call} runs in it"));
        }
    }
}
