//! What must be read from the log, and what the answers mean.
//!
//! A request changes nothing, and an answer is judged by what is true when it comes: messages that moved on meanwhile are passed over.
//! So a read may fail, be repeated, or come late.

use std::collections::HashSet;

use roaring::RoaringTreemap;
use types::{Now, Offset};

use super::{Arrival, LeaveReason, PageRequest, Queue};

/// Most records of one request.
const PAGE_RECORDS: usize = 4096;

impl<P> Queue<P> {
    /// What must be read before more can be delivered (or sorted); `None` if nothing.
    ///
    /// Ask again after each answer. Each answer brings the queue on if it looked at one record at least.
    pub fn page_request(&mut self, _now: Now) -> Option<PageRequest> {
        let sorting =
            |offsets: &RoaringTreemap| (!offsets.is_empty()).then(|| exactly(offsets.iter().take(PAGE_RECORDS)));
        // First what holds up the next delivery, then what sorts, then what will be needed soon.
        sorting(&self.unsorted)
            .or_else(|| self.shed_page())
            .or_else(|| self.ready_page(1))
            .or_else(|| sorting(&self.soon))
            .or_else(|| (self.sorts() && !self.unread.is_empty()).then(|| self.unread_page(PAGE_RECORDS)))
            .or_else(|| self.ahead_page())
    }

    /// Whether messages may wait for something else than their turn, so that all must be looked at before that is known. A message that
    /// brings its own delay to a queue without one is found when its turn comes.
    fn sorts(&self) -> bool {
        self.levels() > 1 || self.rules.keyed || self.rules.delay.is_some()
    }

    /// What will be needed soon. What is read while there is no room to keep its payload is read once more when it is delivered, so
    /// that this waits for room.
    fn ahead_page(&self) -> Option<PageRequest> {
        self.memory.has_room().then(|| self.ready_page((self.memory.window() / 2).max(1))).flatten()
    }

    /// The next ready messages, if fewer than `low` can be delivered from memory.
    fn ready_page(&self, low: usize) -> Option<PageRequest> {
        let readable_to = self.readable_to();
        let more_unread = self.levels() == 1 && !self.unread.is_empty();
        let mut deliverable = 0;
        for level in self.ready.levels().iter().rev() {
            let unheld = level.first_unheld().filter(|offset| *offset < readable_to);
            if level.head().is_some_and(|head| unheld.is_none_or(|unheld| head.offset.0 < unheld)) {
                deliverable += level.held();
            }
            if unheld.is_none() && !more_unread {
                continue;
            }
            if deliverable >= low {
                return None;
            }
            let room = self.memory.window().saturating_sub(deliverable).clamp(1, PAGE_RECORDS);
            if unheld.is_some() {
                return Some(self.unheld_page(level.unheld(), room));
            }
            return Some(self.unread_page(room));
        }
        None
    }

    /// The oldest of the lowest level, if the queue is too full and they are not in memory.
    fn shed_page(&self) -> Option<PageRequest> {
        if !self.is_overfull() || self.sheddable().is_some() {
            return None;
        }
        let unheld = self.lowest_level().and_then(|number| self.ready.levels().get(number)).map(|level| level.unheld());
        match unheld {
            Some(unheld) if unheld.min().is_some_and(|first| first < self.readable_to()) => {
                Some(self.unheld_page(unheld, PAGE_RECORDS.min(self.memory.window())))
            }
            _ => (!self.unread.is_empty()).then(|| self.unread_page(PAGE_RECORDS.min(self.memory.window()))),
        }
    }

    fn unread_page(&self, records: usize) -> PageRequest {
        PageRequest::From { from: self.unread.cursor, before: self.unread.end, records }
    }

    fn unheld_page(&self, unheld: &RoaringTreemap, records: usize) -> PageRequest {
        let readable_to = self.readable_to();
        let mut offsets: Vec<u64> = unheld.iter().take(records).take_while(|offset| *offset < readable_to).collect();
        if let (Some(first), Some(last)) = (offsets.first(), offsets.last())
            && self.levels() == 1
            && self.keys.wanted().is_empty()
        {
            // Mostly neighbours: one sequential read finds them faster than many lookups.
            let span = last - first + 1;
            if offsets.len() > 1 && span <= 2 * offsets.len() as u64 {
                let records = usize::try_from(span).unwrap_or(usize::MAX);
                return PageRequest::From { from: Offset(*first), before: Offset(last + 1), records };
            }
        }
        offsets.extend(self.keys.wanted().iter().take(PAGE_RECORDS));
        offsets.sort_unstable();
        offsets.dedup();
        exactly(offsets.into_iter())
    }

