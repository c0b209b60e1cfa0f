//! The provider of one process, and the hands it leads to.

use std::sync::Arc;

use async_trait::async_trait;

use crate::ids::{CallId, SandboxId};
use crate::ports::{
    CallReply, CallRequest, Capabilities, Hand, HandError, HandHealth, OwnerId, ProviderError, Sandbox,
    SandboxProvider, SandboxSpec, Usage,
};
use crate::testing::FakeProvider;
use crate::testing::sim::fate::{Failure, Fate};
use crate::testing::sim::life::{About, Life};
use crate::testing::sim::{Invariant, Operation};

pub(super) struct Provider(pub(super) Arc<Life>);

impl Provider {
    async fn ask<T, F>(
        &self,
        operation: Operation,
        id: &SandboxId,
        effect: impl Fn(Arc<FakeProvider>, SandboxId) -> F,
    ) -> Result<T, ProviderError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ProviderError>> + Send + 'static,
    {
        let about = About { operation, subject: id.as_str(), call: None };
        let provider = &self.0.host.provider;
        self.0.ask(about, Failure::provider, || effect(Arc::clone(provider), id.clone())).await
    }
}

/// A create that is under way, until it is dropped.
struct Starting<'a>(&'a Life);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.world.watch(|watch, _| watch.started(self.0.host.index));
    }
}

#[async_trait]
impl SandboxProvider for Provider {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn capabilities(&self) -> Capabilities {
        self.0.host.provider.capabilities()
    }

    async fn create(&self, spec: &SandboxSpec) -> Result<Sandbox, ProviderError> {
        let life = &*self.0;
        life.alive().await;
        life.world.watch(|watch, findings| {
            watch.secret(&format_args!("{spec:?}"), findings);
            watch.starting(life.host.index, findings);
        });
        let _starting = Starting(life);
        self.ask(Operation::Create, &spec.id, |provider, _| {
            let spec = spec.clone();
            async move { provider.create(&spec).await }
        })
        .await
    }

    async fn find(&self, id: &SandboxId) -> Result<Option<Sandbox>, ProviderError> {
        self.ask(Operation::Find, id, |provider, id| async move { provider.find(&id).await }).await
    }

    async fn list(&self, owner: &OwnerId) -> Result<Vec<Sandbox>, ProviderError> {
        let life = &self.0;
        life.alive().await;
        let about = About { operation: Operation::List, subject: "", call: None };
        let decided = life.decide(about);
        let (nothing, strangers) = (decided.fate == Fate::Nothing, life.world.setup.strangers > 0);
        if nothing {
            life.world.watch(|watch, _| watch.misled());
        }
        let listed = life.undergo(about, decided, Failure::provider, || {
            let (provider, owner) = (Arc::clone(&life.host.provider), owner.clone());
            async move {
                match (nothing, strangers) {
                    (true, _) => Ok(Vec::new()),
                    (_, true) => Ok(provider.all()),
                    _ => provider.list(&owner).await,
                }
            }
        });
        listed.await
    }

    fn hand(&self, id: &SandboxId) -> Arc<dyn Hand> {
        let hand = self.0.host.provider.hand(id);
        Arc::new(SimHand { life: Arc::clone(&self.0), sandbox: id.clone(), hand })
    }

    async fn standby(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.ask(Operation::Standby, id, |provider, id| async move { provider.standby(&id).await }).await
    }

    async fn resume(&self, id: &SandboxId) -> Result<(), ProviderError> {
        self.ask(Operation::Resume, id, |provider, id| async move { provider.resume(&id).await }).await
    }

    async fn usage(&self, id: &SandboxId) -> Result<Usage, ProviderError> {
        self.ask(Operation::Usage, id, |provider, id| async move { provider.usage(&id).await }).await
    }

    async fn delete(&self, id: &SandboxId) -> Result<(), ProviderError> {
        let life = &*self.0;
        life.alive().await;
        let (running, owner) = (life.host.provider.running(id), life.host.provider.owner(id));
        life.world.watch(|watch, findings| {
            if owner.is_some_and(|owner| owner.as_str().starts_with("stranger")) {
                findings.broken(Invariant::InUse, format!("{id} is a stranger's and is being deleted"));
            }
            watch.deleting(life.host.index, id, &running, findings);
        });
        self.ask(Operation::Delete, id, |provider, id| async move { provider.delete(&id).await }).await
    }
}

struct SimHand {
    life: Arc<Life>,
    sandbox: SandboxId,
    hand: Arc<dyn Hand>,
}

/// A call that somebody waits for, until it is dropped.
struct Calling<'a>(&'a SimHand);

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let (host, sandbox) = (self.0.life.host.index, &self.0.sandbox);
        self.0.life.world.watch(|watch, _| watch.left(host, sandbox));
    }
}

impl SimHand {
    fn about<'a>(&'a self, operation: Operation, call: Option<&'a CallId>) -> About<'a> {
        About { operation, subject: self.sandbox.as_str(), call }
    }
}

#[async_trait]
impl Hand for SimHand {
    async fn call(&self, request: &CallRequest) -> Result<CallReply, HandError> {
        let (life, sandbox) = (&self.life, &self.sandbox);
        life.alive().await;
        let host = life.host.index;
        life.world.watch(|watch, findings| {
            watch.secret(&format_args!("{request:?}"), findings);
            watch.calling(host, sandbox, request, &life.world.control, findings);
            watch.uses((host, life.number), sandbox, findings);
        });
        let _calling = Calling(self);
        let asked = life.ask(self.about(Operation::Call, Some(&request.call)), Failure::hand, || {
            let (hand, request) = (Arc::clone(&self.hand), request.clone());
            let (world, provider, sandbox) =
                (Arc::clone(&life.world), Arc::clone(&life.host.provider), sandbox.clone());
            async move {
                let before = provider.starts();
                let call = hand.call(&request);
                tokio::pin!(call);
                // Started with the first look at it, or never.
                let first = futures_util::poll!(&mut call);
                if provider.starts() > before {
                    world.watch(|watch, findings| watch.ran(host, &sandbox, &request, findings));
                }
                match first {
                    std::task::Poll::Ready(answer) => answer,
                    std::task::Poll::Pending => call.await,
                }
            }
        });
        let reply = asked.await?;
        life.world.watch(|watch, _| watch.answered((host, life.number), &request.call, &reply.result));
        Ok(reply)
    }

    async fn cancel(&self, call: &CallId, reason: &str) -> Result<(), HandError> {
        let asked = self.life.ask(self.about(Operation::Cancel, Some(call)), Failure::hand, || {
            let (hand, call, reason) = (Arc::clone(&self.hand), call.clone(), reason.to_owned());
            async move { hand.cancel(&call, &reason).await }
        });
        asked.await
    }

    async fn health(&self) -> Result<HandHealth, HandError> {
        let asked = self.life.ask(self.about(Operation::Health, None), Failure::hand, || {
            let hand = Arc::clone(&self.hand);
            async move { hand.health().await }
        });
        asked.await
    }
}
