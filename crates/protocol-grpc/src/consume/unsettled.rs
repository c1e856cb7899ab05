//! Which deliveries of a stream are out, by number.

use std::collections::VecDeque;

use broker::Receipt;

/// The deliveries of a stream that were not settled. Numbers begin with 1 and have no gap, so that a receipt is found by its place.
pub(super) struct Unsettled {
    /// Number of the first place.
    base: u64,
    places: VecDeque<Option<Receipt>>,
}

impl Unsettled {
    pub(super) fn new() -> Self {
        Self { base: 1, places: VecDeque::new() }
    }

    /// The number that the next delivery gets.
    pub(super) fn next(&self) -> u64 {
        self.base + self.places.len() as u64
    }

    /// Places that are kept: those of what is out, and what was settled behind it.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds a delivery; gives its number. `None` takes a number for one that is settled already.
    pub(super) fn push(&mut self, receipt: Option<Receipt>) -> u64 {
        let number = self.next();
        if receipt.is_none() && self.places.is_empty() {
            self.base += 1;
        } else {
            self.places.push_back(receipt);
        }
        number
    }

    /// The receipt of a delivery that is out.
    pub(super) fn get(&self, number: u64) -> Option<Receipt> {
        self.places.get(self.place(number)?).copied().flatten()
    }

    /// Takes a delivery that is out: it is settled now.
    pub(super) fn take(&mut self, number: u64) -> Option<Receipt> {
        let place = self.place(number)?;
        let receipt = self.places.get_mut(place)?.take();
        while self.places.front().is_some_and(Option::is_none) {
            self.places.pop_front();
            self.base += 1;
        }
        receipt
    }

    /// The part of a range where deliveries may be out.
    pub(super) fn within(&self, first: u64, last: u64) -> std::ops::Range<u64> {
        first.max(self.base)..last.saturating_add(1).min(self.next())
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.base)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker::queue::Lease;
    use types::{EntityId, Offset};

    fn receipt(serial: u64) -> Option<Receipt> {
        Some(Receipt { queue: EntityId(1), boot: 1, lease: Lease { offset: Offset(serial), serial } })
    }

    #[test]
    fn deliveries_are_found_by_number_until_they_are_settled() {
        let mut unsettled = Unsettled::new();
        for serial in 1..=4 {
            assert_eq!(unsettled.push(receipt(serial)), serial);
        }
        assert_eq!(unsettled.get(2), receipt(2));
        assert_eq!(unsettled.take(2), receipt(2));
        assert_eq!(unsettled.take(2), None);
        assert_eq!((unsettled.len(), unsettled.within(0, u64::MAX)), (4, 1..5));
        assert_eq!(unsettled.take(1), receipt(1));
        assert_eq!((unsettled.len(), unsettled.within(2, 3)), (2, 3..4));
        for stray in [0, 1, 5, u64::MAX] {
            assert_eq!(unsettled.take(stray), None);
        }
        assert!(unsettled.within(9, 8).is_empty());
    }

    #[test]
    fn what_is_settled_as_it_is_sent_keeps_no_place() {
        let mut unsettled = Unsettled::new();
        assert_eq!((unsettled.push(None), unsettled.push(None)), (1, 2));
        assert_eq!((unsettled.len(), unsettled.next()), (0, 3));
    }
}
