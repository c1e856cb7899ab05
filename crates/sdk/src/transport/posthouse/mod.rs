//! Posthouse over gRPC, or the broker's services in the same process.
//!
//! One connection carries a standing publish stream, a stream for each consumer, and single calls. The transport reconnects by itself, with
//! exponential waits and full jitter: what was published and not confirmed is sent again in order, consumers and listeners begin again, and
//! readers go on from the next offset.
//!
//! ```no_run
//! use sdk::transport::Transport;
//! use sdk::transport::posthouse::{Posthouse, PosthouseOptions};
//!
//! # async fn example() -> Result<(), sdk::transport::TransportError> {
//! let transport = Posthouse::connect("posthouse://localhost/shop", PosthouseOptions::default()).await?;
//! println!("{} messages wait", transport.queue_len("orders").await?);
//! transport.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Without a dedup window, what is sent again after a lost connection may be stored twice; with one (`dedup_window` of a queue and a
//! `dedup_id` in the message) it is stored once.

mod admin;
mod consuming;
mod core;
mod door;
mod expecting;
mod fault;
mod ledger;
mod live;
mod options;
mod publishing;
mod reading;
mod settling;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::grpc as g;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};
use types::clock::SystemClock;
use types::{Clock, Timestamp};

use self::core::{Core, Keep};
pub use self::door::BoxedService;
use self::door::Door;
use self::live::Subscription;
use self::options::Address;
pub use self::options::{PosthouseOptions, Token};
use self::publishing::{Publishing, Worker};
use self::reading::Reading;
use super::{
    Capabilities, Connection, Consume, Consumer, Destination, Expected, Inbox, Listener, Outgoing, Position,
    PublishError, Published, Reader, Record, Settlement, StartAt, Support, Topology, Transport, TransportError,
};
use crate::Envelope;
pub use crate::backoff::Backoff;

/// The largest body that a broker takes unless its operator says otherwise, in bytes.
const MAX_BODY_BYTES: usize = types::limits::DEFAULT_MAX_BODY_BYTES;

const CAPABILITIES: Capabilities = Capabilities {
    settlement: Settlement::PerMessage,
    retry: Support::Broker,
    dead_letter: Support::Broker,
    delay: Support::Broker,
    max_delay: None,
    keyed: Support::Broker,
    replay: Support::Broker,
    key_index: Support::Broker,
    expected_version: Support::Broker,
    ack_and_publish: Support::Broker,
    dedup: Support::Broker,
    live: Support::Broker,
    priority: Support::Broker,
    browse: Support::Broker,
    max_body_bytes: MAX_BODY_BYTES,
};

/// Where a transport has its time from. The waits of reconnects and of confirmations are always in the machine's own.
pub trait Time: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Timestamp;

    /// Ready once it is so much later.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's time.
#[derive(Debug, Default)]
pub struct RealTime(SystemClock);

impl Time for RealTime {
    fn now(&self) -> Timestamp {
        self.0.now().wall
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// The transport of Posthouse. Cheap to clone; all clones are one connection, which is closed when the last of them and of their consumers,
/// listeners and readers is dropped. See the [module](self).
#[derive(Clone)]
pub struct Posthouse {
    core: Keep,
    publishing: Arc<Publishing>,
}

impl Posthouse {
    /// Connects to a broker: `posthouse://[user:password@]host[:port][/namespace]`, or `posthouses://` with TLS; `grpc` and `grpcs` mean the same.
    /// The port is 7071 and the namespace `default` if not given. Ready once there is a connection; from then on it reconnects by itself.
    ///
    /// # Errors
    /// [`TransportError::Invalid`] for a URL or options that make no sense, [`TransportError::Denied`] for credentials that the broker refuses, and
    /// [`TransportError::Unavailable`] if it could not be reached within [`PosthouseOptions::connect_timeout`].
    pub async fn connect(url: &str, options: PosthouseOptions) -> Result<Self, TransportError> {
        let address = Address::parse(url)?;
        let door = Door::connect(&address, &options)?;
        let place = address.place();
        let (transport, first) = Self::begin(door, address.namespace, place, options, Box::<RealTime>::default());
        let limit = transport.core.options.connect_timeout;
        match tokio::time::timeout(limit, first).await {
            Ok(Ok(Ok(()))) => Ok(transport),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) | Err(_) => {
                let fault = transport.core.fault.lock().as_ref().map(|fault| fault.detail().to_owned());
                let why = fault.unwrap_or_else(|| format!("no answer within {limit:?} (connect_timeout)"));
                Err(TransportError::Unavailable { address: transport.core.address.clone(), why })
            }
        }
    }

    /// A transport over the broker's gRPC services, wherever they are: in the same process, or behind a connection of the caller's own. `place` is
    /// what errors call it. It connects in the background; what is asked of it meanwhile waits. To be called within a tokio runtime. Of
    /// the options `authorities` has no meaning here: TLS is the service's own.
    #[must_use]
    pub fn over(
        service: BoxedService,
        place: &str,
        namespace: &str,
        options: PosthouseOptions,
        time: Box<dyn Time>,
    ) -> Self {
        let door = Door::to(service, options.token.as_ref());
        Self::begin(door, namespace.to_owned(), place.to_owned(), options, time).0
    }

    fn begin(
        door: Door,
        namespace: String,
        place: String,
        options: PosthouseOptions,
        time: Box<dyn Time>,
    ) -> (Self, oneshot::Receiver<Result<(), TransportError>>) {
        let publishing = Arc::new(Publishing::new(options.max_pending_messages, options.max_pending_bytes));
        let core = Arc::new(Core::new(door, namespace, place, options, time));
        let (first, begun) = oneshot::channel();
        core.tasks.spawn(Worker::new(Arc::clone(&core), Arc::clone(&publishing), first).run());
        (Self { core: Keep::new(core), publishing }, begun)
    }
}

/// A key of an inbox that nobody guesses: the operating system's random bytes.
fn inbox_key() -> Vec<u8> {
    let (one, two) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    [one.into_bytes(), two.into_bytes()].concat()
}

impl fmt::Debug for Posthouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Posthouse")
            .field("address", &self.core.address)
            .field("namespace", &self.core.namespace)
            .field("connection", &*self.core.connection.borrow())
            .finish_non_exhaustive()
    }
}

