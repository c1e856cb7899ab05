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

/// The deliveries, in a window of tags that moves.
#[derive(Debug)]
pub(crate) struct Window {
    /// The tag of the window's first.
    first: u64,
    /// `None` where a delivery was settled before an earlier one, or needs no settling.
    entries: VecDeque<Option<Unsettled>>,
    len: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { first: 1, entries: VecDeque::new(), len: 0 }
    }
}

impl Window {
    /// How many are not settled.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The tag that comes next.
    pub(crate) fn next_tag(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Adds a delivery; gives its tag. One that needs no settling takes a tag only.
    pub(crate) fn push(&mut self, entry: Option<Unsettled>) -> u64 {
        let tag = self.next_tag();
        if entry.is_none() && self.entries.is_empty() {
            self.first += 1;
        } else {
            self.len += usize::from(entry.is_some());
            self.entries.push_back(entry);
        }
        tag
    }

    /// Takes one delivery out.
    pub(crate) fn take(&mut self, tag: u64) -> Option<Unsettled> {
        let at = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        let entry = self.entries.get_mut(at)?.take()?;
        self.len -= 1;
        self.shrink();
        Some(entry)
    }

    /// Takes out all deliveries up to this tag, 0 for all there are, in their order.
    pub(crate) fn take_to(&mut self, tag: u64, mut each: impl FnMut(u64, Unsettled)) -> usize {
        let count = match tag {
            0 => self.entries.len(),
            _ => usize::try_from((tag + 1).saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.entries.len()),
        };
        let mut taken = 0;
        for entry in self.entries.drain(..count) {
            if let Some(entry) = entry {
                each(self.first, entry);
                taken += 1;
            }
            self.first += 1;
        }
        self.len -= taken;
        self.shrink();
        taken
    }

    /// Puts deliveries back that were taken out, with their tags, ascending.
    pub(crate) fn put_back(&mut self, entries: Vec<(u64, Unsettled)>) {
        for (tag, entry) in entries.into_iter().rev() {
            while tag < self.first {
                self.first -= 1;
                self.entries.push_front(None);
            }
            if let Some(place) = usize::try_from(tag - self.first).ok().and_then(|at| self.entries.get_mut(at)) {
                self.len += usize::from(place.is_none());
                *place = Some(entry);
            }
        }
    }

    /// The delivery that has been out for longest.
    pub(crate) fn oldest(&self) -> Option<&Unsettled> {
        self.entries.iter().flatten().next()
    }

    fn shrink(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
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
}
