//! The transport with faults.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;
use types::Timestamp;

use super::consumer::FaultyConsumer;
use super::plan::{Fault, Plan};
use crate::Envelope;
use crate::transport::{
    Capabilities, Connection, Consume, Consumer, Destination, Expected, Inbox, Listener, Outgoing, Position,
    PublishError, Published, Reader, Record, StartAt, Topology, Transport, TransportError,
};

/// Messages whose first acknowledgement was lost that are remembered; of the oldest beyond it another is lost.
const MAX_REMEMBERED: usize = 100_000;

/// How often each fault was injected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injected(BTreeMap<Fault, u64>);

impl Injected {
    /// How often this one.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// How often any.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.pad("no faults");
        }
        let faults: Vec<String> = self.0.iter().map(|(fault, count)| format!("{count} × {fault}")).collect();
        f.pad(&faults.join(", "))
    }
}

/// Decides what goes wrong, and counts it. Shared by a transport and its consumers.
pub(super) struct Fate {
    state: Mutex<State>,
}

struct State {
    plan: Plan,
    random: fastrand::Rng,
    /// How often each fault could have been.
    chances: BTreeMap<Fault, u64>,
    injected: Injected,
    /// Messages whose first acknowledgement was lost already, and the same in the order in which they came.
    lost_once: HashSet<String>,
    lost_order: VecDeque<String>,
}

impl Fate {
    fn new(plan: Plan, seed: u64) -> Self {
        let state = State {
            plan,
            random: fastrand::Rng::with_seed(seed),
            chances: BTreeMap::new(),
            injected: Injected::default(),
            lost_once: HashSet::new(),
            lost_order: VecDeque::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Whether it goes wrong this time.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        let state = &mut *self.state.lock();
        let n = state.chances.entry(fault).or_insert(0);
        *n += 1;
        // The die is thrown in any case, so that an exact fault does not change what the seed gives for the others.
        let by_chance = state.random.f64() < state.plan.chance_of(fault);
        let strikes = by_chance || state.plan.strikes_at(fault, *n);
        if strikes {
            *state.injected.0.entry(fault).or_insert(0) += 1;
        }
        strikes
    }

    /// Whether this message's acknowledgement is lost.
    pub(super) fn loses_ack(&self, message: &str) -> bool {
        let by_plan = self.strikes(Fault::LoseAck);
        let state = &mut *self.state.lock();
        if !state.plan.twice || !state.lost_once.insert(message.to_owned()) {
            return by_plan;
        }
        state.lost_order.push_back(message.to_owned());
        if state.lost_order.len() > MAX_REMEMBERED
            && let Some(oldest) = state.lost_order.pop_front()
        {
            state.lost_once.remove(&oldest);
        }
        if !by_plan {
            *state.injected.0.entry(Fault::LoseAck).or_insert(0) += 1;
        }
        true
    }

    /// How long a delivery is delayed.
    pub(super) fn delay(&self) -> Duration {
        let state = &mut *self.state.lock();
        state.plan.delay_up_to.mul_f64(state.random.f64())
    }
}

/// A transport on which things go wrong as a [`Plan`] says; everything else is as on the one that it wraps.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use sdk::testkit::{Fault, Faulty, Plan};
/// use sdk::transport::Transport;
///
/// # async fn example(transport: Arc<dyn Transport>) {
/// let faulty = Faulty::new(transport, Plan::every_message_twice().chance(Fault::LoseConfirmation, 0.1));
/// // ... start the service on `faulty`, publish what it consumes, and assert what it did.
/// let effects = 100; // rows that the service wrote for 100 messages
/// assert_eq!(effects, 100, "not idempotent under {} (seed {})", faulty.injected(), faulty.seed());
/// # }
/// ```
///
/// It prints its seed to standard error, which a test shows when it fails; [`Faulty::with_seed`] repeats a run as far as the order of events is the
/// same.
///
/// What is injected is what a broker, a network and a kill do, and nothing that cannot happen: no message is lost, and none is acknowledged that was
/// not. A message that comes again does so out of the broker, by [`Settle::Release`](crate::transport::Settle::Release).
pub struct Faulty {
    inner: Arc<dyn Transport>,
    fate: Arc<Fate>,
    seed: u64,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("inner", &self.inner).field("seed", &self.seed).finish_non_exhaustive()
    }
}

impl Faulty {
    /// Wraps a transport. The seed is a random one.
    #[must_use]
    pub fn new(inner: Arc<dyn Transport>, plan: Plan) -> Arc<Self> {
        Self::with_seed(inner, plan, fastrand::u64(..))
    }

