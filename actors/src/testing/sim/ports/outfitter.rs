//! The outfitter of one process.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::ids::SandboxId;
use crate::ports::{Care, Fitted, Outfit, OutfitError, Outfitter};
use crate::testing::sim::Operation;
use crate::testing::sim::fate::Failure;
use crate::testing::sim::life::{About, Life};

pub(super) struct Furnisher(pub(super) Arc<Life>);

impl fmt::Debug for Furnisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Furnisher")
    }
}

impl Furnisher {
    /// Whoever is to be furnished or looked after has to be awake.
    fn enters(&self, sandbox: &SandboxId) {
        let life = &self.0;
        let frozen = life.host.provider.is_frozen(sandbox.as_str());
        life.world.watch(|watch, findings| watch.enters(life.host.index, sandbox, frozen, findings));
    }

    async fn ask<T: Send + 'static>(
        &self,
        operation: Operation,
        outfit: &Outfit,
        effect: impl Fn() -> Result<T, OutfitError>,
    ) -> Result<T, OutfitError> {
        let about = About { operation, subject: outfit.sandbox.as_str(), call: None };
        self.0.ask(about, Failure::outfitter, || std::future::ready(effect())).await
    }
}

#[async_trait]
impl Outfitter for Furnisher {
    async fn fit(&self, outfit: &Outfit) -> Result<Fitted, OutfitError> {
        self.0.alive().await;
        self.enters(&outfit.sandbox);
        // Every third session has nothing that must be looked after.
        let plain = outfit
            .item
            .session()
            .is_some_and(|session| session.as_str().bytes().last().is_some_and(|last| last % 3 == 0));
        let fitted = if plain { Fitted::Plain } else { Fitted::Tended };
        let fitted = self.ask(Operation::Fit, outfit, || Ok(fitted)).await?;
        let life = &self.0;
        life.world.watch(|watch, _| watch.furnished((life.host.index, life.number), &outfit.sandbox));
        Ok(fitted)
    }

    async fn tend(&self, outfit: &Outfit, care: Care) {
        self.0.alive().await;
        self.enters(&outfit.sandbox);
        let _ = self.ask(Operation::Tend, outfit, || Ok(())).await;
        if care == Care::Farewell {
            let life = &self.0;
            life.world.watch(|watch, _| watch.unfurnished((life.host.index, life.number), &outfit.sandbox));
        }
    }

    async fn forget(&self, outfit: &Outfit) {
        let life = &self.0;
        life.alive().await;
        life.world.watch(|watch, _| watch.unfurnished((life.host.index, life.number), &outfit.sandbox));
    }
}
