//! Looking at the queue without consuming, and emptying it.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;
use types::{Now, Offset, Timestamp};

use super::{Purge, Queue, QueueEvent, RetryRecord};

/// What a message is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrowseState {
    /// It is deliverable, or not looked at yet.
    Ready,
    /// It waits for a time.
    Delayed {
        /// Until then; of a message not in memory only as exactly as the delay index has it: near the start of its bucket, or 0 while the bucket
        /// is open and the message about to be read again.
        due: Timestamp,
    },
    /// A consumer has it.
    InFlight,
    /// An earlier message of its key holds it back.
    Parked,
}

/// A message as seen by browsing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrowseEntry {
    /// Which.
    pub offset: Offset,
    /// What it is doing.
    pub state: BrowseState,
    /// How many of its deliveries failed.
    pub attempts: u32,
}

impl<P> Queue<P> {
    /// The messages in memory from an offset on, ascending, at most `max`. Those that wait in the log only are not among them: to see all,
    /// read the log and ask [`state_of`](Self::state_of) of each. Looks at all that is in memory.
    #[must_use]
    pub fn peek(&self, from: Offset, max: usize) -> Vec<BrowseEntry> {
        let mut seen = BTreeMap::new();
        for entry in self.ready.levels().iter().flat_map(|level| level.entries()) {
            seen.insert(entry.offset.0, BrowseState::Ready);
        }
        for (due, offset) in self.delays.entries() {
            seen.insert(offset, BrowseState::Delayed { due });
        }
        for offset in self.keys.entries() {
            seen.insert(offset, BrowseState::Parked);
        }
        for offset in self.leases.offsets() {
            seen.insert(offset, BrowseState::InFlight);
        }
        let wanted = seen.range(from.0..).take(max);
        wanted.map(|(offset, state)| self.browsed(Offset(*offset), *state)).collect()
    }

    /// What the message at an offset is doing; `None` if it is not in the queue, or on its way out. Of an offset that was not looked at since
    /// a restart the machine cannot know whether a message is there: it says ready.
    #[must_use]
    pub fn state_of(&self, offset: Offset) -> Option<BrowseEntry> {
        let number = offset.0;
        let state = if self.leases.contains(number) {
            BrowseState::InFlight
        } else if self.ready.contains(number) || self.unsorted.contains(number) || self.unread.contains(offset) {
            BrowseState::Ready
        } else if let Some(due) = self.delays.find(number) {
            // A retry's time is known even if its place in the index is not exact.
            let retry = self.failures.get(&number).map(|failure| failure.due);
            BrowseState::Delayed { due: retry.unwrap_or(due) }
        } else if self.soon.contains(number) {
            BrowseState::Delayed { due: Timestamp(0) }
        } else if self.keys.is_parked(number) {
            BrowseState::Parked
        } else {
            return None;
        };
        Some(self.browsed(offset, state))
    }

    fn browsed(&self, offset: Offset, state: BrowseState) -> BrowseEntry {
        let attempts = self.failures.get(&offset.0).map_or(0, |failure| failure.history.attempts);
        BrowseEntry { offset, state, attempts }
    }

    /// Removes all messages that wait (not those in flight) and gives the log's ranges to delete.
    pub fn purge(&mut self, _now: Now) -> Purge {
        let messages = self.counts.waiting();
        let weight = std::mem::take(&mut self.counts.waiting_bytes);
        (self.counts.ready, self.counts.delayed, self.counts.parked) = (0, 0, 0);
        let mut keep = self.leases.offsets().clone();
        keep.extend(self.leaving.keys().copied());
        self.ready.clear();
        self.unsorted.clear();
        self.delays.clear();
        self.soon.clear();
        self.keys.clear();
        self.memory.reset();
        self.unread = super::machine::Unread { cursor: self.end, end: self.end, ..Default::default() };
        self.failures.retain(|offset, _| keep.contains(*offset));
        let seen = &self.seen - &keep;
        self.seen &= &keep;
        self.ages = super::ages::Ages::new();
        for (lease, out) in self.leases.iter() {
            self.ages.add(out.arrived);
            if let Some(key) = out.key
                && self.rules.keyed
            {
                self.keys.begin(key, lease.offset.0);
            }
        }
        if messages > 0 {
            self.events.push(QueueEvent::Purged { messages });
        }
        Purge { messages, weight, before: self.end, keep: keep.into_iter().map(Offset).collect(), seen }
    }

    /// The removal of what the last purge gave was refused: it is all in the log still, and read again by and by. `retries` are the failed
    /// messages from before the purge.
    pub fn unpurge(&mut self, purge: &Purge, retries: Vec<RetryRecord>) {
        let known: RoaringTreemap = purge.keep.iter().map(|offset| offset.0).collect();
        self.unread = super::machine::Unread { end: purge.before, known, ..Default::default() };
        self.seen |= &purge.seen;
        let delayed = self.counts.delayed;
        retries.into_iter().for_each(|retry| self.recover_retry(retry));
        self.unread.messages = purge.messages.saturating_sub(self.counts.delayed - delayed);
        self.counts.ready += self.unread.messages;
        self.counts.waiting_bytes += purge.weight;
        // What came since lies behind what is unread.
        self.relevel();
    }
}
