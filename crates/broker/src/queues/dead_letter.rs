//! Messages that a queue gave up: moved, with what happened to them, in one commit with their deletion.

use std::sync::Arc;

use types::{Message, Now, Text, Timestamp, Value};

use super::owner::{QueueGuard, QueueOwner};
use crate::definitions::DeadLetterConfig;
use crate::errors::StorageError;
use crate::queue::{Departure, LeaveReason, RetryRecord};
use crate::record::Payload;
use crate::routing::Plan;
use crate::shared::Shared;
use crate::state_log::StateRecord;
use crate::transaction::Transaction;

/// Headers that tell a dead letter's story, in the order in which they are added.
pub(crate) const DEAD_LETTER_HEADERS: [&str; 7] = [
    "ph-dead-letter-reason",
    "ph-dead-letter-queue",
    "ph-dead-letter-attempts",
    "ph-dead-letter-error",
    "ph-dead-letter-first-failed",
    "ph-dead-letter-last-failed",
    "ph-dead-letter-time",
];

/// What became of a departure.
enum Moving {
    /// This commit moves it.
    Commit(Transaction),
    /// Its target is missing and is being made; try again.
    Later,
}

fn reason_name(reason: &LeaveReason) -> &'static str {
    match reason {
        LeaveReason::Rejected => "rejected",
        LeaveReason::MaxAttempts => "max-attempts",
        LeaveReason::NonRetryable => "non-retryable",
        LeaveReason::Expired => "expired",
        LeaveReason::Overflow => "overflow",
    }
}

impl QueueOwner {
    /// Does what time has brought for this queue.
    pub(crate) fn tick(self: &Arc<Self>, shared: &Arc<Shared>, now: Now) {
        let (mut retries, mut departures) = (Vec::new(), Vec::new());
        {
            let mut guard = self.lock(now);
            departures.append(&mut guard.stalled);
            let more = guard.machine.tick(now, &mut retries, &mut departures);
            if let Err(error) = self.page(shared, &mut guard) {
                tracing::error!(queue = %self.name, %error, "a queue's messages cannot be read");
            }
            guard.recorded.extend(retries.iter().map(|retry| retry.offset.0));
            guard.meter.sample(now.mono);
            self.keep_state(shared, &mut guard);
            drop(guard);
            if more {
                self.tick_after(now, std::time::Duration::ZERO);
            }
        }
        self.record_retries(shared, retries, now);
        for departure in departures {
            self.move_out(shared, departure, now, |_| {});
        }
        self.continue_redrive(shared, now);
    }

    fn record_retries(&self, shared: &Arc<Shared>, retries: Vec<RetryRecord>, now: Now) {
        let records: Vec<StateRecord> = retries.into_iter().map(StateRecord::Retry).collect();
        let mut transaction = Transaction::new();
        transaction.at_least(self.durability());
        if self.state.record(&mut transaction, &records, now).is_ok() && !transaction.is_empty() {
            shared.later(transaction);
        }
    }

    /// Moves a message out and waits until that is durable.
    ///
    /// # Errors
    /// If the storage refuses; the message is in the queue again then.
    pub(crate) async fn move_out_and_wait(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        departure: Departure<Payload>,
        now: Now,
    ) -> Result<(), StorageError> {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.move_out(shared, departure, now, move |result| drop(send.send(result)));
        receive.await.unwrap_or_else(|_| Err(StorageError::Unavailable("the storage stopped".to_owned())))
    }

    /// Moves a message out of the queue. If the commit is refused, or the message cannot be read, it stays in the queue.
    pub(crate) fn move_out(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        departure: Departure<Payload>,
        now: Now,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        let offset = departure.offset;
        match self.plan_move(shared, &departure, now) {
            Ok(Moving::Commit(transaction)) => transaction.submit(shared, move |result| {
                done(result.map(|_| ()).map_err(StorageError::from));
            }),
            Ok(Moving::Later) => {
                self.lock(now).stalled.push(departure);
                done(Ok(()));
            }
            Err(error) => {
                tracing::error!(queue = %self.name, %offset, %error, "a dead letter cannot be moved and stays in its queue");
                self.lock(now).restore(offset);
                done(Err(error));
            }
        }
    }

    fn plan_move(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        departure: &Departure<Payload>,
        now: Now,
    ) -> Result<Moving, StorageError> {
        let mut transaction = Transaction::new();
        transaction.at_least(self.durability());
        let definition = self.definition();
        let plan = match &definition.resolved.dead_letter {
            DeadLetterConfig::None => None,
            target => {
                let message = self.dead_letter(shared, departure, now)?;
                let Some(plan) = Plan::dead_letter(shared, self, target, message, now)? else {
                    shared.make_dead_letter_queue(self.namespace, target);
                    return Ok(Moving::Later);
                };
                Some(plan)
            }
        };
        {
            let mut guard = self.lock(now);
            if guard.recorded.remove(departure.offset.0) {
                self.state.record(&mut transaction, &[StateRecord::Forget(departure.offset)], now)?;
            }
            match plan {
                Some(_) => guard.meter.counters.dead_lettered += 1,
                None => guard.meter.counters.dropped += 1,
            }
        }
        shared.count_departure(plan.is_some());
        if let Some(plan) = plan {
            plan.into_transaction(&mut transaction);
        }
        transaction.depart(self, vec![departure.offset], u64::from(departure.weight));
        Ok(Moving::Commit(transaction))
    }

    /// The message with its story.
    fn dead_letter(&self, shared: &Shared, departure: &Departure<Payload>, now: Now) -> Result<Message, StorageError> {
        let (mut message, _) = match &departure.payload {
            Some(payload) => payload.message().map_err(|error| self.unreadable(&error))?,
            None => self.message_at(shared, departure.offset)?,
        };
        message.headers.retain(|(name, _)| !DEAD_LETTER_HEADERS.contains(&name.as_str()));
        message.not_before = None;
        message.expires_at = None;
        let history = &departure.history;
        let time = |time: Option<Timestamp>| time.map(Value::Timestamp);
        let error = history.last_error.as_deref().map(Value::from);
        let values = [
            Some(Value::from(reason_name(&departure.reason))),
            Some(Value::from(&*self.name)),
            Some(Value::int(i64::from(history.attempts))),
            error,
            time(history.first_failed),
            time(history.last_failed),
            Some(Value::Timestamp(now.wall)),
        ];
        for (name, value) in DEAD_LETTER_HEADERS.into_iter().zip(values) {
            if let Some(value) = value {
                message.headers.push((Text::from_static(name), value));
            }
        }
        Ok(message)
    }
}

impl QueueGuard<'_> {
    /// Where a dead letter came from: the queue that its headers name.
    pub(crate) fn source_of(message: &Message) -> Option<&str> {
        message.header("ph-dead-letter-queue").and_then(Value::as_text)
    }
}
