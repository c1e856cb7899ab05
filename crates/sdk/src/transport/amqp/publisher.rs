//! Publishing: one channel with confirms, whose unconfirmed messages are sent again in order, with their ids, after a lost connection.
//!
//! A publish that the broker objects to (no such exchange, no permission) closes the channel, and with it goes the word on all that are under way,
//! and on which it was. So those are then sent one at a time, each once the one before it is confirmed, and the one that closes the channel
//! again is the culprit: it is answered, and the others go on.
//!
//! A message that leads nowhere comes back before its confirm. Lapin gives what came back to whichever confirm is next, which need not be that
//! message's. But once everything up to a message is confirmed, all that came back of it was given to one of the confirms until then. So answers go
//! out in the order of the publishes, and what came back is known by its id and address.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, Stream};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::faults;
use super::link::Link;
use crate::backoff::Pace;
use crate::transport::PublishError;

/// What is published: all of a frame, and when it was tried for long enough.
pub(super) struct Job {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    pub(super) deadline: Instant,
}

/// Whether anything took it.
pub(super) type Answer = Result<bool, PublishError>;

/// A job within the publisher.
struct Slot {
    job: Job,
    answer: oneshot::Sender<Answer>,
    sent: bool,
    outcome: Option<Answer>,
    /// Given back when the slot goes.
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// Hands jobs to the publisher.
pub(super) struct Publisher {
    jobs: mpsc::Sender<Slot>,
    count: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    link: Arc<Link>,
}

impl Publisher {
    pub(super) fn start(link: &Arc<Link>) -> Self {
        let options = &link.options;
        let (jobs, queue) = mpsc::channel(options.max_pending);
        let task = Task {
            link: Arc::clone(link),
            jobs: queue,
            slots: VecDeque::new(),
            first: 0,
            sent: 0,
            one_at_a_time: 0,
            given_up: 0,
            returned: HashMap::new(),
        };
        tokio::spawn(task.run());
        Self {
            jobs,
            count: Arc::new(Semaphore::new(options.max_pending)),
            bytes: Arc::new(Semaphore::new(options.max_pending_bytes)),
            link: Arc::clone(link),
        }
    }

    /// Takes a job once there is room; its answer comes by what this returns. Jobs are published in the order in which they were taken.
    ///
    /// # Errors
    /// [`PublishError::TooManyPending`], [`PublishError::Closed`].
    pub(super) async fn take(&self, job: Job) -> Result<oneshot::Receiver<Answer>, PublishError> {
        let options = &self.link.options;
        if self.link.closing.is_cancelled() {
            return Err(PublishError::Closed);
        }
        let weight = job.body.len().clamp(1, options.max_pending_bytes);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let deadline = job.deadline;
        let full = |limit: &'static str| {
            let waiting = options.max_pending.saturating_sub(self.count.available_permits());
            PublishError::TooManyPending { waiting, limit }
        };
        // A semaphore gives its permits in the order in which they were asked for.
        let count = timeout_at(deadline, Arc::clone(&self.count).acquire_owned());
        let count = count.await.map_err(|_| full("max_pending"))?.map_err(|_| PublishError::Closed)?;
        let bytes = timeout_at(deadline, Arc::clone(&self.bytes).acquire_many_owned(weight));
        let bytes = bytes.await.map_err(|_| full("max_pending_bytes"))?.map_err(|_| PublishError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let slot = Slot { job, answer, sent: false, outcome: None, _room: (count, bytes) };
        self.jobs.send(slot).await.map_err(|_| PublishError::Closed)?;
        Ok(answered)
    }

