//! Conditional publish: stored only at the expected version.

use std::sync::Arc;

use log::Refusal;
use types::Message;

use super::publish::{Destination, missing, set_durability, storage};
use super::{Expect, ExpectOf, PublishOptions, PublishTo, Session};
use crate::errors::{PublishError, StorageError};
use crate::partition::key_partition;
use crate::routing::{Plan, place};
use crate::transaction::{CommitFailure, Transaction};
use crate::views::Published;

/// How often a conditional publish looks again when others append between its look and its commit.
const EXPECT_TRIES: usize = 64;

impl Session {
    /// Publishes messages of one series, all or none, if the last of the series is the expected one.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub(super) async fn publish_expecting(
        &self,
        to: &PublishTo,
        messages: &[Message],
        options: &PublishOptions,
        expect: &Expect,
    ) -> Result<Vec<Published>, PublishError> {
        let invalid = |why: &str| PublishError::Invalid { field: "expect".to_owned(), why: why.to_owned() };
        let Some((message, rest)) = messages.split_first() else { return Ok(Vec::new()) };
        let is_of_series = |other: &Message| {
            other.key == message.key && (expect.of == ExpectOf::Key || other.subject == message.subject)
        };
        if !rest.iter().all(is_of_series) {
            return Err(invalid(
                "the messages of a conditional publish are of one series: they have the same key (or subject)",
            ));
        }
        if options.producer.is_some() {
            return Err(invalid("a conditional publish needs no producer stamp: its version makes it happen once"));
        }
        let Destination::Topic(topic) = self.destination(to, &message.subject)? else {
            return Err(invalid("only a topic with a log and a key index has versions"));
        };
        if !topic.definition().config.key_index {
            return Err(invalid("the topic keeps no key index; create it with `key_index`"));
        }
        let series = match (expect.of, &message.key) {
            (ExpectOf::Key, Some(key)) => key,
            (ExpectOf::Subject, None) if !message.subject.is_empty() => &message.subject,
            (ExpectOf::Key, None) => return Err(invalid("the message has no key")),
            (ExpectOf::Subject, None) => return Err(invalid("the message has no subject")),
            (ExpectOf::Subject, Some(_)) => {
                return Err(invalid("a message with a key is versioned by its key, not by its subject"));
            }
        };
        let partitions = topic.partitions();
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        let by_key = || std::num::NonZeroU32::new(count).map_or(0, |count| key_partition(series, count));
        let number = options.partition.unwrap_or_else(by_key);
        let Some(owned) = partitions.get(number as usize) else {
            return Err(missing("partition", &number.to_string()));
        };
        // One at a time: they would only refuse each other.
        let _turn = topic.expecting.lock().await;
        for _ in 0..EXPECT_TRIES {
            let appended = topic.wait();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let state = self.shared().log.state(owned.log).map_err(read_failure)?;
            let actual = self.shared().log.key(owned.log, series).map_err(read_failure)?.map(|key| key.last);
            if actual != expect.version {
                return Err(PublishError::WrongVersion { actual });
            }
            let mut plan = Plan::new(self.shared(), self.now());
            self.plan_for(&mut plan, Destination::Topic(Arc::clone(&topic)), messages, Some(number))?;
            plan.expect_end(state.end);
            if plan.must_wait() {
                drop(plan);
                self.others_ended().await?;
                continue;
            }
            set_durability(&mut plan, messages, options);
            let mut transaction = Transaction::new();
            let (placed, mut results) = plan.into_transaction(&mut transaction);
            match transaction.commit(self.shared()).await {
                Ok(written) => {
                    place(&placed, &written, &mut results);
                    return Ok(results);
                }
                // Somebody appended, or is about to: look again once that is there.
                Err(CommitFailure::Refused(Refusal::WrongEnd { .. })) => {
                    let _ = tokio::time::timeout(std::time::Duration::from_millis(100), appended).await;
                }
                Err(failure) => return Err(storage(failure)),
            }
        }
        Err(PublishError::Backpressure)
    }
}

fn read_failure(error: log::ReadError) -> PublishError {
    PublishError::Storage(StorageError::Damaged(error.to_string()))
}
