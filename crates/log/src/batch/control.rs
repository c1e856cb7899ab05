//! Control batches: markers that end a transaction.
//!
//! Source: Kafka protocol, "Control Batches" and `EndTxnMarker`.

use super::builder::{BatchBuilder, BatchOptions, NO_HEADERS};
use super::error::{BatchError, BuildError};
use super::header::{NO_SEQUENCE, Producer};
use super::record_batch::RecordBatch;
use super::varint::Reader;

/// The version of control keys and values that we write. Later ones only add fields at the end.
const CONTROL_VERSION: i16 = 0;
const TYPE_ABORT: i16 = 0;
const TYPE_COMMIT: i16 = 1;

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionOutcome {
    /// Its records are never delivered.
    Abort,
    /// Its records may be delivered.
    Commit,
}

/// What a control batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlRecord {
    /// The producer's transaction ended here.
    EndTransaction {
        /// How it ended.
        outcome: TransactionOutcome,
        /// Fences markers of a transaction coordinator that was replaced.
        coordinator_epoch: i32,
    },
    /// A marker that Kafka's own controllers use; a reader skips it.
    Other {
        /// Its type number.
        kind: i16,
    },
}

impl RecordBatch {
    /// The batch that ends a producer's transaction.
    ///
    /// # Errors
    /// None for these fields in practice; [`BuildError`] because it is built like any batch.
    pub fn end_transaction(
        outcome: TransactionOutcome,
        coordinator_epoch: i32,
        producer_id: i64,
        producer_epoch: i16,
        timestamp_ms: i64,
    ) -> Result<RecordBatch, BuildError> {
        let kind = match outcome {
            TransactionOutcome::Abort => TYPE_ABORT,
            TransactionOutcome::Commit => TYPE_COMMIT,
        };
        let key = [CONTROL_VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        let mut value = CONTROL_VERSION.to_be_bytes().to_vec();
        value.extend_from_slice(&coordinator_epoch.to_be_bytes());
        let options = BatchOptions {
            producer: Some(Producer { id: producer_id, epoch: producer_epoch, base_sequence: NO_SEQUENCE }),
            transactional: true,
            control: true,
            ..BatchOptions::default()
        };
        let mut builder = BatchBuilder::with_capacity(options, 32);
        builder.push(None, timestamp_ms, Some(&key), Some(&value), NO_HEADERS)?;
        builder.finish()
    }

    /// What a control batch says; `None` if this is not one. A control batch has one record, and
    /// only the first is read.
    ///
    /// # Errors
    /// [`BatchError::ControlRecord`] when there is no record or it is too short; others when the
    /// batch cannot be read.
    pub fn control_record(&self) -> Result<Option<ControlRecord>, BatchError> {
        if !self.is_control() {
            return Ok(None);
        }
        let block = self.block()?;
        let record = block.refs().next().ok_or(BatchError::ControlRecord)??;
        let marker = read_marker(record.key.unwrap_or_default(), record.value.unwrap_or_default());
        marker.map(Some).ok_or(BatchError::ControlRecord)
    }
}

fn read_marker(key: &[u8], value: &[u8]) -> Option<ControlRecord> {
    let mut key = Reader::new(key);
    let version = i16::from_be_bytes(key.array()?);
    if version < 0 {
        return None;
    }
    let outcome = match i16::from_be_bytes(key.array()?) {
        TYPE_ABORT => TransactionOutcome::Abort,
        TYPE_COMMIT => TransactionOutcome::Commit,
        kind => return Some(ControlRecord::Other { kind }),
    };
    let mut value = Reader::new(value);
    let _version: [u8; 2] = value.array()?;
    let coordinator_epoch = i32::from_be_bytes(value.array()?);
    Some(ControlRecord::EndTransaction { outcome, coordinator_epoch })
}
