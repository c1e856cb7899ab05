//! Consumes a queue: hands each delivery to the handler, and ends it as the handler's outcome says.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use opentelemetry::context::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};
use tracing::Instrument;

use super::Work;
use super::breaker::{Breaker, Verdict, Watch};
use super::outcome::{Ended, Ending};
use crate::backoff::{Backoff, Pace};
use crate::client::Client;
use crate::context::Place;
use crate::reaction::Reaction;
use crate::telemetry::Source;
use crate::transport::{Consume, Consumer, Delivery, QueueSpec, Settle, Topology, TransportError};
use crate::{Context, Error};

/// The pauses between attempts to consume again.
const RECONSUME: Backoff = Backoff { initial: Duration::from_millis(200), cap: Duration::from_secs(30) };
/// Settlements that are handed over together at most.
const SETTLE_BATCH: usize = 512;

/// What all lanes of a consumer share.
pub(crate) struct ConsumerTask {
    pub(crate) client: Client,
    pub(crate) place: Arc<Place>,
    pub(crate) queue: Arc<QueueSpec>,
    /// To be made again if the queue is gone.
    pub(crate) topology: Arc<Topology>,
    /// Handlers that run at a time in each lane.
    pub(crate) concurrency: usize,
    /// Deliveries that each lane may have.
    pub(crate) credit: u32,
    /// Time for one message.
    pub(crate) timeout: Duration,
    pub(crate) breaker: Option<Breaker>,
    /// No more deliveries.
    pub(crate) stop: CancellationToken,
    /// No more time for those at work.
    pub(crate) cancel: CancellationToken,
}

/// One of the tasks that consume a queue for a handler. What it runs at a time it runs on one thread; there is a lane for each.
pub(crate) struct Lane {
    task: Arc<ConsumerTask>,
    work: Work,
    watch: Option<Watch>,
}

/// A delivery whose handler has ended.
struct Done {
    tag: u64,
    ended: Ended,
    failed: bool,
}

/// Why a lane stopped taking deliveries from its consumer.
enum Left {
    /// The service stops.
    Stopping,
    /// The breaker opened.
    Pause(Duration),
    /// The breaker closed: the next consumer has its whole credit again.
    Resume,
    /// The consumer cannot go on.
    Lost(TransportError),
}

impl Lane {
    pub(crate) fn new(task: Arc<ConsumerTask>, work: Work) -> Self {
        let watch = task.breaker.map(Watch::new);
        Self { task, work, watch }
    }

    /// Consumes until it is stopped. `begun` hears of the first success, or of the error that came instead.
    pub(crate) async fn run(mut self, begun: tokio::sync::oneshot::Sender<Result<(), TransportError>>) {
        let mut begun = Some(begun);
        let mut pace = Pace::new(RECONSUME);
        loop {
            let left = match self.consume_once(&mut begun).await {
                Ok(left) => {
                    pace.reset();
                    left
                }
                Err(error) => match begun.take() {
                    Some(begun) => return drop(begun.send(Err(error))),
                    None => Left::Lost(error),
                },
            };
            let pause = match left {
                Left::Stopping | Left::Lost(TransportError::Closed) => return,
                Left::Resume => continue,
                Left::Pause(pause) => {
                    tracing::warn!(queue = %self.task.queue.name, ?pause, "paused: the handler fails too often");
                    pause
                }
                Left::Lost(error) => {
                    tracing::warn!(queue = %self.task.queue.name, %error, "cannot consume; trying again");
                    pace.next()
                }
            };
            let transport = Arc::clone(self.task.client.transport());
            tokio::select! {
                () = transport.sleep(pause) => {}
                () = self.task.stop.cancelled() => return,
            }
        }
    }

