//! Clients that do not read: a call whose answer is not taken for too long is reset, and what it holds is given back.
//!
//! HTTP/2's flow control lets a client stop one call while its connection lives. The call's task waits in hyper then, for room that never
//! comes; only whoever runs the task can end it. So the executor that hyper hands its calls to watches when each last gave out data.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, MissedTickBehavior};

use crate::limits::WRITE_TIMEOUT;

tokio::task_local! {
    static WATCH: Arc<Watch>;
}

/// When a call's answer last gave out data that is not taken yet.
pub(crate) struct Watch {
    began: Instant,
    /// In milliseconds after `began`, plus one; 0 if nothing waits.
    given_ms: AtomicU64,
}

impl Watch {
    fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), given_ms: AtomicU64::new(0) })
    }

    fn give(&self) {
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.given_ms.store(ms + 1, Ordering::Relaxed);
    }

    fn asked(&self) {
        self.given_ms.store(0, Ordering::Relaxed);
    }

    fn is_overdue(&self, limit: Duration) -> bool {
        let given_ms = self.given_ms.load(Ordering::Relaxed);
        given_ms > 0 && self.began.elapsed() > Duration::from_millis(given_ms) + limit
    }
}

/// Runs the calls of a connection, each in a task of its own.
#[derive(Clone)]
pub(crate) struct Calls;

impl<F> hyper::rt::Executor<F> for Calls
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let watch = Watch::new();
        tokio::spawn(WATCH.scope(Arc::clone(&watch), guard(call, watch)));
    }
}

/// Runs a call until it ends or its client has left its answer for too long. Dropping it resets the call.
async fn guard(call: impl Future<Output = ()>, watch: Arc<Watch>) {
    let mut look = tokio::time::interval(WRITE_TIMEOUT / 4);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(call);
    loop {
        tokio::select! {
            biased;
            () = call.as_mut() => return,
            _ = look.tick() => {
                if watch.is_overdue(WRITE_TIMEOUT) {
                    tracing::debug!("a call is reset: its client does not read the answer");
                    return;
                }
            }
        }
    }
}

/// A call's answer, watched.
pub(crate) struct Watched<B> {
    body: B,
    watch: Option<Arc<Watch>>,
}

impl<B> Watched<B> {
    /// Of the call whose task this is made in.
    pub(crate) fn new(body: B) -> Self {
        Self { body, watch: WATCH.try_with(Arc::clone).ok() }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Some(watch) = &self.watch {
            match &polled {
                Poll::Ready(Some(Ok(_))) => watch.give(),
                _ => watch.asked(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_data_that_nobody_takes_is_overdue() {
        let watch = Watch::new();
        tokio::time::advance(WRITE_TIMEOUT * 2).await;
        assert!(!watch.is_overdue(WRITE_TIMEOUT), "nothing was given out");
        watch.give();
        tokio::time::advance(WRITE_TIMEOUT / 2).await;
        assert!(!watch.is_overdue(WRITE_TIMEOUT));
        tokio::time::advance(WRITE_TIMEOUT).await;
        assert!(watch.is_overdue(WRITE_TIMEOUT));
        watch.asked();
        assert!(!watch.is_overdue(WRITE_TIMEOUT), "it was taken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_read_is_dropped() {
        let watch = Watch::new();
        watch.give();
        let began = Instant::now();
        guard(std::future::pending(), watch).await;
        assert!(began.elapsed() < WRITE_TIMEOUT * 2);
    }
}
