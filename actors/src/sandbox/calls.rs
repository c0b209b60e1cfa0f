//! The calls of one sandbox: which wait for it, and which its hand has.

use std::collections::BTreeMap;

use super::signals::{Call, Effect, Undone};
use crate::fault::Fault;
use crate::ids::CallId;
use crate::session::run::Cancellation;

/// Where one call stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Until the sandbox is ready. `started` says that it was given to this instance before, so that it can
    /// only be attached to.
    Waiting { started: bool },
    /// With the hand.
    Running { attempt: u32 },
    /// The hand was not heard; it is being found out whether the instance still exists.
    Probing { attempt: u32, fault: Fault },
    /// Waiting before the hand is asked again.
    BackingOff { attempt: u32 },
}

#[derive(Clone, Debug)]
struct Entry {
    stage: Stage,
    /// Whether it may run again in another instance when this one is lost.
    rerun: bool,
    /// Whether it is to be cut short, and what the agent shall read then.
    cut: Option<Cancellation>,
}

impl Entry {
    /// Whether the present instance was given it, by us or by an earlier incarnation.
    fn is_given(&self) -> bool {
        !matches!(self.stage, Stage::Waiting { started: false })
    }
}

/// The calls that have no answer yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls(BTreeMap<CallId, Entry>);

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn contains(&self, call: &CallId) -> bool {
        self.0.contains_key(call)
    }

    /// Whether the hand has one, or may have.
    pub(super) fn any_given(&self) -> bool {
        self.0.values().any(|entry| !matches!(entry.stage, Stage::Waiting { .. }))
    }

    /// A call waits until the sandbox is ready.
    pub(super) fn wait(&mut self, Call { id, started, rerun }: Call) {
        self.0.insert(id, Entry { stage: Stage::Waiting { started }, rerun, cut: None });
    }

    /// A call is given to the hand.
    pub(super) fn run(&mut self, Call { id, rerun, .. }: Call, effects: &mut Vec<Effect>) {
        effects.push(Effect::Run { call: id.clone() });
        self.0.insert(id, Entry { stage: Stage::Running { attempt: 1 }, rerun, cut: None });
    }

    /// The sandbox runs: so do the calls that waited for it.
    pub(super) fn run_waiting(&mut self, effects: &mut Vec<Effect>) {
        for (call, entry) in &mut self.0 {
            if let Stage::Waiting { .. } = entry.stage {
                entry.stage = Stage::Running { attempt: 1 };
                effects.push(Effect::Run { call: call.clone() });
                if let Some(why) = entry.cut {
                    effects.push(Effect::CancelRunning { call: call.clone(), attempt: 1, why });
                }
            }
        }
    }

    /// A call is to be cut short.
    pub(super) fn cancel(&mut self, call: CallId, why: Cancellation, effects: &mut Vec<Effect>) {
        let Some(entry) = self.0.get_mut(&call) else { return };
        if !entry.is_given() {
            self.0.remove(&call);
            effects.push(Effect::Undone { call, why: Undone::Cancelled(why) });
            return;
        }
        entry.cut = Some(why);
        if !matches!(entry.stage, Stage::Waiting { .. }) {
            effects.push(Effect::CancelRunning { call, attempt: 1, why });
        }
    }

    /// Nobody wants an answer any more: those that wait are forgotten, those that run are cut short. Of those
    /// whose hand was not heard the end is not waited for, since nobody asks for it again.
    pub(super) fn part(&mut self, effects: &mut Vec<Effect>) {
        self.0.retain(|call, entry| {
            if !matches!(entry.stage, Stage::Waiting { .. }) {
                let (call, why) = (call.clone(), Cancellation::Unwanted);
                effects.push(Effect::CancelRunning { call, attempt: 1, why });
            }
            matches!(entry.stage, Stage::Running { .. })
        });
    }

    /// A call has its answer, or never will.
    pub(super) fn remove(&mut self, call: &CallId) {
        self.0.remove(call);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The attempt of a call that is with the hand.
    pub(super) fn running(&self, call: &CallId) -> Option<u32> {
        match self.0.get(call)?.stage {
            Stage::Running { attempt } => Some(attempt),
            _ => None,
        }
    }

    /// The hand was not heard: find out whether the instance is still there.
    pub(super) fn probe(&mut self, call: &CallId, attempt: u32, fault: Fault, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.0.get_mut(call) {
            entry.stage = Stage::Probing { attempt, fault };
            effects.push(Effect::Probe { call: call.clone() });
        }
    }

    /// How a call failed whose instance was being looked for.
    pub(super) fn probed(&self, call: &CallId) -> Option<(u32, Fault)> {
        match &self.0.get(call)?.stage {
            Stage::Probing { attempt, fault } => Some((*attempt, fault.clone())),
            _ => None,
        }
    }

    /// A call is asked for again later.
    pub(super) fn back_off(&mut self, call: &CallId, attempt: u32, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.0.get_mut(call) {
            entry.stage = Stage::BackingOff { attempt };
            effects.push(Effect::ArmCall { call: call.clone(), attempt });
        }
    }

    /// The wait of a call is over.
    pub(super) fn due(&mut self, call: &CallId, attempt: u32, effects: &mut Vec<Effect>) {
        if let Some(entry) = self.0.get_mut(call)
            && entry.stage == (Stage::BackingOff { attempt })
        {
            entry.stage = Stage::Running { attempt: attempt + 1 };
            effects.push(Effect::Run { call: call.clone() });
        }
    }

    /// The instance is lost, and with it the answers of the calls that it was given. Those that may run
    /// again wait for the next one, unless they were to be cut short.
    pub(super) fn lose(&mut self, fault: &Fault, effects: &mut Vec<Effect>) {
        self.0.retain(|call, entry| {
            let kept = !entry.is_given() || (entry.rerun && entry.cut.is_none());
            if kept {
                entry.stage = Stage::Waiting { started: false };
            } else {
                effects.push(Effect::Undone { call: call.clone(), why: Undone::Lost(fault.clone()) });
            }
            kept
        });
    }

    /// No instance can be had, so none of them will have an answer.
    pub(super) fn fail(&mut self, fault: &Fault, effects: &mut Vec<Effect>) {
        for (call, entry) in std::mem::take(&mut self.0) {
            let why = match entry.is_given() {
                false => Undone::NoSandbox(fault.clone()),
                true => Undone::Lost(fault.clone()),
            };
            effects.push(Effect::Undone { call, why });
        }
    }
}
