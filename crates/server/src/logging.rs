//! The process's own log: text on a terminal, JSON otherwise, always on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Config, LogFormat};

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("--log-level {filter}: {why}; give a level such as info, or a list such as info,broker=debug")]
pub struct LoggingError {
    filter: String,
    why: String,
}

/// Sets up the log of this process. The first call counts; later ones change nothing.
///
/// # Errors
/// [`LoggingError`] if the filter makes no sense.
pub fn start(config: &Config) -> Result<(), LoggingError> {
    let filter = EnvFilter::builder()
        .parse(&config.log_level)
        .map_err(|error| LoggingError { filter: config.log_level.clone(), why: error.to_string() })?;
    let terminal = std::io::stderr().is_terminal();
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal)
        .with_writer(std::io::stderr);
    // A second server in the same process, as in tests, logs through the first one's set-up.
    let _ = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    Ok(())
}
