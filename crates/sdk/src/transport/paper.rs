//! A transport on paper, for tests of what stands above the trait: queues and topics in memory, dead letters, and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use types::clock::SystemClock;
use types::{Clock, SubjectPattern, Timestamp};

use super::{
    BindingSpec, Capabilities, Connection, Consume, Consumer, Delivery, Destination, Expected, Inbox, Listener,
    Outgoing, Position, PublishError, Published, Reader, Record, Settle, Settler, StartAt, Support, Topology,
    Transport, TransportError,
};
use crate::{Envelope, headers};

const NAME: &str = "paper";

/// Queues in memory. See the [module](self).
#[derive(Debug)]
pub(crate) struct Paper {
    capabilities: Capabilities,
    clock: SystemClock,
    connection: watch::Sender<Connection>,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<String, VecDeque<Waiting>>,
    topics: Vec<String>,
    bindings: Vec<BindingSpec>,
    /// What is out, by tag: its queue, its consumer, and the message.
    out: BTreeMap<u64, (String, u64, Waiting)>,
    last: u64,
    stopped: Vec<u64>,
    /// A fault to find: the second of two messages is put before the first.
    swaps: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    message: Envelope,
    redelivered: bool,
}

impl Paper {
    pub(crate) fn new() -> Arc<Self> {
        let capabilities = Capabilities {
            dead_letter: Support::Broker,
            browse: Support::Broker,
            max_body_bytes: 1024 * 1024,
            ..Capabilities::none()
        };
        Arc::new(Self {
            capabilities,
            clock: SystemClock::new(),
            connection: watch::Sender::new(Connection::Up),
            state: Arc::default(),
            changed: Arc::default(),
        })
    }

    /// The same with a fault that the conformance suite has to find.
    pub(crate) fn that_swaps() -> Arc<Self> {
        let paper = Self::new();
        paper.state.lock().swaps = true;
        paper
    }

    fn open(&self) -> Result<(), TransportError> {
        if *self.connection.borrow() == Connection::Closed { Err(TransportError::Closed) } else { Ok(()) }
    }

    fn publish_one(&self, outgoing: Outgoing) -> Result<Published, PublishError> {
        let Outgoing { to, message } = outgoing;
        let unsupported = |what| PublishError::Unsupported { transport: NAME, what };
        if self.open().is_err() {
            return Err(PublishError::Closed);
        }
        if message.not_before.is_some_and(|time| time > self.now()) {
            return Err(unsupported("delay"));
        }
        let mut state = self.state.lock();
        let queues = match to {
            Destination::Live => return Err(unsupported("live")),
            Destination::Queue(queue) => vec![queue],
            Destination::Topic(topic) if !state.topics.contains(&topic) => {
                return Err(PublishError::NotFound(format!("topic {topic}")));
            }
            Destination::Topic(topic) => {
                let fits = |binding: &&BindingSpec| {
                    let pattern = SubjectPattern::parse(&binding.subject).expect("pattern");
                    binding.topic == topic && pattern.matches(&message.subject)
                };
                let mut queues: Vec<String> =
                    state.bindings.iter().filter(fits).map(|binding| binding.queue.clone()).collect();
                queues.dedup();
                queues
            }
        };
        let swaps = state.swaps;
        for name in &queues {
            let queue = state.queues.get_mut(name).ok_or_else(|| PublishError::NotFound(format!("queue {name}")))?;
            let at = if swaps && queue.len() % 2 == 1 { queue.len() - 1 } else { queue.len() };
            queue.insert(at, Waiting { message: message.clone(), redelivered: false });
        }
        self.changed.notify_waiters();
        Ok(Published { routed: Some(!queues.is_empty()), ..Published::default() })
    }

    fn declare_all(&self, topology: &Topology) -> Result<(), TransportError> {
        self.open()?;
        for topic in &topology.topics {
            match (topic.retention, topic.key_index) {
                (Some(_), _) => return Err(unsupported("replay")),
                (_, true) => return Err(unsupported("key_index")),
                (None, false) => self.state.lock().topics.push(topic.name.clone()),
            }
        }
        for queue in &topology.queues {
            let lacks = [
                (queue.keyed, "keyed"),
                (queue.dedup_window.is_some(), "dedup"),
                (queue.priority_levels.is_some(), "priority"),
            ];
            if let Some((_, what)) = lacks.iter().find(|(asked, _)| *asked) {
                return Err(unsupported(what));
            }
            let mut state = self.state.lock();
            state.queues.entry(queue.name.clone()).or_default();
            state.queues.entry(queue.dead_letter_queue()).or_default();
        }
        for binding in &topology.bindings {
            let mut state = self.state.lock();
            if !state.topics.contains(&binding.topic) {
                return Err(TransportError::NotFound(format!("topic {}", binding.topic)));
            }
            state.bindings.push(binding.clone());
        }
        Ok(())
    }

