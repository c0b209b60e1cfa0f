//! One item that a worker of its own serves, from its acknowledgement until nothing of it is ours.
//!
//! ```text
//! Claiming ──acked──▶ Routing ──▶ (brokered: a session's actor goes on)
//!                        │ for a worker
//!                        ▼        failed before its first beat
//!            ┌──────▶ Running ◀──────────────────── Resting
//!            │ starts   │   │ exited, or taken over    ▲
//!            │          │   ▼                          │
//!            │          │ Judging ── where does it stand? ──┤
//!            └──────────┼───┘                          │ over
//!       lapsed, told to │ end                          ▼
//!                       └──▶ Cutting ──worker gone──▶ Deleting ──sandbox let go──▶ Stopping ──▶ Done
//! ```
//!
//! # Invariants
//! - The item is acknowledged, looked at and stopped here, and never beaten: the first beat is the worker's, and so is
//!   every later one. A worker always begins with a first beat, so one that ended after that cannot be followed by
//!   another before its lease has lapsed: the item is then left to do so and comes again.
//! - No worker is started twice under one number, none while another may run, and none after the end was decided.
//! - An item that went back to the queue, or may have, is not stopped.
//!
//! # Not here
//! Sessions that the tree serves ([`session`](crate::session)); delays ([`backoff`](crate::backoff)).

use std::sync::Arc;

use super::policy::Policy;
pub use super::signals::{Effect, Event, Place, Verdict};
use crate::fault::{Fault, FaultClass};
use crate::machine::IllegalEvent;
use crate::ports::Standing;
use crate::session::end::End;
use crate::session::lease::{self, Loss};
use crate::session::run::Cancellation;

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The item is being acknowledged.
    Claiming {
        /// Counted from 1.
        attempt: u32,
    },
    /// The session is being retrieved.
    Routing {
        /// Counted from 1.
        attempt: u32,
    },
    /// The worker runs.
    Running {
        /// What the last looks found, and how many of them in a row.
        seen: Seen,
    },
    /// No worker runs, for all we know; the item is looked at.
    Judging {
        /// How the worker ended; none if there was none in this life of ours.
        exit: Option<Exit>,
        /// Looks that failed in a row, or found the item in the queue.
        looks: u32,
    },
    /// Waiting before the next start.
    Resting,
    /// The worker is being ended.
    Cutting {
        /// Why.
        end: End,
    },
    /// The sandbox is being let go of.
    Deleting {
        /// Why.
        end: End,
    },
    /// The item is being stopped.
    Stopping {
        /// Why.
        end: End,
        /// Counted from 1.
        attempt: u32,
    },
    /// Terminal.
    Done,
}

/// What the last looks found, and how many of them in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What they found.
    pub standing: Standing,
    /// How many.
    pub looks: u32,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As one that has done its work.
    Success,
    /// As one that has not.
    Failure(Arc<str>),
}

/// What an earlier incarnation left.
#[derive(Clone, Debug, Default)]
pub struct Inheritance {
    /// Whether the item was acknowledged.
    pub acked: bool,
    /// The last start that was given to a sandbox.
    pub number: Option<u32>,
    /// Why it was ending already.
    pub end: Option<End>,
}

/// One item that a worker of its own serves.
#[derive(Clone, Debug)]
pub struct Machine {
    state: State,
    place: Place,
    /// The present start, or the last one; 0 before the first.
    number: u32,
    /// Starts of this life that failed before their first beat.
    failures: u32,
    /// Whether a start of an earlier incarnation may still run.
    is_inherited: bool,
    /// Whether it ends with what it is doing.
    is_draining: bool,
    /// Whether there is nothing left to stop.
    is_over: bool,
    /// Looks so far.
    looks: u32,
}

