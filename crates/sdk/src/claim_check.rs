//! The claim check: a large body goes into an object store, and the message carries where it is.
//!
//! Brokers are made for many small messages. A body beyond a threshold is put into a store (S3, a disk, ...; crate `object_store`) before the message is published,
//! and got from there before a handler sees it; handlers and contracts know nothing of it. Retries and dead letters carry the claim, not the body.
//!
//! Who publishes cannot know when the last consumer has read a body, so bodies are not deleted with their messages: keep them as long as the messages can
//! come again, and let the store expire them, or call [`ClaimCheck::clean_up`] now and then.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use types::{Text, Value};

use crate::client::Publishing;
use crate::contract::{EncodeError, Message};
use crate::runtime::HandlerFn;
use crate::service::Subscription;
use crate::{Context, Envelope, Error, headers};

/// Where the body is, in the store.
const CLAIM: &str = "svc-claim";
/// How long the body is, in bytes.
const CLAIM_BYTES: &str = "svc-claim-bytes";

/// Puts large bodies into an object store, and gets them back.
#[derive(Clone)]
pub struct ClaimCheck {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    threshold_bytes: usize,
    max_bytes: usize,
}

/// Why a body could not be put into the store, or got from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The message could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The store cannot be reached, or refuses.
    #[error("the object store failed with a message's body: {0}")]
    Store(#[from] object_store::Error),
    /// The body is larger than is allowed.
    #[error("a message's body has {bytes} bytes; at most {limit} are allowed (ClaimCheck::max_bytes)")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The bound.
        limit: usize,
    },
    /// The body is not there any more.
    #[error("a message's body is not in the object store any more: {0}; it was kept for less time than its message")]
    Gone(String),
}

impl ClaimCheck {
    /// The threshold unless said otherwise: 256 KiB.
    pub const DEFAULT_THRESHOLD_BYTES: usize = 256 * 1024;
    /// The largest body unless said otherwise: 256 MiB.
    pub const DEFAULT_MAX_BYTES: usize = 256 * 1024 * 1024;

    /// Bodies in this store, below `claims/`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            prefix: Path::from("claims"),
            threshold_bytes: Self::DEFAULT_THRESHOLD_BYTES,
            max_bytes: Self::DEFAULT_MAX_BYTES,
        }
    }

    /// Below this path of the store instead.
    #[must_use]
    pub fn below(mut self, path: &str) -> Self {
        self.prefix = Path::from(path);
        self
    }

    /// Bodies of more bytes than this go into the store.
    #[must_use]
    pub const fn threshold_bytes(mut self, bytes: usize) -> Self {
        self.threshold_bytes = bytes;
        self
    }

    /// Bodies of more bytes than this are refused, by who publishes them and by who gets them.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// A message to publish, its body in the store if it is large. The body is there before the message is.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub async fn publishing<M: Message>(&self, message: &M) -> Result<Publishing, ClaimError> {
        let publishing = Publishing::of(message)?;
        let mut envelope = publishing.as_envelope().clone();
        self.check_in(&mut envelope).await?;
        Ok(Publishing::envelope(publishing.destination().clone(), envelope))
    }

    /// Puts an envelope's body into the store if it is large, and a claim in its place.
    ///
    /// # Errors
    /// See [`ClaimError`]; the envelope is as it was then.
    pub async fn check_in(&self, envelope: &mut Envelope) -> Result<(), ClaimError> {
        let Some(body) = envelope.body.clone().filter(|body| body.len() > self.threshold_bytes) else { return Ok(()) };
        if body.len() > self.max_bytes {
            return Err(ClaimError::TooLarge { bytes: body.len() as u64, limit: self.max_bytes });
        }
        let name = uuid::Uuid::now_v7().to_string();
        let length = i64::try_from(body.len()).unwrap_or(i64::MAX);
        self.store.put(&self.prefix.clone().join(name.as_str()), body.into()).await?;
        headers::set(envelope, CLAIM, Text::from(name));
        headers::set_value(envelope, CLAIM_BYTES, Value::int(length));
        envelope.body = Some(Bytes::new());
        Ok(())
    }

    /// An envelope with its body, wherever that was. One without a claim is as it was.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub async fn check_out(&self, envelope: &Envelope) -> Result<Envelope, ClaimError> {
        let Some(name) = headers::text(envelope, CLAIM) else { return Ok(envelope.clone()) };
        // One part of a path, whatever came in the header: no claim leads out of the prefix.
        let path = self.prefix.clone().join(name);
        let found = match self.store.get(&path).await {
            Err(object_store::Error::NotFound { .. }) => return Err(ClaimError::Gone(path.to_string())),
            found => found?,
        };
        if found.meta.size > self.max_bytes as u64 {
            return Err(ClaimError::TooLarge { bytes: found.meta.size, limit: self.max_bytes });
        }
        let body = found.bytes().await?;
        let mut envelope = Envelope { body: Some(body), ..envelope.clone() };
        headers::remove(&mut envelope, CLAIM);
        headers::remove(&mut envelope, CLAIM_BYTES);
        Ok(envelope)
    }

    /// Deletes bodies that were put into the store longer ago than this; how many.
    ///
    /// # Errors
    /// [`ClaimError::Store`]; what was deleted until then stays deleted.
    pub async fn clean_up(&self, older_than: Duration, now: types::Timestamp) -> Result<u64, ClaimError> {
        let oldest_ms = now.0.saturating_sub(i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX));
        let mut objects = self.store.list(Some(&self.prefix));
        let mut deleted = 0;
        while let Some(object) = objects.try_next().await? {
            if object.last_modified.timestamp_millis() < oldest_ms {
                self.store.delete(&object.location).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Gets bodies for a handler.
    fn wrap(self, handler: HandlerFn) -> HandlerFn {
        Arc::new(move |context: Context| {
            let (claims, handler) = (self.clone(), Arc::clone(&handler));
            Box::pin(async move {
                let envelope = match claims.check_out(context.envelope()).await {
                    Err(error @ (ClaimError::Gone(_) | ClaimError::TooLarge { .. })) => {
                        return Err(Error::from(error).into_terminal());
                    }
                    envelope => envelope?,
                };
                handler(context.with_envelope(envelope)).await
            })
        })
    }
}

impl<S: Clone + Send + Sync + 'static> Subscription<S> {
    /// Gets large bodies out of the store before the handler sees them. A body that is gone makes its message a dead letter; a store that cannot be
    /// reached is tried again.
    #[must_use]
    pub fn claim_check(mut self, claims: &ClaimCheck) -> Self {
        let (bind, claims) = (self.bind, claims.clone());
        self.bind = Box::new(move |state| claims.wrap(bind(state)));
        self
    }
}

impl fmt::Debug for ClaimCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClaimCheck").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
