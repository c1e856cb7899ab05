//! Redrive: a dead-letter queue's messages go back, at a rate, each in one commit with its deletion here.

use std::sync::Arc;
use std::time::Duration;

use types::{Monotonic, Now};

use super::dead_letter::is_story;
use super::owner::{QueueGuard, QueueOwner, REDRIVE_CONSUMER};
use super::settle::Settling;
use crate::access::{Action, Principal};
use crate::errors::ConsumeError;
use crate::queue::{ConsumerRules, Credit, Delivery, Settle};
use crate::record::Payload;
use crate::routing::Plan;
use crate::session::Redrive;
use crate::shared::Shared;
use crate::transaction::Transaction;
use crate::views::RedriveInfo;

/// Messages moved in one go.
const BATCH: usize = 256;
/// Between two goes of a redrive with a rate, and of one without.
const PACE: Duration = Duration::from_millis(50);
const FULL_PACE: Duration = Duration::from_millis(2);

/// A redrive under way, or the last one.
#[derive(Debug)]
pub(crate) struct RedriveJob {
    info: RedriveInfo,
    /// Who asked for it: it writes in their name.
    by: Principal,
    /// Messages that it may move now, by its rate.
    allowance: f64,
    refilled: Monotonic,
    /// Messages whose move is under way.
    moving: u64,
    /// Tells the moves of one redrive from those of the one before.
    number: u64,
}

impl QueueOwner {
    /// Starts a redrive of what is in the queue now.
    ///
    /// # Errors
    /// If one is running, or the queue is used exclusively.
    pub(crate) fn begin_redrive(&self, redrive: Redrive, by: Principal, now: Now) -> Result<RedriveInfo, ConsumeError> {
        let mut guard = self.lock(now);
        if guard.redrive.as_ref().is_some_and(|job| job.info.running) {
            let why = "a redrive of this queue is running; stop it first".to_owned();
            return Err(ConsumeError::Invalid { field: "redrive".to_owned(), why });
        }
        let depth = guard.machine.depth();
        let there = depth.ready + depth.delayed + depth.parked;
        let total = redrive.max.map_or(there, |max| max.min(there));
        let rules = ConsumerRules { exclusive: false, priority: i32::MIN, lease: None, auto_ack: false };
        if total > 0 {
            guard.ensure_attached(REDRIVE_CONSUMER, rules)?;
            guard.machine.set_ready(REDRIVE_CONSUMER, true);
        }
        let info = RedriveInfo { to: redrive.to, moved: 0, total, rate: redrive.rate, running: total > 0, error: None };
        let number = guard.redrive.as_ref().map_or(0, |job| job.number + 1);
        guard.redrive =
            Some(RedriveJob { info: info.clone(), by, allowance: 1.0, refilled: now.mono, moving: 0, number });
        if info.running {
            guard.tick_after(Duration::ZERO);
        }
        Ok(info)
    }

