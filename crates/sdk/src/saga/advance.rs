//! Runs sagas: one message of the saga's queue moves one saga on as far as it goes.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use types::{MessageId, Text, Timestamp};

use super::sagas::{Order, What};
use super::step::{At, BoundStep, Run};
use super::store::{Instances, SagaStore, StoreError, Stored};
use super::{Bound, SagaInstance, SagaStatus};
use crate::reaction::Reaction;
use crate::runtime;
use crate::transport::{Outgoing, RetrySpec};
use crate::{Context, Error};

/// How long a worker that lost a race waits before it looks again.
const AFTER_CONFLICT: Duration = Duration::from_millis(200);
/// The time of an attempt of what is done once everything is undone.
const COMPENSATED_TIMEOUT: Duration = Duration::from_secs(30);

/// Moves the sagas of one name on.
pub(crate) struct Orchestrator<T> {
    saga: Bound<T>,
    service: String,
    store: SagaStore,
    instances: OnceLock<Arc<dyn Instances>>,
}

/// What is to be done next.
enum Next<T> {
    Step(usize, Run<T>, Duration),
    Undo(usize, Option<Run<T>>, Duration),
    Over,
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Orchestrator<T> {
    pub(crate) fn new(saga: Bound<T>, service: String, store: SagaStore) -> Self {
        Self { saga, service, store, instances: OnceLock::new() }
    }

    /// Handles a message of the saga's queue.
    pub(crate) async fn handle(&self, context: Context) -> Result<Reaction, Error> {
        let order = Order::read(context.envelope())?;
        let instances = self.instances.get_or_init(|| {
            self.store.instances(&self.service, &self.saga.name, Arc::clone(context.client().transport()))
        });
        let mut reaction = Reaction::none();
        let Some(mut stored) = self.begin(&**instances, &context, &order).await? else { return Ok(reaction) };
        let ambiguous = context.redelivered() || context.attempt() > 1;
        loop {
            let now = context.now();
            self.obey(&mut stored.instance, &order.what, now);
            if stored.instance.status.is_over() || stored.instance.halted {
                return Ok(reaction);
            }
            let before = stored.instance.clone();
            let wait = self.advance(&context, &mut stored.instance, ambiguous).await?;
            stored.instance.updated_ms = context.now().0;
            if stored.instance != before {
                stored.version = instances.save(Some(stored.version), &stored.instance).await.map_err(unsaved)?;
            }
            if let Some(wait) = wait {
                let again = Order { id: order.id.clone(), what: What::Go };
                reaction
                    .publishes
                    .push(again.publishing(&self.service, &self.saga.name)?.delay(wait).into_outgoing(now));
                return Ok(reaction);
            }
        }
    }

    /// The saga that the message is about; a new one if it begins with it; none if there is nothing to do.
    async fn begin(
        &self,
        instances: &dyn Instances,
        context: &Context,
        order: &Order,
    ) -> Result<Option<Stored>, Error> {
        if let Some(stored) = instances.load(&order.id).await.map_err(unsaved)? {
            return Ok(Some(stored));
        }
        let What::Start { state } = &order.what else {
            if matches!(order.what, What::Deadline) {
                return Ok(None);
            }
            return Err(Error::terminal(format!("there is no saga {:?} of {:?}", order.id, self.saga.name)));
        };
        let now = context.now();
        let deadline = self.saga.deadline.map(|deadline| now.after(deadline));
        let instance = SagaInstance {
            id: order.id.clone(),
            status: SagaStatus::Running,
            step: 0,
            step_name: self.step_name(0),
            attempts: 0,
            halted: false,
            forward: false,
            error: None,
            started_ms: now.0,
            updated_ms: now.0,
            deadline_ms: deadline.map(|at| at.0),
            state: state.clone(),
        };
        if let Some(deadline) = deadline {
            let order = Order { id: order.id.clone(), what: What::Deadline };
            let publishing = order.publishing(&self.service, &self.saga.name)?.at(deadline);
            let reminder = vec![publishing.into_outgoing(now)];
            // Before the saga is there: a reminder of none is passed over, a saga without its reminder would never end.
            publish(context, reminder).await?;
        }
        let version = instances.save(None, &instance).await.map_err(unsaved)?;
        Ok(Some(Stored { version, instance }))
    }

    /// Does as the message says, beyond going on.
    fn obey(&self, instance: &mut SagaInstance, what: &What, now: Timestamp) {
        let late = instance.deadline_ms.is_some_and(|deadline| deadline <= now.0);
        if instance.status == SagaStatus::Running && late && instance.step < self.point_of_no_return() {
            let deadline = self.saga.deadline.unwrap_or_default();
            let step = instance.step_name.clone().unwrap_or_default();
            // The step may have been begun.
            self.undo_from(
                instance,
                instance.step + 1,
                format!("not completed within {deadline:?}; it was at {step:?}"),
            );
        }
        if matches!(what, What::Resume) && (instance.halted || instance.status == SagaStatus::Stuck) {
            instance.halted = false;
            instance.attempts = 0;
            let forward = std::mem::take(&mut instance.forward);
            instance.status = if forward { SagaStatus::Running } else { SagaStatus::Compensating };
        }
    }

    /// The number of the step from which on the saga only goes forward; behind all steps if there is none.
    fn point_of_no_return(&self) -> usize {
        self.saga.steps.iter().position(|step| step.pivot).unwrap_or(self.saga.steps.len())
    }

    /// Runs one step, or undoes one. The wait before the next attempt if it failed.
    async fn advance(
        &self,
        context: &Context,
        instance: &mut SagaInstance,
        ambiguous: bool,
    ) -> Result<Option<Duration>, Error> {
        match self.next(instance) {
            Next::Over => {
                instance.status = SagaStatus::Completed;
                instance.step_name = None;
                Ok(None)
            }
            Next::Step(number, run, timeout) => {
                let timeout = instance.deadline_ms.map_or(timeout, |deadline| {
                    timeout.min(Timestamp(deadline).since(context.now()).max(Duration::from_millis(1)))
                });
                let at = self.at(instance, &self.name_of(number), false);
                match self.run(context, instance, run, at, timeout).await {
                    Ok(()) => {
                        instance.step = number + 1;
                        instance.step_name = self.step_name(number + 1);
                        instance.attempts = 0;
                        Ok(None)
                    }
                    Err(error) => Ok(self.step_failed(instance, number, &error, ambiguous)),
                }
            }
            Next::Undo(left, run, timeout) => {
                let name = self.undo_name(left);
                let at = self.at(instance, &name, true);
                let undone = match run {
                    Some(run) => self.run(context, instance, run, at, timeout).await,
                    None => Ok(()),
                };
                match undone {
                    Ok(()) => {
                        self.undone(instance, left);
                        Ok(None)
                    }
                    Err(error) => Ok(self.undo_failed(instance, left, &error)),
                }
            }
        }
    }

    fn next(&self, instance: &SagaInstance) -> Next<T> {
        let step = |number: usize| self.saga.steps.get(number);
        if instance.status == SagaStatus::Running {
            return match step(instance.step) {
                Some(BoundStep { run, timeout, .. }) => Next::Step(instance.step, Arc::clone(run), *timeout),
                None => Next::Over,
            };
        }
        match instance.step.checked_sub(1).map(step) {
            None => Next::Undo(0, self.saga.compensated.clone(), COMPENSATED_TIMEOUT),
            // A step that this version of the service does not have: there is nothing here that could undo it.
            Some(None) => Next::Undo(instance.step, None, COMPENSATED_TIMEOUT),
            Some(Some(BoundStep { undo, timeout, .. })) => Next::Undo(instance.step, undo.clone(), *timeout),
        }
    }

    async fn run(
        &self,
        context: &Context,
        instance: &mut SagaInstance,
        run: Run<T>,
        at: At,
        timeout: Duration,
    ) -> Result<(), Error> {
        let state: T = serde_json::from_value(instance.state.clone())
            .map_err(|error| Error::terminal(format!("the saga's stored state cannot be read: {error}")))?;
        let key = at.key();
        let inner = context.fresh();
        let _ = inner.insert(at);
        let ran = run(inner.clone(), state);
        let state = match tokio::time::timeout(timeout, runtime::unwinding(ran)).await {
            Ok(ran) => ran?,
            Err(_) => return Err(Error::transient(format!("it took longer than {timeout:?}"))),
        };
        let mut emitted = inner.take_emitted();
        for (number, outgoing) in emitted.iter_mut().enumerate() {
            // The same in each attempt, so that a step that is run again publishes nothing new.
            let id = Text::from(format!("{key}/{number}"));
            outgoing.message.id = Some(MessageId::Text(id.clone()));
            outgoing.message.dedup_id = Some(id);
        }
        publish(context, emitted).await?;
        instance.state = serde_json::to_value(&state)
            .map_err(|error| Error::terminal(format!("the saga's state cannot be written: {error}")))?;
        Ok(())
    }

    fn step_failed(
        &self,
        instance: &mut SagaInstance,
        number: usize,
        error: &Error,
        ambiguous: bool,
    ) -> Option<Duration> {
        tracing::warn!(saga = %self.saga.name, id = %instance.id, step = %self.name_of(number), %error, "a step failed");
        let earlier = instance.attempts > 0 || ambiguous;
        instance.attempts = instance.attempts.saturating_add(1);
        instance.error = Some(error.to_string());
        let pivot = self.point_of_no_return();
        if number > pivot && error.is_terminal() {
            tracing::error!(saga = %self.saga.name, id = %instance.id, step = %self.name_of(number), "stuck: it can go neither forward nor back");
            instance.status = SagaStatus::Stuck;
            (instance.halted, instance.forward) = (true, true);
            return None;
        }
        let wait = match error.kind() {
            crate::Kind::Terminal => None,
            crate::Kind::Transient { after } => {
                let mut retry = self.saga.steps.get(number).map_or_else(RetrySpec::default, |step| step.retry);
                if number >= pivot {
                    retry.max_attempts = None;
                }
                retry.draw_wait(instance.attempts, after)
            }
        };
        if wait.is_none() {
            // Only who failed at the first try, and says that trying is in vain, has surely done nothing.
            let nothing_done = error.is_terminal() && (!earlier || number == pivot);
            let left = if nothing_done { number } else { number + 1 };
            self.undo_from(instance, left, error.to_string());
        }
        wait
    }

    fn undo_from(&self, instance: &mut SagaInstance, left: usize, error: String) {
        instance.status = SagaStatus::Compensating;
        instance.step = left.min(self.saga.steps.len());
        instance.step_name = instance.step.checked_sub(1).and_then(|number| self.step_name(number));
        instance.attempts = 0;
        instance.error = Some(error);
    }

    fn undone(&self, instance: &mut SagaInstance, left: usize) {
        instance.attempts = 0;
        if left == 0 {
            instance.status = SagaStatus::Compensated;
            instance.step_name = None;
            return;
        }
        instance.status = SagaStatus::Compensating;
        instance.step = left - 1;
        instance.step_name = instance.step.checked_sub(1).and_then(|number| self.step_name(number));
    }

    fn undo_failed(&self, instance: &mut SagaInstance, left: usize, error: &Error) -> Option<Duration> {
        instance.attempts = instance.attempts.saturating_add(1);
        let stuck = error.is_terminal() || instance.attempts >= self.saga.stuck_after;
        let at = self.undo_name(left);
        if stuck {
            tracing::error!(saga = %self.saga.name, id = %instance.id, step = %at, attempts = instance.attempts, %error, "stuck: a step cannot be undone");
            instance.status = SagaStatus::Stuck;
        } else {
            tracing::warn!(saga = %self.saga.name, id = %instance.id, step = %at, %error, "a step could not be undone yet");
        }
        let began = began(instance.error.as_deref().unwrap_or_default());
        instance.error = Some(format!("{began}{UNDO_ERROR}{error}"));
        if error.is_terminal() {
            instance.halted = true;
            return None;
        }
        let step = left.checked_sub(1).and_then(|number| self.saga.steps.get(number));
        let retry =
            step.map_or_else(|| RetrySpec { max_attempts: None, ..RetrySpec::default() }, |step| step.undo_retry);
        retry.draw_wait(instance.attempts, None)
    }

    fn at(&self, instance: &SagaInstance, step: &Arc<str>, undo: bool) -> At {
        At {
            saga: self.saga.name.as_str().into(),
            id: instance.id.as_str().into(),
            step: Arc::clone(step),
            undo,
            attempt: instance.attempts.saturating_add(1),
            failure: instance.error.as_deref().filter(|_| undo).map(|error| began(error).into()),
        }
    }

    /// What is undone next: the last of so many steps, or what follows when all are undone.
    fn undo_name(&self, left: usize) -> Arc<str> {
        left.checked_sub(1).map_or_else(|| Arc::from("compensated"), |number| self.name_of(number))
    }

    fn name_of(&self, number: usize) -> Arc<str> {
        self.saga.steps.get(number).map_or_else(|| Arc::from("?"), |step| Arc::clone(&step.name))
    }

    fn step_name(&self, number: usize) -> Option<String> {
        self.saga.steps.get(number).map(|step| step.name.to_string())
    }
}

/// Between what began the undoing and what went wrong with it.
const UNDO_ERROR: &str = "; then, undoing it: ";

/// What began the undoing, of a stored error.
fn began(error: &str) -> &str {
    error.split(UNDO_ERROR).next().unwrap_or_default()
}

async fn publish(context: &Context, messages: Vec<Outgoing>) -> Result<(), Error> {
    let messages = messages.into_iter().map(|outgoing| context.following(outgoing)).collect();
    Ok(runtime::publish_all(context.client(), messages).await?)
}

/// A saga that could not be read or written is tried again.
#[allow(clippy::needless_pass_by_value, reason = "it is mapped over")]
fn unsaved(error: StoreError) -> Error {
    match error {
        StoreError::Conflict => Error::retry_after(error.to_string(), AFTER_CONFLICT),
        StoreError::Unreadable { .. } => Error::terminal(error.to_string()),
        StoreError::Unavailable(_) => Error::transient(error.to_string()),
    }
}
