//! The streams of a WebSocket: consumers, live subscriptions and tails. Each is a task that sends within its credit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::ws::{self, ServerFrame};
use broker::queue::{ConsumerRules, Credit};
use broker::views::{Delivered, ReadFrom};
use broker::{ConsumeError, Consumer, ConsumerOptions, LiveSubscription, Read, Session};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::SubjectPattern;

use super::outbound::{Gone, Outbound};
use crate::consume::positive;
use crate::limits::{CONSUME_BYTES, CONSUME_MESSAGES, MAX_CREDIT, MAX_STREAM_ID_BYTES, MAX_STREAMS};
use crate::problem::Failure;
use crate::views;

/// How long one read of a tail waits; then it reads again.
const TAIL_WAIT: Duration = Duration::from_secs(30);

/// The streams of one connection. Dropping them ends them.
pub(crate) struct Streams {
    session: Session,
    out: Outbound,
    open: HashMap<String, Handle>,
    tasks: JoinSet<(String, u64)>,
    serial: u64,
}

struct Handle {
    serial: u64,
    cancel: CancellationToken,
    /// A permit is one message that may be sent. `None` for live subscriptions, which have no credit.
    credit: Option<Arc<Semaphore>>,
}

impl Streams {
    pub(crate) fn new(session: Session, out: Outbound) -> Self {
        Self { session, out, open: HashMap::new(), tasks: JoinSet::new(), serial: 0 }
    }

    /// Waits for a stream to end by itself, and forgets it. Never ready while there is none.
    pub(crate) async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok((id, serial))) => {
                // A new stream may have taken the name already.
                if self.open.get(&id).is_some_and(|handle| handle.serial == serial) {
                    self.open.remove(&id);
                }
            }
            Some(Err(error)) => tracing::error!(%error, "a stream of a WebSocket failed"),
            None => std::future::pending().await,
        }
    }

    pub(crate) async fn consume(&mut self, request: ws::Consume) -> Result<(), Failure> {
        self.check_room(&request.id, request.credit)?;
        let options = ConsumerOptions {
            name: request.name.unwrap_or_else(|| request.id.clone()),
            rules: ConsumerRules {
                exclusive: request.exclusive,
                priority: request.priority,
                lease: request.lease_ms.map(|ms| positive("lease_ms", ms)).transpose()?,
                auto_ack: request.auto_ack,
            },
        };
        let consumer = self.session.consume(&request.queue, options)?;
        let credit = Arc::new(Semaphore::new(usize::try_from(request.credit).unwrap_or(MAX_CREDIT)));
        let (out, id) = (self.out.clone(), request.id.clone());
        self.start(request.id, Some(Arc::clone(&credit)), consume(consumer, credit, out, id)).await;
        Ok(())
    }

    pub(crate) async fn subscribe(&mut self, request: ws::Subscribe) -> Result<(), Failure> {
        self.check_room(&request.id, 0)?;
        let pattern = SubjectPattern::parse(&request.subject);
        let pattern = pattern.map_err(|error| Failure::invalid("subject", error.to_string()))?;
        let subscription = self.session.subscribe(pattern, request.group)?;
        let (out, id) = (self.out.clone(), request.id.clone());
        self.start(request.id, None, subscribe(subscription, out, id)).await;
        Ok(())
    }

    pub(crate) async fn tail(&mut self, request: ws::Tail) -> Result<(), Failure> {
        self.check_room(&request.id, request.credit)?;
        let from = views::read_from(request.from);
        // A first look tells what is wrong with the topic, partition or offset before the stream is said to be open.
        let read = Read { partition: request.partition, from, max: 1, max_bytes: 1, wait: Duration::ZERO };
        let first = self.session.read(&request.topic, read).await?;
        let at = first.records.first().map_or(first.next, |record| record.position.offset);
        let read = Read { from: ReadFrom::Offset(at), wait: TAIL_WAIT, ..read };
        let credit = Arc::new(Semaphore::new(usize::try_from(request.credit).unwrap_or(MAX_CREDIT)));
        let (session, out, id) = (self.session.clone(), self.out.clone(), request.id.clone());
        let work = tail(session, request.topic, read, Arc::clone(&credit), out, id);
        self.start(request.id, Some(credit), work).await;
        Ok(())
    }

    pub(crate) fn credit(&self, request: &ws::Credit) -> Result<(), Failure> {
        let handle = self.open.get(&request.id).ok_or_else(|| no_stream(&request.id))?;
        let credit =
            handle.credit.as_ref().ok_or_else(|| Failure::invalid("id", "a live subscription takes no credit"))?;
        let more = usize::try_from(request.messages).unwrap_or(usize::MAX);
        if credit.available_permits().saturating_add(more) > MAX_CREDIT {
            return Err(too_much_credit());
        }
        credit.add_permits(more);
        Ok(())
    }

    pub(crate) fn cancel(&mut self, request: &ws::Cancel) -> Result<(), Failure> {
        let handle = self.open.remove(&request.id).ok_or_else(|| no_stream(&request.id))?;
        handle.cancel.cancel();
        Ok(())
    }

    fn check_room(&self, id: &str, credit: u32) -> Result<(), Failure> {
        if id.is_empty() || id.len() > MAX_STREAM_ID_BYTES {
            let why = format!("an id has 1 to {MAX_STREAM_ID_BYTES} bytes (MAX_STREAM_ID_BYTES)");
            return Err(Failure::invalid("id", why).limit("MAX_STREAM_ID_BYTES"));
        }
        if self.open.contains_key(id) {
            return Err(
                Failure::new(409, "id-in-use", format!("this connection has a stream {id:?} already")).field("id")
            );
        }
        if self.tasks.len() >= MAX_STREAMS {
            let why = format!("a connection has at most {MAX_STREAMS} streams (MAX_STREAMS)");
            return Err(Failure::new(429, "too-many-streams", why).limit("MAX_STREAMS"));
        }
        if usize::try_from(credit).is_ok_and(|credit| credit <= MAX_CREDIT) { Ok(()) } else { Err(too_much_credit()) }
    }

    /// Says that the stream is open, then lets it begin: what it sends comes after.
    async fn start(
        &mut self,
        id: String,
        credit: Option<Arc<Semaphore>>,
        work: impl Future<Output = Result<Option<Failure>, Gone>> + Send + 'static,
    ) {
        self.serial += 1;
        let (serial, cancel, out) = (self.serial, self.out.over.child_token(), self.out.clone());
        self.open.insert(id.clone(), Handle { serial, cancel: cancel.clone(), credit });
        if out.send(&ServerFrame::Opened { id: id.clone() }).await.is_err() {
            return;
        }
        self.tasks.spawn(async move {
            let problem = tokio::select! {
                done = work => done,
                () = cancel.cancelled() => Ok(None),
            };
            if let Ok(problem) = problem {
                let problem = problem.map(|failure| *failure.0);
                // A client that is gone needs no end.
                out.send(&ServerFrame::Ended { id: id.clone(), problem }).await.ok();
            }
            (id, serial)
        });
    }
}

