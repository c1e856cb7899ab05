//! What a case stands on: names of its own, and the calls that cases make over and over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use types::{MessageId, Text, Timestamp};

use super::cases::Case;
use super::taker::Taker;
use super::{Options, Outcome};
use crate::Envelope;
use crate::transport::{
    BindingSpec, Consume, Destination, Listener, Outgoing, PublishError, Published, QueueSpec, TopicSpec, Topology,
    Transport, TransportError,
};

/// A wait that cases ask the broker for, in real time.
const REAL_SPAN: Duration = Duration::from_millis(400);
/// The same where the clock is moved by hand: long enough that nothing passes by accident.
const MANUAL_SPAN: Duration = Duration::from_secs(60);
/// How much too early something may come: clocks of two processes are read.
const TOLERANCE: Duration = Duration::from_millis(20);
/// How long before and after its time something is looked for, on a clock that is moved by hand.
const MARGIN: Duration = Duration::from_secs(1);
/// Between two looks at something that changes by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How many random characters make a run's names its own.
const RUN_LETTERS: usize = 8;

/// What was expected, and what came.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self(format!("an error that was not expected: {error} ({error:?})"))
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        Self(format!("a publish failed, which was not expected: {error} ({error:?})"))
    }
}

/// What a case gives.
pub(super) type Proof<T = ()> = Result<T, Failure>;

/// Fails with these words unless it holds.
pub(super) fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Proof {
    if holds { Ok(()) } else { Err(Failure(otherwise())) }
}

/// Fails unless both are the same.
pub(super) fn same<T: PartialEq + fmt::Debug>(what: &str, came: T, expected: T) -> Proof {
    check(came == expected, || format!("{what}: expected {expected:?}, and {came:?} came"))
}

/// The message's body as text, for comparing.
pub(super) fn text_of(message: &Envelope) -> String {
    String::from_utf8_lossy(message.body.as_deref().unwrap_or_default()).into_owned()
}

/// The bodies of messages as text, in order.
pub(super) fn texts<'a>(messages: impl IntoIterator<Item = &'a Envelope>) -> Vec<String> {
    messages.into_iter().map(text_of).collect()
}

/// A message with an id of its own.
pub(super) fn message(subject: impl AsRef<str>, body: impl Into<Bytes>) -> Envelope {
    let id = uuid::Uuid::now_v7().to_string();
    Envelope {
        id: Some(MessageId::Text(Text::from(id))),
        ..Envelope::new(Bytes::copy_from_slice(subject.as_ref().as_bytes()), body)
    }
}

/// On the way into a queue.
pub(super) fn to_queue(queue: &str, message: Envelope) -> Outgoing {
    Outgoing { to: Destination::Queue(queue.to_owned()), message }
}

/// On the way through a topic.
pub(super) fn to_topic(topic: &str, message: Envelope) -> Outgoing {
    Outgoing { to: Destination::Topic(topic.to_owned()), message }
}

/// One run over one transport.
pub(super) struct Suite {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) options: Options,
    run: String,
}

impl Suite {
    pub(super) fn new(transport: Arc<dyn Transport>, options: Options) -> Self {
        let run = (0..RUN_LETTERS).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect();
        Self { transport, options, run }
    }

    pub(super) async fn run(&self, case: &Case) -> Outcome {
        let ground = Ground { suite: self, case: case.name, transport: self.transport.clone() };
        match tokio::time::timeout(self.options.case_timeout, (case.run)(&ground)).await {
            Ok(Ok(())) => Outcome::Passed,
            Ok(Err(Failure(why))) => Outcome::Failed(why),
            Err(_) => Outcome::Failed(format!(
                "expected it to end within {:?}, and it still waits for something",
                self.options.case_timeout
            )),
        }
    }
}

/// What one case stands on.
pub(super) struct Ground<'a> {
    suite: &'a Suite,
    case: &'static str,
    pub(super) transport: Arc<dyn Transport>,
}

