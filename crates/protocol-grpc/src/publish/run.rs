//! Messages that are published in one call, and what becomes of them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use broker::views::Published;
use broker::{AccessError, PublishError, PublishOptions, PublishTo, Session};
use types::Message;

use crate::failure::Failure;

/// Messages that go the same way, one behind the other.
pub(super) struct Run {
    pub(super) to: Arc<PublishTo>,
    pub(super) options: PublishOptions,
    /// All or none: it is neither joined with other messages nor taken apart.
    pub(super) atomic: bool,
    pub(super) messages: Vec<Message>,
    pub(super) bytes: usize,
}

impl Run {
    /// Whether messages with this destination and these options may follow in the same call.
    pub(super) fn takes(&self, to: &Arc<PublishTo>, options: &PublishOptions, atomic: bool) -> bool {
        !self.atomic && !atomic && (Arc::ptr_eq(&self.to, to) || self.to == *to) && self.options == *options
    }
}

/// What became of some messages.
pub(super) enum Outcome {
    Stored(Vec<Published>),
    Failed(Failure),
}

/// A call that is under way. It gives its messages back, for another try without the one that was refused.
type Call = Pin<Box<dyn Future<Output = (Result<Vec<Published>, PublishError>, Run)> + Send>>;

enum State {
    Working(Call),
    Done(Outcome),
}

struct Pending {
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
        self.messages += count;
        self.pending.push_back(Pending { count, bytes: 0, state: State::Done(Outcome::Failed(failure)) });
    }

    /// Begins a call at once, so that messages enter the broker in the order of the stream. Gives them back if the broker is short of memory:
    /// nothing of them was taken, and they are to be tried again before any other.
    pub(super) fn begin(&mut self, run: Run, context: &mut Context<'_>) -> Option<Run> {
        let at = self.pending.len();
        self.begin_at(at, run, context)
    }

    fn begin_at(&mut self, at: usize, run: Run, context: &mut Context<'_>) -> Option<Run> {
        let (count, bytes) = (run.messages.len(), run.bytes);
        let mut call = call(self.session.clone(), run);
        let state = match call.as_mut().poll(context) {
            Poll::Pending => State::Working(call),
            Poll::Ready((Ok(published), _)) => State::Done(Outcome::Stored(published)),
            Poll::Ready((Err(PublishError::Backpressure), run)) => return Some(run),
            Poll::Ready((Err(error), run)) => return self.refused(at, run, error, context),
        };
        self.messages += count;
        self.bytes += bytes;
        self.pending.insert(at, Pending { count, bytes, state });
        None
    }

    /// A call was refused: if that may be for some of its messages only, its halves are tried.
    fn refused(&mut self, at: usize, mut run: Run, error: PublishError, context: &mut Context<'_>) -> Option<Run> {
        let count = run.messages.len();
        if run.atomic || count < 2 || !may_be_of_one(&error, &run.to) {
            self.messages += count;
            let state = State::Done(Outcome::Failed(error.into()));
            self.pending.insert(at, Pending { count, bytes: 0, state });
            return None;
        }
        let messages = run.messages.split_off(count / 2);
        let bytes = messages.iter().map(Message::weight_bytes).sum();
        run.bytes = run.bytes.saturating_sub(bytes);
        let second = Run { to: Arc::clone(&run.to), options: run.options.clone(), atomic: false, messages, bytes };
        let before = self.pending.len();
        if let Some(mut held) = self.begin_at(at, run, context) {
            held.bytes += second.bytes;
            held.messages.extend(second.messages);
            return Some(held);
        }
        // The first half may have become several.
        let at = at + (self.pending.len() - before);
        self.begin_at(at, second, context)
    }

    /// The next messages whose end is known, in order.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, Outcome)>> {
        loop {
            let Some(first) = self.pending.front_mut() else { return Poll::Ready(None) };
            if let State::Working(call) = &mut first.state {
                let Poll::Ready((result, run)) = call.as_mut().poll(context) else { return Poll::Pending };
                match result {
                    Ok(published) => first.state = State::Done(Outcome::Stored(published)),
                    Err(error) => {
                        self.take_front();
                        // What is short of memory so late fails: later messages are under way already.
                        if let Some(held) = self.refused(0, run, error, context) {
                            self.messages += held.messages.len();
                            let (count, state) =
                                (held.messages.len(), State::Done(Outcome::Failed(PublishError::Backpressure.into())));
                            self.pending.push_front(Pending { count, bytes: 0, state });
                        }
                        continue;
                    }
                }
            }
            let Some(first) = self.take_front() else { return Poll::Ready(None) };
            if let State::Done(outcome) = first.state {
                return Poll::Ready(Some((first.count, outcome)));
            }
        }
    }

    fn take_front(&mut self) -> Option<Pending> {
        let first = self.pending.pop_front()?;
        self.messages -= first.count;
        self.bytes -= first.bytes;
        Some(first)
    }
}

fn call(session: Session, mut run: Run) -> Call {
    Box::pin(async move {
        let options = run.options.clone();
        let result = session.publish_from(&run.to, &mut run.messages, options).await;
        (result, run)
    })
}

/// Whether an error may be the fault of some messages only, so that the others are worth another try.
fn may_be_of_one(error: &PublishError, to: &PublishTo) -> bool {
    match error {
        PublishError::TooLarge { .. }
        | PublishError::Invalid { .. }
        | PublishError::QueueFull { .. }
        | PublishError::DedupFull { .. } => true,
        // Each subject is a destination of its own.
        PublishError::Access(AccessError::Forbidden { .. }) | PublishError::NotFound { .. } => {
            *to == PublishTo::Subject
        }
        _ => false,
    }
}
