//! How a queue changes its rules while it runs.

use types::Now;

use super::breaker::Breaker;
use super::{Queue, QueueRules};

/// Changes of the queue's delay that are remembered for messages which wait already.
const MAX_DELAY_CHANGES: usize = 16;

impl<P> Queue<P> {
    /// Changes the rules.
    pub fn set_rules(&mut self, now: Now, rules: QueueRules) {
        let old = std::mem::replace(&mut self.rules, rules);
        self.memory.resize(self.rules.window, self.rules.window_bytes);
        self.ready.shrink(&mut self.memory);
        if old.delay != self.rules.delay {
            self.delay_rules.push((self.end, self.rules.delay));
            if self.delay_rules.len() > MAX_DELAY_CHANGES {
                self.delay_rules.remove(0);
            }
        }
        if old.breaker.is_some() && self.rules.breaker.is_none() {
            for consumer in self.consumers.iter_mut() {
                consumer.breaker = Breaker::new();
            }
        }
        if levels(&old) != levels(&self.rules) || (old.keyed != self.rules.keyed && !self.unread.is_empty()) {
            self.relevel();
        }
        match (old.keyed, self.rules.keyed) {
            (false, true) => self.hold_keys(),
            (true, false) => self.free_keys(),
            _ => {}
        }
        self.elect();
        self.shed(now);
    }

    pub(super) fn relevel(&mut self) {
        let (entries, unknown) = self.ready.relevel(levels(&self.rules), &mut self.memory);
        if self.levels() == 1 {
            self.ready.add_all_unheld(0, std::mem::take(&mut self.unsorted));
        }
        self.unsorted |= unknown;
        for entry in entries {
            self.counts.ready -= 1;
            self.make_ready(entry);
        }
    }

    /// Per-key order begins: what is out, or waits to be tried again, holds its key.
    fn hold_keys(&mut self) {
        let mut out: Vec<_> = self.leases.iter().filter_map(|(lease, out)| Some((lease.offset.0, out.key?))).collect();
        out.sort_unstable();
        for (offset, key) in out {
            self.keys.begin(key, offset);
        }
        let here = self.failures.iter().filter(|(offset, _)| !self.leaving.contains_key(offset));
        let mut failed: Vec<_> = here.filter_map(|(offset, failure)| Some((*offset, failure.key?))).collect();
        failed.sort_unstable();
        for (offset, key) in failed {
            if !self.keys.is_held(key) {
                self.keys.begin(key, offset);
            }
        }
    }

    fn free_keys(&mut self) {
        let (entries, unheld) = self.keys.unpark_all(&mut self.memory);
        self.counts.parked = 0;
        self.counts.ready += unheld.len();
        if self.levels() == 1 {
            self.ready.add_all_unheld(0, unheld);
        } else {
            self.unsorted |= unheld;
        }
        for entry in entries {
            self.make_ready(entry);
        }
    }
}

/// A message's priority is one byte, so there is no use for more levels than it has values.
pub(super) fn levels(rules: &QueueRules) -> usize {
    usize::from(rules.priority_levels.clamp(1, 256))
}
