//! What is known of a channel, apart from what is on its way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker::queue::Settle;
use broker::{ChannelGuard, PublishTo, Receipt};
use bytes::{Bytes, BytesMut};
use types::Message;

use crate::codec::method::Publish;
use crate::codec::properties::Properties;
use crate::fault::Fault;
use crate::limits::{MAX_TRANSACTION, MAX_TRANSACTION_BYTES};
use crate::registry::ChannelEntry;
use crate::unsettled::{ConsumerKey, Unsettled, Window};

/// A channel.
#[derive(Default)]
pub(crate) struct Channel {
    /// What those see who look after channels.
    pub(crate) entry: Option<ChannelEntry>,
    /// The channel's place among those of its user.
    pub(crate) _place: Option<ChannelGuard>,
    /// Tells it from an earlier channel of the same number.
    pub(crate) id: u64,
    /// It was closed by us, and the client has not said that it knows.
    pub(crate) closing: bool,
    pub(crate) mode: Mode,
    /// The message that is coming in.
    pub(crate) content: Option<Content>,
    /// Deliveries that a consumer may have unsettled; 0 is no bound. For consumers that come from now on.
    pub(crate) prefetch: u16,
    /// The same for all consumers of the channel together.
    pub(crate) global_prefetch: u16,
    /// By tag.
    pub(crate) consumers: HashMap<Arc<str>, ConsumerKey>,
    pub(crate) unsettled: Window,
    /// The queue that was declared last, which an empty name stands for.
    pub(crate) last_queue: String,
}

impl Channel {
    /// A consumer has left; its number.
    pub(crate) fn forget_consumer(&mut self, tag: &str) -> Option<ConsumerKey> {
        if let Some(entry) = &self.entry {
            entry.remove_consumer(tag);
        }
        self.consumers.remove(tag)
    }

    /// Shows what has changed to those who look after channels.
    pub(crate) fn show(&self) {
        let Some(entry) = &self.entry else { return };
        entry.unacknowledged.store(self.unsettled.len() as u64, Ordering::Relaxed);
        entry.prefetch.store(self.prefetch.into(), Ordering::Relaxed);
        entry.global_prefetch.store(self.global_prefetch.into(), Ordering::Relaxed);
        entry.confirm.store(matches!(self.mode, Mode::Confirm { .. }), Ordering::Relaxed);
        let uncommitted = match &self.mode {
            Mode::Transaction(transaction) => Some(transaction.publishes.len() as u64),
            _ => None,
        };
        entry.transactional.store(uncommitted.is_some(), Ordering::Relaxed);
        entry.uncommitted.store(uncommitted.unwrap_or_default(), Ordering::Relaxed);
    }
}

/// A connection's channels, by number.
#[derive(Default)]
pub(crate) struct Channels {
    /// Numbers are small, and looked up with every frame.
    by_number: Vec<Option<Box<Channel>>>,
}

impl Channels {
    pub(crate) fn get(&self, number: u16) -> Option<&Channel> {
        self.by_number.get(usize::from(number))?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, number: u16) -> Option<&mut Channel> {
        self.by_number.get_mut(usize::from(number))?.as_deref_mut()
    }

    pub(crate) fn has(&self, number: u16) -> bool {
        self.get(number).is_some()
    }

    pub(crate) fn insert(&mut self, number: u16, channel: Channel) {
        let at = usize::from(number);
        if self.by_number.len() <= at {
            self.by_number.resize_with(at + 1, || None);
        }
        if let Some(place) = self.by_number.get_mut(at) {
            *place = Some(Box::new(channel));
        }
    }

    pub(crate) fn remove(&mut self, number: u16) {
        if let Some(place) = self.by_number.get_mut(usize::from(number)) {
            *place = None;
        }
        while let Some(None) = self.by_number.last() {
            self.by_number.pop();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Channel)> {
        (0u16..).zip(&self.by_number).filter_map(|(number, channel)| Some((number, channel.as_deref()?)))
    }
}

/// What a channel does with what is published on it.
#[derive(Debug, Default)]
pub(crate) enum Mode {
    #[default]
    Plain,
    /// Publishes are numbered and confirmed; this is the next number.
    Confirm {
        next: u64,
    },
    Transaction(Box<Transaction>),
}

/// What a transaction has collected.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) publishes: Vec<Outbound>,
    bytes: usize,
    pub(crate) settlements: Vec<(u64, Unsettled, Settle)>,
}

impl Transaction {
    /// Adds a publish.
    ///
    /// # Errors
    /// 406 if there are too many.
    pub(crate) fn publish(&mut self, outbound: Outbound) -> Result<(), Fault> {
        self.bytes += outbound.message.weight_bytes();
        self.publishes.push(outbound);
        self.check()
    }

    /// Adds a settlement.
    ///
    /// # Errors
    /// 406 if there are too many.
    pub(crate) fn settle(&mut self, tag: u64, entry: Unsettled, how: Settle) -> Result<(), Fault> {
        self.settlements.push((tag, entry, how));
        self.check()
    }

    fn check(&self) -> Result<(), Fault> {
        let count = self.publishes.len() + self.settlements.len();
        if count > MAX_TRANSACTION || self.bytes > MAX_TRANSACTION_BYTES {
            let why = format!(
                "a transaction holds at most {MAX_TRANSACTION} publishes and acknowledgements (MAX_TRANSACTION) and \
                 {MAX_TRANSACTION_BYTES} bytes (MAX_TRANSACTION_BYTES); commit more often"
            );
            return Err(Fault::precondition_failed(why));
        }
        Ok(())
    }

    /// The settlements for the broker.
    pub(crate) fn receipts(&self) -> Vec<(Receipt, Settle)> {
        self.settlements.iter().filter_map(|(_, entry, how)| Some((entry.receipt?, how.clone()))).collect()
    }
}

/// A message that is on its way into the broker.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// Where to: one place, but for the default exchange's further routing keys. Empty if there is none.
    pub(crate) to: Vec<Arc<PublishTo>>,
    pub(crate) message: Message,
    /// To give it back if it reaches nothing.
    pub(crate) mandatory: Option<Box<Returned>>,
}

/// A message as it came, to be returned.
#[derive(Clone, Debug)]
pub(crate) struct Returned {
    pub(crate) exchange: Bytes,
    pub(crate) routing_key: Bytes,
    pub(crate) properties: Properties,
    pub(crate) body: Bytes,
}

/// A message that is coming in.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) publish: Publish,
    /// `None` until the header has come.
    pub(crate) properties: Option<Properties>,
    /// Bytes of the body that are still to come.
    pub(crate) left: u64,
    pub(crate) body: Body,
}

/// A body: most come in one frame.
#[derive(Debug, Default)]
pub(crate) enum Body {
    #[default]
    Empty,
    One(Bytes),
    Many(BytesMut),
}

impl Body {
    /// Adds a frame's share.
    pub(crate) fn push(&mut self, part: Bytes) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::One(part),
            Self::One(first) => {
                let mut all = BytesMut::from(first);
                all.extend_from_slice(&part);
                Self::Many(all)
            }
            Self::Many(mut all) => {
                all.extend_from_slice(&part);
                Self::Many(all)
            }
        };
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.freeze(),
        }
    }
}