    /// Attaches a consumer and works for as long as it lasts.
    async fn consume_once(
        &mut self,
        begun: &mut Option<tokio::sync::oneshot::Sender<Result<(), TransportError>>>,
    ) -> Result<Left, TransportError> {
        let task = Arc::clone(&self.task);
        let transport = task.client.transport();
        let probing = self.watch.as_ref().is_some_and(Watch::is_probing);
        let consume = Consume {
            queue: task.queue.name.clone(),
            name: format!("{} {}", task.place.service, task.place.handler),
            credit: if probing { 1 } else { task.credit },
            lease: None,
        };
        let mut consumer = match transport.consume(consume.clone()).await {
            Err(TransportError::NotFound(_)) => {
                transport.declare(&task.topology).await?;
                transport.consume(consume).await?
            }
            consumer => consumer?,
        };
        if let Some(begun) = begun.take() {
            let _ = begun.send(Ok(()));
        }
        let settler = consumer.settler();
        let ending =
            Ending { client: task.client.clone(), queue: Arc::clone(&task.queue), settler: Arc::clone(&settler) };
        let ending = Arc::new(ending);
        let working = FuturesUnordered::new();
        let shift = Shift {
            task: &task,
            work: &mut self.work,
            watch: &mut self.watch,
            ending,
            working,
            waiting: VecDeque::new(),
            leaving: false,
            out: HashMap::new(),
            tick: 0,
        };
        let left = shift.run(&mut *consumer).await;
        settler.flush().await;
        Ok(left)
    }
}

/// A lane with a consumer.
struct Shift<'a> {
    task: &'a ConsumerTask,
    work: &'a mut Work,
    watch: &'a mut Option<Watch>,
    ending: Arc<Ending>,
    working: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Delivered, and not begun.
    waiting: VecDeque<Delivery>,
    /// Takes no more deliveries.
    leaving: bool,
    /// At work, and since which tick.
    out: HashMap<u64, u64>,
    tick: u64,
}

