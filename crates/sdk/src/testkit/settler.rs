//! A settler whose acknowledgements get lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;

use super::faulty::Fate;
use super::plan::Fault;
use crate::transport::{Delivery, Outgoing, PublishError, Settle, Settler};

/// The copies of one delivery of the broker.
struct Copies {
    /// What the broker's delivery is settled by.
    tag: u64,
    /// What names the message.
    message: String,
    /// Copies that are not settled yet.
    left: u32,
    /// How the copies ended so far: with the end that has the most to follow.
    end: Settle,
}

#[derive(Default)]
struct Out {
    last: u64,
    /// Our tag of each copy that is out, and the number of its delivery. As many as the credit allows, copies aside.
    copies: HashMap<u64, u64>,
    deliveries: HashMap<u64, Copies>,
}

pub(super) struct FaultySettler {
    inner: Arc<dyn Settler>,
    fate: Arc<Fate>,
    out: Mutex<Out>,
}

/// Which of two ends of copies the broker is told.
fn weight(end: &Settle) -> u8 {
    match end {
        Settle::Ack => 0,
        Settle::Release => 1,
        Settle::Retry { .. } => 2,
        Settle::DeadLetter { .. } => 3,
    }
}

impl FaultySettler {
    pub(super) fn new(inner: Arc<dyn Settler>, fate: Arc<Fate>) -> Self {
        Self { inner, fate, out: Mutex::default() }
    }

    /// Takes in a delivery of the broker; so many copies of it, each with a tag of its own.
    pub(super) fn enter(&self, delivery: Delivery, copies: u32) -> Vec<Delivery> {
        let out = &mut *self.out.lock();
        out.last += 1;
        let number = out.last;
        let message = delivery.message.id.as_ref().map(ToString::to_string).unwrap_or_default();
        out.deliveries.insert(number, Copies { tag: delivery.tag, message, left: copies, end: Settle::Ack });
        let mut entered = Vec::new();
        for copy in 0..copies {
            out.last += 1;
            out.copies.insert(out.last, number);
            let redelivered = delivery.redelivered || copy > 0;
            entered.push(Delivery { tag: out.last, redelivered, ..delivery.clone() });
        }
        entered
    }

    /// Settles without faults.
    pub(super) fn settle_as_told(&self, settlements: Vec<(u64, Settle)>) {
        let out = &mut *self.out.lock();
        let settled = settlements.into_iter().filter_map(|(tag, how)| out.settle(tag, how)).collect::<Vec<_>>();
        // Within the lock, so that the broker is told in the order of the calls.
        if !settled.is_empty() {
            self.inner.settle(settled);
        }
    }

    /// What the broker hears instead of this end.
    fn end(&self, tag: u64, how: Settle) -> Settle {
        let Some(message) = self.out.lock().message_of(tag) else {
            return how;
        };
        if self.fate.strikes(Fault::Kill) || (how == Settle::Ack && self.fate.loses_ack(&message)) {
            return Settle::Release;
        }
        how
    }
}

impl Out {
    fn message_of(&self, tag: u64) -> Option<String> {
        let copies = self.deliveries.get(self.copies.get(&tag)?)?;
        Some(copies.message.clone())
    }

    fn tag_of(&self, tag: u64) -> Option<u64> {
        Some(self.deliveries.get(self.copies.get(&tag)?)?.tag)
    }

    /// The broker has acknowledged the delivery: another copy comes too late for everything.
    fn done(&mut self, tag: u64) {
        if let Some(number) = self.copies.remove(&tag) {
            self.deliveries.remove(&number);
            self.copies.retain(|_, of| *of != number);
        }
    }

    /// One copy has ended; what the broker is told if it was the last one.
    fn settle(&mut self, tag: u64, how: Settle) -> Option<(u64, Settle)> {
        let number = self.copies.remove(&tag)?;
        let copies = self.deliveries.get_mut(&number)?;
        copies.left -= 1;
        if weight(&how) > weight(&copies.end) {
            copies.end = how;
        }
        if copies.left > 0 {
            return None;
        }
        self.deliveries.remove(&number).map(|copies| (copies.tag, copies.end))
    }
}

impl Settler for FaultySettler {
    fn settle(&self, settlements: Vec<(u64, Settle)>) {
        let ends = settlements.into_iter().map(|(tag, how)| (tag, self.end(tag, how))).collect();
        self.settle_as_told(ends);
    }

    fn ack_and_publish(&self, tag: u64, messages: Vec<Outgoing>) -> BoxFuture<'_, Result<(), PublishError>> {
        let Some(inner_tag) = self.out.lock().tag_of(tag) else {
            return ready(Err(PublishError::LeaseLost)).boxed();
        };
        if self.end(tag, Settle::Ack) != Settle::Ack {
            // Nothing is stored, and the message comes again.
            self.settle_as_told(vec![(tag, Settle::Release)]);
            return ready(Err(PublishError::LeaseLost)).boxed();
        }
        async move {
            self.inner.ack_and_publish(inner_tag, messages).await?;
            self.out.lock().done(tag);
            self.fate.confirmed(Ok(()))
        }
        .boxed()
    }

    fn extend(&self, tag: u64, by: Duration) {
        if let Some(tag) = self.out.lock().tag_of(tag) {
            self.inner.extend(tag, by);
        }
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        self.inner.flush()
    }
}