    /// Waits until nothing is under way. What is taken meanwhile waits behind this.
    pub(super) async fn flush(&self) {
        let all = u32::try_from(self.link.options.max_pending).unwrap_or(u32::MAX);
        let deadline = Instant::now() + self.link.options.confirm_timeout;
        // If they are not through by then, they have been answered.
        let _ = timeout_at(deadline, self.count.acquire_many(all)).await;
    }
}

/// Message id, exchange, routing key.
type Address = (Option<String>, String, String);

/// A confirm under way: which job's, and what came of it.
type Confirm = BoxFuture<'static, (u64, lapin::Result<Confirmation>)>;

struct Task {
    link: Arc<Link>,
    jobs: mpsc::Receiver<Slot>,
    /// Jobs that are not answered, in order; the number of the first is `first`.
    slots: VecDeque<Slot>,
    first: u64,
    /// How many of the first were looked at for the channel in force.
    sent: usize,
    /// So many of the first go one at a time.
    one_at_a_time: usize,
    /// Sent on the channel in force and given up since: an error may be theirs.
    given_up: usize,
    /// What came back, and how often.
    returned: HashMap<Address, u32>,
}

impl Task {
    async fn run(mut self) {
        let mut waits = self.link.options.pace();
        while let Some(channel) = self.open().await {
            let Some(error) = self.publish_on(&channel, &mut waits).await else { break };
            let clear = faults::is_of_channel(&error) && self.blame(&error);
            self.channel_ended();
            if !clear {
                // The connection, most likely. The link hears of it a moment later, and is not pestered for channels until then.
                sleep(waits.next()).await;
            }
        }
        for slot in self.slots.drain(..) {
            let unknown = PublishError::Unconfirmed { waited: self.link.options.confirm_timeout };
            let _ = slot.answer.send(slot.outcome.unwrap_or(Err(unknown)));
        }
        self.jobs.close();
        while let Some(slot) = self.jobs.recv().await {
            let _ = slot.answer.send(Err(PublishError::Closed));
        }
    }

    /// A channel for confirms; `None` once the transport is closed. Jobs come in and run out of time meanwhile.
    async fn open(&mut self) -> Option<Channel> {
        let mut opening = Box::pin(open(Arc::clone(&self.link)));
        loop {
            let deadline = self.slots.front().map(|slot| slot.job.deadline);
            tokio::select! {
                channel = &mut opening => return channel,
                Some(slot) = self.jobs.recv() => self.slots.push_back(slot),
                () = until(deadline) => self.expire(),
            }
        }
    }

    /// Publishes on a channel until that ends; `None` once the transport is closed.
    async fn publish_on(&mut self, channel: &Channel, waits: &mut Pace) -> Option<lapin::Error> {
        let mut confirms: FuturesUnordered<Confirm> = FuturesUnordered::new();
        loop {
            self.send(channel, &mut confirms);
            let deadline = self.slots.front().map(|slot| slot.job.deadline);
            tokio::select! {
                () = self.link.closed.cancelled() => return None,
                Some((number, result)) = confirms.next(), if !confirms.is_empty() => {
                    let first = self.confirmed(number, result);
                    if let Some(error) = self.confirmed_too(&mut confirms, first) {
                        return Some(error);
                    }
                    waits.reset();
                    self.answer();
                    if confirms.is_empty() {
                        self.returned.clear();
                    }
                }
                Some(slot) = self.jobs.recv() => {
                    self.slots.push_back(slot);
                    while let Ok(slot) = self.jobs.try_recv() {
                        self.slots.push_back(slot);
                    }
                }
                () = until(deadline) => self.expire(),
            }
        }
    }

    /// Sends what was not, in order.
    fn send(&mut self, channel: &Channel, confirms: &mut FuturesUnordered<Confirm>) {
        while self.one_at_a_time == 0 || confirms.is_empty() {
            let Some(slot) = self.slots.get_mut(self.sent) else { break };
            let number = self.first + self.sent as u64;
            self.sent += 1;
            if slot.answer.is_closed() {
                // Nobody waits for it any more, and it was not sent: it is not.
                slot.outcome = Some(Ok(false));
                continue;
            }
            slot.sent = true;
            let mut confirm = confirm(channel.clone(), number, &slot.job);
            // Lapin numbers and queues a publish when it is first polled, so this is what puts them in order.
            match (&mut confirm).now_or_never() {
                Some(done) => confirms.push(Box::pin(std::future::ready(done))),
                None => confirms.push(confirm),
            }
        }
        self.answer();
    }

    /// Notes what came of a publish.
    fn confirmed(&mut self, number: u64, result: lapin::Result<Confirmation>) -> Option<lapin::Error> {
        let (outcome, returned) = match result {
            Ok(Confirmation::Ack(returned)) => (Ok(true), returned),
            Ok(Confirmation::Nack(returned)) => {
                (Err(PublishError::Busy("it was nacked, as by a full queue".into())), returned)
            }
            Ok(Confirmation::NotRequested) => (Ok(true), None),
            Err(error) => return Some(error),
        };
        if let Some(message) = returned {
            *self.returned.entry(address_of(&message)).or_default() += 1;
        }
        let slot = number.checked_sub(self.first).and_then(|index| self.slots.get_mut(usize::try_from(index).ok()?));
        if let Some(slot) = slot {
            slot.outcome = Some(outcome);
        }
        None
    }

