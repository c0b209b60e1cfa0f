//! The tool calls of one session: which are known, which may run, which is running, which are answered.
//!
//! Owned by the [session machine](super::machine), which feeds it the session's history and its live events.
//!
//! ```text
//!                      ┌────────── allowed ─────────┐
//! new ──▶ (gate) ──▶ Held ── denied ──▶ Closed      ▼
//!            ├──────────────────────────────────▶ Queued ──▶ Running ──▶ Posting ──▶ Closed
//!            ├── deny, unowned, thread ended ──▶ Closed         │           ▲
//!            └── malformed, interrupted, finished in an earlier │ life ─────┤
//!                                                               └─ answered elsewhere ──▶ Unwanted ──▶ Closed
//! ```
//!
//! # Invariants
//! - A call is dispatched at most once in the life of a `Run`, and never when its answer is known.
//! - A call that needs a confirmation never runs without an `allow`; one that was evaluated `deny` never runs.
//! - Within a thread nothing can be told from running the calls one by one ([`schedule`](super::schedule)).
//! - Nothing is posted for a call that is denied, unowned, answered elsewhere, or of an ended thread.
//!
//! # Not here
//! How a call runs ([`sandbox`](crate::sandbox)); when the session ends ([`machine`](super::machine)).

mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::call::CallState;
pub use super::call::{Cancellation, Prior};
use crate::event::{Call, CallKind, Event, IdleReason, Input, Permission, Verdict};
use crate::fault::Fault;
use crate::ids::{CallId, ThreadId};
use crate::ports::Answer;
use crate::session::policy::Policy;
use crate::session::schedule::{Place, Schedule};
use crate::session::signals::{Effect, NotRun};
use crate::tool::ToolResult;

/// Whether the idle clock runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum IdleClock {
    /// The agent works, or waits for us.
    #[default]
    Off,
    /// The turn is over, but calls are outstanding: the clock starts when the last of them is closed.
    Deferred,
    /// It runs; this names its timer.
    Running(u32),
}

/// Whether calls are given to the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// No new ones: somebody else will go on with the session.
    Closed,
}

/// The calls of one session.
#[derive(Clone, Debug, Default)]
pub struct Run {
    calls: BTreeMap<CallId, CallState>,
    schedule: Schedule,
    outstanding: usize,
    /// Those of which something is being done right now.
    busy: usize,
    /// Whether calls are given to the sandbox.
    gate: Gate,
    /// Interrupts that were acted on.
    interrupts: BTreeSet<Arc<str>>,
    ended_threads: BTreeSet<ThreadId>,
    primary: Option<ThreadId>,
    clock: IdleClock,
    clocks: u32,
    prior: BTreeMap<CallId, Prior>,
}

/// What a session's log says about its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It goes on.
    Live,
    /// It ended for good.
    Terminated,
    /// It was deleted.
    Deleted,
}

impl Run {
    /// A session of which nothing is known but what an earlier incarnation left.
    pub fn new(prior: BTreeMap<CallId, Prior>) -> Self {
        Self { prior, ..Self::default() }
    }

    /// Calls that are held, queued, running or being posted.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Gives no more calls to the sandbox.
    pub fn close(&mut self) {
        self.gate = Gate::Closed;
    }

    /// Whether no call runs and no answer is on its way.
    pub fn is_quiet(&self) -> bool {
        self.busy == 0
    }