impl Shift<'_> {
    async fn run(mut self, consumer: &mut dyn Consumer) -> Left {
        let task = self.task;
        let clock = Arc::clone(task.client.transport());
        // Three looks a lease: what is still at work after one whole look is given more time.
        let look = (task.queue.lease / 3).max(Duration::from_millis(100));
        let mut ticker = clock.sleep(look);
        let left = loop {
            if let Err(left) = self.begin_all().await {
                break left;
            }
            tokio::select! {
                biased;
                () = task.stop.cancelled() => break Left::Stopping,
                Some(done) = self.working.next(), if !self.working.is_empty() => {
                    if let Some(left) = self.end(done) {
                        break left;
                    }
                }
                batch = consumer.next(), if self.waiting.is_empty() => match batch {
                    Ok(Some(batch)) => self.waiting.extend(batch),
                    Ok(None) => break Left::Lost(TransportError::Closed),
                    Err(error) => break Left::Lost(error),
                },
                () = &mut ticker => {
                    self.extend_leases();
                    ticker = clock.sleep(look);
                }
            }
        };
        consumer.stop();
        self.leaving = true;
        self.finish(look).await;
        left
    }

    /// Begins what waits, as far as the concurrency allows.
    async fn begin_all(&mut self) -> Result<(), Left> {
        while self.working.len() < self.task.concurrency && !self.waiting.is_empty() {
            self.ready().await?;
            let Some(delivery) = self.waiting.pop_front() else { break };
            self.begin(delivery);
        }
        Ok(())
    }

    /// Waits for the layers. One may not be ready (a rate, a number of calls): those at work go on meanwhile.
    async fn ready(&mut self) -> Result<(), Left> {
        loop {
            let Work::Layered(service) = &mut *self.work else { return Ok(()) };
            let done = tokio::select! {
                ready = service.ready() => {
                    return ready.map(drop).map_err(|error| {
                        tracing::error!(handler = %self.task.place.handler, %error, "a layer of the handler has failed");
                        Left::Lost(TransportError::Invalid(error.to_string()))
                    });
                }
                Some(done) = self.working.next(), if !self.working.is_empty() => done,
                () = self.task.stop.cancelled() => return Err(Left::Stopping),
            };
            if let Some(left) = self.end(done) {
                return Err(left);
            }
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        let Delivery { tag, message, attempt, redelivered } = delivery;
        let cancelled = self.task.cancel.child_token();
        let place = Arc::clone(&self.task.place);
        let context = Context::new(message, self.task.client.clone(), place, (attempt, redelivered), cancelled);
        let handling = match &mut *self.work {
            Work::Bare(handler) => Either::Left(handler(context.clone())),
            Work::Layered(service) => {
                let handling = service.call(context.clone());
                Either::Right(async move { handling.await.map_err(Error::from_boxed) })
            }
        };
        self.out.insert(tag, self.tick);
        let (ending, timeout) = (Arc::clone(&self.ending), self.task.timeout);
        let place = context.place();
        let source = Source::Queue { queue: &place.source, group: Some(&place.service) };
        let watch = self.task.client.telemetry().processing(context.envelope(), &source);
        let (trace, span) = (watch.context().clone(), watch.log_span(&place.source, context.envelope()));
        let work = async move {
            let outcome = outcome(handling, timeout).await;
            let (ended, error) = ending.of(tag, &context, outcome).await;
            if let Some(error) = &error {
                log_failure(&context, error, ending.queue.retry.max_attempts);
            }
            let failed = error.as_ref().is_some_and(|error| !error.is_terminal());
            watch.finish(&error.map_or(Ok(()), Err));
            Done { tag, ended, failed }
        };
        self.working.push(Box::pin(work.instrument(span).with_context(trace)));
    }

    /// Ends a delivery and those that are ready to end with it. Says if the breaker wants this consumer to go.
    fn end(&mut self, first: Done) -> Option<Left> {
        let mut settlements = Vec::new();
        let mut left = None;
        let mut next = Some(first);
        while let Some(done) = next {
            self.out.remove(&done.tag);
            // What was begun before a pause says nothing about whether to end it: the one message that is tried afterwards does.
            if let Some(watch) = self.watch.as_mut().filter(|_| left.is_none() && !self.leaving) {
                left = match watch.note(done.failed) {
                    Verdict::GoOn => None,
                    Verdict::Pause(pause) => Some(Left::Pause(pause)),
                    Verdict::Resume => Some(Left::Resume),
                };
            }
            if let Ended::Settle(settle) = done.ended {
                settlements.push((done.tag, settle));
            }
            next = if settlements.len() < SETTLE_BATCH { self.working.next().now_or_never().flatten() } else { None };
        }
        if !settlements.is_empty() {
            self.ending.settler.settle(settlements);
        }
        left
    }

    fn extend_leases(&mut self) {
        self.tick += 1;
        let by = self.task.queue.lease;
        for (tag, since) in &self.out {
            if self.tick > *since + 1 {
                self.ending.settler.extend(*tag, by);
            }
        }
        // What waits here uses up its lease as well.
        for delivery in &self.waiting {
            self.ending.settler.extend(delivery.tag, by);
        }
    }

    /// Gives back what was not begun, and lets those at work finish while there is time.
    async fn finish(mut self, look: Duration) {
        let back: Vec<_> = self.waiting.drain(..).map(|delivery| (delivery.tag, Settle::Release)).collect();
        if !back.is_empty() {
            self.ending.settler.settle(back);
        }
        let clock = Arc::clone(self.task.client.transport());
        let mut ticker = clock.sleep(look);
        while !self.working.is_empty() {
            tokio::select! {
                Some(done) = self.working.next() => drop(self.end(done)),
                () = self.task.cancel.cancelled() => break,
                () = &mut ticker => {
                    self.extend_leases();
                    ticker = clock.sleep(look);
                }
            }
        }
        let back: Vec<_> = self.out.keys().map(|tag| (*tag, Settle::Release)).collect();
        if !back.is_empty() {
            tracing::warn!(queue = %self.task.queue.name, messages = back.len(), "the time to stop is over: unfinished messages go back to the queue");
            self.ending.settler.settle(back);
        }
    }
}

/// The handler's outcome, also if it takes too long or panics.
pub(super) async fn outcome(
    handling: impl Future<Output = Result<Reaction, Error>>,
    timeout: Duration,
) -> Result<Reaction, Error> {
    match tokio::time::timeout(timeout, unwinding(handling)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::transient(format!("the handler took longer than {timeout:?}"))),
    }
}

/// A future whose panic is a failure like any other.
pub(crate) async fn unwinding<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    AssertUnwindSafe(future).catch_unwind().await.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(ToString::to_string);
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::transient(format!("the handler panicked: {said}")))
    })
}

/// Says what went wrong and what follows. `most` is how many attempts there are.
pub(super) fn log_failure(context: &Context, error: &Error, most: Option<u32>) {
    let (handler, source) = (&context.place().handler, &context.place().source);
    let (id, attempt) = (context.message_id(), context.attempt());
    if error.is_terminal() {
        tracing::error!(%handler, %source, message_id = %id, attempt, %error, "failed for good");
    } else if most.is_some_and(|most| attempt >= most) {
        tracing::error!(%handler, %source, message_id = %id, attempt, %error, "failed at the last attempt");
    } else {
        tracing::warn!(%handler, %source, message_id = %id, attempt, %error, "failed; to be tried again");
    }
}
