//! Sagas: work that spans services, step by step, and is undone step by step when it cannot be finished.
//!
//! A saga by *orchestration* is a list of [`Step`]s over a state of its own. Each step is an async function that gets the state and returns it changed; each
//! may have a compensation. What the saga has done is kept in a [`SagaStore`] after each step, so that a crash resumes where it was:
//!
//! * A *transient* failure of a step is tried again, with backoff and jitter, as the step's [`RetrySpec`](crate::transport::RetrySpec) says. The wait is a delayed message,
//!   so that a restart does not forget it.
//! * A *terminal* failure, the last attempt, or the saga's deadline begins the compensation: what was done is undone, last step first. A step
//!   that failed without saying that it did nothing (a timeout, a lost answer) is undone too: compensations have to bear that there is nothing to undo.
//! * A compensation is tried until it succeeds. One that failed [`Saga::stuck_after`] times shows as *stuck* ([`Sagas::list`]) and goes on trying; one that
//!   fails terminally waits for somebody who mends what is wrong and calls [`Sagas::resume`].
//!
//! A saga may have a point of no return ([`Step::pivot`]): once all before it is done it goes forward only, and neither a failure nor the deadline undoes it.
//!
//! Steps are run at least once: a crash between a step and the note of it runs it again. [`StepContext::idempotency_key`] is the same each time, for whoever
//! does the work to take it once.
//!
//! Sagas by *choreography* have no orchestrator: each service reacts to the events of others. All they need is a correlation id that is kept from message to
//! message, which [`Context::emit`](crate::Context::emit) and returned messages do, and compensating events that are handled like any other.
//!
//! ```
//! use schemars::JsonSchema;
//! use sdk::saga::{Data, Saga, SagaStore, Step};
//! use sdk::{Error, Message, Service};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Checkout {
//!     order_id: String,
//! }
//!
//! async fn reserve(Data(order): Data<Checkout>) -> Result<Checkout, Error> {
//!     Ok(order)
//! }
//! async fn release(Data(order): Data<Checkout>) -> Result<Checkout, Error> {
//!     Ok(order)
//! }
//! async fn pay(Data(_): Data<Checkout>) -> Result<Checkout, Error> {
//!     Err(Error::terminal("the card was declined")) // the reservation is released
//! }
//!
//! let checkout = Saga::new("checkout").step(Step::new("reserve", reserve).compensate(release)).step(Step::new("pay", pay));
//! let service = Service::new("order").saga(checkout, SagaStore::topic());
//! # drop(service);
//! ```

mod advance;
mod record;
mod sagas;
mod step;
mod store;

use std::time::Duration;

pub use self::record::{SagaInstance, SagaStatus};
pub use self::sagas::{SagaHandle, Sagas};
use self::step::BoundStep;
pub use self::step::{Data, Step, StepContext, StepFn};
pub use self::store::{Instances, SagaStore, StoreError, Stored};

pub(crate) use self::advance::Orchestrator;
pub(crate) use self::sagas::queue_of;

/// A saga's steps and rules. `T` is its state, `S` that of the service.
pub struct Saga<T, S = ()> {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step<T, S>>,
    pub(crate) compensated: Option<step::BindStep<T, S>>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) stuck_after: u32,
    pub(crate) concurrency: usize,
}

impl<T, S> Saga<T, S> {
    /// Failed attempts of a compensation after which the saga shows as stuck, unless said otherwise.
    pub const DEFAULT_STUCK_AFTER: u32 = 10;
    /// Sagas that one instance works on at a time, unless said otherwise.
    pub const DEFAULT_CONCURRENCY: usize = 64;

    /// A saga without steps. The name is part of what is stored: it stays the same for as long as there are sagas under way.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            steps: Vec::new(),
            compensated: None,
            deadline: None,
            stuck_after: Self::DEFAULT_STUCK_AFTER,
            concurrency: Self::DEFAULT_CONCURRENCY,
        }
    }

    /// The next step.
    #[must_use]
    pub fn step(mut self, step: Step<T, S>) -> Self {
        self.steps.push(step);
        self
    }

    /// What is done once everything is undone: to tell who waits, by a message or in a database. Tried until it succeeds, as compensations are.
    #[must_use]
    pub fn on_compensated<F, Args>(mut self, function: F) -> Self
    where
        F: StepFn<Args, T, S>,
        Args: 'static,
        T: Send + 'static,
        S: Clone + Send + Sync + 'static,
    {
        self.compensated = Some(step::bind(function));
        self
    }

    /// The time for all steps, or for those before the [pivot](Step::pivot), from the start on. When it is over, the saga is undone.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Failed attempts of a compensation after which the saga shows as stuck.
    #[must_use]
    pub fn stuck_after(mut self, attempts: u32) -> Self {
        self.stuck_after = attempts.max(1);
        self
    }

    /// The same with the service's state.
    pub(crate) fn bind(self, state: &S) -> Bound<T>
    where
        T: Send + 'static,
        S: Clone + Send + Sync + 'static,
    {
        Bound {
            name: self.name,
            steps: self.steps.into_iter().map(|step| step.with_state(state)).collect(),
            compensated: self.compensated.map(|bind| bind(state.clone())),
            deadline: self.deadline,
            stuck_after: self.stuck_after,
        }
    }

    /// Sagas that one instance works on at a time.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }
}

impl<T, S> std::fmt::Debug for Saga<T, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saga").field("name", &self.name).field("steps", &self.steps).finish_non_exhaustive()
    }
}

/// A saga whose functions know the service's state.
pub(crate) struct Bound<T> {
    pub(crate) name: String,
    pub(crate) steps: Vec<BoundStep<T>>,
    pub(crate) compensated: Option<step::Run<T>>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) stuck_after: u32,
}
