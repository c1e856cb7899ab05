//! Live subscriptions, and requests with their answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use types::{Message, SubjectPattern, Text};

use super::{PublishOptions, PublishTo, Session};
use crate::access::Action;
use crate::errors::{ConsumeError, PublishError, RequestError, StorageError};
use crate::live::{INBOX_PREFIX, Inbox, LiveSubscription, is_inbox};
use crate::views::Published;

/// A shorter key could be guessed.
const MIN_INBOX_KEY_BYTES: usize = 16;
const MAX_INBOX_KEY_BYTES: usize = 64;

impl Session {
    /// Subscribes to what is published from now on; of a group each message reaches one member.
    ///
    /// # Errors
    /// See [`ConsumeError`]. Inboxes, where answers to requests come in, cannot be subscribed to.
    pub fn subscribe(&self, pattern: SubjectPattern, group: Option<String>) -> Result<LiveSubscription, ConsumeError> {
        let text = pattern.to_string();
        self.may(Action::Read, "subject", &text)?;
        if is_inbox(text.as_bytes()) {
            let why = format!("subjects under `{INBOX_PREFIX}` belong to who asked; use `request`");
            return Err(ConsumeError::Invalid { field: "subject".to_owned(), why });
        }
        if self.shared().is_closed() {
            return Err(StorageError::Unavailable("the broker is stopping".to_owned()).into());
        }
        Ok(LiveSubscription::new(self, pattern, group.map(Text::from)))
    }

    /// Opens a place for answers, for a caller that asks many times and tells the answers apart by itself.
    ///
    /// # Errors
    /// If the caller may do nothing in the namespace, or the broker is stopping.
    pub fn open_inbox(&self) -> Result<Inbox, ConsumeError> {
        self.grants()?;
        if self.shared().is_closed() {
            return Err(StorageError::Unavailable("the broker is stopping".to_owned()).into());
        }
        Ok(Inbox::new(&self.space))
    }

    /// Opens the inbox of a key that only the caller knows: the same key opens the same inbox again after a lost connection or a restart. It takes
    /// over from an earlier one that is still there.
    ///
    /// # Errors
    /// As [`open_inbox`](Self::open_inbox), and for a key that is too short to be a secret, or too long.
    pub fn open_inbox_of(&self, key: &[u8]) -> Result<Inbox, ConsumeError> {
        self.grants()?;
        if !(MIN_INBOX_KEY_BYTES..=MAX_INBOX_KEY_BYTES).contains(&key.len()) {
            let why = format!(
                "an inbox's key has {MIN_INBOX_KEY_BYTES} to {MAX_INBOX_KEY_BYTES} bytes (MIN_INBOX_KEY_BYTES, MAX_INBOX_KEY_BYTES)"
            );
            return Err(ConsumeError::Invalid { field: "inbox".to_owned(), why });
        }
        if self.shared().is_closed() {
            return Err(StorageError::Unavailable("the broker is stopping".to_owned()).into());
        }
        Ok(Inbox::of_key(&self.space, key))
    }

    /// Whether somebody waits for answers on this subject.
    #[must_use]
    pub fn is_awaited(&self, subject: &[u8]) -> bool {
        is_inbox(subject) && self.space.live.has_interest(subject)
    }

    /// Asks and waits for one answer.
    ///
    /// # Errors
    /// [`RequestError::NoResponders`] at once if nobody is there to answer; see [`RequestError`].
    pub async fn request(&self, mut message: Message, deadline: Duration) -> Result<Arc<Message>, RequestError> {
        self.may_publish(&PublishTo::Subject, &message.subject)?;
        let subject = message.subject.clone();
        let captured = self.capture(&subject).is_some();
        if !captured && !self.space.live.has_interest(&subject) {
            return Err(self.nobody_answers(&subject));
        }
        let inbox = Inbox::new(&self.space);
        message.reply_to = Some(String::from_utf8_lossy(inbox.subject()).into_owned().into());
        // A request that nobody waits for any more is of no use to whoever would take it.
        let expiry = self.now().wall.after(deadline);
        message.expires_at = Some(message.expires_at.map_or(expiry, |own| own.min(expiry)));
        let ask = async {
            let published = self.publish(&PublishTo::Subject, vec![message], PublishOptions::default()).await?;
            if !captured && !published.iter().any(Published::routed) {
                // Who was there is gone.
                return Err(self.nobody_answers(&subject));
            }
            Ok(inbox.next().await)
        };
        let timeout = || RequestError::Timeout(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        match tokio::time::timeout(deadline, ask).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => {
                Err(PublishError::from(StorageError::Unavailable("the broker is stopping".to_owned())).into())
            }
            Err(_) => Err(timeout()),
            Ok(Err(error)) => Err(error),
        }
    }

    fn nobody_answers(&self, subject: &[u8]) -> RequestError {
        self.shared().totals.no_responders.fetch_add(1, Ordering::Relaxed);
        RequestError::NoResponders(String::from_utf8_lossy(subject).into_owned())
    }

    /// Answers a request: publishes to its reply-to. `true` if somebody got it; of an inbox that means that somebody still waits. To
    /// answer an inbox takes no permission: whoever was handed the request may.
    ///
    /// # Errors
    /// If the request names no reply-to, or the answer breaks a limit.
    pub async fn reply(&self, request: &Message, mut answer: Message) -> Result<bool, RequestError> {
        let invalid = |why: &str| PublishError::Invalid { field: "reply_to".to_owned(), why: why.to_owned() };
        let reply_to = request.reply_to.as_ref().ok_or_else(|| invalid("the request names no reply-to"))?;
        answer.subject = reply_to.bytes().clone();
        if answer.correlation_id.is_none() {
            answer.correlation_id.clone_from(&request.correlation_id);
        }
        let published = self.publish(&PublishTo::Subject, vec![answer], PublishOptions::default()).await?;
        Ok(published.iter().any(Published::routed))
    }
}
