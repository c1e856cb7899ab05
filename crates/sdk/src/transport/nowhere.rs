//! A transport that leads nowhere, for contexts made by hand.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::watch;
use types::clock::SystemClock;
use types::{Clock, Timestamp};

use super::{
    Capabilities, Connection, Consume, Consumer, Expected, Inbox, Listener, Outgoing, Position, PublishError,
    Published, Reader, Record, StartAt, Topology, Transport, TransportError,
};
use crate::Envelope;

/// A transport that can do nothing and refuses everything.
#[derive(Debug)]
pub(crate) struct Nowhere {
    capabilities: Capabilities,
    clock: SystemClock,
    connection: watch::Sender<Connection>,
}

impl Nowhere {
    pub(crate) fn new() -> Self {
        Self {
            capabilities: Capabilities::none(),
            clock: SystemClock::new(),
            connection: watch::Sender::new(Connection::Closed),
        }
    }
}

fn refused<T: Send + 'static>(what: &'static str) -> BoxFuture<'static, Result<T, TransportError>> {
    let instead = "this context was made by hand; give it a client with `ContextBuilder::client`".to_owned();
    ready(Err(TransportError::Unsupported { transport: "nowhere", what, instead })).boxed()
}

const UNPUBLISHED: PublishError = PublishError::Unsupported { transport: "nowhere", what: "broker" };

impl Transport for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn system(&self) -> &'static str {
        "nowhere"
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

    fn declare<'a>(&'a self, _: &'a Topology) -> BoxFuture<'a, Result<(), TransportError>> {
        refused("topology")
    }

    fn publish(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        ready(messages.iter().map(|_| Err(UNPUBLISHED)).collect()).boxed()
    }

    fn publish_expecting(
        &self,
        _: &str,
        _: Vec<Envelope>,
        _: Expected,
    ) -> BoxFuture<'_, Result<Vec<Published>, PublishError>> {
        ready(Err(UNPUBLISHED)).boxed()
    }

    fn consume(&self, _: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, TransportError>> {
        refused("queues")
    }

    fn listen(&self, _: &str, _: Option<&str>) -> BoxFuture<'_, Result<Box<dyn Listener>, TransportError>> {
        refused("live")
    }

    fn open_inbox(&self) -> BoxFuture<'_, Result<Box<dyn Inbox>, TransportError>> {
        refused("live")
    }

    fn answer(&self, _: &str, _: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        ready(Err(UNPUBLISHED)).boxed()
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

    fn queue_len(&self, _: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        refused("queues")
    }

    fn browse(&self, _: &str, _: u32) -> BoxFuture<'_, Result<Vec<Envelope>, TransportError>> {
        refused("browse")
    }

    fn redrive(&self, _: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        refused("queues")
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
