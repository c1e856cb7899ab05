//! Publishing many messages that have nothing to do with each other, each with an end of its own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use log::Refusal;
use types::limits::MAX_BODY_BYTES;
use types::{Message, Now};

use super::limits::check;
use super::publish::{Destination, durability_of, set_durability, storage};
use super::publishes::{Group, Grouped, Publishes};
use super::started::Started;
use super::{PublishOptions, PublishTo, Session};
use crate::errors::{AccessError, PublishError};
use crate::routing::{Placed, Plan, Straight, place, unplaced};
use crate::transaction::{CommitFailure, Transaction};
use crate::views::Published;

type Each = Vec<Result<Published, PublishError>>;

impl Session {
    /// Publishes messages, each for itself: one that is refused does not keep the others. One answer each, in order; ready when all that
    /// was taken is durable. Those that reach the same queue keep their order. Most calls cost one commit, however many messages and
    /// destinations they have.
    ///
    /// A stamp or an expectation in `options` speaks of all messages together: they must have one destination, and are published or refused
    /// together.
    pub async fn publish_each(&self, publishes: Publishes, options: PublishOptions) -> Each {
        if self.is_held_back() {
            self.count_each(0, publishes.len());
            return spread(Err(PublishError::Backpressure), publishes.len());
        }
        self.publish_each_admitted(publishes, options).await
    }

    /// As [`publish_each`](Self::publish_each), also when the broker is short of memory.
    pub(super) async fn publish_each_admitted(&self, mut publishes: Publishes, options: PublishOptions) -> Each {
        let count = publishes.len();
        if options.expect.is_some() || options.producer.is_some() {
            let end = match publishes.destination().cloned() {
                Some(to) => self.publish_admitted(&to, publishes.into_messages(), options).await,
                None => {
                    let why = "a stamp or an expectation is for the messages of one destination".to_owned();
                    Err(PublishError::Invalid { field: "options".to_owned(), why })
                }
            };
            return spread(end, count);
        }
        let (places, refused): (Vec<usize>, Vec<PublishError>) = self.refuse_invalid(&publishes.messages).unzip();
        if !places.is_empty() {
            publishes = publishes.without(&places);
        }
        let now = self.now();
        let ends = match self.admit(&mut publishes.messages, now) {
            Err(error) => spread(Err(error), publishes.len()),
            Ok(()) => match publishes.destination().cloned() {
                Some(to) => self.publish_parts(&to, &publishes.messages, &options).await,
                None => self.publish_groups(publishes.grouped(), &options, now).await,
            },
        };
        let published = ends.iter().filter(|end| end.is_ok()).count();
        self.count_each(published, count - published);
        woven(ends, places, refused)
    }

    /// Publishes what goes into one commit so, and what does not, group by group.
    async fn publish_groups(&self, grouped: Grouped, options: &PublishOptions, now: Now) -> Each {
        let Grouped { groups, messages, places } = grouped;
        let members = |group: &Group| messages.get(group.range.clone()).unwrap_or_default();
        let mut transaction = Transaction::new();
        let (mut planned, mut left) = (Vec::with_capacity(groups.len()), Vec::new());
        let mut results: Vec<Published> = Vec::with_capacity(messages.len());
        let only_queues = groups.iter().all(|group| matches!(*group.to, PublishTo::Queue(_)));
        for group in groups {
            // Messages of two topics may meet in a queue: the later ones must not come first.
            let may_go = only_queues || left.is_empty();
            let mut plan = || self.plan_group(&mut transaction, &mut results, &group.to, members(&group), options, now);
            match may_go.then(&mut plan).flatten() {
                Some(placed) => planned.push((group, placed)),
                None => left.push(group),
            }
        }
        let shared = Arc::clone(self.shared());
        let commit = Started::begin(async move { transaction.commit(&shared).await });
        // Begun at once, so that what is left comes before what the caller publishes next.
        let begin = |group: Group| (self.begin_parts(&group.to, members(&group), options), group);
        let left: Vec<_> = left.into_iter().map(begin).collect();

        let mut ends = Ends { places: &places, ends: vec![None; messages.len()] };
        match commit.await {
            Ok(written) => {
                let mut results = results.into_iter();
                for (group, placed) in planned {
                    place(&placed, &written, results.as_mut_slice());
                    ends.tell(&group, results.by_ref().take(group.range.len()).map(Ok));
                }
            }
            // A queue or topic on the way of one group was deleted meanwhile.
            Err(CommitFailure::Refused(Refusal::NoSuchLog(_))) => {
                for (group, _) in planned {
                    ends.tell(&group, self.publish_parts(&group.to, members(&group), options).await.into_iter());
                }
            }
            Err(failure) => {
                let error = storage(failure);
                for (group, _) in planned {
                    ends.tell(&group, std::iter::repeat_with(|| Err(error.clone())));
                }
            }
        }
        for (results, group) in left {
            ends.tell(&group, results.await.into_iter());
        }
        ends.into_each()
    }

