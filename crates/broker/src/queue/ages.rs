//! How old the oldest message is, without looking for it: messages counted by the second in which they came in.

use std::collections::VecDeque;

use types::Timestamp;

/// Most seconds told apart; beyond, neighbours are counted together.
const MAX_SLOTS: usize = 4096;

/// Messages that came in about the same time.
#[derive(Clone, Copy, Debug)]
struct Slot {
    number: i64,
    /// The earliest arrival counted here.
    first: Timestamp,
    count: u64,
}

/// Live messages by time of arrival.
#[derive(Debug)]
pub(super) struct Ages {
    width_ms: i64,
    /// Ascending, none at either end empty.
    slots: VecDeque<Slot>,
}

impl Ages {
    pub(super) fn new() -> Self {
        Self { width_ms: 1000, slots: VecDeque::new() }
    }

    pub(super) fn add(&mut self, arrived: Timestamp) {
        self.add_many(arrived, 1);
    }

    /// Counts messages that came in at the same time.
    pub(super) fn add_many(&mut self, arrived: Timestamp, count: u64) {
        let number = arrived.0.div_euclid(self.width_ms);
        let fresh = Slot { number, first: arrived, count };
        match self.slots.back_mut() {
            Some(last) if last.number == number => last.meet(arrived, count),
            Some(last) if last.number > number => match self.slots.binary_search_by_key(&number, |slot| slot.number) {
                Ok(at) => {
                    if let Some(slot) = self.slots.get_mut(at) {
                        slot.meet(arrived, count);
                    }
                }
                Err(at) => self.slots.insert(at, fresh),
            },
            _ => self.slots.push_back(fresh),
        }
        if self.slots.len() > MAX_SLOTS {
            self.coarsen();
        }
    }

    pub(super) fn remove(&mut self, arrived: Timestamp) {
        let number = arrived.0.div_euclid(self.width_ms);
        let at = match self.slots.front() {
            Some(first) if first.number == number => 0,
            _ => match self.slots.binary_search_by_key(&number, |slot| slot.number) {
                Ok(at) => at,
                Err(_) => return,
            },
        };
        if let Some(slot) = self.slots.get_mut(at) {
            slot.count = slot.count.saturating_sub(1);
        }
        while self.slots.front().is_some_and(|slot| slot.count == 0) {
            self.slots.pop_front();
        }
        while self.slots.back().is_some_and(|slot| slot.count == 0) {
            self.slots.pop_back();
        }
    }

    /// The arrival of the oldest message, or up to a slot's width earlier.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.slots.front().map(|slot| slot.first)
    }

    /// Nothing is left; what was counted of messages that were found gone is forgotten.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    fn coarsen(&mut self) {
        self.slots.retain(|slot| slot.count > 0);
        while self.slots.len() > MAX_SLOTS / 2 {
            self.width_ms = self.width_ms.saturating_mul(2);
            let mut merged: VecDeque<Slot> = VecDeque::with_capacity(self.slots.len());
            for slot in self.slots.drain(..) {
                let number = slot.first.0.div_euclid(self.width_ms);
                match merged.back_mut() {
                    Some(last) if last.number == number => last.count += slot.count,
                    _ => merged.push_back(Slot { number, ..slot }),
                }
            }
            self.slots = merged;
        }
    }
}

impl Slot {
    fn meet(&mut self, arrived: Timestamp, count: u64) {
        // An empty slot in the middle begins anew.
        self.first = if self.count == 0 { arrived } else { self.first.min(arrived) };
        self.count += count;
    }
}
