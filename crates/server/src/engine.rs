//! Opens what keeps the logs.

use std::sync::Arc;

use log::{EmbeddedLog, EmbeddedOptions, FileDisk, Log, MemoryLog};

use crate::StartError;
use crate::config::{Config, Engine};

/// Opens the engine that the configuration names. Blocks while a data directory is recovered.
///
/// # Errors
/// [`StartError::Disk`] and [`StartError::Data`].
pub(crate) fn open(config: &Config) -> Result<Arc<dyn Log>, StartError> {
    match config.engine {
        Engine::Memory => Ok(Arc::new(MemoryLog::new())),
        Engine::Embedded => {
            let disk = FileDisk::open(&config.data)?;
            let wrong = |error| StartError::Data { path: config.data.clone(), error };
            Ok(Arc::new(EmbeddedLog::open(Arc::new(disk), options(config)).map_err(wrong)?))
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
