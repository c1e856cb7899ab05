//! The ends of channels and connections.

use std::sync::atomic::Ordering;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, channel, connection};
use tokio::time::timeout;

use super::wire::Wire;
use super::{Open, State};
use crate::channel::Mode;
use crate::codec::method::How;
use crate::fault::Fault;
use crate::limits::CLOSE_TIMEOUT;
use crate::unsettled::Unsettled;

use super::settling::how_of;

/// How long the end of what was begun is waited for once a connection is gone.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);

impl Open {
    /// Closes a channel for a fault. Its number may be used again once the client knows.
    pub(super) fn close_channel(&mut self, number: u16, fault: &Fault) {
        if self.channels.get(number).is_none_or(|channel| channel.closing) {
            return;
        }
        tracing::debug!(channel = number, %fault, "an AMQP channel is closed");
        self.release_channel(number);
        if let Some(channel) = self.channels.get_mut(number) {
            channel.closing = true;
        }
        let (class_id, method_id) = fault.method;
        let close =
            channel::Close { reply_code: fault.code, reply_text: fault.reply_text().into(), class_id, method_id };
        self.send(number, AMQPClass::Channel(channel::AMQPMethod::Close(close)));
    }

    /// Puts back what a channel has, and ends its consumers.
    pub(super) fn release_channel(&mut self, number: u16) {
        self.confirms.flush(&mut self.wire.out);
        let Some(channel) = self.channels.get_mut(number) else { return };
        Self::forget_content(&mut self.partial_bytes, channel);
        let mut entries: Vec<Unsettled> = Vec::with_capacity(channel.unsettled.len());
        channel.unsettled.take_to(0, |_, entry| entries.push(entry));
        if let Mode::Transaction(transaction) = &mut channel.mode {
            // What was acknowledged in it was not committed.
            entries.extend(std::mem::take(&mut **transaction).settlements.into_iter().map(|(_, entry, _)| entry));
        }
        channel.consumers.clear();
        for entry in entries {
            if let Some(receipt) = entry.receipt {
                self.settling.push(receipt, how_of(How::Requeue, &entry));
            }
        }
        self.begin_settling();
        // Dropped once what they had is back in its places, so that nothing is handed to the next one out of order.
        drop(Self::take_consumers(&mut self.consumers, number));
    }

    /// Puts back what all channels have.
    pub(super) fn release_channels(&mut self) {
        let numbers: Vec<u16> = self.channels.iter().map(|(number, _)| number).collect();
        for number in numbers {
            self.release_channel(number);
        }
    }

    /// Closes the connection for a fault.
    pub(super) fn close(&mut self, fault: &Fault) {
        if self.state != State::Open {
            return;
        }
        tracing::debug!(%fault, "an AMQP connection is closed");
        self.waiting = None;
        self.confirms.flush(&mut self.wire.out);
        self.send(0, close_method(fault));
        self.state = State::Closing;
        self.timers.closing();
    }

    /// `connection.blocked` and `connection.unblocked`.
    pub(super) fn tell_blocked(&mut self, blocked: bool) {
        self.entry.blocked.store(blocked, Ordering::Relaxed);
        if !self.terms.blocked_notify || self.state != State::Open {
            return;
        }
        let method = if blocked {
            connection::AMQPMethod::Blocked(connection::Blocked { reason: "low on memory".into() })
        } else {
            connection::AMQPMethod::Unblocked(connection::Unblocked {})
        };
        self.send(0, AMQPClass::Connection(method));
    }

    /// What is left to do once the socket is gone: everything goes back, and what was begun ends.
    pub(super) async fn finish(mut self) {
        self.release_channels();
        self.flush_out();
        let ended = std::future::poll_fn(|context| {
            self.poll_operation(context);
            self.poll_published(context);
            self.poll_settled(context);
            let done = self.operation.is_none() && self.publishing.is_empty() && self.settling.is_empty();
            if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        if timeout(FINISH_TIMEOUT, ended).await.is_err() {
            tracing::warn!("what an AMQP connection had begun has not ended in time");
        }
        if let Err(error) = self.session.delete_owned().await {
            tracing::warn!(%error, "the exclusive queues of an AMQP connection could not be deleted");
        }
        if self.lingers {
            self.wire.linger().await;
        }
    }
}

fn close_method(fault: &Fault) -> AMQPClass {
    let (class_id, method_id) = fault.method;
    let close =
        connection::Close { reply_code: fault.code, reply_text: fault.reply_text().into(), class_id, method_id };
    AMQPClass::Connection(connection::AMQPMethod::Close(close))
}

/// Tells a client that its connection is not made.
pub(super) async fn tell(wire: &mut Wire, fault: &Fault) {
    wire.out.method(0, close_method(fault));
    if let Ok(Ok(())) = timeout(CLOSE_TIMEOUT, wire.flush()).await {
        wire.linger().await;
    }
}
