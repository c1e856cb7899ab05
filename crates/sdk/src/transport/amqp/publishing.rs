//! From a message and its destination to what the [`Publisher`](super::publisher::Publisher) sends, and back.

use lapin::types::ShortString;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::envelope::{Way, properties, routing_key};
use super::options::MAX_BODY_BYTES;
use super::publisher::{Answer, Job};
use super::values::short;
use super::waits::{Target, Wait};
use super::{Amqp, NAME, live, now};
use crate::transport::{Destination, Outgoing, PublishError, Published};

/// How often a publish is begun whose waiting queue, or live exchange, somebody deletes again and again.
const MAX_TIMES: u32 = 3;

/// A publish under way.
struct Begun<'a> {
    answer: oneshot::Receiver<Answer>,
    /// It waits there. (Not asked for again later: its time may come meanwhile.)
    wait: Option<Wait<'a>>,
}

impl Amqp {
    /// Publishes messages, all of them under way at a time.
    pub(super) async fn publish_all(&self, messages: Vec<Outgoing>) -> Vec<Result<Published, PublishError>> {
        let deadline = Instant::now() + self.link.options.confirm_timeout;
        let mut begun = Vec::with_capacity(messages.len());
        for outgoing in &messages {
            begun.push(self.begin(outgoing, deadline).await);
        }
        let mut results = Vec::with_capacity(messages.len());
        for (outgoing, begun) in messages.iter().zip(begun) {
            results.push(self.finish(outgoing, begun, deadline).await);
        }
        results
    }

    /// Publishes one message.
    pub(super) async fn publish_one(&self, outgoing: Outgoing) -> Result<Published, PublishError> {
        let deadline = Instant::now() + self.link.options.confirm_timeout;
        let begun = self.begin(&outgoing, deadline).await;
        self.finish(&outgoing, begun, deadline).await
    }

    /// Hands a message to the publisher.
    async fn begin<'a>(&self, outgoing: &'a Outgoing, deadline: Instant) -> Result<Begun<'a>, PublishError> {
        let Outgoing { to, message } = outgoing;
        let len = message.body.as_ref().map_or(0, bytes::Bytes::len);
        if len > MAX_BODY_BYTES {
            return Err(PublishError::Refused(format!(
                "its body has {len} bytes, more than the {MAX_BODY_BYTES} that brokers take; keep it elsewhere, and send where it is"
            )));
        }
        let wait = wait(outgoing)?;
        match (to, &wait) {
            (_, Some(wait)) => self.waits.ensure(&self.link, wait, deadline).await?,
            (Destination::Topic(topic), None) => self.known.topic(&self.link, topic, deadline).await?,
            (Destination::Live, None) => self.known.live(&self.link, deadline).await?,
            (Destination::Queue(_), None) => {}
        }
        let way = match to {
            Destination::Queue(queue) => Way::Queue(queue),
            Destination::Topic(_) | Destination::Live => Way::Exchange,
        };
        let mut properties = properties(message, way, wait.is_some(), now())?;
        if matches!(to, Destination::Live) {
            properties = properties.with_delivery_mode(1);
        }
        let (exchange, routing_key) = match (to, &wait) {
            (Destination::Topic(_), Some(wait)) => (wait.name.clone(), routing_key(&message.subject)?),
            (Destination::Topic(topic), None) => (short("the topic's name", topic)?, routing_key(&message.subject)?),
            (Destination::Queue(_), Some(wait)) => (ShortString::default(), wait.name.clone()),
            (Destination::Queue(queue), None) => (ShortString::default(), short("the queue's name", queue)?),
            (Destination::Live, _) => (ShortString::from(live::EXCHANGE), routing_key(&message.subject)?),
        };
        let body = message.body.clone().unwrap_or_default();
        let answer = self.publisher.take(Job { exchange, routing_key, properties, body, deadline }).await?;
        Ok(Begun { answer, wait })
    }

    /// Waits for what became of it.
    async fn finish<'a>(
        &self,
        outgoing: &'a Outgoing,
        mut begun: Result<Begun<'a>, PublishError>,
        deadline: Instant,
    ) -> Result<Published, PublishError> {
        for _ in 0..MAX_TIMES {
            let Begun { answer, wait } = begun?;
            let unknown = PublishError::Unconfirmed { waited: self.link.options.confirm_timeout };
            let answer = answer.await.unwrap_or(Err(unknown));
            let is_missing = matches!(answer, Err(PublishError::NotFound(_)));
            match (&outgoing.to, wait) {
                (_, Some(wait)) if is_missing || answer == Ok(false) => self.waits.forget(&wait),
                (Destination::Live, None) if is_missing => self.known.forget(live::EXCHANGE),
                (Destination::Topic(topic), None) if is_missing => {
                    self.known.forget(topic);
                    return Err(PublishError::NotFound(format!("topic {topic:?}")));
                }
                (Destination::Queue(queue), None) if answer == Ok(false) => {
                    // The default exchange leads to every queue: there is none of this name.
                    return Err(PublishError::NotFound(format!("queue {queue:?}")));
                }
                (_, wait) => {
                    // Whether what waits will reach anything is not known yet.
                    return answer
                        .map(|routed| Published { routed: wait.is_none().then_some(routed), ..Published::default() });
                }
            }
            begun = self.begin(outgoing, deadline).await;
        }
        Err(PublishError::Busy("what leads there is deleted again and again".into()))
    }
}

/// Where a message waits, if it has to.
///
/// # Errors
/// It cannot wait so long, or there.
fn wait(outgoing: &Outgoing) -> Result<Option<Wait<'_>>, PublishError> {
    let Some(not_before) = outgoing.message.not_before else { return Ok(None) };
    let wait_ms = match u64::try_from(not_before.0.saturating_sub(now().0)) {
        Err(_) | Ok(0) => return Ok(None),
        Ok(wait_ms) => wait_ms,
    };
    match &outgoing.to {
        Destination::Topic(topic) => Wait::new(Target::Topic(topic), wait_ms).map(Some),
        Destination::Queue(queue) => Wait::new(Target::Queue(queue), wait_ms).map(Some),
        Destination::Live => {
            Err(PublishError::Unsupported { transport: NAME, what: "delay of live messages, which nothing keeps" })
        }
    }
}
