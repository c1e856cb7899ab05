//! Publishing many messages that have nothing to do with each other, each with an end of its own.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use log::Refusal;
use types::limits::MAX_BODY_BYTES;
use types::{Message, Now};

use super::limits::check;
use super::publish::{set_durability, storage};
use super::{PublishOptions, PublishTo, Session};
use crate::errors::{AccessError, PublishError};
use crate::routing::{Plan, place};
use crate::transaction::{CommitFailure, Transaction};
use crate::views::Published;

type Each = Vec<Result<Published, PublishError>>;
/// The same while not all of them are known.
type Ends = Vec<Option<Result<Published, PublishError>>>;
/// Places of messages, ascending, and why each was refused.
type Refused = Vec<(usize, PublishError)>;

/// The messages of one destination, and the places of their ends.
struct Group {
    to: PublishTo,
    messages: Vec<Message>,
    places: Vec<usize>,
}

impl Group {
    fn tell(&self, ends: &mut Ends, results: impl Iterator<Item = Result<Published, PublishError>>) {
        for (place, result) in self.places.iter().zip(results) {
            if let Some(end) = ends.get_mut(*place) {
                *end = Some(result);
            }
        }
    }
}

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
        let refused = self.refuse_invalid(&messages);
        if !refused.is_empty() {
            messages = keep(messages, &refused);
        }
        let ends = match self.prepare(&mut messages, self.now()) {
            Ok(()) => self.publish_parts(to, &messages, &options).await,
            Err(error) => spread(Err(error), messages.len()),
        };
        self.count_each(&ends, refused.len());
        woven(ends, refused)
    }

    /// As [`publish_each`](Self::publish_each), with a destination for each message. Messages of one destination keep their order. Most calls
    /// cost one commit here too, however many messages and destinations they have.
    ///
    /// A stamp or an expectation cannot be asked for: each message has its own end.
    pub async fn publish_each_to(&self, publishes: Vec<(PublishTo, Message)>, options: PublishOptions) -> Each {
        if options.expect.is_some() || options.producer.is_some() {
            let why = "a stamp or an expectation is for the messages of one destination".to_owned();
            let error = PublishError::Invalid { field: "options".to_owned(), why };
            return spread(Err(error), publishes.len());
        }
        let (mut targets, mut messages): (Vec<PublishTo>, Vec<Message>) = publishes.into_iter().unzip();
        let refused = self.refuse_invalid(&messages);
        if !refused.is_empty() {
            targets = keep(targets, &refused);
            messages = keep(messages, &refused);
        }
        let now = self.now();
        let ends = match self.prepare(&mut messages, now) {
            Ok(()) => self.publish_groups(grouped(targets, messages), &options, now).await,
            Err(error) => spread(Err(error), messages.len()),
        };
        self.count_each(&ends, refused.len());
        woven(ends, refused)
    }

    /// Publishes what goes into one commit so, and what does not, group by group.
    async fn publish_groups(&self, groups: Vec<Group>, options: &PublishOptions, now: Now) -> Each {
        let count = groups.iter().map(|group| group.messages.len()).sum();
        let mut ends: Ends = Vec::new();
        ends.resize_with(count, || None);
        let mut transaction = Transaction::new();
        let (mut planned, mut left) = (Vec::with_capacity(groups.len()), Vec::new());
        for group in groups {
            let mut plan = Plan::new(self.shared(), now);
            let is_planned = self.plan(&mut plan, &group.to, &group.messages, options).is_ok() && !plan.must_wait();
            if !is_planned {
                left.push(group);
                continue;
            }
            set_durability(&mut plan, &group.messages, options);
            let (placed, results) = plan.into_transaction(&mut transaction);
            if results.iter().any(|result| result.duplicate) {
                transaction.barrier();
            }
            planned.push((group, placed, results));
        }
        let failure = match transaction.commit(self.shared()).await {
            Ok(written) => {
                for (group, placed, mut results) in planned.drain(..) {
                    place(&placed, &written, &mut results);
                    group.tell(&mut ends, results.into_iter().map(Ok));
                }
                None
            }
            // A queue or topic on the way of one group was deleted meanwhile.
            Err(CommitFailure::Refused(Refusal::NoSuchLog(_))) => None,
            Err(failure) => Some(storage(failure)),
        };
        for (group, ..) in planned {
            match &failure {
                Some(error) => group.tell(&mut ends, std::iter::repeat_with(|| Err(error.clone()))),
                None => left.push(group),
            }
        }
        for group in left {
            let results = self.publish_parts(&group.to, &group.messages, options).await;
            group.tell(&mut ends, results.into_iter());
        }
        let lost = || Err(PublishError::Backpressure);
        ends.into_iter().map(|end| end.unwrap_or_else(lost)).collect()
    }

    fn count_each(&self, ends: &Each, refused: usize) {
        let published = ends.iter().filter(|end| end.is_ok()).count();
        let totals = &self.shared().totals;
        totals.published.fetch_add(published as u64, Ordering::Relaxed);
        totals.publish_errors.fetch_add((ends.len() - published + refused) as u64, Ordering::Relaxed);
    }

    /// The messages that pass some limit: their places and why.
    fn refuse_invalid(&self, messages: &[Message]) -> Refused {
        let max_body = self.space.config().quota.max_body_bytes.unwrap_or(MAX_BODY_BYTES as u64);
        messages.iter().enumerate().filter_map(|(at, message)| Some((at, check(message, max_body).err()?))).collect()
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

/// Messages by destination, in the order in which the destinations come first.
fn grouped(targets: Vec<PublishTo>, messages: Vec<Message>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<PublishTo, usize> = HashMap::new();
    for (place, (to, message)) in targets.into_iter().zip(messages).enumerate() {
        let next = groups.len();
        let at = match groups.last() {
            Some(group) if group.to == to => next - 1,
            _ => *known.entry(to.clone()).or_insert(next),
        };
        match groups.get_mut(at) {
            Some(group) => {
                group.messages.push(message);
                group.places.push(place);
            }
            None => groups.push(Group { to, messages: vec![message], places: vec![place] }),
        }
    }
    groups
}

/// All but those that were refused.
fn keep<T>(all: Vec<T>, refused: &Refused) -> Vec<T> {
    let is_kept = |at: &usize| refused.binary_search_by_key(at, |(place, _)| *place).is_err();
    all.into_iter().enumerate().filter(|(at, _)| is_kept(at)).map(|(_, one)| one).collect()
}

/// The ends of all messages, with the refused ones in their places.
fn woven(ends: Each, refused: Refused) -> Each {
    if refused.is_empty() {
        return ends;
    }
    let mut all = Vec::with_capacity(ends.len() + refused.len());
    let (mut ends, mut refused) = (ends.into_iter(), refused.into_iter().peekable());
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
