//! Opens what keeps the logs.

use std::sync::Arc;

use log::{EmbeddedLog, EmbeddedOptions, FileDisk, Log, MemoryLog};

use crate::StartError;
use crate::config::{Config, Engine};

/// Opens the engine that the configuration names. Blocks while a data directory is recovered.
///
/// # Errors
/// [`StartError::Data`].
pub(crate) fn open(config: &Config) -> Result<Arc<dyn Log>, StartError> {
    match config.engine {
        Engine::Memory => Ok(Arc::new(MemoryLog::new())),
        Engine::Embedded => {
            let wrong = |why: String| StartError::Data { path: config.data.clone(), why };
            let disk = FileDisk::open(&config.data).map_err(|error| wrong(error.to_string()))?;
            let log = EmbeddedLog::open(Arc::new(disk), options(config)).map_err(|error| wrong(error.to_string()))?;
            Ok(Arc::new(log))
        }
    }
}

fn options(config: &Config) -> EmbeddedOptions {
    EmbeddedOptions {
        wal_file_bytes: config.storage_wal_file.0,
        wal_files: config.storage_wal_files,
        max_waiting_bytes: config.storage_max_waiting.0,
        recent_bytes: config.storage_recent.0,
        interval: config.storage_interval,
        reserve_bytes: config.storage_reserve.map(|size| size.0),
        ..EmbeddedOptions::default()
    }
}
