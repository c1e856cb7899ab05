//! Drops records out of a batch without moving the others.

use super::builder::seal;
use super::error::FilterError;
use super::header::{BatchHeader, TimestampType};
use super::limits::HEADER_BYTES;
use super::record::RecordRef;
use super::record_batch::RecordBatch;

impl RecordBatch {
    /// The batch with only the records that `keep` says yes to, at the offsets they had: base
    /// offset, last offset, producer and flags stay, as Kafka's log cleaner leaves them. A batch
    /// that keeps all is returned as it is, and one that keeps none is `None`.
    ///
    /// # Errors
    /// [`FilterError`] when the batch cannot be read, or the smaller one not be compressed.
    pub fn filter(&self, mut keep: impl FnMut(&RecordRef<'_>) -> bool) -> Result<Option<RecordBatch>, FilterError> {
        let block = self.block()?;
        let mut frame = Vec::with_capacity(HEADER_BYTES + block.bytes().len());
        frame.resize(HEADER_BYTES, 0);
        let mut record_count = 0;
        let mut max_timestamp_ms = i64::MIN;
        for record in block.refs() {
            let record = record?;
            if !keep(&record) {
                continue;
            }
            // Deltas count from base offset and base timestamp, which stay, so the encoded record
            // is good as it is.
            let start = record.position.0 as usize;
            let encoded = block.bytes().get(start..start + record.encoded_bytes as usize);
            frame.extend_from_slice(encoded.unwrap_or_default());
            record_count += 1;
            max_timestamp_ms = max_timestamp_ms.max(record.timestamp_ms);
        }
        if record_count == 0 {
            return Ok(None);
        }
        if record_count == block.record_count() {
            return Ok(Some(self.clone()));
        }
        if self.timestamp_type() == TimestampType::LogAppend {
            max_timestamp_ms = self.max_timestamp_ms();
        }
        let header = BatchHeader { record_count, max_timestamp_ms, ..*self.header() };
        Ok(Some(seal(header, frame)?))
    }
}