    /// Whether the turn is over and nothing is left to do.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.clock, IdleClock::Running(_))
    }

    /// Whether this is the timer of the clock that runs now.
    pub fn is_clock(&self, number: u32) -> bool {
        self.clock == IdleClock::Running(number)
    }

    /// Takes one live event in.
    pub fn observe(&mut self, event: Event, policy: &Policy, effects: &mut Vec<Effect>) -> Life {
        match ends_turn(&event) {
            Some(true) => self.clock = IdleClock::Deferred,
            Some(false) => self.clock = IdleClock::Off,
            None => {}
        }
        match event {
            Event::Call(call) => match self.calls.get(&call.id) {
                None => self.route(call, None, policy, effects),
                Some(CallState::Decided(verdict)) => {
                    let verdict = Some(*verdict);
                    self.route(call, verdict, policy, effects);
                }
                Some(_) => {}
            },
            Event::Answered { call } => {
                self.close_elsewhere(&call, effects);
            }
            Event::Confirmed { call, verdict } => self.decide(&call, verdict, policy, effects),
            // One that the history told of has been acted on; the calls after it are not meant.
            Event::Interrupted { id, .. } if !id.is_empty() && !self.interrupts.insert(Arc::clone(&id)) => {}
            Event::Interrupted { thread, .. } => {
                for call in self.cuttable(|call| self.in_scope(call, thread.as_ref())) {
                    self.cut(&call, Cancellation::Interrupted, effects);
                }
            }
            Event::ThreadTerminated { thread } => {
                self.drop_thread(&thread, effects);
                self.ended_threads.insert(thread);
            }
            Event::ThreadStatus { thread } => {
                self.primary.get_or_insert(thread);
            }
            Event::Terminated => return Life::Terminated,
            Event::Deleted => return Life::Deleted,
            Event::Generating => effects.push(Effect::ExpectCall),
            Event::Idle { .. } | Event::Running | Event::Activity => {}
        }
        self.pump(policy, effects);
        Life::Live
    }

    /// The sandbox is done with a call.
    pub fn finished(
        &mut self,
        id: &CallId,
        result: Arc<ToolResult>,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        match self.calls.get(id) {
            Some(CallState::Running(call)) => {
                let kind = call.kind;
                self.post(id, kind, result, effects);
            }
            Some(CallState::Unwanted) => self.forget(id, effects),
            _ => {}
        }
        self.pump(policy, effects);
    }

    /// The control plane has the answer of a call.
    pub fn posted(&mut self, id: &CallId, policy: &Policy, effects: &mut Vec<Effect>) {
        if let Some(CallState::Posting { .. }) = self.calls.get(id) {
            self.set(id, CallState::Closed);
        }
        self.pump(policy, effects);
    }

    /// The control plane did not take the answer of a call.
    pub fn post_failed(&mut self, id: &CallId, fault: &Fault, policy: &Policy, effects: &mut Vec<Effect>) {
        if let Some(CallState::Posting { answer, attempt, stands_in }) = self.calls.get(id) {
            if fault.class.is_retryable() {
                // The lease is the budget of this.
                let (attempt, retry_after) = (*attempt, fault.retry_after);
                effects.push(Effect::ArmPost { call: id.clone(), attempt, retry_after });
            } else {
                let (kind, stands_in) = (answer.kind, *stands_in);
                effects.push(Effect::PostRefused { call: id.clone(), fault: fault.clone() });
                if stands_in {
                    self.forget(id, effects);
                } else {
                    self.stand_in(id, kind, fault, effects);
                }
            }
        }
        self.pump(policy, effects);
    }

    /// The wait after a failed post is over.
    pub fn post_due(&mut self, id: &CallId, due: u32, effects: &mut Vec<Effect>) {
        if let Some(CallState::Posting { answer, attempt, .. }) = self.calls.get_mut(id)
            && *attempt == due
        {
            *attempt += 1;
            effects.push(Effect::Post(answer.clone()));
        }
    }

    /// Cuts every call short that is held, queued or running.
    pub fn cut_all(&mut self, why: Cancellation, effects: &mut Vec<Effect>) {
        for call in self.cuttable(|_| true) {
            self.cut(&call, why, effects);
        }
    }

    /// Decides what becomes of a call that is seen for the first time.
    fn route(&mut self, call: Call, verdict: Option<Verdict>, policy: &Policy, effects: &mut Vec<Effect>) {
        let ended = call.thread.as_ref().is_some_and(|thread| self.ended_threads.contains(thread));
        match (call.permission, verdict) {
            _ if ended => self.leave(call, NotRun::ThreadEnded, effects),
            (Permission::Deny, _) | (_, Some(Verdict::Deny)) => self.leave(call, NotRun::Denied, effects),
            (Permission::Ask, None) => {
                // It may be allowed any moment.
                effects.push(Effect::ExpectCall);
                self.set(&call.id.clone(), CallState::Held(Box::new(call)));
            }
            (Permission::Allow, None) | (_, Some(Verdict::Allow)) => self.admit(call, policy, effects),
        }
    }

    /// A call that is not ours to run or to answer.
    fn leave(&mut self, call: Call, why: NotRun, effects: &mut Vec<Effect>) {
        self.set(&call.id, CallState::Closed);
        effects.push(Effect::NotRun { call: call.id, tool: call.name, why });
    }

    /// A call that may run: queue it, unless there is nothing to run.
    fn admit(&mut self, call: Call, policy: &Policy, effects: &mut Vec<Effect>) {
        let id = call.id.clone();
        if !policy.tools.contains(&*call.name) {
            // Somebody else's: it stays pending for them, and the agent's turn is not over.
            self.clock = IdleClock::Off;
            return self.leave(call, NotRun::Unowned, effects);
        }
        if let Some(Prior::Finished(result)) = self.prior.get(&id) {
            let result = Arc::clone(result);
            return self.post(&id, call.kind, result, effects);
        }
        if let Input::Malformed(what) = &call.input {
            let result = ToolResult::error(format!("{}: {what}", call.name));
            return self.post(&id, call.kind, Arc::new(result), effects);
        }
        let reads = policy.readers.contains(&*call.name);
        self.schedule.wait(id.clone(), Place { thread: call.thread.clone(), reads });
        self.set(&id, CallState::Queued { call: Box::new(call), cut: None });
    }

    fn decide(&mut self, id: &CallId, verdict: Verdict, policy: &Policy, effects: &mut Vec<Effect>) {
        match self.calls.get(id) {
            None => self.set(id, CallState::Decided(verdict)),
            Some(CallState::Held(call)) => {
                let call = (**call).clone();
                self.route(call, Some(verdict), policy, effects);
            }
            // The first decision counts; a call that was routed has had its decision.
            Some(_) => {}
        }
    }

    /// Somebody else answered a call, or the echo of our own answer came.
    fn close_elsewhere(&mut self, id: &CallId, effects: &mut Vec<Effect>) {
        let was_given = self.prior.remove(id).is_some();
        match self.calls.get(id) {
            Some(CallState::Running(_)) => {
                effects.push(Effect::Cancel { call: id.clone(), why: Cancellation::Unwanted });
                self.set(id, CallState::Unwanted);
            }
            Some(CallState::Unwanted) => {}
            Some(CallState::Posting { .. }) => self.forget(id, effects),
            _ if was_given => self.forget(id, effects),
            _ => self.set(id, CallState::Closed),
        }
    }

    /// Nothing is left to do about a call that an earlier incarnation or ours has given to the sandbox.
    fn forget(&mut self, id: &CallId, effects: &mut Vec<Effect>) {
        effects.push(Effect::Forget { call: id.clone() });
        self.set(id, CallState::Closed);
    }

    fn drop_thread(&mut self, thread: &ThreadId, effects: &mut Vec<Effect>) {
        for call in self.cuttable(|call| call.thread.as_ref() == Some(thread)) {
            self.close_elsewhere(&call, effects);
        }
    }

    /// Ends a call that was not answered yet, and says so to the agent.
    fn cut(&mut self, id: &CallId, why: Cancellation, effects: &mut Vec<Effect>) {
        match self.calls.get_mut(id) {
            // It was never allowed to run, so there is nothing to say about it.
            Some(CallState::Held(_)) => self.set(id, CallState::Closed),
            // An earlier incarnation started it, so "not run" would be a lie.
            Some(CallState::Queued { cut, .. }) if self.prior.contains_key(id) => *cut = Some(why),
            Some(CallState::Queued { call, .. }) => {
                let kind = call.kind;
                self.post(id, kind, why.result(), effects);
            }
            Some(CallState::Running(_)) => effects.push(Effect::Cancel { call: id.clone(), why }),
            _ => {}
        }
    }

    fn post(&mut self, id: &CallId, kind: CallKind, result: Arc<ToolResult>, effects: &mut Vec<Effect>) {
        let answer = Answer { call: id.clone(), kind, result };
        effects.push(Effect::Post(answer.clone()));
        self.set(id, CallState::Posting { answer, attempt: 1, stands_in: false });
    }

    /// The control plane does not take an answer as it is. The agent must not wait for it for ever, so it is
    /// told that.
    fn stand_in(&mut self, id: &CallId, kind: CallKind, fault: &Fault, effects: &mut Vec<Effect>) {
        let text = format!("the result of this call could not be delivered: {fault}");
        let answer = Answer { call: id.clone(), kind, result: Arc::new(ToolResult::error(text)) };
        effects.push(Effect::Post(answer.clone()));
        self.set(id, CallState::Posting { answer, attempt: 1, stands_in: true });
    }

    /// Starts what can be started and sets the clock.
    fn pump(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        while self.gate == Gate::Open
            && let Some(id) = self.schedule.next(policy.parallel_calls)
        {
            // What leaves that state leaves the schedule, too.
            let Some(CallState::Queued { call, cut }) = self.calls.get(&id) else { continue };
            let (call, cut) = (call.clone(), *cut);
            self.prior.remove(&id);
            effects.push(Effect::Dispatch((*call).clone()));
            if let Some(why) = cut {
                effects.push(Effect::Cancel { call: id.clone(), why });
            }
            self.set(&id, CallState::Running(call));
        }
        if self.clock == IdleClock::Deferred && self.outstanding == 0 {
            self.clocks += 1;
            self.clock = IdleClock::Running(self.clocks);
            if let Some(after) = policy.max_idle {
                effects.push(Effect::ArmIdle { number: self.clocks, after });
            }
        }
    }

    fn set(&mut self, id: &CallId, state: CallState) {
        self.outstanding += usize::from(state.is_outstanding());
        self.busy += usize::from(state.is_busy());
        if !state.is_scheduled() {
            self.schedule.leave(id);
        }
        if let Some(old) = self.calls.insert(id.clone(), state) {
            self.outstanding -= usize::from(old.is_outstanding());
            self.busy -= usize::from(old.is_busy());
        }
    }

    /// The calls that can still be cut short and that `which` picks.
    fn cuttable(&self, which: impl Fn(&Call) -> bool) -> Vec<CallId> {
        let picked = self.calls.iter().filter(|(_, state)| state.cuttable().is_some_and(&which));
        picked.map(|(id, _)| id.clone()).collect()
    }

    /// Whether an interrupt of `thread` (none: of all) concerns the call.
    fn in_scope(&self, call: &Call, thread: Option<&ThreadId>) -> bool {
        match (thread, &call.thread) {
            (None, _) => true,
            (Some(thread), Some(of)) => thread == of,
            // Calls of the primary thread do not say so.
            (Some(thread), None) => self.primary.as_ref().is_none_or(|primary| primary == thread),
        }
    }
}

/// Whether the event ends the agent's turn or shows that it goes on; neither, for the two that say nothing
/// about it.
fn ends_turn(event: &Event) -> Option<bool> {
    match event {
        Event::Idle { reason: IdleReason::TurnEnded } => Some(true),
        Event::Confirmed { .. } | Event::ThreadTerminated { .. } => None,
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests;