impl Transport for Posthouse {
    fn name(&self) -> &'static str {
        "posthouse"
    }

    fn system(&self) -> &'static str {
        "posthouse"
    }

    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn now(&self) -> Timestamp {
        self.core.time.now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.core.time.sleep(time)
    }

    fn connection(&self) -> watch::Receiver<Connection> {
        self.core.connection.subscribe()
    }

    fn declare<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<(), TransportError>> {
        Box::pin(self.core.declare(topology))
    }

    fn publish(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        Box::pin(self.publishing.publish(&self.core, messages))
    }

    fn publish_expecting(
        &self,
        topic: &str,
        messages: Vec<Envelope>,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Vec<Published>, PublishError>> {
        let topic = topic.to_owned();
        Box::pin(async move { self.core.publish_expecting(&topic, messages, expected).await })
    }

    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, TransportError>> {
        Box::pin(async {
            if self.core.closing.is_cancelled() {
                return Err(TransportError::Closed);
            }
            consuming::consume(&self.core, consume).await
        })
    }

    fn listen(&self, pattern: &str, group: Option<&str>) -> BoxFuture<'_, Result<Box<dyn Listener>, TransportError>> {
        let (subject, group) = (pattern.to_owned(), group.map(str::to_owned));
        let request = g::SubscribeRequest { subject, group, ..g::SubscribeRequest::default() };
        Box::pin(async { Ok(Box::new(Subscription::open(&self.core, request).await?) as Box<dyn Listener>) })
    }

    fn open_inbox(&self) -> BoxFuture<'_, Result<Box<dyn Inbox>, TransportError>> {
        let request = g::SubscribeRequest { inbox: inbox_key().into(), ..g::SubscribeRequest::default() };
        Box::pin(async { Ok(Box::new(Subscription::open(&self.core, request).await?) as Box<dyn Inbox>) })
    }

    fn answer(&self, reply_to: &str, mut answer: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        answer.subject = reply_to.to_owned().into();
        let outgoing = vec![Outgoing { to: Destination::Live, message: answer }];
        Box::pin(async {
            let end = self.publishing.publish(&self.core, outgoing).await.pop();
            end.unwrap_or(Err(PublishError::Closed)).map(drop)
        })
    }

    fn read(&self, topic: &str, from: StartAt, follow: bool) -> BoxFuture<'_, Result<Box<dyn Reader>, TransportError>> {
        let topic = topic.to_owned();
        Box::pin(async move { Ok(Box::new(Reading::open(&self.core, &topic, from, follow).await?) as Box<dyn Reader>) })
    }

    fn read_key(
        &self,
        topic: &str,
        key: &[u8],
        from: u64,
        max: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, TransportError>> {
        let (topic, key) = (topic.to_owned(), key.to_vec());
        Box::pin(async move { self.core.read_key(&topic, &key, from, max).await })
    }

    fn last_of_key(&self, topic: &str, key: &[u8]) -> BoxFuture<'_, Result<Option<Record>, TransportError>> {
        let (topic, key) = (topic.to_owned(), key.to_vec());
        Box::pin(async move { self.core.last_of_key(&topic, &key).await })
    }

    fn committed(&self, topic: &str, name: &str) -> BoxFuture<'_, Result<Vec<Position>, TransportError>> {
        let (topic, name) = (topic.to_owned(), name.to_owned());
        Box::pin(async move { self.core.committed(&topic, &name).await })
    }

    fn commit(&self, topic: &str, name: &str, next: Vec<Position>) -> BoxFuture<'_, Result<(), TransportError>> {
        let (topic, name) = (topic.to_owned(), name.to_owned());
        Box::pin(async move { self.core.commit(&topic, &name, next).await })
    }

    fn queue_len(&self, queue: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        let queue = queue.to_owned();
        Box::pin(async move { self.core.queue_len(&queue).await })
    }

    fn browse(&self, queue: &str, max: u32) -> BoxFuture<'_, Result<Vec<Envelope>, TransportError>> {
        let queue = queue.to_owned();
        Box::pin(async move { self.core.browse(&queue, max).await })
    }

    fn redrive(&self, dead_letter_queue: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        let queue = dead_letter_queue.to_owned();
        Box::pin(async move { self.core.redrive(&queue).await })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.core.closing.cancel();
            self.core.tasks.close();
            self.core.tasks.wait().await;
        })
    }
}
