//! Questions with answers.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use types::Text;

use super::answers::Awaited;
use super::{Client, Publishing};
use crate::contract::{Call, DecodeError, EncodeError, decode};
use crate::transport::{Destination, Outgoing, PublishError, Transport, TransportError};
use crate::{Envelope, headers};

/// Subject on which whoever works on an answer hears that nobody waits for it any more; the question's correlation id is that of the message.
pub(crate) const CANCEL_SUBJECT: &str = "svc.cancel";

/// Subject that a question is asked on: apart from all topics' names, so that no topic captures it.
pub(crate) fn question_subject(name: &str) -> String {
    format!("svc.ask.{name}")
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody answers this question now. It was not heard.
    #[error("nobody answers {call}: no running service has a handler for it")]
    NoResponder {
        /// The question.
        call: &'static str,
    },
    /// No answer came in time. Whether somebody worked on it is not known.
    #[error("no answer to {call} within {waited:?}; whether it was worked on is not known")]
    Deadline {
        /// The question.
        call: &'static str,
        /// How long was waited.
        waited: Duration,
    },
    /// Whoever answered says that it failed, and that trying again is in vain.
    #[error("{0}")]
    Refused(String),
    /// Whoever answered says that it failed; trying again may help.
    #[error("{0}")]
    Failed(String),
    /// The question could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The answer could not be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The question could not be sent.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// No answer can be received.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl RequestError {
    /// Whether asking again may help.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::NoResponder { .. } | Self::Deadline { .. } | Self::Failed(_) => true,
            Self::Transport(error) => matches!(error, TransportError::Unavailable { .. }),
            Self::Publish(error) => error.is_transient(),
            Self::Refused(_) | Self::Encode(_) | Self::Decode(_) => false,
        }
    }
}

/// A question on its way, made by [`Client::request`]. Await it for the answer.
#[derive(Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct Asking<'a, C> {
    client: &'a Client,
    call: &'a C,
    limit: Duration,
    correlation_id: Option<String>,
}

impl<'a, C: Call> Asking<'a, C> {
    /// How long an answer is waited for unless said otherwise.
    pub const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

    pub(super) fn new(client: &'a Client, call: &'a C) -> Self {
        Self { client, call, limit: Self::DEFAULT_LIMIT, correlation_id: None }
    }

    /// How long an answer is waited for. The question says so, and is not worked on later.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// An id that is the same each time this question is asked, so that whoever answers can take it once: its message id.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.correlation_id = Some(key.into());
        self
    }

    async fn ask(self) -> Result<C::Reply, RequestError> {
        let mut asked = Asked::begin(self.client, self.call, self.limit, self.correlation_id.as_deref()).await?;
        let clock = Arc::clone(self.client.transport());
        let answer = tokio::select! {
            answer = asked.awaited.answers.recv() => answer,
            () = clock.sleep(self.limit) => None,
        };
        let Some(answer) = answer else {
            return Err(RequestError::Deadline { call: C::NAME, waited: self.limit });
        };
        asked.done = true;
        read::<C>(&answer)
    }
}

impl<'a, C: Call> IntoFuture for Asking<'a, C> {
    type Output = Result<C::Reply, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}

/// A question to all who answer it, made by [`Client::gather`]. Await it for what they said in time, in the order in which it came.
#[derive(Debug)]
#[must_use = "nothing is asked before it is awaited"]
pub struct Gathering<'a, C> {
    client: &'a Client,
    call: &'a C,
    limit: Duration,
    at_most: usize,
}

impl<'a, C: Call> Gathering<'a, C> {
    pub(super) fn new(client: &'a Client, call: &'a C) -> Self {
        Self { client, call, limit: Asking::<C>::DEFAULT_LIMIT, at_most: usize::MAX }
    }

    /// How long answers are waited for.
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Does not wait for more answers than this.
    pub fn at_most(mut self, answers: usize) -> Self {
        self.at_most = answers;
        self
    }

    async fn ask(self) -> Result<Vec<Result<C::Reply, RequestError>>, RequestError> {
        let mut asked = Asked::begin(self.client, self.call, self.limit, None).await?;
        let clock = Arc::clone(self.client.transport());
        let time = clock.sleep(self.limit);
        tokio::pin!(time);
        let mut answers = Vec::new();
        while answers.len() < self.at_most {
            tokio::select! {
                answer = asked.awaited.answers.recv() => match answer {
                    Some(answer) => answers.push(read::<C>(&answer)),
                    None => break,
                },
                () = &mut time => break,
            }
        }
        asked.done = true;
        Ok(answers)
    }
}

impl<'a, C: Call> IntoFuture for Gathering<'a, C> {
    type Output = Result<Vec<Result<C::Reply, RequestError>>, RequestError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.ask())
    }
}

/// A question that was sent.
struct Asked {
    awaited: Awaited,
    transport: Arc<dyn Transport>,
    done: bool,
}

impl Asked {
    async fn begin<C: Call>(
        client: &Client,
        call: &C,
        limit: Duration,
        idempotency_key: Option<&str>,
    ) -> Result<Self, RequestError> {
        let awaited = client.answers().begin().await?;
        let mut question = Publishing::of(call)?.expires_in(limit).reply_to(Text::from(&*awaited.reply_to));
        if let Some(key) = idempotency_key {
            question = question.id(key.to_owned());
        }
        let question = question.correlation_id(Text::from(&*awaited.id)).subject(question_subject(C::NAME)).live();
        let transport = Arc::clone(client.transport());
        let mut asked = Self { awaited, transport, done: false };
        let sent = client.send_all(vec![question]).await.pop().unwrap_or(Err(PublishError::Closed));
        match sent {
            Ok(published) if published.routed == Some(false) => {
                asked.done = true;
                Err(RequestError::NoResponder { call: C::NAME })
            }
            Ok(_) => Ok(asked),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Asked {
    /// Tells whoever works on the answer that nobody waits for it.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let transport = Arc::clone(&self.transport);
        let mut message = Envelope::new(CANCEL_SUBJECT, "");
        message.correlation_id = Some(Text::from(&*self.awaited.id));
        message.durable = false;
        runtime.spawn(async move {
            // In vain if it does not arrive: the deadline ends the work then.
            let _ = transport.publish(vec![Outgoing { to: Destination::Live, message }]).await;
        });
    }
}

fn read<C: Call>(answer: &Envelope) -> Result<C::Reply, RequestError> {
    if let Some(error) = headers::text(answer, headers::REPLY_ERROR) {
        let error = error.to_owned();
        return Err(match headers::text(answer, headers::REPLY_ERROR_KIND) {
            Some("terminal") => RequestError::Refused(error),
            _ => RequestError::Failed(error),
        });
    }
    Ok(decode::<C::Reply>(answer)?)
}
