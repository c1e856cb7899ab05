//! What runs under a service: consumers, those who answer questions, and readers of logs.

mod breaker;
mod consumer;
mod outcome;
mod reader;
mod responder;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tower::BoxError;
use tower::util::BoxService;

pub use self::breaker::Breaker;
pub(crate) use self::consumer::{ConsumerTask, Lane, unwinding};
pub(crate) use self::reader::{Positions, ReaderTask, Route};
pub(crate) use self::responder::{CancelTask, Cancels, ResponderTask};
use crate::client::Client;
use crate::reaction::Reaction;
use crate::telemetry::Producing;
use crate::transport::{Outgoing, PublishError, Published};
use crate::{Context, Error};

/// A handler with its state.
pub(crate) type HandlerFn = Arc<dyn Fn(Context) -> BoxFuture<'static, Result<Reaction, Error>> + Send + Sync>;

/// A handler as a tower service: what layers wrap.
#[derive(Clone)]
pub struct HandlerService(pub(crate) HandlerFn);

impl tower::Service<Context> for HandlerService {
    type Response = Reaction;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Reaction, BoxError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, context: Context) -> Self::Future {
        let handling = (self.0)(context);
        Box::pin(async move { handling.await.map_err(Error::into_boxed) })
    }
}

impl std::fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandlerService")
    }
}

/// What messages go through: the handler itself, or the handler within its layers.
pub(crate) enum Work {
    Bare(HandlerFn),
    Layered(BoxService<Context, Reaction, BoxError>),
}

/// Publishes, watched; all publishing of the SDK comes by here, but for what is acknowledged in the same breath.
pub(crate) async fn publish(client: &Client, mut messages: Vec<Outgoing>) -> Vec<Result<Published, PublishError>> {
    if messages.is_empty() {
        return Vec::new();
    }
    let watches = watch(client, &mut messages);
    let answers = client.transport().publish(messages).await;
    for (watch, answer) in watches.into_iter().zip(&answers) {
        watch.finish(answer);
    }
    answers
}

/// As [`publish`], where all of them count.
///
/// # Errors
/// The first failure; the others may be stored. A message without an answer is not known to be, and counts as one.
pub(crate) async fn publish_all(client: &Client, messages: Vec<Outgoing>) -> Result<(), PublishError> {
    let count = messages.len();
    let answers = publish(client, messages).await;
    if answers.len() < count {
        return Err(PublishError::Closed);
    }
    answers.into_iter().try_for_each(|answer| answer.map(drop))
}

/// Begins the spans of messages that are about to be published, and writes them into the messages.
pub(crate) fn watch(client: &Client, messages: &mut [Outgoing]) -> Vec<Producing> {
    messages.iter_mut().map(|outgoing| client.telemetry().producing(&mut outgoing.message, &outgoing.to)).collect()
}
