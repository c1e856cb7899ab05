//! A broker that takes what it is given, unless a test says otherwise.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use sdk::Envelope;
use sdk::sql::{Backend, Relay, RelayError, RelayOptions, Store};
use sdk::transport::{
    Capabilities, Connection, Consume, Consumer, Expected, Inbox, Listener, Outgoing, Position, PublishError,
    Published, Reader, Record, StartAt, Topology, Transport, TransportError,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use types::Timestamp;

use super::db::DEADLINE;

type Rule = Box<dyn FnMut(&Outgoing) -> Result<(), PublishError> + Send>;

/// A real broker, and what is called once it has confirmed.
type Behind = (Arc<dyn Transport>, fn());

/// A broker that only publishes are sent to.
pub(crate) struct Broker {
    taken: watch::Sender<Vec<Outgoing>>,
    rule: Mutex<Rule>,
    /// How long a confirmation takes.
    takes: Mutex<Duration>,
    /// How many messages came at a time.
    calls: Mutex<Vec<usize>>,
    /// The real broker behind it, if there is one, and what is called between its confirmations and the relay.
    behind: Option<Behind>,
    capabilities: Capabilities,
    connection: watch::Sender<Connection>,
}

impl Broker {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::made(None))
    }

    /// Passes messages on to a real broker, and calls this when they are confirmed.
    #[allow(dead_code, reason = "for the tests of another crate, which has a real broker")]
    pub(crate) fn before(broker: Arc<dyn Transport>, confirmed: fn()) -> Arc<Self> {
        Arc::new(Self::made(Some((broker, confirmed))))
    }

    fn made(behind: Option<Behind>) -> Self {
        Self {
            behind,
            taken: watch::Sender::new(Vec::new()),
            rule: Mutex::new(Box::new(|_| Ok(()))),
            takes: Mutex::default(),
            calls: Mutex::default(),
            capabilities: Capabilities { max_body_bytes: usize::MAX, ..Capabilities::none() },
            connection: watch::Sender::new(Connection::Up),
        }
    }

    /// What becomes of each message from now on.
    pub(crate) fn rule(&self, rule: impl FnMut(&Outgoing) -> Result<(), PublishError> + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// Confirmations take so long from now on.
    pub(crate) fn takes(&self, time: Duration) {
        *self.takes.lock().unwrap() = time;
    }

    /// What was taken so far.
    pub(crate) fn taken(&self) -> Vec<Outgoing> {
        self.taken.borrow().clone()
    }

    /// The bodies of what was taken so far.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.taken.borrow().iter().map(body).collect()
    }

    /// How many messages came at a time.
    pub(crate) fn calls(&self) -> Vec<usize> {
        self.calls.lock().unwrap().clone()
    }

    /// Waits until so many were taken.
    pub(crate) async fn until(&self, count: usize) -> Vec<Outgoing> {
        let mut taken = self.taken.subscribe();
        let taken = tokio::time::timeout(DEADLINE, taken.wait_for(|taken| taken.len() >= count)).await;
        taken.unwrap_or_else(|_| panic!("{:?} after {DEADLINE:?}", self.bodies())).unwrap().clone()
    }
}

pub(crate) fn body(outgoing: &Outgoing) -> String {
    String::from_utf8(outgoing.message.body.as_deref().unwrap_or_default().to_vec()).unwrap()
}

/// A relay that runs.
pub(crate) struct Running {
    pub(crate) task: JoinHandle<Result<(), RelayError>>,
    pub(crate) stop: CancellationToken,
}

impl Running {
    pub(crate) fn start<DB: Backend>(store: &Store<DB>, broker: &Arc<Broker>, options: RelayOptions) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(Relay::run(store.clone(), broker.clone(), options, stop.clone()));
        Self { task, stop }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it stops").unwrap().unwrap();
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broker")
    }
}

fn none<T: Send + 'static>() -> BoxFuture<'static, Result<T, TransportError>> {
    ready(Err(TransportError::Unsupported { transport: "test", what: "such thing", instead: String::new() })).boxed()
}

fn no_publish<T: Send + 'static>() -> BoxFuture<'static, Result<T, PublishError>> {
    ready(Err(PublishError::Unsupported { transport: "test", what: "such thing" })).boxed()
}

impl Transport for Broker {
    fn name(&self) -> &'static str {
        "test"
    }

    fn system(&self) -> &'static str {
        "test"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn now(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(time).boxed()
    }

    fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    fn declare<'a>(&'a self, _: &'a Topology) -> BoxFuture<'a, Result<(), TransportError>> {
        none()
    }

    fn publish(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        Box::pin(async move {
            if let Some((broker, confirmed)) = &self.behind {
                let results = broker.publish(messages).await;
                confirmed();
                return results;
            }
            self.calls.lock().unwrap().push(messages.len());
            let results = messages.into_iter().map(|message| {
                (self.rule.lock().unwrap())(&message)?;
                self.taken.send_modify(|taken| taken.push(message));
                Ok(Published::default())
            });
            let results = results.collect();
            let takes = *self.takes.lock().unwrap();
            tokio::time::sleep(takes).await;
            results
        })
    }

    fn publish_expecting(
        &self,
        _: &str,
        _: Vec<Envelope>,
        _: Expected,
    ) -> BoxFuture<'_, Result<Vec<Published>, PublishError>> {
        no_publish()
    }

    fn consume(&self, _: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, TransportError>> {
        none()
    }

    fn listen(&self, _: &str, _: Option<&str>) -> BoxFuture<'_, Result<Box<dyn Listener>, TransportError>> {
        none()
    }

    fn open_inbox(&self) -> BoxFuture<'_, Result<Box<dyn Inbox>, TransportError>> {
        none()
    }

    fn answer(&self, _: &str, _: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        no_publish()
    }

    fn read(&self, _: &str, _: StartAt, _: bool) -> BoxFuture<'_, Result<Box<dyn Reader>, TransportError>> {
        none()
    }

    fn read_key(&self, _: &str, _: &[u8], _: u64, _: u32) -> BoxFuture<'_, Result<Vec<Record>, TransportError>> {
        none()
    }

    fn last_of_key(&self, _: &str, _: &[u8]) -> BoxFuture<'_, Result<Option<Record>, TransportError>> {
        none()
    }

    fn committed(&self, _: &str, _: &str) -> BoxFuture<'_, Result<Vec<Position>, TransportError>> {
        none()
    }

    fn commit(&self, _: &str, _: &str, _: Vec<Position>) -> BoxFuture<'_, Result<(), TransportError>> {
        none()
    }

    fn queue_len(&self, _: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        none()
    }

    fn browse(&self, _: &str, _: u32) -> BoxFuture<'_, Result<Vec<Envelope>, TransportError>> {
        none()
    }

    fn redrive(&self, _: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        none()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
