//! Publishes messages and asks questions.

mod answers;
mod asking;
mod publishing;

use std::fmt;
use std::sync::Arc;

use types::{Text, Value};

use self::answers::Answers;
pub use self::asking::{Asking, Gathering, RequestError};
pub(crate) use self::asking::{CANCEL_SUBJECT, question_subject};
pub use self::publishing::Publishing;
use crate::contract::{Call, EncodeError, Message};
use crate::telemetry::{Providers, Telemetry};
use crate::transport::nowhere::Nowhere;
use crate::transport::{PublishError, Published, Transport, TransportError, dead_letter_queue};
use crate::{Envelope, headers};

/// Publishes messages and asks questions over a transport. Cheap to clone; every clone shares the connection.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    transport: Arc<dyn Transport>,
    /// The service that publishes, for the header.
    source: Option<Text>,
    answers: Answers,
    telemetry: Telemetry,
}

/// Why a message was not published, or is not known to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It could not be written. It was not sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// It was refused, or no confirmation came.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Client {
    /// A client on this transport.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self::of_service(transport, None, &Providers::global())
    }

    pub(crate) fn of_service(transport: Arc<dyn Transport>, source: Option<&str>, providers: &Providers) -> Self {
        let answers = Answers::new(Arc::clone(&transport));
        let telemetry = Telemetry::new(providers, transport.system(), None);
        Self { inner: Arc::new(Inner { transport, source: source.map(Text::from), answers, telemetry }) }
    }

    /// What watches its messages.
    pub(crate) fn telemetry(&self) -> &Telemetry {
        &self.inner.telemetry
    }

    /// A client without a broker, which refuses everything.
    pub(crate) fn detached() -> Self {
        Self::new(Arc::new(Nowhere::new()))
    }

    /// The transport under it.
    #[must_use]
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.inner.transport
    }

    /// Publishes a message to its topic. Ready when the broker has confirmed it.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn publish<M: Message>(&self, message: &M) -> Result<Published, SendError> {
        self.send(Publishing::of(message)?).await
    }

    /// Publishes a message as its [`Publishing`] says: to a queue, with a delay, with headers.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, publishing: Publishing) -> Result<Published, SendError> {
        let mut answers = self.send_all(vec![publishing]).await;
        answers.pop().unwrap_or(Err(PublishError::Closed)).map_err(SendError::from)
    }

    /// Publishes many messages at once; each stands for itself. One answer for each, in order.
    pub async fn send_all(&self, publishings: Vec<Publishing>) -> Vec<Result<Published, PublishError>> {
        let now = self.inner.transport.now();
        let all = publishings.into_iter().map(|publishing| {
            let mut outgoing = publishing.into_outgoing(now);
            if let Some(source) = &self.inner.source
                && outgoing.message.header(headers::SOURCE).is_none()
            {
                outgoing.message.headers.push((Text::from_static(headers::SOURCE), Value::Text(source.clone())));
            }
            outgoing
        });
        crate::runtime::publish(self, all.collect()).await
    }

    /// Asks a question and waits for the answer: `client.request(&call).within(limit).await`. Without a limit it waits
    /// [`Asking::DEFAULT_LIMIT`]. Dropping it tells whoever works on the answer that nobody waits any more.
    pub fn request<'a, C: Call>(&'a self, call: &'a C) -> Asking<'a, C> {
        Asking::new(self, call)
    }

    /// Asks a question of all who answer it, and collects what they say: `client.gather(&call).at_most(3).within(limit).await`.
    pub fn gather<'a, C: Call>(&'a self, call: &'a C) -> Gathering<'a, C> {
        Gathering::new(self, call)
    }

    /// Looks at the dead letters of a queue, at most `max`, without taking them: each with the reason in its headers. Needs
    /// [`browse`](crate::transport::Capabilities::browse).
    ///
    /// # Errors
    /// See [`TransportError`].
    pub async fn dead_letters(&self, queue: &str, max: u32) -> Result<Vec<Envelope>, TransportError> {
        self.inner.transport.browse(&dead_letter_queue(queue), max).await
    }

    /// Has the dead letters of a queue handled again, from their first attempt on, once what was wrong is mended; how many.
    ///
    /// # Errors
    /// See [`TransportError`]; what was moved until then is moved.
    pub async fn redrive(&self, queue: &str) -> Result<u64, TransportError> {
        self.inner.transport.redrive(&dead_letter_queue(queue)).await
    }

    fn answers(&self) -> &Answers {
        &self.inner.answers
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("transport", &self.inner.transport).finish_non_exhaustive()
    }
}