    /// Notes all that is confirmed by now: see the module on why none may be left. Gives the error that tells most.
    fn confirmed_too(
        &mut self,
        confirms: &mut FuturesUnordered<Confirm>,
        mut error: Option<lapin::Error>,
    ) -> Option<lapin::Error> {
        // Whose waker this is does not matter: the caller's loop looks again before it waits.
        let mut context = Context::from_waker(Waker::noop());
        // The set may say that it is pending only to let others run; not twice.
        for _ in 0..2 {
            while let Poll::Ready(Some((number, result))) = Pin::new(&mut *confirms).poll_next(&mut context) {
                let found = self.confirmed(number, result);
                if error.as_ref().is_none_or(|error| !faults::is_of_channel(error)) {
                    error = found.or(error);
                }
            }
        }
        error
    }

    /// Answers from the front on, for as long as there are answers.
    fn answer(&mut self) {
        while let Some(slot) = self.slots.pop_front_if(|slot| slot.outcome.is_some()) {
            self.popped();
            self.tell(slot);
        }
    }

    fn popped(&mut self) {
        self.first += 1;
        self.sent = self.sent.saturating_sub(1);
        self.one_at_a_time = self.one_at_a_time.saturating_sub(1);
    }

    fn tell(&mut self, mut slot: Slot) {
        let Some(mut outcome) = slot.outcome.take() else { return };
        if outcome == Ok(true) && !self.returned.is_empty() {
            let id = slot.job.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
            let address = (id, slot.job.exchange.as_str().to_owned(), slot.job.routing_key.as_str().to_owned());
            if let Some(times) = self.returned.get_mut(&address) {
                *times -= 1;
                outcome = Ok(false);
                if *times == 0 {
                    self.returned.remove(&address);
                }
            }
        }
        // Nobody may wait for it any more.
        let _ = slot.answer.send(outcome);
    }

    /// Gives up those whose time is over.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(mut slot) = self.slots.pop_front_if(|slot| slot.job.deadline <= now) {
            self.popped();
            if slot.outcome.is_none() {
                self.given_up += usize::from(slot.sent);
                slot.outcome = Some(Err(PublishError::Unconfirmed { waited: self.link.options.confirm_timeout }));
            }
            self.tell(slot);
        }
    }

    /// Finds whose fault it is that the broker closed the channel, or makes sure that the next time will show it. Whether that is so.
    fn blame(&mut self, error: &lapin::Error) -> bool {
        let mut under_way = self.slots.iter_mut().filter(|slot| slot.sent && slot.outcome.is_none());
        match (under_way.next(), under_way.next()) {
            (Some(culprit), None) if self.given_up == 0 => {
                culprit.outcome = Some(Err(faults::publish_error(error, culprit.job.exchange.as_str())));
                true
            }
            (Some(_), _) => {
                let was_so = self.one_at_a_time > 0;
                self.one_at_a_time = self.one_at_a_time.max(self.sent);
                !was_so
            }
            (None, _) => false,
        }
    }

    /// What was sent on the channel and is not confirmed will be sent again. The others are answered: nothing more comes back of them.
    fn channel_ended(&mut self) {
        let (slots, careful) = (std::mem::take(&mut self.slots), self.one_at_a_time);
        for (index, mut slot) in slots.into_iter().enumerate() {
            if slot.outcome.is_some() {
                self.tell(slot);
                self.one_at_a_time -= usize::from(index < careful);
            } else {
                slot.sent = false;
                self.slots.push_back(slot);
            }
        }
        // Numbers of the lost channel's confirms are not met again: they went with it.
        self.sent = 0;
        self.given_up = 0;
        self.returned.clear();
    }
}

async fn open(link: Arc<Link>) -> Option<Channel> {
    loop {
        let channel = link.channel().await.ok()?;
        match channel.confirm_select(ConfirmSelectOptions::default()).await {
            Ok(()) => return Some(channel),
            Err(error) => tracing::debug!(%error, "cannot open the channel for publishing; trying again"),
        }
        sleep(link.options.reconnect_initial).await;
    }
}

/// Publishes a job, and waits for its confirm.
fn confirm(channel: Channel, number: u64, job: &Job) -> Confirm {
    let (exchange, routing_key) = (job.exchange.clone(), job.routing_key.clone());
    let (properties, body) = (job.properties.clone(), job.body.clone());
    Box::pin(async move {
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let result = match channel.basic_publish(exchange, routing_key, options, &body, properties).await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        (number, result)
    })
}

fn address_of(message: &BasicReturnMessage) -> Address {
    let id = message.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
    (id, message.exchange.as_str().to_owned(), message.routing_key.as_str().to_owned())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
