//! Messages that are published in one call, and what becomes of them.

use std::collections::VecDeque;
use std::future::Future;
use std::iter::Peekable;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use broker::views::Published;
use broker::{PublishError, PublishOptions, Publishes, Session, Started};

use crate::failure::Failure;
use crate::limits::{RUN_BYTES, RUN_MESSAGES};

type End = Result<Published, PublishError>;

/// Messages that are published in one call, one behind the other.
pub(super) struct Run {
    pub(super) options: PublishOptions,
    /// All or none, to one destination: it is not joined with other messages.
    pub(super) atomic: bool,
    pub(super) publishes: Publishes,
}

impl Run {
    /// Whether messages with these options may follow in the same call.
    pub(super) fn takes(&self, options: &PublishOptions, atomic: bool) -> bool {
        !self.atomic && !atomic && self.options == *options
    }

    /// Whether it is large enough to go at once.
    pub(super) fn is_large(&self) -> bool {
        self.publishes.len() >= RUN_MESSAGES || self.publishes.weight_bytes() >= RUN_BYTES
    }
}

/// What became of some messages.
pub(super) enum Outcome {
    Stored(Vec<Published>),
    Failed(Failure),
}

enum State {
    /// One end each.
    Each(Started<Vec<End>>),
    /// One end for all.
    All(Started<Result<Vec<Published>, PublishError>>),
    /// Known, and told by and by.
    Known(Peekable<IntoIter<End>>),
    Done(Outcome),
}

struct Pending {
    /// Messages whose end was not told yet.
    count: usize,
    bytes: usize,
    state: State,
}

/// Calls under way, in the order of their messages.
pub(super) struct Calls {
    session: Session,
    pending: VecDeque<Pending>,
    messages: usize,
    bytes: usize,
}

impl Calls {
    pub(super) fn new(session: Session) -> Self {
        Self { session, pending: VecDeque::new(), messages: 0, bytes: 0 }
    }

    /// Messages and bytes under way.
    pub(super) fn load(&self) -> (usize, usize) {
        (self.messages, self.bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Adds messages whose end is known already.
    pub(super) fn push_failed(&mut self, count: usize, failure: Failure) {
        self.push(count, 0, State::Done(Outcome::Failed(failure)));
    }

    /// Begins a call at once, so that messages enter the broker in the order of the stream. Gives them back if the broker is short of memory:
    /// nothing of them was taken, and they are to be tried again before any other.
    pub(super) fn begin(&mut self, run: Run) -> Option<Run> {
        let Run { options, atomic, publishes } = run;
        let (count, bytes) = (publishes.len(), publishes.weight_bytes());
        let begun = match publishes.destination().cloned().filter(|_| atomic) {
            None => self.session.start_publish_each(publishes, options.clone()).map(State::Each),
            Some(to) => {
                let begun = self.session.start_publish(Arc::clone(&to), publishes.into_messages(), options.clone());
                begun.map(State::All).map_err(|messages| {
                    let mut publishes = Publishes::with_capacity(messages.len());
                    messages.into_iter().for_each(|message| publishes.push(&to, message));
                    publishes
                })
            }
        };
        match begun {
            Ok(state) => {
                self.push(count, bytes, state);
                None
            }
            Err(publishes) => Some(Run { options, atomic, publishes }),
        }
    }

    fn push(&mut self, count: usize, bytes: usize, state: State) {
        self.messages += count;
        self.bytes += bytes;
        self.pending.push_back(Pending { count, bytes, state });
    }

    /// The next messages in a row whose end is known and the same, in order.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Outcome)>> {
        loop {
            let Some(first) = self.pending.front_mut() else { return Poll::Ready(None) };
            let state = match &mut first.state {
                State::Each(call) => match Pin::new(call).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(ends) => State::Known(ends.into_iter().peekable()),
                },
                State::All(call) => match Pin::new(call).poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(published)) => State::Done(Outcome::Stored(published)),
                    Poll::Ready(Err(error)) => State::Done(Outcome::Failed(error.into())),
                },
                State::Known(ends) => match next(ends) {
                    Some((count, outcome)) => {
                        self.messages -= count;
                        first.count = first.count.saturating_sub(count);
                        return Poll::Ready(Some((count, outcome)));
                    }
                    None => {
                        self.forget_first();
                        continue;
                    }
                },
                State::Done(_) => match self.forget_first() {
                    Some(Pending { count, state: State::Done(outcome), .. }) => {
                        return Poll::Ready(Some((count, outcome)));
                    }
                    _ => continue,
                },
            };
            first.state = state;
        }
    }

    fn forget_first(&mut self) -> Option<Pending> {
        let first = self.pending.pop_front()?;
        self.messages -= first.count;
        self.bytes -= first.bytes;
        Some(first)
    }
}

/// The next messages in a row that have the same end.
fn next(ends: &mut Peekable<IntoIter<End>>) -> Option<(usize, Outcome)> {
    match ends.next()? {
        Ok(published) => {
            let mut stored = Vec::with_capacity(ends.len() + 1);
            stored.push(published);
            while let Some(Ok(published)) = ends.next_if(Result::is_ok) {
                stored.push(published);
            }
            Some((stored.len(), Outcome::Stored(stored)))
        }
        Err(error) => {
            let mut count = 1;
            while ends.next_if(|end| end.as_ref().err() == Some(&error)).is_some() {
                count += 1;
            }
            Some((count, Outcome::Failed(error.into())))
        }
    }
}
