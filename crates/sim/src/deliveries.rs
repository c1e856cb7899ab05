//! What was handed out, and what that says of the attempts before it.

use broker::ConsumeError;
use broker::views::Delivered;
use types::Offset;

use crate::definitions::Change;
use crate::model::{Held, Leaves, Model};
use crate::operation::{CopyId, Operation, Receiving};
use crate::replies::{Faults, number};

/// No lease is shorter, in nanoseconds.
const SHORTEST_LEASE_NS: u64 = 3_000_000_000;

impl Model {
    pub(crate) fn received(
        &mut self,
        receiving: &Receiving,
        result: &Result<Vec<Delivered>, ConsumeError>,
        faults: Faults,
    ) -> bool {
        match result {
            Ok(delivered) if delivered.is_empty() && receiving.standing.is_some() => {
                // What it was about to get may have run out of its lease before the call was dropped.
                if self.now.saturating_sub(receiving.taken_at) >= SHORTEST_LEASE_NS {
                    *self.unheard.entry(receiving.queue).or_default() += 1;
                }
            }
            Ok(delivered) => {
                assert!(!receiving.has_failed || delivered.is_empty(), "handed out while nothing is written any more");
                // A mark that could not be written keeps nobody from what waits.
                let marks = receiving.marks && !faults.failed && !faults.full;
                let mut receiving = Receiving { marks, ..receiving.clone() };
                if receiving.standing.is_some() {
                    // When it took them is not known; by now it has.
                    receiving.taken_at = self.now;
                    receiving.marks &= !self.troubled;
                }
                delivered.iter().for_each(|one| self.delivered(&receiving, one));
            }
            Err(ConsumeError::Storage(error)) => {
                faults.storage(error);
                *self.unheard.entry(receiving.queue).or_default() += 1;
            }
            Err(ConsumeError::Deleted(_)) => {
                let is_deleting = |operation: &Operation| {
                    matches!(operation, Operation::Define(Change::DeleteQueue(_) | Change::DeleteNamespace))
                };
                let is_gone = self.definitions.queue_name(receiving.queue).is_none();
                assert!(is_gone || self.open.values().any(is_deleting), "{} is there", receiving.name);
            }
            Err(error) => panic!("unexpected: {error}"),
        }
        false
    }

    /// A message was handed out.
    fn delivered(&mut self, receiving: &Receiving, one: &Delivered) {
        let (num, queue, offset) = (number(one), receiving.queue, one.receipt.lease.offset);
        let name = &receiving.name;
        let copy = self.copy_at(num, queue, offset, &one.message);
        let copy = copy.unwrap_or_else(|| panic!("{num} came from {name} at {offset}, but is not there any more"));
        let before = self.copies[&copy].clone();
        self.see(copy, queue, offset);
        self.note_story(copy, &one.message, &before);
        let due = one.message.not_before.map_or(i64::MIN, |due| due.0);
        assert!(due <= self.latest_wall, "{num} came before its time");
        let facts = &self.messages[&num];
        if one.message.header("ph-dead-letter-reason").is_none() {
            let key = facts.key.map(|key| vec![b'k', key]);
            assert_eq!(one.message.key.as_deref(), key.as_deref(), "{num}: the key is another");
        }
        self.end_earlier(receiving, copy, offset);
        self.count_delivery(receiving, one);
        if receiving.auto_ack {
            if let Some(copy) = self.copies.get_mut(&copy) {
                copy.leaves = Leaves::Free;
            }
            return;
        }
        let lease = one.lease.map_or(u64::MAX, |lease| u64::try_from(lease.as_nanos()).expect("short"));
        let until = receiving.taken_at.saturating_add(lease);
        let (receipt, attempt, standing) = (one.receipt, one.attempt, receiving.standing);
        self.held.push(Held { receipt, copy, queue, until, attempt, standing });
    }

    /// A message that comes again was not out any more.
    fn end_earlier(&mut self, receiving: &Receiving, copy: CopyId, offset: Offset) {
        let same = |held: &Held| held.queue == receiving.queue && held.receipt.lease.offset == offset;
        while let Some(at) = self.held.iter().position(same) {
            let old = self.held.swap_remove(at);
            assert!(old.until <= receiving.taken_at, "{copy:?} was handed out twice within its lease");
        }
    }

    fn count_delivery(&mut self, receiving: &Receiving, one: &Delivered) {
        let (step, power) = (self.step, self.synced_since);
        let num = number(one);
        let unheard = self.unheard.get(&receiving.queue).copied().unwrap_or_default();
        let place = self.places.entry((receiving.queue, one.receipt.lease.offset)).or_default();
        let failed = one.attempt - 1;
        assert!(
            (place.least..=place.deliveries + unheard).contains(&failed),
            "{num} at {}: {failed} failed attempts, but {} to {} are possible",
            one.receipt.lease.offset,
            place.least,
            place.deliveries + unheard
        );
        assert!(one.redelivered || !place.must_mark, "{num} comes again and does not say so (synced at {power})");
        place.deliveries += 1;
        if receiving.marks {
            // Only a failure that is on disk is told of: no kill takes back more than the delivery in flight.
            place.least = place.least.max(failed);
        }
        // From now on within this life; after a crash only if the mark was written.
        place.must_mark = true;
        place.marked = if receiving.marks { Some(step) } else { None };
    }
}
