//! Looking at a queue's messages without taking them.

use std::sync::Arc;

use log::ReadLimit;
use types::{Now, Offset};

use super::owner::QueueOwner;
use crate::errors::StorageError;
use crate::queue::BrowseState;
use crate::record::{Payload, metas};
use crate::shared::Shared;
use crate::views::{Browsed, BrowsedState};

const BROWSE_BYTES: usize = 4 * 1024 * 1024;

impl QueueOwner {
    /// Messages from an offset on, in log order, and where to go on.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn browse(
        &self,
        shared: &Shared,
        from: Offset,
        max: usize,
        now: Now,
    ) -> Result<(Vec<Browsed>, Offset), StorageError> {
        let limit = ReadLimit { bytes: BROWSE_BYTES, records: max, before: Offset(u64::MAX) };
        let entries = shared.read(self.owned().log, from, limit)?;
        let guard = self.lock(now);
        let (mut browsed, mut next) = (Vec::new(), from);
        for entry in entries {
            let block = Arc::new(entry.batch.block().map_err(|error| self.unreadable(&error))?);
            for meta in metas(&block).map_err(|error| self.unreadable(&error))? {
                let offset = entry.base.plus(u64::from(meta.delta));
                if offset < from || !entry.live.contains(meta.delta) {
                    continue;
                }
                if browsed.len() == max {
                    return Ok((browsed, next));
                }
                next = offset.next();
                let Some(seen) = guard.machine.state_of(offset) else { continue };
                let payload = Payload { block: Arc::clone(&block), position: meta.position };
                let (message, enqueued) = payload.message().map_err(|error| self.unreadable(&error))?;
                let state = match seen.state {
                    BrowseState::Ready => BrowsedState::Ready,
                    BrowseState::Delayed { due } => {
                        BrowsedState::Delayed { due: Some(meta.not_before.unwrap_or(due).max(due)) }
                    }
                    BrowseState::Parked => BrowsedState::Parked,
                    BrowseState::InFlight => BrowsedState::InFlight,
                };
                browsed.push(Browsed { offset, state, attempts: seen.attempts, enqueued, message: Arc::new(message) });
            }
            next = entry.end().max(next);
        }
        Ok((browsed, next))
    }
}
