//! One process: its way to the world, on which everything goes wrong.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, sleep_until};

use super::fate::{Failure, Fate};
use super::ports::Offered;
use super::request::{Operation, Port, Request};
use super::trace::Weight;
use super::world::{Deed, Host, Reach, World};
use crate::ids::CallId;

/// One process on a host, from its start until it dies.
///
/// A dead process asks for nothing any more and hears nothing: whatever it still does is not seen.
pub(super) struct Life {
    pub(super) world: Arc<World>,
    pub(super) host: Arc<Host>,
    pub(super) number: u32,
    dead: Arc<AtomicBool>,
    asked: Mutex<BTreeMap<Operation, u64>>,
    /// For an item that is offered twice.
    pub(super) offered: Offered,
}

/// What a request is about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) operation: Operation,
    pub(super) subject: &'a str,
    pub(super) call: Option<&'a CallId>,
}

/// What becomes of a request.
pub(super) struct Decided {
    pub(super) fate: Fate,
    /// How long it takes if nothing special does.
    takes: Duration,
    /// Whether that time passes before it happens; else after.
    before: bool,
}

impl Life {
    pub(super) fn new(world: Arc<World>, host: Arc<Host>, number: u32) -> Self {
        Self {
            world,
            host,
            number,
            dead: Arc::default(),
            asked: Mutex::default(),
            offered: Offered::default(),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// Returns never if the process is dead.
    pub(super) async fn alive(&self) {
        if self.is_dead() {
            pending().await
        }
    }

    /// Dies by itself.
    async fn perish(&self) {
        self.die();
        // The director lives as long as the world.
        let _ = self.world.deeds.send(Deed::Died { host: self.host.index, life: self.number });
        pending().await
    }

    /// Decides what becomes of a request.
    pub(super) fn decide(&self, about: About<'_>) -> Decided {
        let number = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let number = asked.entry(about.operation).or_default();
            *number += 1;
            *number
        };
        let (world, host) = (&self.world, self.host.index);
        let (subject, call) = (about.subject, about.call);
        let operation = about.operation;
        world.watch(|watch, findings| watch.asks(host, world.elapsed(), findings));
        let request = Request {
            at: world.elapsed(),
            host,
            life: self.number,
            operation,
            number,
            subject,
            call,
            seed: world.seed,
        };
        let mut dice = world.dice((host, self.number, operation, number));
        let (low, high) = latency(operation);
        let takes = dice.between(Duration::from_millis(low), Duration::from_millis(high));
        let before = dice.chance(500);
        let mut fate = Fate::Fine;
        if world.is_rough() {
            let drawn = world.plan.fate(&request, &mut dice);
            let named = call.map_or(subject, CallId::as_str);
            if drawn != Fate::Fine
                && world.injects(Some(host), format_args!("{operation:?} {number} {named}: {drawn:?}"))
            {
                fate = drawn;
                world.watch(|watch, _| watch.suspect(host, operation, subject));
            }
        }
        Decided { fate, takes, before }
    }

    /// Makes a request, and lets happen to it what has to.
    pub(super) async fn ask<T, E, F>(
        &self,
        about: About<'_>,
        says: fn(Failure) -> Option<E>,
        effect: impl Fn() -> F,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.alive().await;
        self.undergo(about, self.decide(about), says, effect).await
    }

    /// The same, for a request whose fate is known.
    pub(super) async fn undergo<T, E, F>(
        &self,
        about: About<'_>,
        Decided { fate, takes, before }: Decided,
        says: fn(Failure) -> Option<E>,
        effect: impl Fn() -> F,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let is_control = about.operation.port() == Port::Control;
        if is_control && self.world.reach(self.host.index).0 == Reach::None {
            return match before.then(|| says(Failure::Unavailable)).flatten() {
                Some(error) => Err(error),
                None => pending().await,
            };
        }
        if before {
            sleep(takes).await;
        }
        self.alive().await;
        let answer = match fate {
            Fate::Fine | Fate::Nothing | Fate::Swap | Fate::Cut => effect().await,
            Fate::Fail(failure) => fail(says(failure)).await,
            Fate::LoseAnswer(failure) => {
                effect().await?;
                fail(says(failure)).await
            }
            Fate::Slow(time) => {
                sleep(time).await;
                self.alive().await;
                effect().await
            }
            Fate::Lag(time) => {
                let answer = effect().await;
                sleep(time).await;
                answer
            }
            Fate::Late(time) => {
                let effect = effect();
                // What a process was writing dies with it; what it has sent does not.
                let recalled = (about.operation.port() == Port::Journal).then(|| Arc::clone(&self.dead));
                #[expect(clippy::disallowed_methods, reason = "it happens whoever waits for it")]
                let late = tokio::spawn(async move {
                    sleep(time).await;
                    if recalled.is_some_and(|dead| dead.load(Ordering::Relaxed)) {
                        pending::<()>().await;
                    }
                    effect.await
                });
                match late.await {
                    Ok(answer) => answer,
                    Err(_) => pending().await,
                }
            }
            Fate::Repeat => {
                let _ = effect().await;
                effect().await
            }
            Fate::Panic => {
                self.world.watch(|watch, _| watch.forgets(self.host.index));
                // Quiet, as a panic hook would write a line for each.
                std::panic::resume_unwind(Box::new("injected"))
            }
            Fate::DieBefore => {
                self.perish().await;
                pending().await
            }
            Fate::DieAfter => {
                let _ = effect().await;
                self.perish().await;
                pending().await
            }
            Fate::Meanwhile(act) => {
                let _ = self.world.deeds.send(Deed::Act(act));
                sleep(Duration::from_millis(1)).await;
                effect().await
            }
        };
        if !before {
            sleep(takes).await;
        }
        if is_control && self.world.reach(self.host.index).0 != Reach::Both {
            pending::<()>().await;
        }
        self.alive().await;
        let (host, named) = (self.host.index, about.call.map_or(about.subject, CallId::as_str));
        let came = if answer.is_ok() { "ok" } else { "failed" };
        let operation = about.operation;
        self.world.note(Weight::Detail, Some(host), format_args!("{operation:?} {named}: {came}"));
        answer
    }

    /// Waits until the control plane can be heard.
    pub(super) async fn heard(&self) -> bool {
        let mut at_once = true;
        loop {
            let (reach, until) = self.world.reach(self.host.index);
            if reach == Reach::Both {
                return at_once;
            }
            at_once = false;
            sleep_until(until).await;
        }
    }
}

async fn fail<T, E>(error: Option<E>) -> Result<T, E> {
    match error {
        Some(error) => Err(error),
        None => pending().await,
    }
}

/// What a request takes, in milliseconds, when all is well.
fn latency(operation: Operation) -> (u64, u64) {
    match operation.port() {
        Port::Control => (2, 60),
        Port::Provider if operation == Operation::Create => (20, 400),
        Port::Provider => (1, 20),
        Port::Hand => (0, 3),
        Port::Tool => (5, 3_000),
        Port::Journal => (0, 2),
        Port::Outfitter => (1, 300),
    }
}
