//! What can be wrong with settings.

use std::io;
use std::path::PathBuf;

/// Settings cannot be used. Values of secrets are never in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("--config {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
    /// There is no such setting.
    #[error("{place}: there is no setting {name:?}{}", nearest.as_ref().map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default())]
    Unknown {
        /// The file, or `environment`.
        place: String,
        /// The key or variable.
        name: String,
        /// The one that looks most like it.
        nearest: Option<String>,
    },
    /// A value makes no sense.
    #[error("{place}: {why}")]
    Invalid {
        /// The flag, variable, or file and key.
        place: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Settings do not go together.
    #[error("{0}")]
    Conflict(String),
}
