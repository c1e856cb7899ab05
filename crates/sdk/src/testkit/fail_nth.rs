//! Handlers that fail when a test says so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as Poller, Poll};

use futures_util::future::BoxFuture;
use tower::{BoxError, Layer, Service};

use crate::reaction::Reaction;
use crate::{Context, Error, HandlerService};

/// A layer that fails the n-th calls of a handler, counted from 1, before the handler sees them: `subscription.layer(FailNth::calls([2, 5]))`. The failure is
/// *transient*, as that of a handler whose database is away.
#[derive(Clone, Debug)]
pub struct FailNth {
    calls: Arc<BTreeSet<u64>>,
    made: Arc<AtomicU64>,
}

impl FailNth {
    /// Fails these calls.
    #[must_use]
    pub fn calls(calls: impl IntoIterator<Item = u64>) -> Self {
        Self { calls: Arc::new(calls.into_iter().collect()), made: Arc::default() }
    }
}

impl Layer<HandlerService> for FailNth {
    type Service = FailingNth;

    fn layer(&self, handler: HandlerService) -> FailingNth {
        FailingNth { fails: self.clone(), handler }
    }
}

/// A handler within [`FailNth`].
#[derive(Clone, Debug)]
pub struct FailingNth {
    fails: FailNth,
    handler: HandlerService,
}

impl Service<Context> for FailingNth {
    type Response = Reaction;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Reaction, BoxError>>;

    fn poll_ready(&mut self, poller: &mut Poller<'_>) -> Poll<Result<(), BoxError>> {
        self.handler.poll_ready(poller)
    }

    fn call(&mut self, context: Context) -> Self::Future {
        let number = self.fails.made.fetch_add(1, Ordering::SeqCst) + 1;
        if self.fails.calls.contains(&number) {
            let error = Error::transient(format!("call {number} of the handler fails, as the test wants it"));
            return Box::pin(async move { Err(error.into_boxed()) });
        }
        self.handler.call(context)
    }
}
