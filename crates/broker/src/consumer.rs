//! A standing consumer of a queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use types::Now;
use types::limits::MAX_LEASE;

use crate::access::Action;
use crate::errors::{ConsumeError, SettleError, StorageError};
use crate::queue::{ConsumerId, ConsumerRules, Credit, Delivery, Settle};
use crate::queues::{PolledWait, QueueOwner, WaitSlot, Waiter};
use crate::receipt::Receipt;
use crate::record::Payload;
use crate::session::Session;
use crate::shared::Shared;
use crate::views::Delivered;

/// What a consumer asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerOptions {
    /// For people: names the consumer in the server's log.
    pub name: String,
    /// What it asks of the queue.
    pub rules: ConsumerRules,
}

/// Deliveries, what to wait with, and whether to look again at once.
type Taken = (Vec<Delivery<Payload>>, Option<WaitSlot>, bool);

/// What a consumer that is polled waits for.
enum Pending {
    /// Something to become deliverable, with credit or without.
    Slot { wait: PolledWait, has_credit: bool },
    /// What it took, until that may be handed out.
    HandOut(Pin<Box<dyn Future<Output = Result<Vec<Delivered>, ConsumeError>> + Send>>),
}

/// A standing consumer. Dropping it puts what it has not settled back into the queue.
pub struct Consumer {
    session: Session,
    queue: Arc<QueueOwner>,
    id: ConsumerId,
    auto_ack: bool,
    retired: bool,
    pending: Option<Pending>,
}

impl Consumer {
    pub(crate) fn attach(
        session: Session,
        queue: Arc<QueueOwner>,
        options: ConsumerOptions,
    ) -> Result<Self, ConsumeError> {
        tracing::debug!(queue = %queue.name, consumer = options.name, "a consumer attaches");
        let auto_ack = options.rules.auto_ack;
        let id = {
            let mut guard = queue.lock(session.now());
            if guard.is_going() {
                return Err(ConsumeError::Deleted(queue.name.to_string()));
            }
            guard.attach(options.rules)?
        };
        Ok(Self { session, queue, id, auto_ack, retired: false, pending: None })
    }

    /// Leaves the queue. Once this is ready, a queue that goes with its last consumer is gone, if this was the last one.
    pub async fn leave(self) {
        let (session, queue) = (self.session.clone(), Arc::clone(&self.queue));
        drop(self);
        session.broker().let_abandoned_go(vec![queue]).await;
    }

    /// Takes nothing any more, and counts as a consumer no longer, but keeps what it has until that is settled or the consumer is dropped.
    /// Once this is ready, a queue that goes with its last consumer is gone, if this was the last one.
    pub fn retire(&mut self) -> impl Future<Output = ()> + Send + use<> {
        if !std::mem::replace(&mut self.retired, true) {
            // What it took and did not get yet goes back.
            self.pending = None;
            self.queue.lock(self.session.now()).retire(self.id);
        }
        let (session, queue) = (self.session.clone(), Arc::clone(&self.queue));
        async move { session.broker().let_abandoned_go(vec![queue]).await }
    }

