//! Live subscriptions, and requests with their answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use types::{Message, SubjectPattern, Text};

use super::{PublishOptions, PublishTo, Session};
use crate::access::Action;
use crate::errors::{ConsumeError, PublishError, RequestError};
use crate::live::LiveSubscription;

/// Subjects under which answers come back. Only who asked knows the rest of the subject.
const INBOX: &str = "_inbox";

impl Session {
    /// Subscribes to what is published from now on; of a group each message reaches one member.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub fn subscribe(&self, pattern: SubjectPattern, group: Option<String>) -> Result<LiveSubscription, ConsumeError> {
        self.may(Action::Read, "subject", &pattern.to_string())?;
        Ok(LiveSubscription::new(&self.space, pattern, group.map(Text::from)))
    }

    /// Asks and waits for one answer.
    ///
    /// # Errors
    /// [`RequestError::NoResponders`] at once if nobody is there to answer; see [`RequestError`].
    pub async fn request(&self, mut message: Message, deadline: Duration) -> Result<Arc<Message>, RequestError> {
        let answered = self.space.live.has_interest(&message.subject)
            || self.space.entities.read().captures.capture(&message.subject).is_some();
        if !answered {
            self.shared().totals.no_responders.fetch_add(1, Ordering::Relaxed);
            return Err(RequestError::NoResponders(String::from_utf8_lossy(&message.subject).into_owned()));
        }
        let inbox = format!("{INBOX}.{}", uuid::Uuid::new_v4().simple());
        let invalid = |why: String| PublishError::Invalid { field: "subject".to_owned(), why };
        let pattern = SubjectPattern::parse(&inbox).map_err(|error| invalid(error.to_string()))?;
        let mut answers = LiveSubscription::new(&self.space, pattern, None);
        message.reply_to = Some(inbox.into());
        // A request that nobody waits for any more is of no use to whoever would take it.
        let expiry = self.now().wall.after(deadline);
        message.expires_at = Some(message.expires_at.map_or(expiry, |own| own.min(expiry)));
        let ask = async {
            self.publish(&PublishTo::Subject, vec![message], PublishOptions::default()).await?;
            Ok(answers.next().await)
        };
        let timeout = || RequestError::Timeout(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        match tokio::time::timeout(deadline, ask).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) | Err(_) => Err(timeout()),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Answers a request: publishes to its reply-to, live. `true` if somebody still waits for it.
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
        if reply_to.starts_with(INBOX) {
            let reached = self.space.live.matches(&answer.subject);
            let answer = Arc::new(answer);
            reached.iter().for_each(|buffer| self.shared().count_live(buffer.push(&answer)));
            return Ok(!reached.is_empty());
        }
        let published = self.publish(&PublishTo::Subject, vec![answer], PublishOptions::default()).await?;
        Ok(published.iter().any(crate::views::Published::routed))
    }
}
