//! What a session's history says about its calls, brought together with what is known of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{IdleClock, Life, Run, ends_turn};
use crate::event::{Call, Event, Verdict};
use crate::ids::CallId;
use crate::session::call::{CallState, Cancellation};
use crate::session::policy::Policy;
use crate::session::signals::Effect;

impl Run {
    /// Takes the complete history in, oldest first: calls without an answer are routed, everything else is
    /// remembered.
    pub fn reconcile(&mut self, history: Vec<Event>, policy: &Policy, effects: &mut Vec<Effect>) -> Life {
        let mut open: Vec<(Call, Option<Cancellation>)> = Vec::new();
        let mut answered = BTreeSet::new();
        let mut verdicts = BTreeMap::new();
        let (mut life, mut turn_ended) = (Life::Live, false);
        for event in history {
            turn_ended = ends_turn(&event).unwrap_or(turn_ended);
            match event {
                Event::Call(call) => open.push((call, None)),
                Event::Answered { call } => {
                    answered.insert(call);
                }
                Event::Confirmed { call, verdict } => {
                    verdicts.entry(call).or_insert(verdict);
                }
                Event::Interrupted { id, thread } => {
                    self.interrupts.insert(id);
                    for (call, cut) in &mut open {
                        if self.in_scope(call, thread.as_ref()) {
                            *cut = Some(Cancellation::Interrupted);
                        }
                    }
                }
                Event::ThreadTerminated { thread } => {
                    self.ended_threads.insert(thread);
                }
                Event::ThreadStatus { thread } => {
                    self.primary.get_or_insert(thread);
                }
                Event::Terminated => life = Life::Terminated,
                Event::Deleted => life = Life::Deleted,
                Event::Running => life = Life::Live,
                Event::Idle { .. } | Event::Generating | Event::Activity => {}
            }
        }
        if life != Life::Live {
            return life;
        }
        self.clock = IdleClock::Off;
        for (call, cut) in open {
            self.catch_up(call, cut, &answered, &verdicts, policy, effects);
        }
        // Calls that became known live may have been answered or cut while the stream was down.
        for call in &answered {
            self.close_elsewhere(call, effects);
        }
        for thread in self.ended_threads.clone() {
            self.drop_thread(&thread, effects);
        }
        if turn_ended {
            self.clock = IdleClock::Deferred;
        }
        self.pump(policy, effects);
        Life::Live
    }

    /// Brings what the history says about one of its calls together with what is known of it.
    fn catch_up(
        &mut self,
        call: Call,
        cut: Option<Cancellation>,
        answered: &BTreeSet<CallId>,
        verdicts: &BTreeMap<CallId, Verdict>,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        let verdict = verdicts.get(&call.id).copied();
        match self.calls.get(&call.id) {
            Some(CallState::Decided(early)) => {
                let verdict = verdict.or(Some(*early));
                self.calls.remove(&call.id);
                self.enter(call, cut, verdict, answered, policy, effects);
            }
            None => self.enter(call, cut, verdict, answered, policy, effects),
            Some(_) if answered.contains(&call.id) => {}
            Some(_) => {
                if let Some(cut) = cut {
                    self.cut(&call.id, cut, effects);
                } else if let Some(verdict) = verdict {
                    self.decide(&call.id, verdict, policy, effects);
                }
            }
        }
    }

    fn enter(
        &mut self,
        call: Call,
        cut: Option<Cancellation>,
        verdict: Option<Verdict>,
        answered: &BTreeSet<CallId>,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        let id = call.id.clone();
        if answered.contains(&id) {
            self.close_elsewhere(&id, effects);
            return;
        }
        self.route(call, verdict, policy, effects);
        if let Some(cut) = cut {
            self.cut(&id, cut, effects);
        }
    }
}
