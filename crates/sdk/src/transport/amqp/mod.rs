//! AMQP 0-9-1, against Posthouse or RabbitMQ (3.10 and later, 4 too), without knowing which.
//!
//! # What things are
//! | here | in AMQP |
//! |---|---|
//! | topic | a durable exchange of type `topic`; a message's subject is its routing key |
//! | queue | a durable queue without arguments, but for `x-max-priority` where priorities are asked for; and `<queue>.dlq` |
//! | [`Destination::Queue`] | the default exchange; the subject travels in the header `svc-subject` |
//! | delay | a [waiting queue](#delays) |
//! | [`Destination::Live`] | the exchange `svc.live`; listeners and inboxes are exclusive queues, those of a group share one |
//! | dedup id | the header `svc-dedup-id`, for idempotent consumers: brokers of this protocol do not look at it |
//!
//! Retries and dead letters are the SDK's: it publishes the message again to its queue, with its attempts counted in a header and a delay, or to
//! `<queue>.dlq`, and then acknowledges. Of headers whose name stands more than once all are kept; headers come out sorted by name.
//!
//! # Delays
//! A message that is not to be delivered yet waits in a queue of its own for that wait and destination, `svc.wait.<queue>.<ms>` or
//! `svc.wait-topic.<topic>.<ms>`, from which the broker moves it when the time is over. So that there are at most some hundred of these, waits are
//! rounded up to four steps an octave: **a delayed message may come up to a quarter of its delay late**, never early. They go away by
//! themselves when they are not used.
//!
//! # Limits
//! [`Transport::queue_len`] counts the messages that are ready: the protocol does not tell how many are out with consumers, or wait for their time.
//! A delivery has no lease: it is its consumer's until it is settled, or the connection ends (or until the broker's own timeout, 30 minutes unless
//! configured otherwise), so [`Consume::lease`] and [`Settler::extend`](crate::transport::Settler::extend) have nothing to set.

mod consumer;
mod declare;
mod envelope;
mod faults;
mod known;
mod link;
mod live;
mod options;
mod publisher;
mod publishing;
mod redrive;
mod settler;
mod values;
mod waits;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;
use types::{Clock, Timestamp};

use self::link::Link;
use self::live::{Ear, Heard};
pub use self::options::AmqpOptions;
use self::options::{GOODBYE_TIMEOUT, MAX_BODY_BYTES};
use self::publisher::Publisher;
use self::settler::Shared;
use super::{
    Capabilities, Connection, Consume, Consumer, Destination, Expected, Inbox, Listener, Outgoing, Position,
    PublishError, Published, Reader, Record, Settlement, StartAt, Support, Topology, Transport, TransportError,
};
use crate::Envelope;

/// Its name.
const NAME: &str = "amqp";

const CAPABILITIES: Capabilities = Capabilities {
    settlement: Settlement::PerMessage,
    retry: Support::Sdk,
    dead_letter: Support::Sdk,
    delay: Support::Sdk,
    max_delay: Some(Duration::from_millis(waits::MAX_WAIT_MS)),
    keyed: Support::No,
    replay: Support::No,
    key_index: Support::No,
    expected_version: Support::No,
    ack_and_publish: Support::Sdk,
    dedup: Support::No,
    live: Support::Broker,
    priority: Support::Broker,
    browse: Support::No,
    max_body_bytes: MAX_BODY_BYTES,
};

/// A connection to a broker that speaks AMQP 0-9-1. See the [module](self).
///
/// ```no_run
/// use sdk::transport::amqp::{Amqp, AmqpOptions};
///
/// # async fn connect() -> Result<(), sdk::transport::TransportError> {
/// let broker = Amqp::connect("amqp://shop:secret@127.0.0.1:5672/%2f", AmqpOptions::default()).await?;
/// # Ok(()) }
/// ```
pub struct Amqp {
    link: Arc<Link>,
    publisher: Publisher,
    waits: waits::Declared,
    known: known::Known,
    /// What is flushed at the end.
    consumers: Mutex<Vec<Weak<Shared>>>,
}

impl Amqp {
    /// Connects to `amqp://user:password@host:port/vhost`, and keeps a connection from then on. The vhost `/` is written `%2f`.
    ///
    /// # Errors
    /// The address or a setting makes no sense, the login is refused, or there was no connection within [`AmqpOptions::patience`].
    pub async fn connect(address: &str, options: AmqpOptions) -> Result<Self, TransportError> {
        let link = Link::connect(address, options).await?;
        Ok(Self {
            publisher: Publisher::start(&link),
            link,
            waits: waits::Declared::default(),
            known: known::Known::default(),
            consumers: Mutex::default(),
        })
    }

