//! The broker's clock: the machine's, or one that is moved by hand.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sdk::transport::posthouse::Time;
use tokio::sync::watch;
use types::clock::{ManualClock, SystemClock};
use types::{Clock, Now, Timestamp};

/// What the broker and its transports take their time from.
#[derive(Clone)]
pub(crate) enum Clockwork {
    System(Arc<SystemClock>),
    Manual(Arc<ManualClock>, watch::Sender<()>),
}

impl Clockwork {
    pub(crate) fn system() -> Self {
        Self::System(Arc::new(SystemClock::new()))
    }

    pub(crate) fn manual() -> Self {
        Self::Manual(Arc::new(ManualClock::new()), watch::Sender::new(()))
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::System(clock) => Arc::clone(clock) as Arc<dyn Clock>,
            Self::Manual(clock, _) => Arc::clone(clock) as Arc<dyn Clock>,
        }
    }

    /// Moves a clock that is moved by hand, and wakes who sleeps by it. `false` of the machine's.
    pub(crate) fn advance(&self, by: Duration) -> bool {
        match self {
            Self::System(_) => false,
            Self::Manual(clock, moved) => {
                clock.advance(by);
                moved.send_replace(());
                true
            }
        }
    }

    fn read(&self) -> Now {
        match self {
            Self::System(clock) => clock.now(),
            Self::Manual(clock, _) => clock.now(),
        }
    }
}

impl Time for Clockwork {
    fn now(&self) -> Timestamp {
        self.read().wall
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        match self {
            Self::System(_) => Box::pin(tokio::time::sleep(time)),
            Self::Manual(clock, moved) => {
                // The time counts from this call, not from the first poll.
                let until = clock.now().mono.after(time);
                let (clock, mut moves) = (Arc::clone(clock), moved.subscribe());
                Box::pin(async move {
                    while clock.now().mono < until {
                        if moves.changed().await.is_err() {
                            // Nobody can move it any more.
                            std::future::pending::<()>().await;
                        }
                    }
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_when_the_clock_was_moved_far_enough() {
        let time = Clockwork::manual();
        let before = time.now();
        let mut sleep = tokio::spawn(time.sleep(Duration::from_secs(10)));
        assert!(time.advance(Duration::from_millis(9_999)));
        tokio::task::yield_now().await;
        assert!(!sleep.is_finished());
        time.advance(Duration::from_millis(1));
        (&mut sleep).await.unwrap();
        assert_eq!(time.now().since(before), Duration::from_secs(10));
        assert!(!Clockwork::system().advance(Duration::from_secs(1)), "nobody moves the machine's");
    }
}
