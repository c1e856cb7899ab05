//! Which passwords were right a moment ago, so that a hash is not paid on every request.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use types::{Monotonic, Now};

/// What a user and password are remembered by: neither can be read back from it, and it means nothing in another process.
pub(super) type CacheKey = [u8; 32];

/// Remembers successful checks only: a wrong password is computed anew each time, so guessing stays as slow as the hash.
///
/// IMPORTANT: an entry holds for one revision of its user. A check that began before the user changed may be entered after the
/// change; without the revision an old password would be let in again.
pub(super) struct Cache {
    ttl: Duration,
    entries_max: usize,
    salt: [u8; 32],
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<CacheKey, Entry>,
    /// In order of insertion, which is the order of expiry. An entry that was removed or renewed leaves its old place behind,
    /// and that counts towards the bound until it is passed.
    order: VecDeque<(Monotonic, CacheKey)>,
}

struct Entry {
    until: Monotonic,
    revision: u64,
}

impl Cache {
    /// A cache of at most `entries_max` checks, each good for `ttl`; zero of either remembers nothing.
    pub(super) fn new(ttl: Duration, entries_max: usize, salt: [u8; 32]) -> Self {
        Self { ttl, entries_max, salt, inner: Mutex::default() }
    }

    /// What this user and password are remembered by.
    pub(super) fn key(&self, user: &str, password: &str) -> CacheKey {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((user.len() as u64).to_le_bytes());
        hash.update(user);
        hash.update(password);
        hash.finalize().into()
    }

    /// Whether the password of `key` was right lately, for this revision of its user.
    pub(super) fn holds(&self, key: &CacheKey, revision: u64, now: Now) -> bool {
        let mut inner = self.inner.lock();
        match inner.entries.get(key) {
            Some(entry) if entry.revision == revision && now.mono < entry.until => true,
            Some(_) => {
                inner.entries.remove(key);
                false
            }
            None => false,
        }
    }

    /// Remembers that the password of `key` was right.
    pub(super) fn remember(&self, key: CacheKey, revision: u64, now: Now) {
        if self.ttl.is_zero() || self.entries_max == 0 {
            return;
        }
        let until = now.mono.after(self.ttl);
        let mut inner = self.inner.lock();
        while inner.order.len() >= self.entries_max {
            inner.forget_oldest();
        }
        inner.entries.insert(key, Entry { until, revision });
        inner.order.push_back((until, key));
    }

    /// Forgets all that is remembered of a revision.
    pub(super) fn forget(&self, revision: u64) {
        self.inner.lock().entries.retain(|_, entry| entry.revision != revision);
    }

    /// How many checks are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }
}

impl Inner {
    fn forget_oldest(&mut self) {
        if let Some((until, key)) = self.order.pop_front()
            && self.entries.get(&key).is_some_and(|entry| entry.until == until)
        {
            self.entries.remove(&key);
        }
    }
}
