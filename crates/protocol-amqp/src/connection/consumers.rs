//! Consumers of a connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker::Inbox;
use broker::queue::Credit;

use super::Open;
use crate::channel::Channel;
use crate::flags::Flag;
use crate::limits::{DELIVER_BYTES, DELIVER_MESSAGES, MAX_UNSETTLED};
use crate::stream::StreamReader;
use crate::unsettled::{ConsumerKey, Unsettled};

/// A consumer.
pub(super) struct Consumer {
    pub(super) channel: u16,
    pub(super) tag: Arc<str>,
    pub(super) source: Source,
    /// Deliveries need no acknowledgement.
    pub(super) no_ack: bool,
    /// Giving a delivery back counts as an attempt.
    pub(super) counts: bool,
    /// How long a delivery may stay unsettled, if the queue says so.
    pub(super) timeout: Option<Duration>,
    /// Deliveries that may be unsettled; 0 is no bound.
    pub(super) prefetch: u16,
    pub(super) unsettled: usize,
    /// It had no credit when it was last looked at.
    pub(super) starved: bool,
    /// It was cancelled, and stays for the deliveries that it has.
    pub(super) cancelled: bool,
    /// Raised when it is to be polled.
    pub(super) flag: Arc<Flag>,
}

/// Where a consumer's messages come from.
pub(super) enum Source {
    Queue(broker::Consumer),
    Stream(Box<StreamReader>),
    /// Direct reply-to.
    Replies(Inbox),
}

impl Consumer {
    /// What it may be given now.
    pub(super) fn credit(&self, channel: &Channel) -> Credit {
        if self.cancelled || channel.closing {
            return Credit { messages: 0, bytes: 0 };
        }
        let mut messages = DELIVER_MESSAGES;
        if !self.no_ack {
            messages = messages.min(MAX_UNSETTLED.saturating_sub(channel.unsettled.len()));
            if self.prefetch > 0 {
                messages = messages.min(usize::from(self.prefetch).saturating_sub(self.unsettled));
            }
            if channel.global_prefetch > 0 {
                messages = messages.min(usize::from(channel.global_prefetch).saturating_sub(channel.unsettled.len()));
            }
        }
        Credit { messages, bytes: DELIVER_BYTES }
    }
}

impl Open {
    /// A delivery was settled: its consumer may have more.
    pub(super) fn settled(&mut self, number: u16, entry: &Unsettled) {
        let Some(key) = entry.consumer else { return self.raise_starved(number) };
        if let Some(consumer) = self.consumers.get_mut(&key) {
            consumer.unsettled = consumer.unsettled.saturating_sub(1);
            if consumer.starved {
                consumer.flag.raise();
            }
            if consumer.cancelled && consumer.unsettled == 0 {
                self.consumers.remove(&key).into_iter().for_each(|consumer| self.settling.outlive(consumer));
            }
        }
        if self.channels.get(number).is_some_and(|channel| channel.global_prefetch > 0) {
            self.raise_starved(number);
        }
    }

    /// Consumers of a channel that had no credit may have some now.
    pub(super) fn raise_starved(&mut self, number: u16) {
        for consumer in self.consumers.values().filter(|consumer| consumer.channel == number && consumer.starved) {
            consumer.flag.raise();
        }
    }

    /// Consumers of a channel are to be looked at, since what they may have has changed.
    pub(super) fn raise_all(&mut self, number: u16) {
        for consumer in self.consumers.values().filter(|consumer| consumer.channel == number) {
            consumer.flag.raise();
        }
    }

    /// Takes a channel's consumers out.
    pub(super) fn take_consumers(
        consumers: &mut BTreeMap<ConsumerKey, Consumer>,
        number: u16,
    ) -> BTreeMap<ConsumerKey, Consumer> {
        consumers.extract_if(.., |_, consumer| consumer.channel == number).collect()
    }
}