    /// Wraps a transport, with the seed of another run.
    #[must_use]
    #[allow(clippy::print_stderr, reason = "a test shows it when it fails, which is when the seed is needed")]
    pub fn with_seed(inner: Arc<dyn Transport>, plan: Plan, seed: u64) -> Arc<Self> {
        eprintln!("faults are injected with the seed {seed}");
        Arc::new(Self { inner, fate: Arc::new(Fate::new(plan, seed)), seed })
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What went wrong so far.
    #[must_use]
    pub fn injected(&self) -> Injected {
        self.fate.state.lock().injected.clone()
    }

    /// From now on by this plan: [`Plan::none`] lets a run come to its end. Exact faults count from the beginning of the run.
    pub fn set_plan(&self, plan: Plan) {
        self.fate.state.lock().plan = plan;
    }

    /// What a publish that is not sent is answered with, if it is not.
    fn unsent(&self) -> Option<PublishError> {
        if self.fate.strikes(Fault::Refuse) {
            return Some(PublishError::Refused("a fault was injected".to_owned()));
        }
        self.fate.strikes(Fault::Busy).then(|| PublishError::Busy("a fault was injected".to_owned()))
    }
}

impl Fate {
    /// The answer to a publish that was sent, unless it is lost.
    pub(super) fn confirmed<T>(&self, answer: Result<T, PublishError>) -> Result<T, PublishError> {
        if answer.is_ok() && self.strikes(Fault::LoseConfirmation) {
            return Err(PublishError::Unconfirmed { waited: Duration::ZERO });
        }
        answer
    }
}

impl Transport for Faulty {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn system(&self) -> &'static str {
        self.inner.system()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.inner.sleep(time)
    }

    fn connection(&self) -> watch::Receiver<Connection> {
        self.inner.connection()
    }

    fn declare<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<(), TransportError>> {
        self.inner.declare(topology)
    }

    fn publish(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Published, PublishError>>> {
        async move {
            let mut unsent: Vec<Option<PublishError>> = Vec::with_capacity(messages.len());
            let mut live = Vec::with_capacity(messages.len());
            let mut sent = Vec::with_capacity(messages.len());
            for message in messages {
                live.push(message.to == Destination::Live);
                unsent.push(self.unsent());
                if matches!(unsent.last(), Some(None)) {
                    sent.push(message);
                }
            }
            let mut answers = if sent.is_empty() { Vec::new() } else { self.inner.publish(sent).await }.into_iter();
            let answer = |(unsent, live): (Option<PublishError>, bool)| match unsent {
                Some(error) => Some(Err(error)),
                None if live => answers.next(),
                None => answers.next().map(|answer| self.fate.confirmed(answer)),
            };
            unsent.into_iter().zip(live).filter_map(answer).collect()
        }
        .boxed()
    }

    fn publish_expecting(
        &self,
        topic: &str,
        messages: Vec<Envelope>,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Vec<Published>, PublishError>> {
        if let Some(error) = self.unsent() {
            return futures_util::future::ready(Err(error)).boxed();
        }
        let publishing = self.inner.publish_expecting(topic, messages, expected);
        async move { self.fate.confirmed(publishing.await) }.boxed()
    }

    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, TransportError>> {
        async move {
            let consumer = self.inner.consume(consume).await?;
            let faulty = FaultyConsumer::new(consumer, self.inner.clone(), self.fate.clone());
            Ok(Box::new(faulty) as Box<dyn Consumer>)
        }
        .boxed()
    }

    fn listen(&self, pattern: &str, group: Option<&str>) -> BoxFuture<'_, Result<Box<dyn Listener>, TransportError>> {
        self.inner.listen(pattern, group)
    }

    fn open_inbox(&self) -> BoxFuture<'_, Result<Box<dyn Inbox>, TransportError>> {
        self.inner.open_inbox()
    }

    fn answer(&self, reply_to: &str, answer: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        self.inner.answer(reply_to, answer)
    }

    fn read(&self, topic: &str, from: StartAt, follow: bool) -> BoxFuture<'_, Result<Box<dyn Reader>, TransportError>> {
        self.inner.read(topic, from, follow)
    }

    fn read_key(
        &self,
        topic: &str,
        key: &[u8],
        from: u64,
        max: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, TransportError>> {
        self.inner.read_key(topic, key, from, max)
    }

    fn last_of_key(&self, topic: &str, key: &[u8]) -> BoxFuture<'_, Result<Option<Record>, TransportError>> {
        self.inner.last_of_key(topic, key)
    }

    fn committed(&self, topic: &str, name: &str) -> BoxFuture<'_, Result<Vec<Position>, TransportError>> {
        self.inner.committed(topic, name)
    }

    fn commit(&self, topic: &str, name: &str, next: Vec<Position>) -> BoxFuture<'_, Result<(), TransportError>> {
        self.inner.commit(topic, name, next)
    }

    fn queue_len(&self, queue: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        self.inner.queue_len(queue)
    }

    fn browse(&self, queue: &str, max: u32) -> BoxFuture<'_, Result<Vec<Envelope>, TransportError>> {
        self.inner.browse(queue, max)
    }

    fn redrive(&self, dead_letter_queue: &str) -> BoxFuture<'_, Result<u64, TransportError>> {
        self.inner.redrive(dead_letter_queue)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