    async fn end(&self) {
        self.link.closing.cancel();
        self.publisher.flush().await;
        let consumers: Vec<_> = self.consumers.lock().drain(..).filter_map(|shared| shared.upgrade()).collect();
        for consumer in consumers {
            // A broker that takes nothing any more gives all of it to others.
            let _ = timeout(GOODBYE_TIMEOUT, consumer.flush()).await;
        }
        self.link.closed.cancel();
        let mut state = self.link.state();
        // The link itself waits no longer for the broker.
        let _ = timeout(GOODBYE_TIMEOUT * 2, state.wait_for(|state| *state == Connection::Closed)).await;
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        self.link.closing.cancel();
        self.link.closed.cancel();
    }
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp").field("address", &self.link.address).finish_non_exhaustive()
    }
}

fn now() -> Timestamp {
    types::clock::SystemClock::new().now().wall
}

/// What this transport has not.
fn unsupported<T: Send + 'static>(what: &'static str, instead: &str) -> BoxFuture<'static, Result<T, TransportError>> {
    ready(Err(TransportError::Unsupported { transport: NAME, what, instead: instead.to_owned() })).boxed()
}

const NO_LOG: &str = "give each reader a queue of its own, bound to the topic before the first message";

impl Transport for Amqp {
    fn name(&self) -> &'static str {
        NAME
    }

    /// `rabbitmq`, whichever broker it is: OpenTelemetry's name for what speaks this protocol.
    fn system(&self) -> &'static str {
        "rabbitmq"
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn now(&self) -> Timestamp {
        now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed()
    }

    fn connection(&self) -> watch::Receiver<Connection> {
        self.link.state()
    }

    fn declare<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<(), TransportError>> {
        declare::topology(&self.link, topology).boxed()
    }

    fn publish(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        self.publish_all(messages).boxed()
    }

    fn publish_expecting(
        &self,
        _topic: &str,
        _messages: Vec<Envelope>,
        _expected: Expected,
    ) -> BoxFuture<'_, Result<Vec<Published>, PublishError>> {
        ready(Err(PublishError::Unsupported { transport: NAME, what: "expected_version" })).boxed()
    }

    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, TransportError>> {
        async move {
            let standing = consumer::Standing::start(&self.link, consume).await?;
            let mut consumers = self.consumers.lock();
            consumers.retain(|shared| shared.strong_count() > 0);
            consumers.push(Arc::downgrade(standing.shared()));
            Ok(Box::new(standing) as _)
        }
        .boxed()
    }

    fn listen(&self, pattern: &str, group: Option<&str>) -> BoxFuture<'_, Result<Box<dyn Listener>, TransportError>> {
        let ear = Ear::of(pattern, group);
        async move { Ok(Box::new(Heard::start(&self.link, ear?).await?) as _) }.boxed()
    }

    fn open_inbox(&self) -> BoxFuture<'_, Result<Box<dyn Inbox>, TransportError>> {
        async move { Ok(Box::new(Heard::start(&self.link, Ear::Inbox).await?) as _) }.boxed()
    }

    fn answer(&self, reply_to: &str, mut answer: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        answer.durable = false;
        let outgoing = Outgoing { to: Destination::Queue(reply_to.to_owned()), message: answer };
        async move {
            match self.publish_one(outgoing).await {
                Ok(_) | Err(PublishError::NotFound(_)) => Ok(()),
                Err(error) => Err(error),
            }
        }
        .boxed()
    }

    fn read(
        &self,
        _topic: &str,
        _from: StartAt,
        _follow: bool,
    ) -> BoxFuture<'_, Result<Box<dyn Reader>, TransportError>> {
        unsupported("replay", NO_LOG)
    }

    fn read_key(
        &self,
        _topic: &str,
        _key: &[u8],
        _from: u64,
        _max: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, TransportError>> {
        unsupported("key_index", "keep what is read by its key in a database")
    }

    fn last_of_key(&self, _topic: &str, _key: &[u8]) -> BoxFuture<'_, Result<Option<Record>, TransportError>> {
        unsupported("key_index", "keep what is read by its key in a database")
    }

    fn committed(&self, _topic: &str, _name: &str) -> BoxFuture<'_, Result<Vec<Position>, TransportError>> {
        unsupported("replay", NO_LOG)
    }

    fn commit(&self, _topic: &str, _name: &str, _next: Vec<Position>) -> BoxFuture<'_, Result<(), TransportError>> {
        unsupported("replay", NO_LOG)
    }

    /// Those that are ready; see [Limits](self#limits).
    fn queue_len(&self, queue: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        let queue = queue.to_owned();
        async move { declare::ready(&self.link, &queue).await }.boxed()
    }

    fn browse(&self, _queue: &str, _max: u32) -> BoxFuture<'_, Result<Vec<Envelope>, TransportError>> {
        // To get messages and give them back would mark them as redelivered.
        unsupported("browse", "look at the queue with the broker's own tools")
    }

    fn redrive(&self, dead_letter_queue: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        let queue = dead_letter_queue.to_owned();
        async move { redrive::redrive(self, &queue).await }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.end().boxed()
    }
}
