//! Idempotent producers: what a stamp says, and how it is written with its messages.

use std::sync::Arc;

use bytes::Bytes;
use types::{Message, Now, Text};

use super::publish::Destination;
use super::{PublishOptions, PublishTo, Session};
use crate::errors::PublishError;
use crate::idempotence::{ProducerBatch, ProducerId, Sequence, SequenceError};
use crate::routing::unplaced;
use crate::topics::{Topic, from_place, to_place};
use crate::transaction::{CommitFailure, Spot, Transaction};
use crate::views::{Position, Published};

impl Session {
    /// Looks at a producer's stamp.
    pub(super) fn stamp(
        &self,
        to: &PublishTo,
        messages: &[Message],
        options: &PublishOptions,
        now: Now,
    ) -> Result<Option<Stamped>, PublishError> {
        let Some(stamp) = &options.producer else { return Ok(None) };
        let invalid = |why: &str| PublishError::Invalid { field: "producer".to_owned(), why: why.to_owned() };
        let Destination::Topic(topic) = self.destination(to, messages.first().map_or(&Bytes::new(), |m| &m.subject))?
        else {
            return Err(invalid("idempotent producers publish to a topic; use a dedup id for a queue"));
        };
        types::check_name(&stamp.id).map_err(|error| invalid(&error.to_string()))?;
        let batch = ProducerBatch {
            epoch: stamp.epoch,
            first_sequence: u32::try_from(stamp.sequence).map_err(|_| invalid("sequence numbers are below 2^31"))?,
            messages: u32::try_from(messages.len()).unwrap_or(u32::MAX),
        };
        let name = Text::from(stamp.id.as_str());
        let verdict = topic.producers.lock().begin(now, &ProducerId::Name(name.clone()), batch);
        Ok(Some(match verdict.map_err(sequence)? {
            Sequence::Duplicate { offset } => Stamped::Duplicate(duplicates(messages, from_place(offset))),
            Sequence::Pending => Stamped::Pending,
            Sequence::New => Stamped::New(Stamp { topic, name, batch, spot: None, done: false }),
        }))
    }

    /// Commits, and takes up what that means for the stamp.
    ///
    /// # Errors
    /// See [`CommitFailure`].
    pub(super) async fn commit_stamped(
        &self,
        transaction: Transaction,
        stamp: Option<Stamp>,
    ) -> Result<Vec<log::Written>, CommitFailure> {
        let Some(mut stamp) = stamp else { return transaction.commit(self.shared()).await };
        let now = self.now();
        let (send, receive) = tokio::sync::oneshot::channel();
        // The end is taken up even if nobody waits, or the producer could never go on.
        transaction.submit(self.shared(), move |result| {
            if let Ok(written) = &result {
                stamp.confirm(now, written);
            }
            drop(stamp);
            drop(send.send(result));
        });
        receive.await.unwrap_or_else(|_| Err(CommitFailure::Unknown("the storage stopped".to_owned())))
    }
}

/// What a producer's stamp says.
pub(super) enum Stamped {
    New(Stamp),
    /// The first one is being written.
    Pending,
    Duplicate(Vec<Published>),
}

/// A stamp that is being written. Dropped without a confirmation, it is taken back.
pub(super) struct Stamp {
    pub(super) topic: Arc<Topic>,
    pub(super) name: Text,
    pub(super) batch: ProducerBatch,
    /// Where its first message is written, if the others follow it.
    pub(super) spot: Option<Spot>,
    done: bool,
}

impl Stamp {
    fn confirm(&mut self, now: Now, written: &[log::Written]) {
        let place = to_place(self.spot.and_then(|spot| spot.position(written)));
        let producer = ProducerId::Name(self.name.clone());
        self.topic.producers.lock().confirm(now, &producer, self.batch, place);
        self.done = true;
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        if !self.done {
            self.topic.producers.lock().cancel(&ProducerId::Name(self.name.clone()), self.batch);
        }
    }
}

fn sequence(error: SequenceError) -> PublishError {
    match error {
        SequenceError::OutOfSequence { expected, found } => {
            PublishError::OutOfSequence { got: u64::from(found), expected: u64::from(expected) }
        }
        SequenceError::Fenced { present, .. } => PublishError::Fenced { current: present },
        SequenceError::TooManyProducers | SequenceError::TooManyPending => PublishError::Backpressure,
        error => PublishError::Invalid { field: "producer".to_owned(), why: error.to_string() },
    }
}

fn duplicates(messages: &[Message], first: Option<Position>) -> Vec<Published> {
    let at = |n| first.map(|first| Position { offset: first.offset.plus(n), ..first });
    let duplicate = |(n, message)| Published { position: at(n), duplicate: true, ..unplaced(message) };
    (0..).zip(messages).map(duplicate).collect()
}
