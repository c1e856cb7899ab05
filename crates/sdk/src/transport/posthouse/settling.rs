//! Which deliveries of a consumer are out, and how their ends become frames.

use std::collections::VecDeque;
use std::time::Duration;

use api::grpc as g;

use crate::transport::Settle;

/// What to do with one delivery.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Do {
    Settle(Settle),
    Extend(Duration),
}

/// The deliveries that are out, by tag. Tags go up by one, through all connections, so that one of a lost connection is told from all others.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Tags up to this one are of connections that were lost; on the present one a delivery's number is its tag less this.
    before: u64,
    /// Tag of the first place.
    base: u64,
    /// Receipts of what is out.
    places: VecDeque<Option<String>>,
    out: usize,
    /// What is to be told to the broker, by number.
    waiting: Vec<(u64, Do)>,
    /// Ends that were given, ever.
    pub(super) given: u64,
    /// Ends of deliveries that are no longer ours, ever.
    pub(super) passed_over: u64,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { base: 1, ..Self::default() }
    }

    /// A connection was lost: nothing is out any more, and nothing of it can be settled.
    pub(super) fn reset(&mut self) {
        self.before = self.base + self.places.len() as u64 - 1;
        self.base = self.before + 1;
        self.passed_over += self.waiting.len() as u64;
        self.places.clear();
        self.waiting.clear();
        self.out = 0;
    }

    /// Adds a delivery; gives its tag.
    pub(super) fn push(&mut self, receipt: String) -> u64 {
        let tag = self.base + self.places.len() as u64;
        self.places.push_back(Some(receipt));
        self.out += 1;
        tag
    }

    /// Deliveries that are out.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// Whether this tag is of the present connection.
    pub(super) fn is_present(&self, tag: u64) -> bool {
        tag > self.before
    }

    pub(super) fn receipt(&self, tag: u64) -> Option<&str> {
        self.places.get(self.place(tag)?)?.as_deref()
    }

    /// Ends a delivery. What is not out is passed over.
    pub(super) fn settle(&mut self, tag: u64, how: Settle) {
        self.given += 1;
        let taken = self.place(tag).and_then(|place| self.places.get_mut(place)?.take());
        if taken.is_none() {
            self.passed_over += 1;
            return;
        }
        self.out -= 1;
        self.waiting.push((tag - self.before, Do::Settle(how)));
        while self.places.front().is_some_and(Option::is_none) {
            self.places.pop_front();
            self.base += 1;
        }
    }

    /// More time for a delivery. At most `most` of what waits; one that is left out may be asked for again.
    pub(super) fn extend(&mut self, tag: u64, by: Duration, most: usize) {
        if self.receipt(tag).is_some() && self.waiting.len() < most {
            self.waiting.push((tag - self.before, Do::Extend(by)));
        }
    }

    pub(super) fn take_waiting(&mut self) -> Vec<(u64, Do)> {
        std::mem::take(&mut self.waiting)
    }

    fn place(&self, tag: u64) -> Option<usize> {
        usize::try_from(tag.checked_sub(self.base)?).ok()
    }
}

/// A frame of settlements, and how many deliveries it ends. What is beyond `most` entries is left in `waiting`.
pub(super) fn frame(waiting: &mut Vec<(u64, Do)>, most: usize) -> (Vec<g::StreamSettlement>, u32) {
    let rest = waiting.split_off(waiting.len().min(most));
    let now = std::mem::replace(waiting, rest);
    let (mut acks, mut settlements, mut ended) = (Vec::with_capacity(now.len()), Vec::new(), 0);
    for (number, what) in now {
        ended += u32::from(matches!(what, Do::Settle(_)));
        match what {
            Do::Settle(Settle::Ack) => acks.push(number),
            what => add(&mut settlements, number, what),
        }
    }
    if !acks.is_empty() {
        settlements.push(acknowledgement(acks));
    }
    (settlements, ended)
}

