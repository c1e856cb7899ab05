//! Calls of other services that may be slow, away or broken: each attempt has a time limit, failures are tried again within a budget, and a
//! service that fails too often is left alone for a while.
//!
//! From the outside in: retry, circuit breaker, timeout, the call. So the breaker sees each attempt, and an open breaker ends the retries.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tower::retry::backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff};
use tower::retry::budget::{Budget, TpsBudget};
use tower::retry::{Policy, RetryLayer};
use tower::timeout::TimeoutLayer;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer};

/// Time for one attempt.
pub const ATTEMPT_LIMIT: Duration = Duration::from_millis(800);
/// Attempts at one call.
const MAX_ATTEMPTS: u32 = 3;
/// The wait before the second attempt, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));
/// How much of each wait is left to chance, in shares of it.
const JITTER: f64 = 0.5;
/// Retries may be this share of all calls, besides a few a second: a service that is down is not buried in retries when it comes back.
const RETRY_SHARE: f32 = 0.2;
/// Retries a second that are always allowed.
const RETRIES_A_SECOND: u32 = 10;
/// How long the budget remembers calls.
const BUDGET_TIME: Duration = Duration::from_secs(10);
/// Calls that the breaker looks at, and those that it needs before it judges.
const WINDOW: usize = 20;
/// Share of failures that opens the breaker.
const FAILURE_SHARE: f64 = 0.5;
/// How long the breaker stays open before it lets a call through to see.
const OPEN: Duration = Duration::from_secs(2);

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The other side fails too often and is not asked for the moment.
    #[error("{service} fails too often and is left alone for up to {OPEN:?}")]
    Open {
        /// The other side.
        service: &'static str,
    },
    /// All attempts failed.
    #[error("{service} did not answer: {why}")]
    Failed {
        /// The other side.
        service: &'static str,
        /// What the last attempt said.
        why: String,
    },
}

/// A call that is tried again, given up in time, and not made at all while the other side is broken.
#[derive(Clone)]
pub struct Resilient<Q, R> {
    service: &'static str,
    stack: BoxCloneSyncService<Q, R, Attempt>,
}

impl<Q, R> Resilient<Q, R>
where
    Q: Clone + Send + 'static,
    R: Send + 'static,
{
    /// Wraps a call of this service. What the call gives as an error is taken for a failure of the other side: what it refuses for a reason is
    /// an answer.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub fn new<C, F>(service: &'static str, call: C) -> anyhow::Result<Self>
    where
        C: Fn(Q) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<R, BoxError>> + Send + 'static,
    {
        let (least, most) = BACKOFF;
        let backoff =
            ExponentialBackoffMaker::new(least, most, JITTER, tower::util::rng::HasherRng::new())?.make_backoff();
        let budget = Arc::new(TpsBudget::new(BUDGET_TIME, RETRIES_A_SECOND, RETRY_SHARE));
        let breaker = CircuitBreakerLayer::builder()
            .name(service)
            .failure_rate_threshold(FAILURE_SHARE)
            .sliding_window_size(WINDOW)
            .minimum_number_of_calls(WINDOW / 2)
            .wait_duration_in_open(OPEN)
            .on_state_transition(move |from, to| tracing::warn!(service, ?from, ?to, "circuit breaker"))
            .build()?;
        let stack = ServiceBuilder::new()
            .layer(RetryLayer::new(Again { attempt: 1, backoff, budget }))
            .map_err(|error: CircuitBreakerError<BoxError>| match error {
                CircuitBreakerError::OpenCircuit => Attempt::NotMade,
                CircuitBreakerError::Inner(error) => Attempt::Failed(error.to_string()),
            })
            .layer(breaker)
            .layer(TimeoutLayer::new(ATTEMPT_LIMIT))
            .service(service_fn(call));
        Ok(Self { service, stack: BoxCloneSyncService::new(stack) })
    }

    /// Makes the call.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, question: Q) -> Result<R, CallError> {
        let service = self.service;
        self.stack.clone().oneshot(question).await.map_err(|error| match error {
            Attempt::NotMade => CallError::Open { service },
            Attempt::Failed(why) => CallError::Failed { service, why },
        })
    }
}

impl<Q, R> fmt::Debug for Resilient<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resilient").field("service", &self.service).finish_non_exhaustive()
    }
}

/// How one attempt failed.
#[derive(Debug, thiserror::Error)]
enum Attempt {
    #[error("the circuit is open")]
    NotMade,
    #[error("{0}")]
    Failed(String),
}

/// When a call is tried again.
#[derive(Clone, Debug)]
struct Again {
    attempt: u32,
    backoff: ExponentialBackoff,
    budget: Arc<TpsBudget>,
}

impl<Q: Clone, R> Policy<Q, R, Attempt> for Again {
    type Future = <ExponentialBackoff as Backoff>::Future;

    fn retry(&mut self, _: &mut Q, result: &mut Result<R, Attempt>) -> Option<Self::Future> {
        match result {
            Ok(_) => {
                self.budget.deposit();
                None
            }
            Err(Attempt::NotMade) => None,
            Err(Attempt::Failed(_)) if self.attempt >= MAX_ATTEMPTS || !self.budget.withdraw() => None,
            Err(Attempt::Failed(_)) => {
                self.attempt += 1;
                Some(self.backoff.next_backoff())
            }
        }
    }

    fn clone_request(&mut self, question: &Q) -> Option<Q> {
        Some(question.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A call that fails so often before it succeeds, and how often it was made.
    fn failing(times: u32) -> (Resilient<(), u32>, Arc<AtomicU32>) {
        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        let call = move |()| {
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            async move { if number > times { Ok(number) } else { Err(BoxError::from("refused")) } }
        };
        (Resilient::new("inventory", call).unwrap(), made)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_is_made_again_and_then_given_up() {
        let (twice, made) = failing(2);
        assert_eq!(twice.call(()).await.unwrap(), 3);
        assert_eq!(made.load(Ordering::SeqCst), 3);
        let (always, made) = failing(u32::MAX);
        let error = always.call(()).await.unwrap_err();
        assert_eq!(error.to_string(), "inventory did not answer: refused");
        assert_eq!(made.load(Ordering::SeqCst), MAX_ATTEMPTS);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_given_up_in_time() {
        let hangs = Resilient::<(), ()>::new("payment", |()| std::future::pending()).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(10), hangs.call(())).await.unwrap();
        assert!(matches!(answer, Err(CallError::Failed { .. })), "{answer:?}");
    }

    #[tokio::test]
    async fn one_that_fails_too_often_is_not_made_any_more() {
        let (always, made) = failing(u32::MAX);
        for _ in 0..WINDOW {
            let _ = always.call(()).await;
        }
        let before = made.load(Ordering::SeqCst);
        let error = always.call(()).await.unwrap_err();
        assert!(matches!(error, CallError::Open { service: "inventory" }), "{error}");
        assert_eq!(made.load(Ordering::SeqCst), before, "it was not asked");
    }
}