impl Ground<'_> {
    /// How long something that must come is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.suite.options.patience
    }

    /// How long nothing must come.
    pub(super) fn quiet(&self) -> Duration {
        self.suite.options.quiet
    }

    /// A name that is this case's alone.
    pub(super) fn name(&self, what: &str) -> String {
        format!("conformance-{}-{}-{what}", self.suite.run, self.case.replace('_', "-"))
    }

    /// A subject that is this case's alone.
    pub(super) fn subject(&self, words: &str) -> String {
        format!("conformance.{}.{}.{words}", self.suite.run, self.case)
    }

    /// A wait to ask the broker for.
    pub(super) fn span(&self) -> Duration {
        if self.suite.options.advance.is_some() { MANUAL_SPAN } else { REAL_SPAN }
    }

    /// Whether the clock is moved by hand.
    pub(super) fn is_manual(&self) -> bool {
        self.suite.options.advance.is_some()
    }

    /// Lets so much of the transport's time go by.
    pub(super) async fn pass(&self, time: Duration) {
        match &self.suite.options.advance {
            Some(advance) => advance(time).await,
            None => self.transport.sleep(time).await,
        }
    }

    /// Restarts the broker.
    pub(super) async fn restart(&self) {
        if let Some(restart) = &self.suite.options.restart {
            restart().await;
        }
    }

    /// Waits for something that must come.
    pub(super) async fn soon<T>(&self, what: &str, future: impl Future<Output = T>) -> Proof<T> {
        let patience = self.patience();
        let came = tokio::time::timeout(patience, future).await;
        came.map_err(|_| Failure(format!("expected {what}, and it did not come within {patience:?}")))
    }

    /// Looks again and again until it gives something.
    pub(super) async fn until<T, F: Future<Output = Proof<Option<T>>>>(
        &self,
        what: &str,
        mut look: impl FnMut() -> F,
    ) -> Proof<T> {
        let looking = async {
            loop {
                if let Some(found) = look().await? {
                    return Ok(found);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        self.soon(what, looking).await?
    }

    /// A queue of this case's own, changed as said.
    pub(super) async fn queue(&self, what: &str, change: impl FnOnce(&mut QueueSpec)) -> Proof<String> {
        let mut spec = QueueSpec::new(self.name(what));
        change(&mut spec);
        let name = spec.name.clone();
        self.declare(Topology { queues: vec![spec], ..Topology::default() }).await?;
        Ok(name)
    }

    /// A topic of this case's own, changed as said.
    pub(super) async fn topic(&self, what: &str, change: impl FnOnce(&mut TopicSpec)) -> Proof<String> {
        let mut spec = TopicSpec::new(self.name(what));
        change(&mut spec);
        let name = spec.name.clone();
        self.declare(Topology { topics: vec![spec], ..Topology::default() }).await?;
        Ok(name)
    }

    /// Binds a queue to a topic.
    pub(super) async fn bind(&self, topic: &str, queue: &str, subject: &str) -> Proof {
        let binding = BindingSpec { topic: topic.to_owned(), queue: queue.to_owned(), subject: subject.to_owned() };
        self.declare(Topology { bindings: vec![binding], ..Topology::default() }).await
    }

    pub(super) async fn declare(&self, topology: Topology) -> Proof {
        Ok(self.soon("a declaration's end", self.transport.declare(&topology)).await??)
    }

    /// Publishes; the answers as they are.
    pub(super) async fn publish_each(&self, messages: Vec<Outgoing>) -> Proof<Vec<Result<Published, PublishError>>> {
        let count = messages.len();
        let answers = self.soon("a publish's answers", self.transport.publish(messages)).await?;
        check(answers.len() == count, || {
            format!("{count} messages were published: expected as many answers, and {} came", answers.len())
        })?;
        Ok(answers)
    }

    /// Publishes; every message must be taken.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Proof<Vec<Published>> {
        Ok(self.publish_each(messages).await?.into_iter().collect::<Result<_, _>>()?)
    }

    /// Puts messages with these bodies into a queue.
    pub(super) async fn put(&self, queue: &str, bodies: &[&str]) -> Proof {
        let messages = bodies.iter().map(|body| to_queue(queue, message("", (*body).to_owned()))).collect();
        self.publish(messages).await.map(drop)
    }

    /// A standing consumer.
    pub(super) async fn consumer(&self, queue: &str, credit: u32) -> Proof<Taker> {
        let consume = Consume { queue: queue.to_owned(), name: self.name("consumer"), credit, lease: None };
        let consumer = self.soon("a consumer's start", self.transport.consume(consume)).await??;
        Ok(Taker::new(consumer, self.patience(), self.quiet()))
    }

    /// Takes and acknowledges so many messages of a queue, and makes sure that there are no more; their bodies.
    pub(super) async fn drain(&self, queue: &str, count: usize) -> Proof<Vec<String>> {
        // Room for one more than there must be, which would be told.
        let credit = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        let mut taker = self.consumer(queue, credit).await?;
        let taken = taker.take(count).await?;
        taker.nothing_more("more than was published").await?;
        taker.ack(&taken);
        taker.flush().await?;
        Ok(texts(taken.iter().map(|delivery| &delivery.message)))
    }

    /// A queue's length must be this, now or soon.
    pub(super) async fn has_length(&self, queue: &str, expected: u64) -> Proof {
        let mut last = None;
        let looking = async {
            loop {
                let length = self.transport.queue_len(queue).await?;
                if length == expected {
                    return Ok(());
                }
                last = Some(length);
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(self.patience(), looking).await {
            Ok(looked) => looked,
            Err(_) => Err(Failure(format!("the length of {queue}: expected {expected}, and {last:?} came"))),
        }
    }

    /// What must come when so much of the transport's time went by since then, and not before.
    pub(super) async fn arrives_after(
        &self,
        taker: &mut Taker,
        since: Timestamp,
        wait: Duration,
    ) -> Proof<crate::transport::Delivery> {
        if self.is_manual() {
            let gone = self.transport.now().since(since);
            let early = wait.saturating_sub(gone).saturating_sub(MARGIN);
            taker.nothing_more("what has to wait").await?;
            self.pass(early).await;
            taker.nothing_more("what has to wait a moment longer").await?;
            self.pass(MARGIN * 2).await;
            return taker.one().await;
        }
        taker.patience = self.patience() + wait;
        let delivery = taker.one().await?;
        taker.patience = self.patience();
        let waited = self.transport.now().since(since);
        check(waited + TOLERANCE >= wait, || {
            format!("expected it not before {wait:?} went by, and it came after {waited:?}")
        })?;
        Ok(delivery)
    }

    /// A listener.
    pub(super) async fn listen(&self, pattern: &str, group: Option<&str>) -> Proof<Box<dyn Listener>> {
        Ok(self.soon("a listener's start", self.transport.listen(pattern, group)).await??)
    }

    /// Publishes to whoever listens.
    pub(super) async fn publish_live(&self, subject: &str, body: &str) -> Proof<Published> {
        let outgoing = Outgoing { to: Destination::Live, message: message(subject, body.to_owned()) };
        let mut answers = self.publish(vec![outgoing]).await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// What a listener hears next, as text.
    pub(super) async fn hears(&self, listener: &mut Box<dyn Listener>) -> Proof<String> {
        let heard = self.soon("a message at a listener", listener.next()).await?;
        let heard = heard.ok_or_else(|| Failure("expected a message at a listener, and it ended".to_owned()))?;
        Ok(text_of(&heard))
    }

    /// A listener must hear nothing.
    pub(super) async fn hears_nothing(&self, listener: &mut Box<dyn Listener>) -> Proof {
        match tokio::time::timeout(self.quiet(), listener.next()).await {
            Err(_) => Ok(()),
            Ok(heard) => {
                Err(Failure(format!("a listener was to hear nothing, and heard {:?}", heard.as_ref().map(text_of))))
            }
        }
    }
}
