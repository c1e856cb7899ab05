//! Settles deliveries: in the background, many by one acknowledgement where they are neighbours.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all, ready};
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicQosOptions};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::transport::{Outgoing, PublishError, Settle, Settler};

/// Settles the deliveries of one consumer, over all the channels that it comes to have.
pub(super) struct Acker {
    shared: Arc<Shared>,
    /// Ends the task in the background once nobody can settle any more.
    _ends: DropGuard,
}

/// What the consumer, its settlers and the task in the background share.
pub(super) struct Shared {
    state: Mutex<State>,
    work: Notify,
    /// How much of what was given is with the broker, or never will be; known only as far as somebody asked.
    reached: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    channel: Option<Channel>,
    prefetch: u16,
    book: Book,
    /// Somebody waits until it has reached the broker.
    is_asked: bool,
    given: u64,
    /// In order. Not longer than there are deliveries out: each is settled once.
    waiting: VecDeque<(u64, Verb)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Ack,
    Release,
}

/// One frame to the broker, with the broker's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Ack { tag: u64, multiple: bool },
    Release { tag: u64 },
}

/// Which deliveries are out. The tags that services see go on from one channel to the next; the broker's begin at 1 on each.
#[derive(Debug, Default)]
struct Book {
    /// Added to the broker's tag.
    base: u64,
    /// The highest of the broker's tags on this channel.
    highest: u64,
    /// All of the broker's tags up to this one are settled.
    all_until: u64,
    /// Those above that are settled.
    others: BTreeSet<u64>,
    /// Settlements that came too late.
    stale: u64,
}

impl Book {
    /// A new channel: what was out comes again under other tags.
    fn begin(&mut self) {
        self.base += self.highest;
        self.highest = 0;
        self.all_until = 0;
        self.others.clear();
    }

    /// A delivery came; its tag for the service.
    fn delivered(&mut self, tag: u64) -> u64 {
        self.highest = self.highest.max(tag);
        self.base + tag
    }

    /// Settles these, and gives the frames that say so.
    fn settle(&mut self, settlements: impl Iterator<Item = (u64, Verb)>) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut acked = Vec::new();
        for (tag, verb) in settlements {
            let Some(tag) = tag.checked_sub(self.base).filter(|tag| *tag > self.all_until && *tag <= self.highest)
            else {
                self.stale += 1;
                continue;
            };
            if !self.others.insert(tag) {
                self.stale += 1;
                continue;
            }
            match verb {
                Verb::Ack => acked.push(tag),
                Verb::Release => frames.push(Frame::Release { tag }),
            }
        }
        while self.others.first() == Some(&(self.all_until + 1)) {
            self.others.pop_first();
            self.all_until += 1;
        }
        // The highest that all below are settled of can speak for those. It must be one that is not acknowledged yet.
        acked.sort_unstable();
        let below = acked.partition_point(|tag| *tag <= self.all_until);
        let (together, alone) = acked.split_at(below);
        if let Some(last) = together.last() {
            frames.push(Frame::Ack { tag: *last, multiple: together.len() > 1 });
        }
        frames.extend(alone.iter().map(|tag| Frame::Ack { tag: *tag, multiple: false }));
        frames
    }
}

impl Shared {
    /// Goes on with a new channel.
    pub(super) fn begin(&self, channel: Channel, prefetch: u16) {
        let mut state = self.state.lock();
        state.book.begin();
        state.prefetch = prefetch;
        state.channel = Some(channel);
    }

    pub(super) fn delivered(&self, tag: u64) -> u64 {
        self.state.lock().book.delivered(tag)
    }

    /// Gives deliveries back that nobody saw.
    pub(super) fn release(&self, tags: impl IntoIterator<Item = u64>) {
        self.give(tags.into_iter().map(|tag| (tag, Verb::Release)));
    }

    /// Acknowledges deliveries that nobody shall see.
    pub(super) fn drop_quietly(&self, tags: impl IntoIterator<Item = u64>) {
        self.give(tags.into_iter().map(|tag| (tag, Verb::Ack)));
    }

    fn give(&self, settlements: impl Iterator<Item = (u64, Verb)>) {
        let mut state = self.state.lock();
        let before = state.waiting.len();
        state.waiting.extend(settlements);
        state.given += (state.waiting.len() - before) as u64;
        drop(state);
        self.work.notify_one();
    }

    /// Ready once all that was given is with the broker, or never will be.
    pub(super) async fn flush(&self) {
        let mut reached = self.reached.subscribe();
        let given = {
            let mut state = self.state.lock();
            state.is_asked = true;
            state.given
        };
        self.work.notify_one();
        let _ = reached.wait_for(|reached| *reached >= given).await;
    }