    /// Stops a redrive; what is moved stays moved.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn stop_redrive(&self, now: Now) -> Result<RedriveInfo, ConsumeError> {
        let mut guard = self.lock(now);
        let Some(job) = &mut guard.redrive else {
            return Err(ConsumeError::NotFound { entity: format!("redrive of queue {:?}", &*self.name) });
        };
        job.info.running = false;
        let info = job.info.clone();
        guard.release_internal(REDRIVE_CONSUMER, now);
        Ok(info)
    }

    /// The redrive's state, if there was one since the start.
    pub(crate) fn redrive_info(guard: &QueueGuard<'_>) -> Option<RedriveInfo> {
        guard.redrive.as_ref().map(|job| job.info.clone())
    }

    /// Moves as many messages as the rate allows now.
    pub(crate) fn continue_redrive(self: &Arc<Self>, shared: &Arc<Shared>, now: Now) {
        let mut taken = Vec::new();
        let number = {
            let mut guard = self.lock(now);
            let Some(job) = guard.redrive.as_mut().filter(|job| job.info.running) else { return };
            let (wanted, number) = (job.allow(now), job.number);
            let pace = job.pace();
            if wanted > 0 {
                let credit = Credit { messages: wanted, bytes: u64::MAX };
                if let Err(error) = self.take(shared, &mut guard, REDRIVE_CONSUMER, credit, &mut taken) {
                    Self::end_redrive(&mut guard, Some(error.to_string()));
                    return;
                }
                self.keep_state(shared, &mut guard);
                if let Some(job) = guard.redrive.as_mut() {
                    job.moving += taken.len() as u64;
                    job.allowance -= taken.len() as f64;
                }
                let idle = guard.redrive.as_ref().is_some_and(|job| job.moving == 0);
                let depth = guard.machine.depth();
                if idle && depth.ready == 0 && depth.parked == 0 {
                    // What is left waits for a time; it was not a dead letter when the redrive began.
                    Self::end_redrive(&mut guard, None);
                }
            }
            if guard.redrive.as_ref().is_some_and(|job| job.info.running) {
                // Somebody else may be served first, or hold what is left: no need to look again at once.
                guard.tick_after(if taken.is_empty() { PACE } else { pace });
            }
            number
        };
        shared.flush();
        if let Err(error) = self.fill(shared, &mut taken) {
            tracing::error!(queue = %self.name, %error, "a redrive cannot read its messages");
        }
        for delivery in taken {
            self.redrive_one(shared, delivery, number, now);
        }
    }

    fn redrive_one(self: &Arc<Self>, shared: &Arc<Shared>, delivery: Delivery<Payload>, number: u64, now: Now) {
        let lease = delivery.lease;
        let planned = self.plan_redrive(shared, &delivery, now);
        let mut settling = Settling::default();
        let how = if planned.is_ok() { Settle::Ack } else { Settle::Release };
        let settled = Self::settle_one(&mut self.lock(now), 0, lease, how, &mut settling);
        let plan = match (planned, settled) {
            (Ok(plan), Ok(())) => plan,
            (planned, settled) => {
                let error = planned.err().or_else(|| settled.err().map(|error| error.to_string()));
                self.moved_one(number, error, now);
                return;
            }
        };
        let mut transaction = Transaction::new();
        plan.into_transaction(&mut transaction);
        if let Err(error) = self.settle_into(&mut transaction, settling, now) {
            transaction.cancel(shared);
            self.moved_one(number, Some(error.to_string()), now);
            return;
        }
        let queue = Arc::clone(self);
        transaction.submit(shared, move |result| {
            let error = result.err().map(|failure| crate::errors::StorageError::from(failure).to_string());
            queue.moved_one(number, error, now);
        });
    }

    fn plan_redrive(&self, shared: &Arc<Shared>, delivery: &Delivery<Payload>, now: Now) -> Result<Plan, String> {
        let payload = delivery.payload.as_ref().ok_or("a message cannot be read")?;
        let (mut message, _) = payload.message().map_err(|error| error.to_string())?;
        let job = self.lock(now).redrive.as_ref().map(|job| (job.info.to.clone(), job.by.clone()));
        let (to, by) = job.ok_or("the redrive is over")?;
        let to = match to {
            Some(to) => to,
            None => QueueGuard::source_of(&message)
                .ok_or("a message does not say which queue it came from; name a target")?
                .to_owned(),
        };
        let namespace = shared.namespace_by_id(self.namespace).ok_or("the namespace is gone")?;
        let grants = shared.users.grants(&by, &namespace.name).ok_or("who asked for it may do nothing any more")?;
        grants.require(Action::Write, "queue", &to).map_err(|error| error.to_string())?;
        let target = namespace.queue(&to).ok_or_else(|| format!("there is no queue {to:?}; name a target"))?;
        message.headers.retain(|(name, _)| !is_story(name));
        message.dedup_id = None;
        let mut plan = Plan::new(shared, now);
        plan.for_queue(&target, &[message]).map_err(|error| error.to_string())?;
        Ok(plan)
    }

    /// One message's move has ended. An error ends the redrive: going on would only repeat it.
    fn moved_one(&self, number: u64, error: Option<String>, now: Now) {
        let mut guard = self.lock(now);
        let Some(job) = guard.redrive.as_mut().filter(|job| job.number == number) else { return };
        job.moving = job.moving.saturating_sub(1);
        let done = match &error {
            Some(_) => true,
            None => {
                job.info.moved += 1;
                job.info.moved >= job.info.total
            }
        };
        if done && job.info.running {
            Self::end_redrive(&mut guard, error);
        }
    }

    fn end_redrive(guard: &mut QueueGuard<'_>, error: Option<String>) {
        let now = guard.now;
        if let Some(job) = guard.redrive.as_mut() {
            job.info.running = false;
            job.info.error = error;
        }
        guard.release_internal(REDRIVE_CONSUMER, now);
    }
}

impl RedriveJob {
    /// When it wants to go on.
    fn pace(&self) -> Duration {
        if self.info.rate.is_some() { PACE } else { FULL_PACE }
    }

    /// How many messages it may move now.
    fn allow(&mut self, now: Now) -> usize {
        let left = self.info.total.saturating_sub(self.info.moved + self.moving);
        let left = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
        match self.info.rate {
            None => {
                self.allowance = BATCH as f64;
                left
            }
            Some(rate) => {
                let refill = now.mono.since(self.refilled).as_secs_f64() * rate;
                self.refilled = now.mono;
                self.allowance = (self.allowance + refill).min(rate.max(1.0));
                left.min(self.allowance as usize)
            }
        }
    }
}
