//! What sessions find in their sandboxes beside their tools, as flags.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::cma::Client;
use crate::outfit::{Deletes, Furnisher, Hands, MIN_INTERVAL, Options};
use crate::report::{Exit, Failure};
use crate::state_dir::StateDir;

/// Skills and memory stores.
#[derive(Debug, Args)]
#[command(next_help_heading = "Skills and memory stores")]
pub(super) struct OutfitArguments {
    /// How often a sandbox's copies of its session's memory stores are brought in step with these, after calls; at
    /// least 5s. 0 means that sessions get no memory stores.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = interval)]
    memory_sync: Duration,

    /// What happens to a memory whose file is deleted in a sandbox.
    #[arg(long, value_enum, default_value_t)]
    memory_deletes: Deletes,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval.is_zero() || interval >= MIN_INTERVAL {
        Ok(interval)
    } else {
        Err(format!(
            "memory stores are not asked about more often than every {MIN_INTERVAL:?}; or 0 for never"
        ))
    }
}

impl OutfitArguments {
    /// What furnishes sandboxes.
    pub(super) fn furnisher(
        &self,
        control: Arc<Client>,
        hands: Arc<dyn Hands>,
        state_dir: &StateDir,
    ) -> Result<Furnisher, Failure> {
        let options = Options {
            skills_dir: state_dir.skills(),
            records_dir: state_dir.outfits(),
            memory_interval: Some(self.memory_sync).filter(|interval| !interval.is_zero()),
            memory_deletes: self.memory_deletes,
        };
        Furnisher::open(control, hands, options).map_err(|error| Failure::new(Exit::Configuration, error))
    }
}
