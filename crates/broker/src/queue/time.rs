//! What time brings: leases that run out, delays that end, messages that expire, breakers that may be probed.

use std::time::Duration;

use types::Now;

use super::delay::Fired;
use super::{Departure, LeaveReason, Queue, RetryRecord, Settled};

/// Most of each kind of work that one tick does.
const TICK_WORK: usize = 1024;

impl<P> Queue<P> {
    /// Does what is due; `true` if there is more. Retries to be recorded and departures to be moved are put out.
    pub fn tick(&mut self, now: Now, retries: &mut Vec<RetryRecord>, departures: &mut Vec<Departure<P>>) -> bool {
        let mut more = self.expire_leases(now, retries);
        more |= self.wake_due(now, TICK_WORK);
        more |= self.expire_heads(now);
        self.shed(now);
        // What was dropped may have hidden what is expired.
        more |= self.expire_heads(now);
        let put_out = self.departures.len().min(TICK_WORK);
        departures.extend(self.departures.drain(..put_out));
        more || !self.departures.is_empty() || self.sheddable().is_some()
    }

    fn expire_leases(&mut self, now: Now, retries: &mut Vec<RetryRecord>) -> bool {
        for _ in 0..TICK_WORK {
            let Some(lease) = self.leases.pop_ended(now.mono) else { return false };
            match self.expire_lease(now, lease) {
                Some(Settled::Retry(record)) => retries.push(record),
                Some(Settled::Leaves(departure)) => self.departures.push(departure),
                Some(Settled::Acked { .. } | Settled::Released) | None => {}
            }
        }
        true
    }

    /// Makes ready what is due by now, up to so many messages (a bucket counts as one). `true` if there may be more.
    pub(super) fn wake_due(&mut self, now: Now, most: usize) -> bool {
        if self.delays.next().is_none_or(|next| next > now.wall) {
            return false;
        }
        for _ in 0..most {
            if let Some((offset, entry)) = self.delays.pop_due(now.wall, &mut self.memory) {
                self.counts.delayed -= 1;
                match entry {
                    Some(entry) => self.make_ready(entry),
                    None => self.make_ready_unheld(offset),
                }
            } else if let Some((fired, bucket)) = self.delays.pop_bucket(now.wall) {
                self.open_bucket(now, fired, bucket);
            } else {
                return false;
            }
        }
        true
    }

    fn open_bucket(&mut self, now: Now, fired: Fired, bucket: roaring::RoaringTreemap) {
        if fired == Fired::Due {
            let due = bucket.len();
            self.counts.delayed -= due;
            self.counts.ready += due;
            if self.levels() == 1 {
                self.ready.add_all_unheld(0, bucket);
            } else {
                self.unsorted |= bucket;
            }
        } else if self.failures.is_empty() {
            self.soon |= bucket;
        } else {
            for offset in bucket {
                match self.failures.get(&offset).map(|failure| failure.due) {
                    None => {
                        self.soon.insert(offset);
                    }
                    Some(due) => {
                        self.counts.delayed -= 1;
                        if due > now.wall {
                            self.delay(now, due, offset, None);
                        } else {
                            self.make_ready_unheld(offset);
                        }
                    }
                }
            }
        }
    }

    fn expire_heads(&mut self, now: Now) -> bool {
        for _ in 0..TICK_WORK {
            let mut levels = self.ready.levels().iter();
            let expired = levels.position(|level| level.head().is_some_and(|head| self.is_expired(now.wall, head)));
            // One that goes may free its key for one of any level, so each search begins anew.
            let Some(level) = expired else { return false };
            self.drop_head(level, LeaveReason::Expired);
        }
        true
    }

    /// When [`tick`](Self::tick) has something to do next, on either clock; `None` if never. May be too early, never too late.
    #[must_use]
    pub fn next_tick(&self, now: Now) -> Option<Duration> {
        if !self.departures.is_empty() || self.sheddable().is_some() {
            return Some(Duration::ZERO);
        }
        let lease = self.leases.next_end().map(|end| end.since(now.mono));
        let delay = self.delays.next().map(|due| due.since(now.wall));
        let heads = self.ready.levels().iter().filter_map(|level| self.expiry(level.head()?));
        let expiry = heads.min().map(|expiry| expiry.since(now.wall));
        // Once it may be probed, it is for its consumer to ask.
        let probes = self.consumers.iter().filter_map(|consumer| consumer.breaker.probe_at());
        let probe = probes.filter(|at| *at > now.mono).min().map(|at| at.since(now.mono));
        [lease, delay, expiry, probe].into_iter().flatten().min()
    }
}