    /// The answer to a request: the live records read, and the offset up to which the log was looked at.
    ///
    /// Of a request for exact offsets too, those below `read_to` that were not found count as gone; those from there on are asked for again.
    pub fn page_in(&mut self, now: Now, request: PageRequest, mut records: Vec<Arrival<P>>, read_to: Offset) {
        records.sort_unstable_by_key(|record| record.offset);
        self.forget_missing(&request, &records, read_to);
        let (reads_on, read_to) = match &request {
            PageRequest::From { from, before, .. } => (*from <= self.unread.cursor, read_to.min(*before)),
            PageRequest::Exactly(_) => (false, read_to),
        };
        for record in records {
            self.take_record(now, record, reads_on);
        }
        self.keys.read_to(read_to.0);
        if reads_on && !self.unread.is_empty() {
            self.unread.cursor = self.unread.cursor.max(read_to.min(self.unread.end));
            if self.unread.is_empty() {
                // Fewer were there than the recovery counted.
                self.counts.ready -= std::mem::take(&mut self.unread.messages);
                self.unread.known.clear();
            }
        }
        self.counts.lighten(0);
        self.shed(now);
    }

    fn take_record(&mut self, now: Now, record: Arrival<P>, reads_on: bool) {
        let offset = record.offset;
        if !self.unread.ageless.is_empty() && self.unread.ageless.remove(offset.0) {
            self.ages.add(record.arrived);
        }
        if reads_on && self.unread.contains(offset) {
            self.unread.cursor = offset.next();
            if self.unread.messages > 0 {
                self.unread.messages -= 1;
                self.counts.ready -= 1;
            }
            self.ages.add(record.arrived);
            self.sort_in(now, record);
        } else if self.unsorted.remove(offset.0) {
            self.counts.ready -= 1;
            self.make_ready(record);
        } else if self.soon.remove(offset.0) {
            self.counts.delayed -= 1;
            match self.failures.get(&offset.0).map(|failure| failure.due) {
                Some(due) if due > now.wall => self.delay(now, due, offset.0, Some(record)),
                Some(_) => self.make_ready(record),
                None => self.sort_in(now, record),
            }
        } else if self.is_shed_next(offset) {
            self.ready.take_unheld(offset.0);
            self.counts.ready -= 1;
            self.give_up_waiting(record, LeaveReason::Overflow);
        } else if self.ready.take_unheld(offset.0) {
            self.counts.ready -= 1;
            self.make_ready(record);
        } else {
            self.keys.read(record, &mut self.memory);
        }
    }

    /// Whether the message just read is the next to be dropped from a full queue. It must not take the way through the window, which
    /// may be full of higher levels.
    fn is_shed_next(&self, offset: Offset) -> bool {
        let lowest = self.lowest_level().and_then(|number| self.ready.levels().get(number));
        self.is_overfull()
            && lowest.is_some_and(|level| {
                level.first_unheld() == Some(offset.0) && level.head().is_none_or(|head| offset < head.offset)
            })
    }

    /// Drops what was looked for and not found.
    fn forget_missing(&mut self, request: &PageRequest, records: &[Arrival<P>], read_to: Offset) {
        let found: HashSet<u64> = records.iter().map(|record| record.offset.0).collect();
        let missing: Vec<u64> = match request {
            PageRequest::Exactly(offsets) => {
                let looked = offsets.iter().take_while(|offset| **offset < read_to);
                looked.map(|offset| offset.0).filter(|offset| !found.contains(offset)).collect()
            }
            PageRequest::From { from, before, .. } => {
                let to = read_to.min(*before).0;
                let levels = self.ready.levels().iter();
                let looked = levels.flat_map(|level| {
                    let mut unheld = level.unheld().iter();
                    unheld.advance_to(from.0);
                    unheld.take_while(|offset| *offset < to)
                });
                looked.filter(|offset| !found.contains(offset)).collect()
            }
        };
        for offset in missing {
            self.forget(offset);
        }
    }

    fn forget(&mut self, offset: u64) {
        if self.unsorted.remove(offset) || self.ready.take_unheld(offset) {
            self.counts.ready -= 1;
        } else if self.soon.remove(offset) {
            self.counts.delayed -= 1;
        } else {
            return;
        }
        self.failures.remove(&offset);
        self.seen.remove(offset);
        self.unread.ageless.remove(offset);
        if self.rules.keyed {
            for promoted in self.keys.release_gone(offset, &mut self.memory) {
                self.promote(promoted);
            }
        }
    }
}

fn exactly(offsets: impl Iterator<Item = u64>) -> PageRequest {
    PageRequest::Exactly(offsets.map(Offset).collect())
}
