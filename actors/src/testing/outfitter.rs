//! An outfitter without wares.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::faults::Faults;
use crate::ids::SandboxId;
use crate::ports::{Care, Fitted, Outfit, OutfitError, Outfitter};

/// An outfitter that remembers what it was asked, and does nothing. The operations of its [`Faults`] are `fit` and
/// `tend`; what is said to fail of the second is not heard by anyone.
#[derive(Debug, Default)]
pub struct FakeOutfitter {
    /// What goes wrong.
    pub faults: Faults<OutfitError>,
    asked: Mutex<Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    requests: Vec<(String, SandboxId)>,
    fitted: BTreeSet<SandboxId>,
}

impl FakeOutfitter {
    /// One that was asked nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything it was asked: `fit`, `tend` with the reason, or `forget`.
    pub fn requests(&self) -> Vec<(String, SandboxId)> {
        self.asked().requests.clone()
    }

    /// Whether a sandbox is furnished.
    pub fn is_fitted(&self, sandbox: &SandboxId) -> bool {
        self.asked().fitted.contains(sandbox)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: String, outfit: &Outfit) {
        self.asked().requests.push((what, outfit.sandbox.clone()));
    }
}

#[async_trait]
impl Outfitter for FakeOutfitter {
    async fn fit(&self, outfit: &Outfit) -> Result<Fitted, OutfitError> {
        self.note("fit".to_owned(), outfit);
        let fitted = self.faults.around("fit", async {
            self.asked().fitted.insert(outfit.sandbox.clone());
            Ok(Fitted::Tended)
        });
        fitted.await
    }

    async fn tend(&self, outfit: &Outfit, care: Care) {
        self.note(format!("tend {care:?}"), outfit);
        let _ = self.faults.around("tend", async { Ok(()) }).await;
    }

    async fn forget(&self, outfit: &Outfit) {
        self.note("forget".to_owned(), outfit);
        self.asked().fitted.remove(&outfit.sandbox);
    }
}