    /// The queue's name.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.queue.name
    }

    /// Waits until something can be handed out within the credit, and takes it. Without credit it waits for the queue's end. Cancel-safe: nothing
    /// is taken by a call that is dropped.
    ///
    /// # Errors
    /// [`ConsumeError::Deleted`] once the queue is gone; [`StorageError::Unavailable`] once the broker stops.
    pub async fn next(&mut self, credit: Credit) -> Result<Vec<Delivered>, ConsumeError> {
        loop {
            let (taken, slot, _) = self.take(credit, true)?;
            if !taken.is_empty() {
                let held = Held::new(&self.queue, taken, self.auto_ack, self.session.now());
                return held.hand_out(&self.session).await;
            }
            match slot {
                Some(slot) => slot.notify.notified().await,
                None => tokio::task::yield_now().await,
            }
        }
    }

    /// As [`next`](Self::next), for whoever polls many things. Ready with what was taken under the credit of this call or, if that had to wait
    /// for the disk first, of an earlier one. Pending, it wakes the context once there may be more; change the credit and poll again.
    ///
    /// # Errors
    /// See [`next`](Self::next).
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        credit: Credit,
    ) -> Poll<Result<Vec<Delivered>, ConsumeError>> {
        loop {
            match &mut self.pending {
                Some(Pending::HandOut(held)) => {
                    let end = std::task::ready!(held.as_mut().poll(context));
                    self.pending = None;
                    return Poll::Ready(end);
                }
                Some(Pending::Slot { wait, has_credit }) if *has_credit == (credit.messages > 0) => {
                    std::task::ready!(wait.poll(context));
                }
                Some(Pending::Slot { .. }) | None => {}
            }
            self.pending = None;
            let (taken, slot, _) = self.take(credit, true)?;
            if !taken.is_empty() {
                let held = Held::new(&self.queue, taken, self.auto_ack, self.session.now());
                match held.hand_out_at_once(&self.session) {
                    Ok(end) => return Poll::Ready(end),
                    Err(held) => {
                        let session = self.session.clone();
                        let hand_out = async move { held.hand_out(&session).await };
                        self.pending = Some(Pending::HandOut(Box::pin(hand_out)));
                    }
                }
            } else if let Some(slot) = slot {
                self.pending = Some(Pending::Slot { wait: slot.into(), has_credit: credit.messages > 0 });
            } else {
                // The log is not looked through yet; others get their turn first.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Takes what can be handed out at once, looking through the log for it as long as that takes. After a kill in the next moment it may
    /// come again without being marked as redelivered, and a failure that is still being recorded may be forgotten: [`next`](Self::next)
    /// waits to exclude both.
    ///
    /// # Errors
    /// See [`next`](Self::next).
    pub fn try_next(&mut self, credit: Credit) -> Result<Vec<Delivered>, ConsumeError> {
        let taken = loop {
            // The lock is free between two looks.
            let (taken, _, more) = self.take(credit, false)?;
            if !taken.is_empty() || !more {
                break taken;
            }
        };
        delivered(self.session.shared(), &self.queue, taken, self.auto_ack, self.session.now())
    }

    /// Says that it takes nothing for now, so that consumers of lower priority are served meanwhile.
    pub fn pause(&self) {
        self.queue.lock(self.session.now()).machine.set_ready(self.id, false);
    }

    /// Ends deliveries of this consumer; see [`Session::settle`].
    pub async fn settle(&self, settlements: Vec<(Receipt, Settle)>) -> Vec<Result<(), SettleError>> {
        self.session.settle(settlements).await
    }

    /// Makes a lease last `by` from now.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn extend(&self, receipt: Receipt, by: Duration) -> Result<(), SettleError> {
        self.session.extend(receipt, by.min(MAX_LEASE))
    }

    /// What is there, a slot to wait in if nothing is, and whether the log is to be looked at further first.
    fn take(&self, credit: Credit, wait: bool) -> Result<Taken, ConsumeError> {
        if self.queue.is_deleted() {
            return Err(ConsumeError::Deleted(self.queue.name.to_string()));
        }
        if self.session.shared().is_closed() {
            // The queue is there when the broker is again: whoever was told otherwise would not come back.
            return Err(StorageError::Unavailable("the broker is stopping".to_owned()).into());
        }
        // The user may have lost the permission, or gone, since.
        self.session.may(Action::Read, "queue", &self.queue.name)?;
        let (shared, now) = (self.session.shared(), self.session.now());
        self.queue.check_sound(shared)?;
        let (mut out, mut slot) = (Vec::new(), None);
        let more;
        {
            let mut guard = self.queue.lock(now);
            guard.machine.set_ready(self.id, credit.messages > 0);
            more = self.queue.take(shared, &mut guard, self.id, credit, &mut out)?;
            if wait && out.is_empty() && !more {
                let waiter = if credit.messages > 0 { Waiter::Delivery(self.id) } else { Waiter::End };
                slot = Some(guard.wait_slot(shared, &self.queue, waiter));
            }
            self.queue.keep_state(shared, &mut guard);
        }
        shared.flush();
        Ok((out, slot, more))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // What it took and did not hand out yet goes back first, as deliveries of its own.
        self.pending = None;
        let abandoned = {
            let mut guard = self.queue.lock(self.session.now());
            match self.retired {
                true => guard.detach_retired(self.id),
                false => guard.detach(self.id),
            }
            guard.is_abandoned()
        };
        if abandoned {
            self.session.shared().abandoned(&self.queue, self.session.now());
        }
    }
}

/// Deliveries that wait for the mark of what was handed out, and for the records of earlier failures. Dropped, they go back untried.
pub(crate) struct Held {
    queue: Arc<QueueOwner>,
    deliveries: Vec<Delivery<Payload>>,
    auto_ack: bool,
    now: Now,
}

impl Held {
    pub(crate) fn new(queue: &Arc<QueueOwner>, deliveries: Vec<Delivery<Payload>>, auto_ack: bool, now: Now) -> Self {
        Self { queue: Arc::clone(queue), deliveries, auto_ack, now }
    }

    /// As [`hand_out`](Self::hand_out), if nothing has to be waited for; gives itself back otherwise.
    fn hand_out_at_once(mut self, session: &Session) -> Result<Result<Vec<Delivered>, ConsumeError>, Self> {
        let offsets = self.deliveries.iter().map(|delivery| delivery.lease.offset);
        if !self.queue.failing.has_none_of(offsets.clone()) {
            return Err(self);
        }
        // IMPORTANT: the mark comes last; see `hand_out`.
        let marked = match offsets.max() {
            Some(last) => self.queue.is_marked(session.shared(), last),
            None => Some(Ok(())),
        };
        match marked {
            None => Err(self),
            Some(Err(error)) => Ok(Err(error.into())),
            Some(Ok(())) => Ok(self.release(session)),
        }
    }

    fn release(&mut self, session: &Session) -> Result<Vec<Delivered>, ConsumeError> {
        let deliveries = std::mem::take(&mut self.deliveries);
        delivered(session.shared(), &self.queue, deliveries, self.auto_ack, session.now())
    }

    /// Hands them out once the mark is beyond them and what they failed before is recorded.
    ///
    /// # Errors
    /// See [`QueueOwner::marked`] and [`delivered`]; they go back then.
    pub(crate) async fn hand_out(mut self, session: &Session) -> Result<Vec<Delivered>, ConsumeError> {
        let offsets = self.deliveries.iter().map(|delivery| delivery.lease.offset);
        self.queue.failing.none_of(offsets.clone()).await;
        // IMPORTANT: the mark comes last, as it is looked at then whether the storage has failed, and with it the record of a failure.
        if let Some(last) = offsets.max() {
            self.queue.marked(session.shared(), last).await?;
        }
        self.release(session)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        give_back(&self.queue, std::mem::take(&mut self.deliveries), self.auto_ack, self.now);
    }
}

/// Nobody gets these deliveries: they go back untried.
fn give_back(queue: &QueueOwner, deliveries: Vec<Delivery<Payload>>, auto_ack: bool, now: Now) {
    if deliveries.is_empty() {
        return;
    }
    let mut guard = queue.lock(now);
    for delivery in deliveries {
        if auto_ack {
            guard.restore(delivery.lease.offset);
        } else {
            // Its lease may have run out in the wait; then it is back already.
            let _ = guard.machine.settle(now, delivery.lease, Settle::Release);
        }
    }
}

/// Deliveries with their messages. Those of a consumer that acknowledges at once are deleted, in the background. One whose message cannot
/// be read stays out until its lease ends, and is reported in the log.
///
/// # Errors
/// If the log cannot be read at all.
pub(crate) fn delivered(
    shared: &Arc<Shared>,
    queue: &Arc<QueueOwner>,
    mut deliveries: Vec<Delivery<Payload>>,
    auto_ack: bool,
    now: Now,
) -> Result<Vec<Delivered>, ConsumeError> {
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    if let Err(error) = queue.fill(shared, &mut deliveries) {
        give_back(queue, deliveries, auto_ack, now);
        return Err(error.into());
    }
    if auto_ack {
        let offsets = deliveries.iter().map(|delivery| delivery.lease.offset).collect();
        let weight = deliveries.iter().map(|delivery| u64::from(delivery.weight)).sum();
        queue.forget_delivered(shared, offsets, weight, now);
    }
    let mut out = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let read = delivery.payload.as_ref().map(Payload::message);
        let (message, enqueued) = match read {
            Some(Ok(read)) => read,
            failed => {
                let error = failed.and_then(Result::err).map(|error| error.to_string());
                tracing::error!(queue = %queue.name, offset = %delivery.lease.offset, error, "a message cannot be read");
                continue;
            }
        };
        out.push(Delivered {
            receipt: Receipt { queue: queue.id, boot: shared.boot.0, lease: delivery.lease },
            attempt: delivery.attempt,
            redelivered: delivery.redelivered,
            lease: delivery.until.map(|until| until.since(now.mono)),
            enqueued,
            message: Arc::new(message),
        });
    }
    Ok(out)
}
