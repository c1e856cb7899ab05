//! Deliveries of a channel that are not settled, by their tags.

use std::collections::VecDeque;

use std::time::Duration;

use broker::Receipt;
use types::Monotonic;

/// A delivery that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsettled {
    /// To settle it with; `None` of a stream's record, of which nothing is kept.
    pub(crate) receipt: Option<Receipt>,
    /// The consumer that got it; `None` of `basic.get`.
    pub(crate) consumer: Option<ConsumerKey>,
    /// Giving it back counts as an attempt.
    pub(crate) counts: bool,
    /// When it was handed out.
    pub(crate) since: Monotonic,
    /// How long it may stay out; the listener's bound if the queue says nothing.
    pub(crate) timeout: Option<Duration>,
}

/// Names a consumer of a connection; not used again.
pub(crate) type ConsumerKey = u64;

/// The deliveries, by ascending tags. Its memory follows how many there are, whatever was settled before them and between them.
#[derive(Debug)]
pub(crate) struct Window {
    /// `None` where a delivery was settled before an earlier one.
    entries: VecDeque<(u64, Option<Unsettled>)>,
    len: usize,
    next: u64,
}

/// Places of settled deliveries that are kept before they are cleared away, besides as many as there are others.
const MAX_GAPS: usize = 64;

impl Default for Window {
    fn default() -> Self {
        Self { entries: VecDeque::new(), len: 0, next: 1 }
    }
}

impl Window {
    /// How many are not settled.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The tag that comes next.
    pub(crate) fn next_tag(&self) -> u64 {
        self.next
    }

    /// Adds a delivery; gives its tag. One that needs no settling takes a tag only.
    pub(crate) fn push(&mut self, entry: Option<Unsettled>) -> u64 {
        let tag = self.next;
        self.next += 1;
        if entry.is_some() {
            self.len += 1;
            self.entries.push_back((tag, entry));
        }
        tag
    }

    /// Takes one delivery out.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Unsettled> {
        let at = self.entries.binary_search_by_key(&tag, |(tag, _)| *tag).ok()?;
        let entry = self.entries.get_mut(at)?.1.take()?;
        self.len -= 1;
        self.shrink();
        Some(entry)
    }

    /// Takes out all deliveries up to this tag, 0 for all there are, in their order.
    pub(crate) fn take_to(&mut self, tag: u64, mut each: impl FnMut(u64, Unsettled)) -> usize {
        let count = match tag {
            0 => self.entries.len(),
            _ => self.entries.partition_point(|(own, _)| *own <= tag),
        };
        let mut taken = 0;
        for (tag, entry) in self.entries.drain(..count) {
            if let Some(entry) = entry {
                each(tag, entry);
                taken += 1;
            }
        }
        self.len -= taken;
        self.shrink();
        taken
    }

    /// Puts deliveries back that were taken out, with their tags.
    pub(crate) fn put_back(&mut self, entries: Vec<(u64, Unsettled)>) {
        self.len += entries.len();
        let mut all: Vec<_> = std::mem::take(&mut self.entries).into();
        all.retain(|(_, entry)| entry.is_some());
        all.extend(entries.into_iter().map(|(tag, entry)| (tag, Some(entry))));
        all.sort_unstable_by_key(|(tag, _)| *tag);
        self.entries = all.into();
    }

    /// The delivery that has been out for longest.
    pub(crate) fn oldest(&self) -> Option<&Unsettled> {
        self.entries.iter().find_map(|(_, entry)| entry.as_ref())
    }

    fn shrink(&mut self) {
        while let Some((_, None)) = self.entries.front() {
            self.entries.pop_front();
        }
        if self.entries.len() > 2 * self.len + MAX_GAPS {
            self.entries.retain(|(_, entry)| entry.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(consumer: u64) -> Option<Unsettled> {
        Some(Unsettled { receipt: None, consumer: Some(consumer), counts: false, since: Monotonic(0), timeout: None })
    }

    #[test]
    fn tags_count_up_and_each_is_taken_once() {
        let mut window = Window::default();
        assert_eq!(window.push(None), 1);
        assert_eq!(
            (window.push(entry(2)), window.push(entry(3)), window.push(None), window.push(entry(5))),
            (2, 3, 4, 5)
        );
        assert_eq!(window.len(), 3);
        assert_eq!(window.take(3).unwrap().consumer, Some(3));
        assert_eq!(
            (window.take(3), window.take(1), window.take(4), window.take(6), window.take(0)),
            (None, None, None, None, None)
        );
        let mut taken = Vec::new();
        assert_eq!(window.take_to(4, |tag, entry| taken.push((tag, entry))), 1);
        assert_eq!((taken.len(), taken[0].0, window.len(), window.next_tag()), (1, 2, 1, 6));
        assert_eq!(window.take_to(0, |tag, _| assert_eq!(tag, 5)), 1);
        assert_eq!((window.len(), window.push(entry(6))), (0, 6));
    }

    #[test]
    fn what_is_put_back_has_its_tag_again() {
        let mut window = Window::default();
        (1..=4).for_each(|tag| assert_eq!(window.push(entry(tag)), tag));
        let mut taken = Vec::new();
        window.take_to(2, |tag, entry| taken.push((tag, entry)));
        taken.push((4, window.take(4).unwrap()));
        assert_eq!(window.len(), 1);
        window.put_back(taken);
        assert_eq!((window.len(), window.next_tag()), (4, 5));
        assert_eq!(
            (1..=4).map(|tag| window.take(tag).unwrap().consumer).collect::<Vec<_>>(),
            (1..=4).map(Some).collect::<Vec<_>>()
        );
    }

    #[test]
    fn memory_follows_what_is_unsettled() {
        let mut window = Window::default();
        window.push(entry(1));
        for number in 2..10_000 {
            window.push(None);
            let tag = window.push(entry(number));
            assert_eq!(window.take(tag).unwrap().consumer, Some(number));
            assert!(window.entries.len() <= 2 * window.len() + MAX_GAPS);
        }
        assert_eq!((window.len(), window.oldest().unwrap().consumer), (1, Some(1)));
    }
}
