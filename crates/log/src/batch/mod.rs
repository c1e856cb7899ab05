//! Record batches: the entry of every log, byte for byte Kafka's record batch of format version 2.
//!
//! [`RecordBatch::parse`] takes a batch off the wire or the disk without copying; [`RecordBlock`]
//! is its records, decompressed, and gives them borrowed, shared, or one at a time by
//! [`RecordPosition`]; [`BatchBuilder`] makes new ones. The bytes are drawn in
//! docs/formats/record-batch.md.

mod block;
mod builder;
mod compression;
mod control;
mod error;
mod filter;
mod header;
pub mod limits;
mod record;
mod record_batch;
mod varint;

#[cfg(test)]
mod tests;

pub use block::{Positions, RecordBlock, RecordPlace, RecordRefs, Records};
pub use builder::{BatchBuilder, BatchOptions, NO_HEADERS};
pub use compression::{Codec, CodecError, compress, decompress};
pub use control::{ControlRecord, TransactionOutcome};
pub use error::{BatchError, BuildError, FilterError, RecordFault};
pub use header::{
    Attributes, BatchHeader, MAGIC, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Producer,
    TimestampType,
};
pub use record::{HeaderIter, HeaderRef, Headers, HeadersRef, Record, RecordPosition, RecordRef};
pub use record_batch::RecordBatch;
