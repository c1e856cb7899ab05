//! Failures on their way to the disk.
//!
//! A failed message may be ready again before the record that counts its failure is durable. It is not handed out until then: a kill
//! would forget that failure together with the delivery after it, and attempts are to be undercounted by the one in flight at most.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use types::Offset;

/// Messages whose failures are being recorded.
#[derive(Default)]
pub(crate) struct Failing {
    /// Each with the number of commits under way that record a failure of it.
    under_way: Mutex<BTreeMap<Offset, u32>>,
    /// How many they are, so that a queue without failures takes no lock for it.
    len: AtomicUsize,
    ended: Notify,
}

impl Failing {
    /// A failure of this message is about to be recorded. Call it under the queue's lock, before anybody can take the message again.
    pub(crate) fn begin(&self, offset: Offset) {
        let mut under_way = self.under_way.lock();
        *under_way.entry(offset).or_default() += 1;
        self.len.store(under_way.len(), Ordering::SeqCst);
    }

    /// A record of a failure of each of these is durable, or was refused: a full disk must be drained all the same.
    pub(crate) fn end(&self, offsets: &[Offset]) {
        if offsets.is_empty() {
            return;
        }
        {
            let mut under_way = self.under_way.lock();
            for offset in offsets {
                if let Some(commits) = under_way.get_mut(offset) {
                    *commits -= 1;
                    if *commits == 0 {
                        under_way.remove(offset);
                    }
                }
            }
            self.len.store(under_way.len(), Ordering::SeqCst);
        }
        self.ended.notify_waiters();
    }

    /// Ready when no failure of any of these messages is being recorded.
    pub(crate) async fn none_of(&self, offsets: impl Iterator<Item = Offset> + Clone) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // IMPORTANT: before it looks. What ends between the look and the wait would not be heard otherwise.
            ended.as_mut().enable();
            if self.has_none_of(offsets.clone()) {
                return;
            }
            ended.await;
        }
    }

    /// Whether no failure of any of these messages is being recorded.
    pub(crate) fn has_none_of(&self, offsets: impl Iterator<Item = Offset>) -> bool {
        self.len.load(Ordering::SeqCst) == 0 || !self.has_any(offsets)
    }

    fn has_any(&self, mut offsets: impl Iterator<Item = Offset>) -> bool {
        let under_way = self.under_way.lock();
        offsets.any(|offset| under_way.contains_key(&offset))
    }
}
