//! Whether a service bears that messages come twice.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{Faulty, Plan};
use crate::client::{Client, Publishing};
use crate::service::Running;
use crate::transport::Transport;

/// How long a service may take to work off what it was sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks at its queues.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What [`chaos`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it says whether the service bears it"]
pub struct Chaos<E> {
    /// The effect of each message once.
    pub once: E,
    /// The effect when each came again, as a message that is sent twice and as one whose acknowledgement was lost.
    pub twice: E,
}

impl<E: PartialEq + Debug> Chaos<E> {
    /// Whether it makes no difference.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.once == self.twice
    }

    /// Holds that it makes no difference.
    ///
    /// # Panics
    /// If it does, with both effects.
    pub fn assert_idempotent(&self) {
        assert!(
            self.is_idempotent(),
            "messages that come twice have another effect: once {:?}, twice {:?}; give the handler an inbox (`Subscription::idempotent`, `once`)",
            self.once,
            self.twice
        );
    }
}

/// Runs a service twice with the same messages, and compares what came of it: first each message comes once, then each comes again, handed out twice, with the
/// acknowledgement lost in between, as after a crash between handler and acknowledgement. `effect` says what counts: rows of a table, calls of a gateway.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use sdk::testkit::chaos;
/// # use sdk::transport::Transport;
/// # use sdk::{Publishing, Running};
/// # async fn start(_: Arc<dyn Transport>) -> Running { unimplemented!() }
/// # async fn rows() -> u64 { 0 }
/// # async fn test(transport: Arc<dyn Transport>, orders: Vec<Publishing>) {
/// chaos(transport, start, orders, rows).await.assert_idempotent();
/// # }
/// ```
///
/// # Panics
/// If a message cannot be published, or the service does not work off what it was sent.
pub async fn chaos<E, Start, Started, Effect, Told>(
    transport: Arc<dyn Transport>,
    start: Start,
    messages: Vec<Publishing>,
    effect: Effect,
) -> Chaos<E>
where
    Start: Fn(Arc<dyn Transport>) -> Started,
    Started: Future<Output = Running>,
    Effect: Fn() -> Told,
    Told: Future<Output = E>,
{
    run(start(Arc::clone(&transport)).await, &transport, messages.clone()).await;
    let once = effect().await;
    let faulty: Arc<dyn Transport> = Faulty::new(Arc::clone(&transport), Plan::every_message_twice());
    run(start(Arc::clone(&faulty)).await, &transport, messages).await;
    Chaos { once, twice: effect().await }
}

/// Sends messages to a service, waits until it has worked them off, and stops it.
async fn run(service: Running, transport: &Arc<dyn Transport>, messages: Vec<Publishing>) {
    for answer in Client::new(Arc::clone(transport)).send_all(messages).await {
        assert!(answer.is_ok(), "a message was not published: {answer:?}");
    }
    let idle = async {
        for queue in service.queues() {
            while transport.queue_len(queue).await.is_ok_and(|waiting| waiting > 0) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    };
    let worked_off = tokio::time::timeout(PATIENCE, idle).await.is_ok();
    assert!(worked_off, "{:?} has not worked off its queues within {PATIENCE:?}", service.name());
    let _ = service.stop().await;
}
