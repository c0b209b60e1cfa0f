//! What every call came to, where, and who knows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Watch, session_of};
use crate::ids::{CallId, SandboxId};
use crate::ports::{Answer, CallRequest, ControlError};
use crate::testing::FakeControl;
use crate::testing::sim::invariant::Invariant;
use crate::testing::sim::traffic::MALFORMED;
use crate::testing::sim::world::Findings;
use crate::tool::ToolResult;

/// One life of one host.
type Process = (usize, u32);

#[derive(Debug, Default)]
pub(super) struct Calls {
    /// Where each call was started, on each host and in which of its tenures.
    ran: BTreeMap<(usize, CallId), Vec<(SandboxId, u64)>>,
    /// What a process was told by a hand, and in which tenure.
    heard: BTreeMap<(Process, CallId), (u64, Arc<ToolResult>)>,
    /// What a host's journal knows, and since which tenure.
    written: BTreeMap<(usize, CallId), (u64, Arc<ToolResult>)>,
    /// Posts that a process knows to have been accepted.
    posted: BTreeSet<(Process, CallId)>,
    /// Posts that were refused for good: something may be said in their place.
    refused: BTreeSet<CallId>,
}

/// How an answer begins that no hand gave.
const OUR_OWN: [&str; 8] = [
    "not run: ",
    "the sandbox was lost while this call ran",
    "the worker failed while this call ran",
    "bash: cancelled: ",
    "lookup: contact was lost while this call ran",
    "lookup: timed out",
    "lookup: the call was cancelled",
    "the result of this call could not be delivered: ",
];

impl Watch {
    /// A call was started in a sandbox.
    pub(in crate::testing::sim) fn ran(
        &mut self,
        host: usize,
        sandbox: &SandboxId,
        request: &CallRequest,
        findings: &mut Findings,
    ) {
        let call = &request.call;
        let tenure = self.tenure(host, session_of(call));
        let places = self.calls.ran.entry((host, call.clone())).or_default();
        // A hand starts nothing twice, so a second start is in another sandbox, whatever its name.
        let before = places.iter().find(|(_, of)| *of == tenure && !self.rerun.contains(&*request.tool));
        if let Some((place, _)) = before {
            findings.broken(Invariant::Once, format!("{call} was started in {place}, and now in {sandbox}"));
        }
        places.push((sandbox.clone(), tenure));
    }

    /// A process asks for a call of a tool outside.
    pub(in crate::testing::sim) fn asking(
        &mut self,
        host: usize,
        request: &CallRequest,
        control: &FakeControl,
        findings: &mut Findings,
    ) {
        self.begins(host, &request.call, control, findings);
        self.ran(host, &SandboxId::from("outside"), request, findings);
    }

    /// A process has a hand's answer.
    pub(in crate::testing::sim) fn answered(
        &mut self,
        process: Process,
        call: &CallId,
        result: &Arc<ToolResult>,
    ) {
        let tenure = self.tenure(process.0, session_of(call));
        self.calls.heard.insert((process, call.clone()), (tenure, Arc::clone(result)));
    }

    /// A journal has an answer.
    pub(in crate::testing::sim) fn written(&mut self, host: usize, call: &CallId, result: &Arc<ToolResult>) {
        let tenure = self.tenure(host, session_of(call));
        self.calls.written.insert((host, call.clone()), (tenure, Arc::clone(result)));
    }

    /// A process posts an answer.
    pub(in crate::testing::sim) fn posting(
        &mut self,
        process: Process,
        answer: &Answer,
        findings: &mut Findings,
    ) {
        let (call, result, text) = (&answer.call, &answer.result, answer.result.text());
        let key = (process, call.clone());
        if self.calls.posted.contains(&key) {
            findings.broken(Invariant::Faithful, format!("{call} is posted again after it was accepted"));
        }
        let is_our_own = result.is_error && OUR_OWN.iter().any(|own| text.starts_with(own));
        if is_our_own && self.keeps_answers {
            let what = format!("{call} is answered with {text:?}, and nothing has cost its answer");
            return findings.broken(Invariant::Faithful, what);
        }
        let stands_in = text.starts_with("the result of this call could not be delivered: ");
        if stands_in && self.calls.refused.contains(call) {
            return;
        }
        let (host, _) = process;
        let tenure = self.tenure(host, session_of(call));
        let known = self.calls.heard.get(&key).or_else(|| self.calls.written.get(&(host, call.clone())));
        let (then, known) = known.map(|(then, known)| (*then, known)).unzip();
        // What a call came to in an earlier tenure may be forgotten by now, but need not.
        let known = known.filter(|known| then == Some(tenure) || *known == result);
        match known {
            Some(known) if *known != *result => {
                let what = format!("{call} is answered with {text:?}, and came to {:?}", known.text());
                findings.broken(Invariant::Faithful, what);
            }
            Some(_) => {}
            None if result.is_error && text.ends_with(MALFORMED) => {}
            None if is_our_own => {}
            None => findings
                .broken(Invariant::Faithful, format!("{call} is answered with {text:?}, which nobody said")),
        }
    }

    /// A process has heard what became of a post.
    pub(in crate::testing::sim) fn posted(
        &mut self,
        process: Process,
        call: &CallId,
        posted: &Result<(), ControlError>,
    ) {
        match posted {
            Ok(()) => drop(self.calls.posted.insert((process, call.clone()))),
            Err(ControlError::Rejected { .. }) => drop(self.calls.refused.insert(call.clone())),
            Err(_) => {}
        }
    }
}
