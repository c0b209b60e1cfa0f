//! What sessions find in their sandboxes beside their tools, as flags.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use reqwest::Url;

use crate::cma::Client;
use crate::outfit::{
    COLLECTING, Deletes, Furnisher, Hands, MIN_INTERVAL, Options, OutputGlob, Outputs, StagingOptions,
};
use crate::report::{Exit, Failure};
use crate::state_dir::StateDir;

/// Skills, memory stores, inputs and outputs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Skills, memory stores, inputs and outputs")]
pub(super) struct OutfitArguments {
    /// How often a sandbox's copies of its session's memory stores are brought in step with these, after calls; at
    /// least 5s. 0 means that sessions get no memory stores.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = interval)]
    memory_sync: Duration,

    /// What happens to a memory whose file is deleted in a sandbox.
    #[arg(long, value_enum, default_value_t)]
    memory_deletes: Deletes,

    /// A folder of this host from which sessions may ask for inputs by their metadata. May be given several times;
    /// without it no input comes from this host.
    #[arg(long, value_name = "DIR", value_parser = folder)]
    input_dir: Vec<PathBuf>,

    /// A URL below which sessions may ask for inputs by their metadata. May be given several times; without it no input
    /// comes from a URL. No redirect is followed, and no name may lead to this host.
    #[arg(long, value_name = "URL", value_parser = prefix)]
    input_url: Vec<Url>,

    /// The inputs of one session together, packed and unpacked, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_input: u32,

    /// A folder of this host to which the outputs of a session are brought when it is over, into a folder of its id.
    /// Without it nothing is.
    #[arg(long, value_name = "DIR", value_parser = folder)]
    output_dir: Option<PathBuf>,

    /// Which files are outputs: a pattern of paths from /workspace on.
    #[arg(long, value_name = "GLOB", default_value = "outputs/**")]
    outputs: OutputGlob,

    /// The outputs of one session together, in MiB. What is more is left, and a line is logged.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_output: u32,
}

fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() && path.is_dir() {
        Ok(path)
    } else {
        Err("expected the absolute path of a folder".to_owned())
    }
}

fn prefix(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let plain = matches!(url.scheme(), "https" | "http")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url) } else { Err("expected something like `https://files.example/inputs/`".to_owned()) }
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
            staging: self.staging(),
        };
        Furnisher::open(control, hands, options).map_err(|error| Failure::new(Exit::Configuration, error))
    }

    /// What the end of a session takes longer for.
    pub(super) fn time_for_outputs(&self) -> Duration {
        if self.output_dir.is_some() { COLLECTING } else { Duration::ZERO }
    }

    fn staging(&self) -> StagingOptions {
        let outputs = self.output_dir.clone().map(|folder| Outputs {
            folder,
            files: self.outputs.clone(),
            max_bytes: u64::from(self.max_output) << 20,
        });
        StagingOptions {
            urls: self.input_url.clone(),
            folders: self.input_dir.clone(),
            max_input: u64::from(self.max_input) << 20,
            outputs,
        }
    }
}
