//! What every adapter of a port must do, the fakes included.
//!
//! Each function panics with the rule that was broken. They need a fresh adapter with nothing in it.

#![expect(clippy::panic, clippy::expect_used, reason = "this is a test suite that adapters' tests call")]

mod journal;

use std::sync::Arc;
use std::time::Duration;

pub use self::journal::journal;
use super::call;
use crate::ports::{
    CallRequest, Hand, HandError, Limits, Origin, OwnerId, ProviderError, SandboxProvider, SandboxSpec,
    Standby,
};

/// The contract of a provider and of the hands it leads to.
///
/// # Panics
/// If the provider breaks it.
pub async fn provider(provider: Arc<dyn SandboxProvider>) {
    let owner = OwnerId::new("contract");
    let session = Some("sesn_contract".into());
    let id = "sesn_contract.1".into();
    let spec = SandboxSpec {
        id,
        owner: owner.clone(),
        session,
        image: None,
        limits: Limits::default(),
        files_of: None,
    };

    assert_eq!(provider.find(&spec.id).await.expect("find"), None, "nothing is found before it is created");
    assert_eq!(provider.list(&owner).await.expect("list"), [], "nothing is listed before it is created");
    provider.delete(&spec.id).await.expect("deleting what is not there is a success");

    let created = provider.create(&spec).await.expect("create");
    assert_eq!((&created.id, &created.owner, &created.session), (&spec.id, &owner, &spec.session));
    let again = provider.create(&spec).await;
    assert!(matches!(again, Err(ProviderError::AlreadyExists { .. })), "an id is used once: {again:?}");
    let found = provider.find(&spec.id).await.expect("find").expect("what was created is found");
    assert_eq!((&found.id, &found.owner, &found.session), (&spec.id, &owner, &spec.session));
    let listed = provider.list(&owner).await.expect("list");
    assert_eq!(listed.iter().map(|sandbox| &sandbox.id).collect::<Vec<_>>(), [&spec.id]);
    let others = provider.list(&OwnerId::new("somebody-else")).await.expect("list");
    assert_eq!(others, [], "only the owner's are listed");

    hand(provider.hand(&spec.id)).await;
    standby(&*provider, &spec).await;
    provider.usage(&spec.id).await.expect("usage");

    let busy = provider.hand(&spec.id);
    let endless = request("sevt_busy", "sleep 60");
    let running = busy.call(&endless);
    let deleting = async {
        until_running(&*busy, &endless).await;
        provider.delete(&spec.id).await.expect("delete");
    };
    let (running, ()) = tokio::join!(running, deleting);
    assert!(running.is_err(), "a call does not outlive its sandbox: {running:?}");
    assert_eq!(provider.find(&spec.id).await.expect("find"), None, "what was deleted is not found");
    assert_eq!(provider.list(&owner).await.expect("list"), [], "what was deleted is not listed");
    provider.delete(&spec.id).await.expect("deleting again is a success");
    let gone = provider.hand(&spec.id).call(&request("sevt_gone", "echo gone")).await;
    assert!(matches!(gone, Err(HandError::Unreachable(_))), "nobody answers for a deleted sandbox: {gone:?}");

    provider.create(&spec).await.expect("an id may be used again when its sandbox is gone");
    let forgotten = provider.hand(&spec.id).call(&request("sevt_1", "echo new")).await.expect("call");
    assert_eq!(forgotten.origin, Origin::Ran, "a new sandbox knows nothing of the old one's calls");
    provider.delete(&spec.id).await.expect("delete");
    let missing = provider.usage(&spec.id).await;
    assert!(
        matches!(missing, Err(ProviderError::NotFound { .. })),
        "what is not there uses nothing: {missing:?}"
    );

    let blank = SandboxSpec { id: "blank.1".into(), session: None, ..spec.clone() };
    provider.create(&blank).await.expect("a sandbox need not have a session");
    let found = provider.find(&blank.id).await.expect("find").expect("what was created is found");
    assert_eq!(found.session, None);
    provider.delete(&blank.id).await.expect("delete");

    if provider.capabilities().keeps_files {
        files(&*provider, &spec).await;
    }
}

async fn hand(hand: Arc<dyn Hand>) {
    let first = hand.call(&request("sevt_1", "echo one")).await.expect("call");
    assert_eq!((first.origin, first.result.text().as_str()), (Origin::Ran, "one"));
    let again = hand.call(&request("sevt_1", "echo one")).await.expect("call");
    assert_eq!((again.origin, again.result), (Origin::Journal, first.result), "a call runs once");

    let failed = hand.call(&request("sevt_2", "exit 3")).await.expect("call");
    assert!(failed.result.is_error, "a failing command is an error result");

    let slow = request("sevt_3", "sleep 1");
    let (ran, attached) = tokio::join!(hand.call(&slow), async {
        until_running(&*hand, &slow).await;
        hand.call(&slow).await
    });
    assert_eq!(ran.expect("call").origin, Origin::Ran);
    assert_eq!(attached.expect("call").origin, Origin::Attached, "a running call is attached to");

    let endless = request("sevt_4", "sleep 60");
    let (cancelled, ()) = tokio::join!(hand.call(&endless), async {
        until_running(&*hand, &endless).await;
        hand.cancel(&endless.call, "the contract says so").await.expect("cancel");
    });
    let cancelled = cancelled.expect("call").result;
    assert!(cancelled.is_error && cancelled.text().contains("the contract says so"), "{cancelled:?}");
    hand.cancel(&"sevt_1".into(), "too late").await.expect("cancelling what has ended is a success");

    let limited = CallRequest { timeout: Duration::from_millis(300), ..request("sevt_5", "sleep 60") };
    assert!(hand.call(&limited).await.expect("call").result.is_error, "the outer limit ends a call");
    let health = hand.health().await.expect("health");
    assert_eq!(health.running, [], "nothing runs when everything was answered");
}

