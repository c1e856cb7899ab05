//! The connections that are there, with their channels and consumers, for those who look after them.
//!
//! A connection enters itself and keeps its entry up to date; dropping the entry takes it out. What changes with every message is a number
//! that nobody waits for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use types::{Headers, Timestamp};

/// All connections of the process.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<BTreeMap<u64, Arc<Connection>>>>);

/// What a connection is, from its opening on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    /// Unique in the process, and grows.
    pub(crate) number: u64,
    pub(crate) user: String,
    pub(crate) vhost: String,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) tls: bool,
    /// Such as `PLAIN`.
    pub(crate) mechanism: String,
    pub(crate) client_properties: Headers,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat_s: u16,
    pub(crate) connected_at: Timestamp,
}

impl Identity {
    /// The connection's name, as RabbitMQ makes it. Ports may come back, so that it names one connection at a time only.
    pub(crate) fn name(&self) -> String {
        format!("{} -> {}", self.peer, self.local)
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) identity: Identity,
    /// Whether its publishers are held back.
    pub(crate) blocked: AtomicBool,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    channels: Mutex<BTreeMap<u16, Arc<Channel>>>,
    close: watch::Sender<Option<String>>,
}

/// A channel.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) number: u16,
    /// For each consumer; 0 is no bound.
    pub(crate) prefetch: AtomicU32,
    /// For the channel as a whole; 0 is no bound.
    pub(crate) global_prefetch: AtomicU32,
    pub(crate) confirm: AtomicBool,
    pub(crate) transactional: AtomicBool,
    /// Deliveries that were not settled.
    pub(crate) unacknowledged: AtomicU64,
    /// Publishes that were not confirmed.
    pub(crate) unconfirmed: AtomicU64,
    /// Publishes of a transaction that was not committed.
    pub(crate) uncommitted: AtomicU64,
    consumers: Mutex<BTreeMap<String, Consumer>>,
}

/// A consumer of a queue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Consumer {
    pub(crate) tag: String,
    pub(crate) queue: String,
    pub(crate) ack_required: bool,
    pub(crate) exclusive: bool,
    pub(crate) prefetch: u32,
    pub(crate) arguments: Headers,
    /// Whether it is served: not while another one is the single active consumer.
    pub(crate) active: bool,
}

/// A connection's own entry. Dropping it takes the connection out.
#[derive(Debug)]
pub(crate) struct Entry {
    registry: Registry,
    connection: Arc<Connection>,
}

/// A channel's own entry. Dropping it takes the channel out.
#[derive(Debug)]
pub(crate) struct ChannelEntry {
    connection: Arc<Connection>,
    channel: Arc<Channel>,
}

impl Registry {
    /// Enters a connection.
    pub(crate) fn enter(&self, identity: Identity) -> Entry {
        let connection = Arc::new(Connection {
            identity,
            blocked: AtomicBool::new(false),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            channels: Mutex::default(),
            close: watch::Sender::new(None),
        });
        self.0.lock().insert(connection.identity.number, Arc::clone(&connection));
        Entry { registry: self.clone(), connection }
    }

    /// All connections, the oldest first.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.0.lock().values().cloned().collect()
    }
}

impl Connection {
    /// Asks it to close, with a reason for the client.
    pub(crate) fn close(&self, reason: String) {
        self.close.send_replace(Some(reason));
    }

    /// Its channels, by number.
    pub(crate) fn channels(&self) -> Vec<Arc<Channel>> {
        self.channels.lock().values().cloned().collect()
    }
}

impl Channel {
    /// Adds a consumer, or changes it.
    pub(crate) fn put_consumer(&self, consumer: Consumer) {
        self.consumers.lock().insert(consumer.tag.clone(), consumer);
    }

    /// A consumer has left.
    pub(crate) fn remove_consumer(&self, tag: &str) {
        self.consumers.lock().remove(tag);
    }

    /// Its consumers, by tag.
    pub(crate) fn consumers(&self) -> Vec<Consumer> {
        self.consumers.lock().values().cloned().collect()
    }

    /// How many consumers it has.
    pub(crate) fn consumer_count(&self) -> usize {
        self.consumers.lock().len()
    }
}

impl Entry {
    /// Enters a channel.
    pub(crate) fn open_channel(&self, number: u16) -> ChannelEntry {
        let channel = Arc::new(Channel {
            number,
            prefetch: AtomicU32::new(0),
            global_prefetch: AtomicU32::new(0),
            confirm: AtomicBool::new(false),
            transactional: AtomicBool::new(false),
            unacknowledged: AtomicU64::new(0),
            unconfirmed: AtomicU64::new(0),
            uncommitted: AtomicU64::new(0),
            consumers: Mutex::default(),
        });
        self.connection.channels.lock().insert(number, Arc::clone(&channel));
        ChannelEntry { connection: Arc::clone(&self.connection), channel }
    }

    /// Waits until somebody asks for the connection's end; gives the reason.
    pub(crate) fn closing(&self) -> impl Future<Output = String> + Send + use<> {
        let mut close = self.connection.close.subscribe();
        async move {
            match close.wait_for(Option::is_some).await.map(|reason| (*reason).clone()) {
                Ok(reason) => reason.unwrap_or_default(),
                // The entry is gone, and with it whoever could ask.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

impl Deref for Entry {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.0.lock().remove(&self.connection.identity.number);
    }
}

impl Deref for ChannelEntry {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Drop for ChannelEntry {
    fn drop(&mut self) {
        let mut channels = self.connection.channels.lock();
        // A channel that was opened again under the same number is another one.
        if channels.get(&self.channel.number).is_some_and(|there| Arc::ptr_eq(there, &self.channel)) {
            channels.remove(&self.channel.number);
        }
    }
}

/// Reads one of the numbers.
pub(crate) fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn identity(number: u64) -> Identity {
        Identity {
            number,
            user: "guest".into(),
            vhost: "/".into(),
            peer: ([127, 0, 0, 1], 40_000).into(),
            local: ([127, 0, 0, 1], 5672).into(),
            tls: false,
            mechanism: "PLAIN".into(),
            client_properties: Headers::new(),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            connected_at: Timestamp(1_700_000_000_000),
        }
    }

    #[tokio::test]
    async fn what_is_entered_is_there_until_its_entry_is_dropped() {
        let registry = Registry::default();
        let entry = registry.enter(identity(1));
        let channel = entry.open_channel(1);
        let again = entry.open_channel(1);
        drop(channel);
        assert_eq!(registry.connections()[0].channels().len(), 1);
        drop(again);
        assert_eq!(registry.connections()[0].channels().len(), 0);
        registry.connections()[0].close("enough".into());
        assert_eq!(entry.closing().await, "enough");
        assert_eq!(entry.identity.name(), "127.0.0.1:40000 -> 127.0.0.1:5672");
        drop(entry);
        assert!(registry.connections().is_empty());
    }
}
