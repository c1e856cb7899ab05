//! Publishing many messages that have nothing to do with each other, each with an end of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use types::Message;
use types::limits::MAX_BODY_BYTES;

use super::limits::check;
use super::{PublishOptions, PublishTo, Session};
use crate::errors::{AccessError, PublishError};
use crate::views::Published;

type Each = Vec<Result<Published, PublishError>>;

impl Session {
    /// Publishes messages, each for itself: one that is refused does not keep the others. One answer each, in order; ready when all that
    /// was taken is durable. They keep their order. Most calls cost one commit, however many messages they have.
    ///
    /// A stamp or an expectation in `options` speaks of all messages together, so then they are published or refused together.
    pub async fn publish_each(&self, to: &PublishTo, mut messages: Vec<Message>, options: PublishOptions) -> Each {
        if options.expect.is_some() || options.producer.is_some() {
            let count = messages.len();
            return spread(self.publish(to, messages, options).await, count);
        }
        let mut refused = self.refuse_invalid(&mut messages);
        let ends = match self.prepare(&mut messages, self.now()) {
            Ok(()) => self.publish_parts(to, &messages, &options).await,
            Err(error) => spread(Err(error), messages.len()),
        };
        let published = ends.iter().filter(|end| end.is_ok()).count();
        let failed = ends.len() - published + refused.len();
        let totals = &self.shared().totals;
        totals.published.fetch_add(published as u64, Ordering::Relaxed);
        totals.publish_errors.fetch_add(failed as u64, Ordering::Relaxed);
        if refused.is_empty() {
            return ends;
        }
        let mut all = Vec::with_capacity(ends.len() + refused.len());
        let (mut ends, mut refused) = (ends.into_iter(), refused.drain(..).peekable());
        loop {
            match refused.next_if(|(at, _)| *at == all.len()) {
                Some((_, error)) => all.push(Err(error)),
                None => match ends.next() {
                    Some(end) => all.push(end),
                    None => return all,
                },
            }
        }
    }

    /// Takes out the messages that pass some limit; gives their places and why.
    fn refuse_invalid(&self, messages: &mut Vec<Message>) -> Vec<(usize, PublishError)> {
        let max_body = self.space.config().quota.max_body_bytes.unwrap_or(MAX_BODY_BYTES as u64);
        let faults =
            messages.iter().enumerate().filter_map(|(at, message)| Some((at, check(message, max_body).err()?)));
        let refused: Vec<(usize, PublishError)> = faults.collect();
        if !refused.is_empty() {
            let mut at = 0;
            messages.retain(|_| {
                at += 1;
                refused.binary_search_by_key(&(at - 1), |(place, _)| *place).is_err()
            });
        }
        refused
    }

    /// Publishes all at once if that goes, and otherwise in halves, so that the fault of a few is found in a few steps.
    fn publish_parts<'a>(
        &'a self,
        to: &'a PublishTo,
        messages: &'a [Message],
        options: &'a PublishOptions,
    ) -> Pin<Box<dyn Future<Output = Each> + Send + 'a>> {
        Box::pin(async move {
            if messages.is_empty() {
                return Vec::new();
            }
            match self.publish_prepared(to, messages, options).await {
                Err(error) if messages.len() > 1 && may_be_of_few(to, &error) => {
                    let (first, second) = messages.split_at(messages.len() / 2);
                    // Polled in this order, so their commits are in this order too.
                    let (first, second) =
                        (self.publish_parts(to, first, options), self.publish_parts(to, second, options));
                    let (mut ends, rest) = tokio::join!(biased; first, second);
                    ends.extend(rest);
                    ends
                }
                end => spread(end, messages.len()),
            }
        })
    }
}

/// Whether other messages of the same call might fare better.
fn may_be_of_few(to: &PublishTo, error: &PublishError) -> bool {
    match error {
        PublishError::TooLarge { .. }
        | PublishError::Invalid { .. }
        | PublishError::QueueFull { .. }
        | PublishError::DedupFull { .. } => true,
        PublishError::Access(AccessError::Forbidden { .. }) | PublishError::NotFound { .. } => {
            *to == PublishTo::Subject
        }
        _ => false,
    }
}

/// One end for all.
fn spread(end: Result<Vec<Published>, PublishError>, count: usize) -> Each {
    match end {
        Ok(published) => published.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}