    fn looking<T>(&self, queue: &str, look: impl FnOnce(&VecDeque<Waiting>, usize) -> T) -> Result<T, TransportError> {
        self.open()?;
        let state = self.state.lock();
        let waiting = state.queues.get(queue).ok_or_else(|| TransportError::NotFound(format!("queue {queue}")))?;
        let out = state.out.values().filter(|(of, _, _)| of == queue).count();
        Ok(look(waiting, out))
    }
}

fn unsupported(what: &'static str) -> TransportError {
    TransportError::Unsupported { transport: NAME, what, instead: "use another".to_owned() }
}

fn refused<T: Send + 'static>(what: &'static str) -> BoxFuture<'static, Result<T, TransportError>> {
    ready(Err(unsupported(what))).boxed()
}

impl Transport for Paper {
    fn name(&self) -> &'static str {
        NAME
    }

    fn system(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed()
    }

    fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    fn declare<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<(), TransportError>> {
        ready(self.declare_all(topology)).boxed()
    }

    fn publish(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        ready(messages.into_iter().map(|outgoing| self.publish_one(outgoing)).collect()).boxed()
    }

    fn publish_expecting(
        &self,
        _: &str,
        _: Vec<Envelope>,
        _: Expected,
    ) -> BoxFuture<'_, Result<Vec<Published>, PublishError>> {
        ready(Err(PublishError::Unsupported { transport: NAME, what: "expected_version" })).boxed()
    }

    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, TransportError>> {
        let consumer = self.looking(&consume.queue, |_, _| ()).map(|()| {
            let mut state = self.state.lock();
            state.last += 1;
            let desk = Desk { state: self.state.clone(), changed: self.changed.clone(), consumer: state.last };
            let connection = self.connection.subscribe();
            Box::new(PaperConsumer { desk: Arc::new(desk), consume, connection }) as Box<dyn Consumer>
        });
        ready(consumer).boxed()
    }

    fn listen(&self, _: &str, _: Option<&str>) -> BoxFuture<'_, Result<Box<dyn Listener>, TransportError>> {
        refused("live")
    }

    fn open_inbox(&self) -> BoxFuture<'_, Result<Box<dyn Inbox>, TransportError>> {
        refused("live")
    }

    fn answer(&self, _: &str, _: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        ready(Err(PublishError::Unsupported { transport: NAME, what: "live" })).boxed()
    }

    fn read(&self, _: &str, _: StartAt, _: bool) -> BoxFuture<'_, Result<Box<dyn Reader>, TransportError>> {
        refused("replay")
    }

    fn read_key(&self, _: &str, _: &[u8], _: u64, _: u32) -> BoxFuture<'_, Result<Vec<Record>, TransportError>> {
        refused("key_index")
    }

    fn last_of_key(&self, _: &str, _: &[u8]) -> BoxFuture<'_, Result<Option<Record>, TransportError>> {
        refused("key_index")
    }

    fn committed(&self, _: &str, _: &str) -> BoxFuture<'_, Result<Vec<Position>, TransportError>> {
        refused("replay")
    }

    fn commit(&self, _: &str, _: &str, _: Vec<Position>) -> BoxFuture<'_, Result<(), TransportError>> {
        refused("replay")
    }

    fn queue_len(&self, queue: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        ready(self.looking(queue, |waiting, out| u64::try_from(waiting.len() + out).expect("small"))).boxed()
    }

    fn browse(&self, queue: &str, max: u32) -> BoxFuture<'_, Result<Vec<Envelope>, TransportError>> {
        let max = usize::try_from(max).expect("small");
        let looked =
            self.looking(queue, |waiting, _| waiting.iter().take(max).map(|waiting| waiting.message.clone()).collect());
        ready(looked).boxed()
    }

    fn redrive(&self, dead_letter_queue: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        let mut state = self.state.lock();
        let letters = state.queues.get_mut(dead_letter_queue).map(std::mem::take).unwrap_or_default();
        let moved = u64::try_from(letters.len()).expect("small");
        let queue = dead_letter_queue.trim_end_matches(".dlq");
        state.queues.entry(queue.to_owned()).or_default().extend(letters);
        self.changed.notify_waiters();
        ready(Ok(moved)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.connection.send_replace(Connection::Closed);
        self.changed.notify_waiters();
        ready(()).boxed()
    }
}

