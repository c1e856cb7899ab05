//! What of a log goes away by itself.

use std::collections::HashMap;

use bytes::Bytes;
use types::Timestamp;

use super::one::OneLog;

impl OneLog {
    /// Applies the log's cleanup at this wall-clock time.
    pub(super) fn clean_up(&mut self, now: Timestamp) {
        self.compact(now);
        self.drop_old(now);
        self.drop_oldest();
        // Nothing is left before the oldest batch, if it was retention that took it.
        let cleanup = &self.config.cleanup;
        if cleanup.max_age.is_some() || cleanup.max_bytes.is_some() || cleanup.max_records.is_some() {
            self.start = self.start.max(self.stored.keys().next().copied().unwrap_or(self.end));
        }
    }

    fn drop_old(&mut self, now: Timestamp) {
        let Some(max_age) = self.config.cleanup.max_age else { return };
        let old =
            self.stored.iter().filter(|(_, stored)| now.since(Timestamp(stored.batch.max_timestamp_ms())) > max_age);
        let ranges: Vec<_> = old.map(|(base, stored)| *base..*base + stored.span).collect();
        ranges.into_iter().for_each(|range| self.take(range));
    }

    fn drop_oldest(&mut self) {
        let over = |log: &Self| {
            let cleanup = &log.config.cleanup;
            cleanup.max_bytes.is_some_and(|max| log.bytes > max)
                || cleanup.max_records.is_some_and(|max| log.records() > max)
        };
        while over(self) {
            let Some((base, stored)) = self.stored.first_key_value() else { break };
            let range = *base..*base + stored.span;
            self.take(range);
        }
    }

    /// Keeps the last record of each key, and the records without one.
    fn compact(&mut self, now: Timestamp) {
        let Some(keep_tombstones) = self.config.cleanup.compact else { return };
        if !self.uncompacted {
            return;
        }
        let mut last: HashMap<Bytes, u64> = HashMap::new();
        let mut gone = Vec::new();
        let mut tombstones_wait = false;
        for (base, stored) in &self.stored {
            let expired = now.since(Timestamp(stored.batch.max_timestamp_ms())) >= keep_tombstones;
            for record in stored.keyed.iter().flat_map(|keyed| keyed.iter()) {
                let offset = base + u64::from(record.delta);
                if self.dead.contains(offset) {
                    continue;
                }
                gone.extend(last.insert(record.key.clone(), offset));
                if record.tombstone && expired {
                    last.remove(&record.key);
                    gone.push(offset);
                }
                tombstones_wait |= record.tombstone && !expired;
            }
        }
        gone.into_iter().for_each(|offset| self.take(offset..offset + 1));
        self.uncompacted = tombstones_wait;
    }
}
