//! The durable log: the [`Log`] trait, and the engines behind it.
//!
//! A log is an ordered, sparse sequence of record batches. Everything that Posthouse keeps is in one: messages, the state
//! of queues and groups, and definitions. The trait's unit of writing is a [`Commit`]: appends, deletes and more, on any
//! number of logs, which happen together or not at all.
//!
//! Architecture invariant: this crate knows no queue, topic or protocol, and no async runtime.

mod backup;
pub mod batch;
mod embedded;
mod engine;
mod file_disk;
mod memory;

pub use backup::{
    ArchiveError, Backup, BackupError, Checked, Manifest, ManifestFile, RestoreError, check as check_backup,
    restore as restore_backup,
};
pub use embedded::{
    DumpItem, EmbeddedLog, EmbeddedOptions, FilePurpose, FileReport, LogReport, Round, StartError, VerifyReport, dump,
    verify,
};
pub use engine::{
    Append, BackupState, Capabilities, Cleanup, Commit, CommitOutcome, Completion, Durability, EngineState, Entry,
    Fault, KeySummary, Live, Log, LogConfig, LogState, OpenError, Opened, Operation, ReadError, ReadLimit, Refusal,
    Target, Written,
};
pub use file_disk::{FileDisk, FileDiskError};
pub use memory::{MemoryLimits, MemoryLog};
