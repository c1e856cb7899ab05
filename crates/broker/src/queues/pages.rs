//! Reading a queue's messages back from its log.

use std::collections::HashMap;
use std::sync::Arc;

use log::ReadLimit;
use types::{Message, Offset, Timestamp};

use super::owner::{QueueGuard, QueueOwner};
use crate::errors::StorageError;
use crate::queue::{Arrival, ConsumerId, Credit, Delivery, PageRequest};
use crate::record::{Payload, metas};
use crate::shared::Shared;

/// Bytes of batches read at a time.
const PAGE_BYTES: usize = 1024 * 1024;
/// Pages read for one delivery, before others get the lock.
const PAGES_AT_A_TIME: usize = 8;

impl QueueOwner {
    /// Hands out what is due to `consumer` within its credit, reading pages as needed. `true` if a page is still wanted: call again.
    pub(crate) fn take(
        &self,
        shared: &Arc<Shared>,
        guard: &mut QueueGuard<'_>,
        consumer: ConsumerId,
        credit: Credit,
        out: &mut Vec<Delivery<Payload>>,
    ) -> Result<bool, StorageError> {
        let now = guard.now;
        for _ in 0..PAGES_AT_A_TIME {
            let taken: u64 = out.iter().map(|delivery| u64::from(delivery.weight)).sum();
            if out.len() >= credit.messages || (taken >= credit.bytes && !out.is_empty()) {
                return Ok(false);
            }
            let left = Credit { messages: credit.messages - out.len(), bytes: credit.bytes - taken };
            guard.machine.deliver(now, consumer, left, out);
            match self.page(shared, guard) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // What was handed out is in somebody's name already, so it goes on its way.
                Err(error) if !out.is_empty() => {
                    tracing::error!(queue = %self.name, %error, "a queue's messages cannot be read");
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads what the machine wants read; `false` if it wants nothing.
    pub(crate) fn page(&self, shared: &Shared, guard: &mut QueueGuard<'_>) -> Result<bool, StorageError> {
        let now = guard.now;
        let Some(request) = guard.machine.page_request(now) else { return Ok(false) };
        let (records, read_to) = match &request {
            PageRequest::From { from, before, records } => self.read_from(shared, *from, *before, *records)?,
            PageRequest::Exactly(offsets) => {
                let read_to = offsets.last().map_or(Offset::ZERO, |last| last.next());
                (self.read_exactly(shared, offsets)?, read_to)
            }
        };
        guard.machine.page_in(now, request, records, read_to);
        Ok(true)
    }

    fn read_from(
        &self,
        shared: &Shared,
        from: Offset,
        before: Offset,
        records: usize,
    ) -> Result<(Vec<Arrival<Payload>>, Offset), StorageError> {
        let entries = shared.read(self.owned().log, from, ReadLimit { bytes: PAGE_BYTES, records, before })?;
        let sorts = self.sorts();
        let mut arrivals = Vec::new();
        let mut read_to = before;
        for entry in entries {
            let block = Arc::new(entry.batch.block().map_err(|error| self.unreadable(&error))?);
            for meta in metas(&block).map_err(|error| self.unreadable(&error))? {
                let offset = entry.base.plus(u64::from(meta.delta));
                if offset >= from && offset < before && entry.live.contains(meta.delta) {
                    arrivals.push(meta.arrival(entry.base, &block, sorts));
                }
            }
            read_to = entry.end().min(before);
        }
        Ok((arrivals, read_to))
    }

    /// Reads these messages, ascending; those that are gone are left out.
    fn read_exactly(&self, shared: &Shared, offsets: &[Offset]) -> Result<Vec<Arrival<Payload>>, StorageError> {
        let mut arrivals = Vec::with_capacity(offsets.len());
        let mut wanted = offsets;
        while let (Some(first), Some(last)) = (wanted.first(), wanted.last()) {
            let run = wanted.iter().enumerate().take_while(|(at, offset)| **offset == first.plus(*at as u64)).count();
            let (read, read_to) = self.read_from(shared, *first, last.next(), run)?;
            let passed = wanted.partition_point(|offset| *offset < read_to).max(1);
            let (now, later) = wanted.split_at(passed);
            arrivals.extend(read.into_iter().filter(|arrival| now.binary_search(&arrival.offset).is_ok()));
            wanted = later;
        }
        Ok(arrivals)
    }

    /// Reads the messages of deliveries that are no longer in memory. One that cannot be read stays `None`.
    pub(crate) fn fill(&self, shared: &Shared, deliveries: &mut [Delivery<Payload>]) -> Result<(), StorageError> {
        let mut missing: Vec<Offset> = deliveries
            .iter()
            .filter(|delivery| delivery.payload.is_none())
            .map(|delivery| delivery.lease.offset)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        let read = self.read_exactly(shared, &missing)?;
        let found: HashMap<Offset, Option<Payload>> =
            read.into_iter().map(|arrival| (arrival.offset, arrival.payload)).collect();
        for delivery in deliveries.iter_mut().filter(|delivery| delivery.payload.is_none()) {
            delivery.payload = found.get(&delivery.lease.offset).cloned().flatten();
        }
        Ok(())
    }

    /// Reads one message.
    ///
    /// # Errors
    /// If it is damaged or gone.
    pub(crate) fn message_at(&self, shared: &Shared, offset: Offset) -> Result<(Message, Timestamp), StorageError> {
        let gone = || StorageError::Damaged(format!("message {offset} of queue {:?} is not in its log", self.name));
        let payload = self
            .read_exactly(shared, &[offset])?
            .into_iter()
            .next()
            .and_then(|arrival| arrival.payload)
            .ok_or_else(gone)?;
        payload.message().map_err(|error| self.unreadable(&error))
    }

    pub(crate) fn unreadable(&self, error: &log::batch::BatchError) -> StorageError {
        StorageError::Damaged(format!("queue {:?}: {error}", self.name))
    }
}
