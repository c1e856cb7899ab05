//! A standing consumer of a queue.

use std::time::Duration;

use crate::errors::{ConsumeError, SettleError};
use crate::queue::{ConsumerRules, Credit, Settle};
use crate::receipt::Receipt;
use crate::views::Delivered;

/// What a consumer asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerOptions {
    /// For people: shown with the queue.
    pub name: String,
    /// What it asks of the queue.
    pub rules: ConsumerRules,
}

/// A standing consumer. Dropping it puts what it has not settled back into the queue.
pub struct Consumer {}

impl Consumer {
    /// Waits until something can be handed out within the credit, and takes it. Cancel-safe: nothing is taken by a call that is dropped.
    ///
    /// # Errors
    /// [`ConsumeError::Deleted`] once the queue is gone.
    pub async fn next(&mut self, credit: Credit) -> Result<Vec<Delivered>, ConsumeError> {
        todo!()
    }
    /// Takes what can be handed out at once.
    ///
    /// # Errors
    /// See [`next`](Self::next).
    pub fn try_next(&mut self, credit: Credit) -> Result<Vec<Delivered>, ConsumeError> {
        todo!()
    }
    /// Ends deliveries of this consumer; see [`Session::settle`](crate::Session::settle).
    pub async fn settle(&self, settlements: Vec<(Receipt, Settle)>) -> Vec<Result<(), SettleError>> {
        todo!()
    }
    /// Makes a lease last `by` from now.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn extend(&self, receipt: Receipt, by: Duration) -> Result<(), SettleError> {
        todo!()
    }
}
