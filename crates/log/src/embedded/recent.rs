//! The newest batches, kept in memory so that readers at the tail do not touch the disk.

use std::collections::VecDeque;

use crate::batch::RecordBatch;

/// What a batch costs here beyond its bytes.
const OVERHEAD_BYTES: u64 = 192;

/// Batches by where they stand in the write-ahead log, which is the order in which they come: a batch that many logs share is here
/// once. The oldest go first.
#[derive(Debug)]
pub(super) struct Recent {
    batches: VecDeque<(u64, u32, RecordBatch)>,
    bytes: u64,
    limit_bytes: u64,
}

impl Recent {
    pub(super) fn new(limit_bytes: u64) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, limit_bytes }
    }

    /// Adds a batch that stands after all others.
    pub(super) fn push(&mut self, seq: u64, pos: u32, batch: RecordBatch) {
        self.bytes += batch.size_bytes() as u64 + OVERHEAD_BYTES;
        self.batches.push_back((seq, pos, batch));
        while self.bytes > self.limit_bytes
            && let Some((_, _, gone)) = self.batches.pop_front()
        {
            self.bytes -= gone.size_bytes() as u64 + OVERHEAD_BYTES;
        }
    }

    pub(super) fn get(&self, seq: u64, pos: u32) -> Option<RecordBatch> {
        let at = self.batches.binary_search_by_key(&(seq, pos), |(seq, pos, _)| (*seq, *pos)).ok()?;
        self.batches.get(at).map(|(_, _, batch)| batch.clone())
    }
}