/// Acknowledges deliveries, those in a row as ranges.
fn acknowledgement(mut numbers: Vec<u64>) -> g::StreamSettlement {
    numbers.sort_unstable();
    let mut settlement = g::StreamSettlement { action: g::SettleAction::Ack.into(), ..g::StreamSettlement::default() };
    let mut rest = &numbers[..];
    while let Some((&first, _)) = rest.split_first() {
        let row = rest.iter().zip(first..).take_while(|(number, expected)| *number == expected).count();
        match row {
            1 => settlement.deliveries.push(first),
            _ => settlement.ranges.push(g::DeliveryRange { first, last: first + row as u64 - 1 }),
        }
        rest = rest.get(row..).unwrap_or_default();
    }
    settlement
}

/// Adds what is no acknowledgement; to the settlement before if that says the same.
fn add(settlements: &mut Vec<g::StreamSettlement>, number: u64, what: Do) {
    use g::SettleAction as Action;
    let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let (action, after_ms, error, extend_ms) = match what {
        Do::Settle(Settle::Retry { after, error }) => (Action::Nack, after.map(ms), error, None),
        Do::Settle(Settle::DeadLetter { reason }) => (Action::Reject, None, reason, None),
        Do::Settle(Settle::Release) => (Action::Release, None, String::new(), None),
        Do::Settle(Settle::Ack) => (Action::Ack, None, String::new(), None),
        Do::Extend(by) => (Action::Extend, None, String::new(), Some(ms(by).max(1))),
    };
    let action = i32::from(action);
    if let Some(last) = settlements.last_mut()
        && (last.action, last.after_ms, last.extend_ms) == (action, after_ms, extend_ms)
        && last.error == error
    {
        last.deliveries.push(number);
        return;
    }
    let (deliveries, ranges) = (vec![number], Vec::new());
    settlements.push(g::StreamSettlement { action, deliveries, ranges, after_ms, error, extend_ms });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(deliveries: usize) -> Table {
        let mut table = Table::new();
        for number in 0..deliveries {
            assert_eq!(table.push(format!("r{number}")), number as u64 + 1);
        }
        table
    }

    #[test]
    fn acknowledgements_become_ranges_and_the_rest_says_what_it_has_to() {
        let mut table = table(9);
        for tag in [1, 2, 3, 9, 5] {
            table.settle(tag, Settle::Ack);
        }
        table.extend(6, Duration::from_secs(1), 100);
        for tag in [7, 8] {
            table.settle(tag, Settle::Retry { after: None, error: "no".to_owned() });
        }
        assert_eq!((table.out(), table.receipt(4), table.receipt(5)), (2, Some("r3"), None));
        let mut waiting = table.take_waiting();
        let (settlements, ended) = frame(&mut waiting, 100);
        assert_eq!((ended, waiting.len(), settlements.len()), (7, 0, 3));
        let acks = settlements.last().unwrap();
        assert_eq!(acks.deliveries, [5, 9]);
        assert_eq!(acks.ranges, [g::DeliveryRange { first: 1, last: 3 }]);
        assert_eq!(settlements[0].extend_ms, Some(1000));
        assert_eq!((settlements[1].deliveries.as_slice(), settlements[1].error.as_str()), (&[7, 8][..], "no"));
    }

    #[test]
    fn a_tag_of_a_lost_connection_is_passed_over() {
        let mut table = table(3);
        table.settle(1, Settle::Ack);
        table.reset();
        assert_eq!((table.out(), table.passed_over), (0, 1), "it was not sent");
        assert_eq!(table.push("new".to_owned()), 4, "tags are never given twice");
        for tag in [2, 3, 99] {
            table.settle(tag, Settle::Ack);
        }
        assert_eq!((table.passed_over, table.is_present(3), table.is_present(4)), (4, false, true));
        table.settle(4, Settle::Ack);
        table.settle(4, Settle::Ack);
        assert_eq!(table.take_waiting(), [(1, Do::Settle(Settle::Ack))], "the number on the new connection");
        assert_eq!(table.out(), 0);
    }

    #[test]
    fn a_frame_has_a_bound() {
        let mut waiting: Vec<_> = (1..=10).map(|number| (number, Do::Settle(Settle::Ack))).collect();
        assert_eq!((frame(&mut waiting, 4).1, waiting.len()), (4, 6));
    }
}