    /// Sends all that waits.
    async fn work_off(&self) {
        let (channel, frames, given, stale, asked) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let frames = state.book.settle(state.waiting.drain(..));
            let asked = std::mem::take(&mut state.is_asked).then_some(state.prefetch);
            (state.channel.clone(), frames, state.given, std::mem::take(&mut state.book.stale), asked)
        };
        if stale > 0 {
            tracing::info!(count = stale, "settlements came too late: the messages come again, or have come");
        }
        if let Some(channel) = channel {
            let mut sending = Vec::new();
            for frame in frames {
                let mut frame = send(channel.clone(), frame).boxed();
                // IMPORTANT: lapin queues a frame when it is first polled, and a release that comes behind the acknowledgement of all until some
                // tag would be lost: this keeps their order.
                match (&mut frame).now_or_never() {
                    Some(sent) => sending.push(ready(sent).boxed()),
                    None => sending.push(frame),
                }
            }
            if let Some(error) = join_all(sending).await.into_iter().find_map(Result::err) {
                // The consumer sees that its channel has ended, and the messages come again.
                tracing::debug!(%error, "settlements did not reach the broker");
            }
            if let Some(prefetch) = asked {
                // No answer follows an acknowledgement. One to something that changes nothing tells that those before it were read. If none comes,
                // the channel has ended, and they never will be.
                let _ = channel.basic_qos(prefetch, BasicQosOptions::default()).await;
            }
        }
        if asked.is_some() {
            self.reached.send_replace(given);
        }
    }
}

async fn send(channel: Channel, frame: Frame) -> lapin::Result<()> {
    match frame {
        Frame::Ack { tag, multiple } => channel.basic_ack(tag, BasicAckOptions { multiple }).await,
        Frame::Release { tag } => channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await,
    }
}

impl Acker {
    pub(super) fn start() -> (Arc<Self>, Arc<Shared>) {
        let shared = Arc::new(Shared { state: Mutex::default(), work: Notify::new(), reached: watch::Sender::new(0) });
        let ends = CancellationToken::new();
        let acker = Arc::new(Self { shared: Arc::clone(&shared), _ends: ends.clone().drop_guard() });
        let task = Arc::clone(&shared);
        tokio::spawn(async move {
            while ends.run_until_cancelled(task.work.notified()).await.is_some() {
                task.work_off().await;
            }
            task.work_off().await;
            // The channel goes with its last clone: the broker gives what is still out to others.
            task.state.lock().channel = None;
        });
        (acker, shared)
    }
}

impl Settler for Acker {
    fn settle(&self, settlements: Vec<(u64, Settle)>) {
        self.shared.give(settlements.into_iter().map(|(tag, settle)| match settle {
            Settle::Ack => (tag, Verb::Ack),
            Settle::Release => (tag, Verb::Release),
            Settle::Retry { .. } | Settle::DeadLetter { .. } => {
                tracing::error!("retries and dead letters are the SDK's with this transport: the message is released");
                (tag, Verb::Release)
            }
        }));
    }

    fn ack_and_publish(&self, _tag: u64, _messages: Vec<Outgoing>) -> BoxFuture<'_, Result<(), PublishError>> {
        // The SDK publishes, and then acknowledges: at least once.
        ready(Err(PublishError::Unsupported { transport: super::NAME, what: "ack_and_publish" })).boxed()
    }

    fn extend(&self, _tag: u64, _by: Duration) {
        // A delivery stays with its consumer for as long as the channel does.
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        self.shared.flush().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(deliveries: u64) -> Book {
        let mut book = Book::default();
        for tag in 1..=deliveries {
            book.delivered(tag);
        }
        book
    }

    fn acks(tags: &[u64]) -> impl Iterator<Item = (u64, Verb)> {
        tags.iter().map(|tag| (*tag, Verb::Ack))
    }

    #[test]
    fn neighbours_are_acknowledged_together_and_others_alone() {
        let mut book = book(10);
        assert_eq!(book.settle(acks(&[1])), [Frame::Ack { tag: 1, multiple: false }]);
        assert_eq!(book.settle(acks(&[4, 2, 3])), [Frame::Ack { tag: 4, multiple: true }]);
        let alone = [6, 7].map(|tag| Frame::Ack { tag, multiple: false });
        assert_eq!(book.settle(acks(&[7, 6])), alone);
        // 7 is acknowledged already: the broker would not know it any more.
        assert_eq!(book.settle(acks(&[5])), [Frame::Ack { tag: 5, multiple: false }]);
        assert_eq!(book.settle(acks(&[10, 8, 9])), [Frame::Ack { tag: 10, multiple: true }]);
        assert!(book.others.is_empty());
    }

    #[test]
    fn what_is_released_is_not_acknowledged_with_its_neighbours() {
        let mut book = book(4);
        let settled = [(1, Verb::Ack), (2, Verb::Release), (3, Verb::Ack)].into_iter();
        // The release goes first, so that the acknowledgement of all until 3 finds it gone.
        assert_eq!(book.settle(settled), [Frame::Release { tag: 2 }, Frame::Ack { tag: 3, multiple: true }]);
    }

    #[test]
    fn tags_of_a_lost_channel_and_second_settlements_are_passed_over() {
        let mut book = book(3);
        assert_eq!(book.settle(acks(&[2, 2])).len(), 1);
        book.begin();
        assert_eq!(book.delivered(1), 4);
        assert_eq!(book.settle(acks(&[1, 3, 9])), []);
        assert_eq!(book.stale, 4);
        assert_eq!(book.settle(acks(&[4])), [Frame::Ack { tag: 1, multiple: false }]);
    }
}
