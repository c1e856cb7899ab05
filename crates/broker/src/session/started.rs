//! Operations that begin at the call, so that a caller can have many under way without a task for each.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use types::Message;

use super::{PublishOptions, PublishTo, Publishes, Session};
use crate::errors::{PublishError, SettleError};
use crate::queue::Settle;
use crate::receipt::Receipt;
use crate::views::Published;

/// An operation that has begun: a future of its end. Awaiting the oldest of many wakes a task once for all that one round of the log
/// ended. Dropping it takes back nothing that was submitted; what had to wait first, such as a message that repeats one being written, is
/// not begun then.
#[must_use = "the end of the operation is told here"]
pub struct Started<T> {
    state: State<T>,
}

enum State<T> {
    Ended(Option<T>),
    UnderWay(Pin<Box<dyn Future<Output = T> + Send>>),
}

// What is in there is moved out or boxed, never pinned in place.
impl<T> Unpin for Started<T> {}

impl<T> Started<T> {
    /// Begins: runs the operation to its first wait, which is behind the submission of its commit.
    pub(super) fn begin(operation: impl Future<Output = T> + Send + 'static) -> Self {
        let mut operation: Pin<Box<dyn Future<Output = T> + Send>> = Box::pin(operation);
        // Nobody waits yet: whoever does registers with the next poll.
        let state = match operation.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(end) => State::Ended(Some(end)),
            Poll::Pending => State::UnderWay(operation),
        };
        Self { state }
    }
}

impl<T> Future for Started<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.state {
            State::UnderWay(operation) => operation.as_mut().poll(context),
            State::Ended(end) => end.take().map_or(Poll::Pending, Poll::Ready),
        }
    }
}

impl Session {
    /// Begins [`publish`](Self::publish). Publishes of one caller take their offsets in the order of these calls.
    ///
    /// # Errors
    /// Gives the messages back if the broker is short of memory: nothing of them was taken. See [`memory_ready`](Self::memory_ready).
    pub fn start_publish(
        &self,
        to: Arc<PublishTo>,
        messages: Vec<Message>,
        options: PublishOptions,
    ) -> Result<Started<Result<Vec<Published>, PublishError>>, Vec<Message>> {
        if self.is_held_back() {
            return Err(messages);
        }
        let session = self.clone();
        Ok(Started::begin(async move { session.publish_admitted(&to, messages, options).await }))
    }

    /// Begins [`publish_each`](Self::publish_each), in the order of these calls.
    ///
    /// # Errors
    /// Gives the messages back if the broker is short of memory, as [`start_publish`](Self::start_publish) does.
    pub fn start_publish_each(
        &self,
        publishes: Publishes,
        options: PublishOptions,
    ) -> Result<Started<Vec<Result<Published, PublishError>>>, Publishes> {
        if self.is_held_back() {
            return Err(publishes);
        }
        let session = self.clone();
        Ok(Started::begin(async move { session.publish_each_admitted(publishes, options).await }))
    }

    /// Begins [`transact`](Self::transact), in the order of these calls.
    ///
    /// # Errors
    /// Gives everything back if the broker is short of memory, as [`start_publish`](Self::start_publish) does.
    #[allow(clippy::type_complexity, reason = "what was given is given back")]
    pub fn start_transact(
        &self,
        publishes: Publishes,
        settlements: Vec<(Receipt, Settle)>,
        options: PublishOptions,
    ) -> Result<Started<Result<Vec<Published>, SettleError>>, (Publishes, Vec<(Receipt, Settle)>)> {
        if self.is_held_back() && !publishes.is_empty() {
            return Err((publishes, settlements));
        }
        let session = self.clone();
        Ok(Started::begin(async move { session.transact_admitted(publishes, settlements, options).await }))
    }

    /// Begins [`settle`](Self::settle).
    pub fn start_settle(&self, settlements: Vec<(Receipt, Settle)>) -> Started<Vec<Result<(), SettleError>>> {
        let session = self.clone();
        Started::begin(async move { session.settle(settlements).await })
    }
}
