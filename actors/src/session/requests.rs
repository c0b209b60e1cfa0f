//! What is asked of the control plane for one session.
//!
//! Each request is a future that an actor's task awaits and that answers with a message; what must be written
//! down is, in the order that keeps a successor from knowing too little.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ractor::ActorRef;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::actor::SessionMsg;
use super::lease;
use super::signals::Event;
use crate::context::{Context, control};
use crate::fault::{Fault, FaultClass};
use crate::ledger::Entry;
use crate::notice::Notice;
use crate::ports::{Answer, ControlError, HeartbeatToken, Record};

/// Live events read ahead of the session, at most.
const READ_AHEAD: usize = 256;

pub(super) async fn acknowledge(context: Arc<Context>, entry: Arc<Entry>, to: ActorRef<SessionMsg>) {
    let event = take(&context, &entry).await.map_or_else(lease::Event::AckFailed, |()| lease::Event::Acked);
    let _ = to.cast(SessionMsg::Event(Event::Lease(event)));
}

/// Writes the claim down, then acknowledges it: an item that was acknowledged and is forgotten may be stuck
/// for long.
pub(crate) async fn take(context: &Context, entry: &Entry) -> Result<(), Fault> {
    let item = &entry.item;
    context.record(&item.id, Record::Claimed { item: item.clone() }).await?;
    // What earlier items of the session have left must not be new to a successor.
    for (call, sandbox) in entry.given_calls() {
        context.record(&item.id, Record::CallStarted { call, sandbox }).await?;
    }
    is_reserved(entry)?;
    let acknowledged = control(context.settings.deadlines.ack, context.ports.control.ack(item)).await;
    acknowledged.map_err(|error| error.fault())?;
    // Once more, since nobody knows when it arrived.
    is_reserved(entry)?;
    // Before the first beat: a successor knows then that the item is ours.
    let ttl = context.settings.session.lease.initial_ttl;
    context.note(&item.id, Record::Beat { token: None, ttl }).await;
    Ok(())
}

/// Refuses what may have been offered to others: they may have acknowledged it too, and more than one would think
/// it theirs. It is offered again if nobody beats for it.
fn is_reserved(entry: &Entry) -> Result<(), Fault> {
    if entry.is_reserved(Instant::now()) {
        return Ok(());
    }
    let late = "it was not acknowledged before it may have been offered to others";
    Err(Fault::new(FaultClass::Permanent, late))
}

pub(super) async fn beat(
    context: Arc<Context>,
    entry: Arc<Entry>,
    to: ActorRef<SessionMsg>,
    number: u32,
    token: Option<HeartbeatToken>,
    within: Duration,
) {
    let sent = Instant::now();
    entry.send_beat();
    match control(within, context.ports.control.heartbeat(&entry.item, token.as_ref())).await {
        Ok(beat) => {
            if beat.extended {
                // A server may leave out what it has said before.
                let ttl = if beat.ttl.is_zero() { entry.lease_ttl().unwrap_or_default() } else { beat.ttl };
                // The lease runs from when the beat was sent, and the record from when it is written.
                let (token, ttl) = (Some(beat.token.clone()), ttl.saturating_sub(sent.elapsed()));
                // First, since the next beat takes this task's place as soon as this one is known.
                context.note(&entry.item.id, Record::Beat { token, ttl }).await;
            }
            let event = lease::Event::Beaten { number, beat, took: sent.elapsed() };
            let _ = to.cast(SessionMsg::Event(Event::Lease(event)));
        }
        Err(error) => {
            let event = match error {
                ControlError::PreconditionFailed { current } => {
                    lease::Event::PreconditionFailed { number, current }
                }
                error => lease::Event::BeatFailed { number, fault: error.fault() },
            };
            let _ = to.cast(SessionMsg::Event(Event::Lease(event)));
        }
    }
}

/// Opens the stream, then reads the history, then passes the live events on: what happens in between is in
/// one of the two.
pub(super) async fn attach(context: Arc<Context>, entry: Arc<Entry>, to: ActorRef<SessionMsg>, number: u32) {
    let deadlines = &context.settings.deadlines;
    let failed =
        |error: &ControlError| SessionMsg::Event(Event::StreamFailed { number, fault: error.fault() });
    let opened = async {
        let stream = control(deadlines.control, context.ports.control.stream(&entry.item)).await?;
        let events = control(deadlines.history, context.ports.control.history(&entry.item)).await?;
        Ok::<_, ControlError>((stream, events))
    };
    let (mut stream, events) = match opened.await {
        Ok(opened) => opened,
        Err(error) => return drop(to.cast(failed(&error))),
    };
    let _ = to.cast(SessionMsg::Event(Event::History { number, events }));
    let places = Arc::new(Semaphore::new(READ_AHEAD));
    while let Some(next) = stream.next().await {
        match next {
            Ok(event) => {
                // The semaphore is never closed.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let _ = to.cast(SessionMsg::Live(Event::Live { number, event }, place));
            }
            Err(error) => return drop(to.cast(failed(&error))),
        }
    }
    let _ = to.cast(failed(&ControlError::Broken("the event stream ended".into())));
}

pub(super) async fn post(context: Arc<Context>, entry: Arc<Entry>, to: ActorRef<SessionMsg>, answer: Answer) {
    let (sent, within) = (Instant::now(), context.settings.deadlines.control);
    if let Err(fault) = entry.fence(sent) {
        let _ = to.cast(SessionMsg::Event(Event::PostFailed { call: answer.call, fault }));
        return;
    }
    let posted = control(within, context.ports.control.post(&entry.item, &answer)).await;
    let call = answer.call;
    match posted {
        Ok(()) => {
            entry.close_call(&call);
            if let Some(session) = entry.item.session().cloned() {
                let took = sent.elapsed();
                context.notices.publish(Notice::Posted { session, call: call.clone(), took });
            }
            let _ = to.cast(SessionMsg::Event(Event::Posted { call: call.clone() }));
            context.note(&entry.item.id, Record::CallPosted { call }).await;
        }
        Err(error) => {
            let _ = to.cast(SessionMsg::Event(Event::PostFailed { call, fault: error.fault() }));
        }
    }
}
