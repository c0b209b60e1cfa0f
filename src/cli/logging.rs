//! Where log lines go, and how they look.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// What is logged unless `RUST_LOG` says otherwise. ractor's own spans live as long as its actors, and say
/// nothing that ours do not; nor does rmcp.
const DEFAULT: &str = "info,ractor=warn,rmcp=warn";

/// Writes log lines to standard error from now on.
pub(super) fn start(format: LogFormat, default: Option<&str>) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default.unwrap_or(DEFAULT)));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    // Only a process that has a subscriber already refuses another, and that is its host's choice.
    let _ = match format {
        LogFormat::Text => {
            subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
        }
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
}