/// What a sandbox may take over from another, and how.
async fn files(provider: &dyn SandboxProvider, spec: &SandboxSpec) {
    let read = async |sandbox: &SandboxSpec, call: &str| {
        let reply = provider.hand(&sandbox.id).call(&request(call, "cat kept")).await.expect("call");
        assert_eq!(reply.origin, Origin::Ran, "{call} was never made before");
        reply.result.text().trim().to_owned()
    };
    let old = spec;
    provider.create(old).await.expect("create");
    let hand = provider.hand(&old.id);
    hand.call(&request("sevt_write", "echo treasure >>kept")).await.expect("call");
    assert_eq!(read(old, "sevt_read").await, "treasure");

    let new = |n: u32| SandboxSpec { id: format!("sesn_contract.{n}").into(), ..spec.clone() };
    let heir = SandboxSpec { files_of: Some(old.id.clone()), ..new(2) };
    for stranger in [
        SandboxSpec { owner: OwnerId::new("somebody-else"), ..heir.clone() },
        SandboxSpec { session: Some("sesn_other".into()), ..heir.clone() },
        SandboxSpec { session: None, ..heir.clone() },
    ] {
        let refused = provider.create(&stranger).await;
        assert!(matches!(refused, Err(ProviderError::Refused { .. })), "{stranger:?}: {refused:?}");
        assert_eq!(provider.find(&stranger.id).await.expect("find"), None, "nothing is left of a refusal");
    }
    assert_eq!(read(old, "sevt_still").await, "treasure", "a refusal changes nothing");

    let busy = request("sevt_busy", "sleep 60");
    let (running, created) = tokio::join!(hand.call(&busy), async {
        until_running(&*hand, &busy).await;
        provider.create(&heir).await
    });
    assert!(running.is_err(), "a call does not outlive its sandbox: {running:?}");
    assert_eq!(created.expect("create").session, heir.session);
    assert_eq!(provider.find(&old.id).await.expect("find"), None, "the old one is gone");
    let listed = provider.list(&spec.owner).await.expect("list");
    assert_eq!(listed.iter().map(|sandbox| &sandbox.id).collect::<Vec<_>>(), [&heir.id]);
    assert_eq!(read(&heir, "sevt_heir").await, "treasure", "the new one has the files");
    let write = request("sevt_write", "echo treasure >>kept");
    let known = provider.hand(&heir.id).call(&write).await.expect("call");
    assert_eq!(known.origin, Origin::Journal, "what was done to the files is not done again");

    if provider.capabilities().standby != Standby::None {
        provider.standby(&heir.id).await.expect("standby");
    }
    let last = SandboxSpec { files_of: Some(heir.id.clone()), ..new(3) };
    provider.create(&last).await.expect("create");
    assert_eq!(read(&last, "sevt_last").await, "treasure", "files are taken over again and again");
    let again = provider.create(&last).await;
    assert!(matches!(again, Err(ProviderError::AlreadyExists { .. })), "an id is used once: {again:?}");

    let empty = SandboxSpec { files_of: Some(heir.id.clone()), ..new(4) };
    provider.create(&empty).await.expect("files of what is not there are no files");
    assert!(!read(&empty, "sevt_empty").await.contains("treasure"), "they went to another");
    assert_eq!(read(&last, "sevt_kept").await, "treasure");
    provider.delete(&last.id).await.expect("delete");
    provider.delete(&empty.id).await.expect("delete");

    let blank = SandboxSpec { id: "blank.2".into(), session: None, ..spec.clone() };
    provider.create(&blank).await.expect("create");
    provider.hand(&blank.id).call(&write).await.expect("call");
    let heir = SandboxSpec { files_of: Some(blank.id.clone()), ..new(5) };
    provider.create(&heir).await.expect("one that was made blank may have been given to any session");
    assert_eq!(read(&heir, "sevt_read").await, "treasure");
    provider.delete(&heir.id).await.expect("delete");
    assert_eq!(provider.list(&spec.owner).await.expect("list"), [], "nothing is left");
}

async fn standby(provider: &dyn SandboxProvider, spec: &SandboxSpec) {
    if provider.capabilities().standby == Standby::None {
        return;
    }
    provider.resume(&spec.id).await.expect("resuming what runs is a success");
    provider.standby(&spec.id).await.expect("standby");
    provider.standby(&spec.id).await.expect("standing by twice is a success");
    assert!(provider.find(&spec.id).await.expect("find").is_some(), "a frozen sandbox is found");
    let hand = provider.hand(&spec.id);
    let asked = request("sevt_frozen", "echo thawed");
    let (answer, ()) = tokio::join!(hand.call(&asked), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        provider.resume(&spec.id).await.expect("resume");
    });
    let answer = answer.expect("a call that came while frozen is answered after the thaw");
    // Behind what the hand may have to say about its shell, which was cut before.
    assert!(answer.result.text().ends_with("thawed"), "{answer:?}");
}

/// Waits until the hand says that a call runs.
async fn until_running(hand: &dyn Hand, request: &CallRequest) {
    for _ in 0..1_000 {
        if hand.health().await.expect("health").running.contains(&request.call) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} never ran", request.call);
}

fn request(id: &str, command: &str) -> CallRequest {
    let call = call(id, command);
    let timeout = Duration::from_secs(90);
    CallRequest { call: call.id, tool: call.name, input: call.input, thread: None, again: false, timeout }
}