impl Machine {
    /// Starts to serve an item, or goes on where an earlier incarnation was cut off.
    pub fn start(inherited: Inheritance, effects: &mut Vec<Effect>) -> Self {
        let Inheritance { acked, number, end } = inherited;
        let state = match end {
            Some(end) => {
                effects.push(Effect::ReleaseSandbox(end.release()));
                State::Deleting { end }
            }
            None if acked => {
                effects.push(Effect::Route);
                State::Routing { attempt: 1 }
            }
            None => {
                effects.push(Effect::Ack);
                State::Claiming { attempt: 1 }
            }
        };
        Self {
            state,
            place: Place::Sandbox,
            number: number.unwrap_or(0),
            failures: 0,
            is_inherited: acked,
            is_draining: false,
            is_over: false,
            looks: 0,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// One word for the state.
    pub fn name(&self) -> &'static str {
        match self.state {
            State::Claiming { .. } => "claiming",
            State::Routing { .. } => "routing",
            State::Running { .. } => "running",
            State::Judging { .. } => "judging",
            State::Resting => "resting",
            State::Cutting { .. } => "cutting",
            State::Deleting { .. } => "deleting",
            State::Stopping { .. } => "releasing",
            State::Done => "done",
        }
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`IllegalEvent`] if the event cannot occur in this state; nothing has changed then.
    pub fn step(
        &mut self,
        event: Event,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) -> Result<(), IllegalEvent> {
        use {Event as E, State as S};
        let illegal = IllegalEvent { machine: "worker", state: self.name(), event: event.name() };
        match (&self.state, event) {
            (S::Claiming { .. }, E::Acked) => {
                effects.push(Effect::Route);
                self.state = S::Routing { attempt: 1 };
            }
            (S::Claiming { attempt }, E::AckFailed(fault)) => {
                if fault.class.is_retryable() && *attempt < policy.ack_attempts {
                    effects.push(Effect::ArmAck { attempt: *attempt, retry_after: fault.retry_after });
                } else {
                    self.end(End::NotClaimed(fault), policy, effects);
                }
            }
            (S::Claiming { attempt }, E::AckDue) => {
                effects.push(Effect::Ack);
                self.state = S::Claiming { attempt: attempt + 1 };
            }
            (S::Routing { .. }, E::Routed(verdict)) => self.routed(verdict, policy, effects),
            (S::Routing { attempt }, E::RouteFailed(fault)) => {
                if fault.class.is_retryable() && *attempt < policy.retrieve_attempts {
                    effects.push(Effect::ArmRoute { attempt: *attempt, retry_after: fault.retry_after });
                } else {
                    self.end(End::refused(fault), policy, effects);
                }
            }
            (S::Routing { attempt }, E::RouteDue) => {
                effects.push(Effect::Route);
                self.state = S::Routing { attempt: attempt + 1 };
            }
            (S::Resting, E::StartDue) => self.launch(policy, effects),
            (S::Running { .. }, E::Exited { number, failure }) if number == self.number => {
                let exit = failure.map_or(Exit::Success, Exit::Failure);
                self.state = S::Judging { exit: Some(exit), looks: 0 };
                self.look(effects);
            }
            (S::Running { seen }, E::Looked { look, standing }) if look == self.looks => {
                let looks = if seen.standing == standing { seen.looks + 1 } else { 1 };
                self.watch(Seen { standing, looks }, policy, effects);
            }
            // Whatever is not seen is not known to be otherwise.
            (S::Running { .. }, E::LookFailed { look }) if look == self.looks => {
                self.arm_look(policy, effects)
            }
            (S::Judging { exit, looks }, E::Looked { look, standing }) if look == self.looks => {
                let (exit, looks) = (exit.clone(), *looks);
                self.judge(exit, looks, standing, policy, effects);
            }
            (S::Judging { exit, looks }, E::LookFailed { look }) if look == self.looks => {
                let (exit, looks) = (exit.clone(), looks + 1);
                if looks >= policy.blind_looks {
                    let why = "nobody could tell where it stands after its worker ended";
                    self.end(End::Abandoned(why.into()), policy, effects);
                } else {
                    self.state = S::Judging { exit, looks };
                    self.arm_look(policy, effects);
                }
            }
            (S::Running { .. } | S::Judging { .. }, E::LookDue { look }) if look == self.looks => {
                self.look(effects);
            }
            (S::Running { .. } | S::Judging { .. } | S::Resting, E::SandboxFailed(fault)) => {
                self.end(End::Failed(fault), policy, effects);
            }
            (S::Cutting { end }, E::Exited { number, .. }) if number == self.number => {
                let end = end.clone();
                self.delete(end, effects);
            }
            (S::Cutting { end }, E::CutDue | E::SandboxFailed(_)) => {
                let end = end.clone();
                self.delete(end, effects);
            }
            (S::Deleting { end }, E::SandboxGone) => {
                let end = end.clone();
                self.release(end, effects);
            }
            (S::Stopping { end, .. }, E::Stopped) => {
                let end = end.clone();
                self.done(end, effects);
            }
            (S::Stopping { end, attempt }, E::StopFailed(fault)) => {
                if fault.class.is_retryable() && *attempt < policy.stop_attempts {
                    effects.push(Effect::ArmStop { attempt: *attempt, retry_after: fault.retry_after });
                } else {
                    let end = end.clone();
                    self.done(end, effects);
                }
            }
            (S::Stopping { end, attempt }, E::StopDue) => {
                effects.push(Effect::Stop);
                self.state = S::Stopping { end: end.clone(), attempt: attempt + 1 };
            }
            // An item that was acknowledged and never got a beat may be stuck for good, so somebody gives it one and
            // then hands it back: who serves sessions knows how.
            (S::Routing { .. }, E::Drain | E::HandBack) => self.broker(effects),
            (S::Claiming { .. }, E::Drain | E::HandBack) => self.is_draining = true,
            (S::Claiming { .. } | S::Routing { .. }, E::Leave | E::LeaveNow) => {
                self.end(End::Left, policy, effects);
            }
            (S::Running { .. } | S::Judging { .. } | S::Resting, E::Leave | E::LeaveNow)
                if self.place == Place::Sandbox =>
            {
                self.delete(End::Left, effects);
            }
            (S::Running { .. } | S::Judging { .. }, E::Drain | E::Leave) => self.is_draining = true,
            (
                S::Running { .. } | S::Judging { .. } | S::Resting,
                E::Drain | E::HandBack | E::Leave | E::LeaveNow,
            ) => {
                self.end(End::HandedBack, policy, effects);
            }
            (
                S::Claiming { .. } | S::Routing { .. } | S::Running { .. } | S::Judging { .. } | S::Resting,
                E::Supersede,
            ) => self.end(End::Superseded, policy, effects),
            (S::Claiming { .. } | S::Routing { .. }, E::SandboxGone | E::SandboxFailed(_)) => {
                return Err(illegal);
            }
            // Late or repeated, and harmless: a timer or an answer that outlived its state.
            _ => {}
        }
        if self.is_draining && matches!(self.state, State::Routing { .. }) {
            self.broker(effects);
        }
        Ok(())
    }

    fn routed(&mut self, verdict: Verdict, policy: &Policy, effects: &mut Vec<Effect>) {
        match verdict {
            Verdict::Brokered => self.broker(effects),
            Verdict::Terminated => self.end(End::SessionOver, policy, effects),
            Verdict::Worker(place) => {
                self.place = place;
                if self.is_inherited {
                    // Whether it may be started, or waited for, depends on how far it came without us.
                    self.state = State::Judging { exit: None, looks: 0 };
                    self.look(effects);
                } else {
                    self.launch(policy, effects);
                }
            }
        }
    }

    fn broker(&mut self, effects: &mut Vec<Effect>) {
        self.state = State::Done;
        effects.push(Effect::Broker);
    }

    /// Starts the next worker.
    fn launch(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        self.number += 1;
        self.run(policy, effects);
    }

    /// Runs the present worker, which may run already.
    fn run(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        self.is_inherited = false;
        effects.push(Effect::Start { number: self.number });
        self.state = State::Running { seen: Seen { standing: Standing::Starting, looks: 0 } };
        self.arm_look(policy, effects);
    }

    fn look(&mut self, effects: &mut Vec<Effect>) {
        self.looks += 1;
        effects.push(Effect::Look { look: self.looks });
    }

    fn arm_look(&mut self, policy: &Policy, effects: &mut Vec<Effect>) {
        self.looks += 1;
        effects.push(Effect::ArmLook { look: self.looks, after: policy.look_every });
    }

    /// What was found while the worker runs.
    fn watch(&mut self, seen: Seen, policy: &Policy, effects: &mut Vec<Effect>) {
        use Standing as P;
        match seen.standing {
            P::Queued if seen.looks >= policy.lapsed_looks => {
                return self.end(End::Lost(Loss::Expired), policy, effects);
            }
            P::Starting if seen.looks >= policy.silent_looks => {
                // It is ended like one that failed, and its end is judged then.
                effects.push(Effect::Cut { number: self.number, why: Cancellation::NoBeat });
            }
            P::Stopping if seen.looks >= policy.ending_looks => {
                return self.end(End::StopAsked, policy, effects);
            }
            P::Ended if seen.looks >= policy.ending_looks => {
                self.is_over = true;
                return self.end(End::Idle, policy, effects);
            }
            P::Queued | P::Starting | P::Active | P::Stopping | P::Ended => {}
        }
        self.state = State::Running { seen };
        self.arm_look(policy, effects);
    }

    /// What follows from how the worker ended and where the item stands.
    fn judge(
        &mut self,
        exit: Option<Exit>,
        looks: u32,
        standing: Standing,
        policy: &Policy,
        effects: &mut Vec<Effect>,
    ) {
        use Standing as P;
        match (standing, exit) {
            (P::Ended, _) => {
                self.is_over = true;
                self.end(End::Idle, policy, effects);
            }
            (P::Queued, exit) => {
                if looks + 1 >= policy.lapsed_looks {
                    return self.end(End::Lost(Loss::Expired), policy, effects);
                }
                self.state = State::Judging { exit, looks: looks + 1 };
                self.arm_look(policy, effects);
            }
            // It has said that it is done, and whoever is done has no use for the lease.
            (_, Some(Exit::Success)) => self.end(End::Idle, policy, effects),
            (P::Stopping, Some(Exit::Failure(_))) => self.end(End::StopAsked, policy, effects),
            (P::Starting, Some(Exit::Failure(why))) => {
                self.failures += 1;
                if self.is_draining {
                    self.end(End::HandedBack, policy, effects);
                } else if self.failures < policy.starts {
                    effects.push(Effect::ArmStart { failures: self.failures });
                    self.state = State::Resting;
                } else {
                    let message =
                        format!("its worker failed {} times before its first beat: {why}", self.failures);
                    self.end(End::Failed(Fault::new(FaultClass::Permanent, message)), policy, effects);
                }
            }
            // The next worker's first beat would be refused as long as this one's lease runs.
            (P::Active, Some(Exit::Failure(why))) => self.end(End::Abandoned(why), policy, effects),
            // A sandbox that was given one goes on with it, or says what became of it.
            (_, None) if self.place == Place::Sandbox && self.number > 0 => self.run(policy, effects),
            (P::Starting, None) => self.launch(policy, effects),
            // Somebody beats for it: an orphan of the process before us, most likely.
            (P::Active | P::Stopping, None) => {
                self.state = State::Judging { exit: None, looks: 0 };
                self.arm_look(policy, effects);
            }
        }
    }

    /// Goes on to the end, from wherever it is.
    fn end(&mut self, end: End, policy: &Policy, effects: &mut Vec<Effect>) {
        if !matches!(self.state, State::Running { .. }) {
            return self.delete(end, effects);
        }
        let why = match end {
            End::StopAsked => Cancellation::StopAsked,
            End::HandedBack => Cancellation::ShuttingDown,
            End::Failed(_) => Cancellation::NoSandbox,
            _ => Cancellation::Unwanted,
        };
        effects.push(Effect::Cut { number: self.number, why });
        effects.push(Effect::ArmCut { after: policy.cut_within });
        self.state = State::Cutting { end };
    }

    fn delete(&mut self, end: End, effects: &mut Vec<Effect>) {
        effects.push(Effect::ReleaseSandbox(end.release()));
        self.state = State::Deleting { end };
    }

    fn release(&mut self, end: End, effects: &mut Vec<Effect>) {
        let is_kept = matches!(end.farewell(), lease::Event::Forsake) || end.is_loss();
        if self.is_over || is_kept || matches!(end, End::Left | End::NotClaimed(_)) {
            return self.done(end, effects);
        }
        effects.push(Effect::Stop);
        self.state = State::Stopping { end, attempt: 1 };
    }

    fn done(&mut self, end: End, effects: &mut Vec<Effect>) {
        self.state = State::Done;
        effects.push(Effect::Done(end));
    }
}

#[cfg(test)]
mod tests;
