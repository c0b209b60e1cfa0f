//! Nothing goes wrong.

use crate::testing::sim::{Plan, Setup};

/// Nothing goes wrong: every session is served to its end, and every call answered with what it came to.
pub(super) struct Calm;

impl Plan for Calm {
    fn name(&self) -> &str {
        "calm"
    }

    fn predicts(&self) -> &str {
        "every session is served to its end, and every call answered with what it came to"
    }

    fn prepare(&self, setup: &mut Setup) {
        setup.keeps_answers = true;
        setup.outfits = true;
    }
}
