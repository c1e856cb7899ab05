//! The suite over the embedded engine, as it runs in a server and with files so small that everything moves all the time.

use std::sync::Arc;

use log::{EmbeddedLog, EmbeddedOptions, Log};
use testkit::FaultDisk;
use types::disk::Disk;

use crate::suite::Harness;

struct Embedded {
    disk: Arc<dyn Disk>,
    options: EmbeddedOptions,
    engine: Option<Arc<EmbeddedLog>>,
}

impl Embedded {
    fn boxed(options: EmbeddedOptions) -> Box<dyn Harness> {
        let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
        let engine = EmbeddedLog::open(disk.clone(), options.clone()).unwrap();
        Box::new(Self { disk, options, engine: Some(Arc::new(engine)) })
    }
}

impl Harness for Embedded {
    fn engine(&self) -> Arc<dyn Log> {
        self.engine.clone().unwrap()
    }

    fn restart(&mut self) {
        // The last handle goes first: its threads end before the next engine starts.
        drop(self.engine.take());
        self.engine = Some(Arc::new(EmbeddedLog::open(self.disk.clone(), self.options.clone()).unwrap()));
    }
}

fn as_in_a_server() -> Box<dyn Harness> {
    Embedded::boxed(EmbeddedOptions { wal_file_bytes: 1 << 20, ..EmbeddedOptions::default() })
}

/// Frames hardly fit a file, so that files are moved, checkpoints written and segments rewritten all the time.
fn with_tiny_files() -> Box<dyn Harness> {
    Embedded::boxed(EmbeddedOptions {
        wal_file_bytes: 4096,
        wal_files: 2,
        recent_bytes: 0,
        own_segment_bytes: 1024,
        ..EmbeddedOptions::default()
    })
}

mod contract {
    crate::suite::run_over!(crate::embedded::as_in_a_server);
}

mod contract_with_tiny_files {
    crate::suite::run_over!(crate::embedded::with_tiny_files);
}