fn no_stream(id: &str) -> Failure {
    Failure::not_found(format!("this connection has no stream {id:?}")).field("id")
}

fn too_much_credit() -> Failure {
    let why = format!("a stream has at most {MAX_CREDIT} messages of credit (MAX_CREDIT)");
    Failure::invalid("credit", why).limit("MAX_CREDIT")
}

/// Takes as much of the credit as there is, at least one and at most `most`.
async fn take(credit: &Semaphore, most: usize) -> usize {
    let Ok(first) = credit.acquire().await else { return 0 };
    first.forget();
    let mut taken = 1;
    while taken < most {
        let Ok(one) = credit.try_acquire() else { break };
        one.forget();
        taken += 1;
    }
    taken
}

async fn consume(
    mut consumer: Consumer,
    credit: Arc<Semaphore>,
    out: Outbound,
    id: String,
) -> Result<Option<Failure>, Gone> {
    loop {
        let found = match with_credit(&mut consumer, &credit).await {
            Ok((messages, found)) => {
                credit.add_permits(messages.saturating_sub(found.len()));
                found
            }
            Err(error) => return Ok(Some(error.into())),
        };
        for delivery in &found {
            out.send(&ServerFrame::Delivery { id: id.clone(), delivery: views::delivery(delivery) }).await?;
        }
    }
}

/// The next deliveries, and how much credit was taken for them. A consumer that waits for credit says so to its queue: those of lower
/// priority are served meanwhile, and it hears when the queue goes.
async fn with_credit(consumer: &mut Consumer, credit: &Semaphore) -> Result<(usize, Vec<Delivered>), ConsumeError> {
    let messages = loop {
        tokio::select! {
            biased;
            messages = take(credit, CONSUME_MESSAGES) => break messages,
            ended = consumer.next(Credit { messages: 0, bytes: 0 }) => drop(ended?),
        }
    };
    Ok((messages, consumer.next(Credit { messages, bytes: CONSUME_BYTES }).await?))
}

async fn subscribe(mut subscription: LiveSubscription, out: Outbound, id: String) -> Result<Option<Failure>, Gone> {
    let mut told = 0;
    while let Some(message) = subscription.next().await {
        let lost = subscription.lost();
        if lost > told {
            told = lost;
            out.send(&ServerFrame::Lost { id: id.clone(), messages: lost }).await?;
        }
        out.send(&ServerFrame::Message { id: id.clone(), message: api::Message::from(&*message) }).await?;
    }
    Ok(Some(Failure::new(503, "unavailable", "the broker is stopping")))
}

async fn tail(
    session: Session,
    topic: String,
    mut read: Read,
    credit: Arc<Semaphore>,
    out: Outbound,
    id: String,
) -> Result<Option<Failure>, Gone> {
    loop {
        let messages = take(&credit, CONSUME_MESSAGES).await;
        read.max = messages;
        read.max_bytes = usize::try_from(CONSUME_BYTES).unwrap_or(usize::MAX);
        let answer = match session.read(&topic, read).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Some(error.into())),
        };
        read.from = ReadFrom::Offset(answer.next);
        credit.add_permits(messages.saturating_sub(answer.records.len()));
        for record in &answer.records {
            out.send(&ServerFrame::Record { id: id.clone(), record: views::record(record) }).await?;
        }
    }
}