    /// Adds one group to a transaction, and what it comes to, to the results; `None` if it cannot go with the others.
    fn plan_group(
        &self,
        transaction: &mut Transaction,
        results: &mut Vec<Published>,
        to: &PublishTo,
        messages: &[Message],
        options: &PublishOptions,
        now: Now,
    ) -> Option<Vec<Placed>> {
        if let PublishTo::Queue(_) = to
            && let Destination::Queue(queue) = self.destination(to, &Bytes::new()).ok()?
            && self.check_bodies(messages).is_ok()
            && let Some(reserved) = Straight::reserve(&queue, messages, now)
        {
            transaction.at_least(durability_of(messages, options, &queue));
            reserved.commit_with(transaction, &queue);
            results.extend(messages.iter().map(|message| Published { queues: 1, ..unplaced(message) }));
            return Some(Vec::new());
        }
        let mut plan = Plan::new(self.shared(), now);
        self.plan(&mut plan, to, messages, options).ok()?;
        if plan.must_wait() {
            return None;
        }
        set_durability(&mut plan, messages, options);
        let (placed, planned) = plan.into_transaction(transaction);
        if planned.iter().any(|result| result.duplicate) {
            transaction.barrier();
        }
        results.extend(planned);
        Some(placed)
    }

    fn begin_parts(&self, to: &Arc<PublishTo>, messages: &[Message], options: &PublishOptions) -> Started<Each> {
        let (session, to, messages, options) = (self.clone(), Arc::clone(to), messages.to_vec(), options.clone());
        Started::begin(async move { session.publish_parts(&to, &messages, &options).await })
    }

    fn count_each(&self, published: usize, failed: usize) {
        let totals = &self.shared().totals;
        totals.published.fetch_add(published as u64, Ordering::Relaxed);
        totals.publish_errors.fetch_add(failed as u64, Ordering::Relaxed);
    }

    /// The messages that pass some limit: their places, ascending, and why.
    fn refuse_invalid<'a>(&self, messages: &'a [Message]) -> impl Iterator<Item = (usize, PublishError)> + 'a {
        let max_body = self.space.config().quota.max_body_bytes.unwrap_or(MAX_BODY_BYTES as u64);
        let refuse = move |(at, message)| Some((at, check(message, max_body).err()?));
        messages.iter().enumerate().filter_map(refuse)
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
            match self.publish_prepared(to, messages, options, self.now()).await {
                Err(error) if messages.len() > 1 && may_be_of_few(to, &error) => {
                    let (first, second) = messages.split_at(messages.len() / 2);
                    // Polled in this order, so their commits are in this order too.
                    let (first, second) =
                        (self.publish_parts(to, first, options), self.publish_parts(to, second, options));
                    let (mut ends, rest) = tokio::join!(biased; first, second);
                    ends.extend(rest);
                    ends
                }
                end => {
                    if let Err(PublishError::QueueFull { .. }) = end {
                        self.turn_away(std::iter::once((to, messages)), options).await;
                    }
                    spread(end, messages.len())
                }
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
        // Of a topic some subjects may be permitted and others not.
        PublishError::Access(AccessError::Forbidden { .. }) => !matches!(to, PublishTo::Queue(_)),
        PublishError::NotFound { .. } => *to == PublishTo::Subject,
        _ => false,
    }
}

/// What became of grouped messages, by the places that they had before, while not all of it is known.
struct Ends<'a> {
    places: &'a [usize],
    ends: Vec<Option<Result<Published, PublishError>>>,
}

impl Ends<'_> {
    fn tell(&mut self, group: &Group, results: impl Iterator<Item = Result<Published, PublishError>>) {
        for (place, result) in self.places.get(group.range.clone()).unwrap_or_default().iter().zip(results) {
            if let Some(end) = self.ends.get_mut(*place) {
                *end = Some(result);
            }
        }
    }

    fn into_each(self) -> Each {
        let lost = || Err(PublishError::Backpressure);
        self.ends.into_iter().map(|end| end.unwrap_or_else(lost)).collect()
    }
}

/// The ends of all messages, with the refused ones in their places.
fn woven(ends: Each, places: Vec<usize>, refused: Vec<PublishError>) -> Each {
    if refused.is_empty() {
        return ends;
    }
    let mut all = Vec::with_capacity(ends.len() + refused.len());
    let (mut ends, mut refused) = (ends.into_iter(), places.into_iter().zip(refused).peekable());
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

/// One end for all.
fn spread(end: Result<Vec<Published>, PublishError>, count: usize) -> Each {
    match end {
        Ok(published) => published.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error); count],
    }
}
