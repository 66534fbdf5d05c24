use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("the log cannot be set up: {0}")]
pub struct LogSetupError(String);

/// Starts logging to standard error. `filter` is a tracing filter such as `info` or
/// `info,gatehouse_edge=debug`.
pub fn init_log(format: LogFormat, filter: &str) -> Result<(), LogSetupError> {
    let filter = EnvFilter::try_new(filter).map_err(|error| LogSetupError(error.to_string()))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .finish()
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    done.map_err(|error| LogSetupError(error.to_string()))
}

pub(crate) fn setup_error(error: &dyn std::error::Error) -> LogSetupError {
    LogSetupError(error.to_string())
}
