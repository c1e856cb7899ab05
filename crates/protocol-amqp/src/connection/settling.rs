//! Acknowledgements.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use broker::queue::Settle as How;
use broker::{Receipt, SettleError, Started, StorageError};

use super::Open;
use super::consumers::Consumer;
use crate::channel::Mode;
use crate::codec::method::{self, Settle};
use crate::fault::Fault;
use crate::limits::RUN_MESSAGES;
use crate::unsettled::Unsettled;

/// Settlements that are being made durable. AMQP does not confirm them.
#[derive(Default)]
pub(super) struct Settling {
    batch: Vec<(Receipt, How)>,
    /// Consumers that were cancelled and have nothing left, once the batch is under way.
    ended: Vec<Consumer>,
    calls: VecDeque<Started<Vec<Result<(), SettleError>>>>,
}

impl Settling {
    /// Calls that are under way.
    pub(super) fn under_way(&self) -> usize {
        self.calls.len()
    }

    /// Whether everything has ended.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.batch.is_empty()
    }

    /// Adds one.
    pub(super) fn push(&mut self, receipt: Receipt, how: How) {
        self.batch.push((receipt, how));
    }

    /// Keeps a consumer whose last delivery is being settled until that has begun. IMPORTANT: without it the broker would put the delivery
    /// back, and what settles it would come too late.
    pub(super) fn outlive(&mut self, consumer: Consumer) {
        self.ended.push(consumer);
    }
}

/// What a client's word means for a delivery.
pub(super) fn how_of(how: method::How, entry: &Unsettled) -> How {
    match how {
        method::How::Ack => How::Ack,
        method::How::Drop => How::Reject { error: None },
        method::How::Requeue if entry.counts => How::Nack { after: Some(Duration::ZERO), error: None, counts: true },
        method::How::Requeue => How::Release,
    }
}

impl Open {
    /// `basic.ack`, `basic.nack`, `basic.reject`.
    pub(super) fn settle(&mut self, number: u16, settle: Settle) -> Result<(), Fault> {
        let Some(channel) = self.open_channel(number)? else { return Ok(()) };
        let mut taken = Vec::new();
        if settle.multiple {
            if settle.tag >= channel.unsettled.next_tag() {
                return Err(unknown(settle.tag));
            }
            // 0 is all there are; a tag whose deliveries are all settled is fine too, as RabbitMQ has it.
            let tag = settle.tag;
            if channel.unsettled.take_to(tag, |tag, entry| taken.push((tag, entry))) == 0 && tag != 0 {
                return Err(unknown(settle.tag));
            }
        } else {
            let entry = channel.unsettled.take(settle.tag).ok_or_else(|| unknown(settle.tag))?;
            taken.push((settle.tag, entry));
        }
        channel.show();
        if let Mode::Transaction(transaction) = &mut channel.mode {
            for (tag, entry) in taken {
                let how = how_of(settle.how, &entry);
                transaction.settle(tag, entry, how)?;
            }
            return Ok(());
        }
        for (_, entry) in taken {
            self.settled(number, &entry);
            if let Some(receipt) = entry.receipt {
                self.settling.push(receipt, how_of(settle.how, &entry));
            }
        }
        if self.settling.batch.len() >= RUN_MESSAGES {
            self.begin_settling();
        }
        Ok(())
    }

    /// Begins to make durable what was collected.
    pub(super) fn begin_settling(&mut self) {
        if !self.settling.batch.is_empty() {
            let batch = std::mem::take(&mut self.settling.batch);
            self.settling.calls.push_back(self.internal.start_settle(batch));
        }
        self.settling.ended.clear();
    }

    /// Hears what became of settlements. `true` if some ended.
    pub(super) fn poll_settled(&mut self, context: &mut Context<'_>) -> bool {
        let mut ended = false;
        while let Some(first) = self.settling.calls.front_mut() {
            let Poll::Ready(results) = Pin::new(first).poll(context) else { break };
            self.settling.calls.pop_front();
            ended = true;
            for error in results.into_iter().filter_map(Result::err) {
                // What is gone (purged, or its queue deleted) needs no settling. What could not be written comes again, which the client must
                // know of: it has no other way to hear it than the end of the connection.
                if let SettleError::Storage(StorageError::Failed(_) | StorageError::Unknown(_)) = &error {
                    self.close(&Fault::internal_error(&error));
                } else {
                    tracing::debug!(%error, "an acknowledgement over AMQP came to nothing");
                }
            }
        }
        ended
    }
}

fn unknown(tag: u64) -> Fault {
    Fault::precondition_failed(format!("unknown delivery tag {tag}"))
}
