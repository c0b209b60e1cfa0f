//! New identifiers and credentials.

use rand::distr::{Alphanumeric, SampleString as _};
use rand::rngs::StdRng;

/// Makes identifiers that look like the service's, and credentials nobody guesses.
#[derive(Debug)]
pub(super) struct Mint {
    rng: StdRng,
}

impl Mint {
    /// A mint seeded by the operating system.
    pub(super) fn new() -> Self {
        Self { rng: rand::make_rng() }
    }

    /// An identifier such as `sesn_01…`.
    pub(super) fn id(&mut self, prefix: &str) -> String {
        let mut id = String::with_capacity(prefix.len() + 25);
        id.push_str(prefix);
        id.push_str("_01");
        Alphanumeric.append_string(&mut self.rng, &mut id, 22);
        id
    }

    /// An organisation's API key.
    pub(super) fn api_key(&mut self) -> String {
        self.credential("sk-ant-api03-")
    }

    /// An environment's key.
    pub(super) fn environment_key(&mut self) -> String {
        self.credential("sk-ant-oat01-")
    }

    /// The token inside a work item's secret.
    pub(super) fn sessions_token(&mut self) -> String {
        self.credential("sk-ant-req-")
    }

    fn credential(&mut self, prefix: &str) -> String {
        let mut text = format!("{prefix}emulator-");
        Alphanumeric.append_string(&mut self.rng, &mut text, 40);
        text
    }
}