struct PaperConsumer {
    desk: Arc<Desk>,
    consume: Consume,
    connection: watch::Receiver<Connection>,
}

/// Where one consumer takes and settles.
struct Desk {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    consumer: u64,
}

impl Consumer for PaperConsumer {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Delivery>>, TransportError>> {
        async move {
            loop {
                let changed = self.desk.changed.clone();
                let mut changed = std::pin::pin!(changed.notified());
                changed.as_mut().enable();
                if *self.connection.borrow() == Connection::Closed || self.desk.is_stopped() {
                    return Ok(None);
                }
                let taken = self.desk.take(&self.consume);
                if !taken.is_empty() {
                    return Ok(Some(taken));
                }
                changed.await;
            }
        }
        .boxed()
    }

    fn settler(&self) -> Arc<dyn Settler> {
        self.desk.clone()
    }

    fn stop(&mut self) {
        self.desk.state.lock().stopped.push(self.desk.consumer);
        self.desk.changed.notify_waiters();
    }
}

impl Drop for PaperConsumer {
    fn drop(&mut self) {
        let mut state = self.desk.state.lock();
        let mine = |(_, (_, consumer, _)): &(&u64, &(String, u64, Waiting))| *consumer == self.desk.consumer;
        let tags: Vec<u64> = state.out.iter().filter(mine).map(|(tag, _)| *tag).collect();
        for tag in tags.into_iter().rev() {
            back(&mut state, tag);
        }
        self.desk.changed.notify_waiters();
    }
}

/// Puts a message that was out back to the head of its queue.
fn back(state: &mut State, tag: u64) {
    if let Some((queue, _, waiting)) = state.out.remove(&tag) {
        let waiting = Waiting { redelivered: true, ..waiting };
        state.queues.entry(queue).or_default().push_front(waiting);
    }
}

impl Desk {
    fn is_stopped(&self) -> bool {
        self.state.lock().stopped.contains(&self.consumer)
    }

    fn take(&self, consume: &Consume) -> Vec<Delivery> {
        let mut state = self.state.lock();
        let mut out = state.out.values().filter(|(_, consumer, _)| *consumer == self.consumer).count();
        let mut taken = Vec::new();
        while out < usize::try_from(consume.credit).expect("small") {
            let Some(waiting) = state.queues.get_mut(&consume.queue).and_then(VecDeque::pop_front) else {
                break;
            };
            state.last += 1;
            let tag = state.last;
            let Waiting { message, redelivered } = waiting.clone();
            taken.push(Delivery { tag, message, attempt: 1, redelivered });
            state.out.insert(tag, (consume.queue.clone(), self.consumer, waiting));
            out += 1;
        }
        taken
    }
}

impl Settler for Desk {
    fn settle(&self, settlements: Vec<(u64, Settle)>) {
        let mut state = self.state.lock();
        for (tag, how) in settlements {
            match how {
                Settle::Ack => drop(state.out.remove(&tag)),
                Settle::Release => back(&mut state, tag),
                // Not declared: at once and without an attempt is what this one has.
                Settle::Retry { .. } => back(&mut state, tag),
                Settle::DeadLetter { reason } => {
                    if let Some((queue, _, mut waiting)) = state.out.remove(&tag) {
                        headers::set(&mut waiting.message, headers::DEAD_LETTER_REASON, reason);
                        state.queues.entry(format!("{queue}.dlq")).or_default().push_back(waiting);
                    }
                }
            }
        }
        self.changed.notify_waiters();
    }

    fn ack_and_publish(&self, _: u64, _: Vec<Outgoing>) -> BoxFuture<'_, Result<(), PublishError>> {
        ready(Err(PublishError::Unsupported { transport: NAME, what: "ack_and_publish" })).boxed()
    }

    fn extend(&self, _: u64, _: Duration) {}

    fn flush(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
