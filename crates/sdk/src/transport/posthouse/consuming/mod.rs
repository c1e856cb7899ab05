//! A standing consumer: one stream for deliveries, credit and settlements, made again when it was lost. Here is what its user has of it; `task` keeps
//! the stream going, and `stream` is one of them.

mod stream;
mod task;

use std::sync::Arc;
use std::time::Duration;

use api::grpc as g;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::task::Task;
use super::core::{Core, Keep, target};
use super::fault::Fault;
use super::settling::Table;
use crate::transport::{
    Consume, Consumer, Delivery, Destination, Outgoing, PublishError, Settle, Settler, TransportError,
};

/// Extensions of leases that may wait, besides twice the credit.
const WAITING_EXTENSIONS: usize = 1024;

type Batch = Result<Vec<Delivery>, TransportError>;

/// What the consumer, its settlers and its task share.
struct Shared {
    core: Arc<Core>,
    table: Mutex<State>,
    /// Something is to be told to the broker.
    news: Notify,
    /// Of so many ends that were given, the broker has told what became of them, or never will.
    done: watch::Sender<u64>,
    /// The consumer was dropped: its stream ends once what was settled by then is told.
    gone: CancellationToken,
    most_waiting: usize,
}

struct State {
    table: Table,
    is_stopped: bool,
    /// The consumer was dropped, or its task has ended: what it has goes back.
    is_gone: bool,
    /// Most of it was told already.
    told: u64,
}

/// Starts a standing consumer. Ready when the broker knows it.
pub(super) async fn consume(core: &Keep, consume: Consume) -> Result<Box<dyn Consumer>, TransportError> {
    if consume.credit == 0 {
        return Err(TransportError::Invalid(
            "a consumer without credit gets nothing; `credit` is at least 1".to_owned(),
        ));
    }
    let shared = Arc::new(Shared {
        core: Arc::clone(core.core()),
        table: Mutex::new(State { table: Table::new(), is_stopped: false, is_gone: false, told: 0 }),
        news: Notify::new(),
        done: watch::Sender::new(0),
        gone: CancellationToken::new(),
        most_waiting: consume.credit as usize * 2 + WAITING_EXTENSIONS,
    });
    // Each batch has a delivery at least, so that there is always room for what the credit allows, and for an error at the end.
    let (deliveries, batches) = mpsc::channel(consume.credit as usize + 1);
    let (first, begun) = oneshot::channel();
    let handle = Arc::new(Handle { shared: Arc::clone(&shared), _keep: core.clone() });
    let task = Task { shared, consume, deliveries, first: Some(first) };
    core.tasks.spawn(task.run());
    begun.await.unwrap_or(Err(TransportError::Closed))?;
    Ok(Box::new(Standing { batches, handle, is_stopped: false }))
}

struct Standing {
    batches: mpsc::Receiver<Batch>,
    handle: Arc<Handle>,
    is_stopped: bool,
}

impl Consumer for Standing {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Delivery>>, TransportError>> {
        Box::pin(async {
            while !self.is_stopped {
                let Some(batch) = self.batches.recv().await else { return Err(TransportError::Closed) };
                let batch = batch?;
                let first = batch.first().map_or(0, |delivery| delivery.tag);
                // Those of a lost connection come again on the next one.
                if self.handle.shared.table.lock().table.is_present(first) {
                    return Ok(Some(batch));
                }
            }
            Ok(None)
        })
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::clone(&self.handle) as Arc<dyn Settler>
    }

    fn stop(&mut self) {
        self.is_stopped = true;
        let shared = &self.handle.shared;
        let mut state = shared.table.lock();
        state.is_stopped = true;
        self.batches.close();
        while let Ok(batch) = self.batches.try_recv() {
            for delivery in batch.unwrap_or_default() {
                state.table.settle(delivery.tag, Settle::Release);
            }
        }
        drop(state);
        shared.news.notify_one();
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        if !self.is_stopped {
            self.stop();
        }
        self.handle.shared.table.lock().is_gone = true;
        self.handle.shared.gone.cancel();
    }
}

/// Held by the consumer and each settler.
struct Handle {
    shared: Arc<Shared>,
    _keep: Keep,
}

impl Settler for Handle {
    fn settle(&self, settlements: Vec<(u64, Settle)>) {
        let mut state = self.shared.table.lock();
        if state.is_gone {
            return;
        }
        for (tag, settle) in settlements {
            state.table.settle(tag, settle);
        }
        drop(state);
        self.shared.news.notify_one();
    }

    fn ack_and_publish(&self, tag: u64, messages: Vec<Outgoing>) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(self.shared.ack_and_publish(tag, messages))
    }

    fn extend(&self, tag: u64, by: Duration) {
        self.shared.table.lock().table.extend(tag, by, self.shared.most_waiting);
        self.shared.news.notify_one();
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let given = self.shared.table.lock().table.given;
            let mut done = self.shared.done.subscribe();
            // The task says so of everything when it ends.
            done.wait_for(|done| *done >= given).await.ok();
        })
    }
}

impl Shared {
    async fn ack_and_publish(&self, tag: u64, messages: Vec<Outgoing>) -> Result<(), PublishError> {
        if self.core.closing.is_cancelled() {
            return Err(PublishError::Closed);
        }
        let receipt = {
            let state = self.table.lock();
            let receipt = state.table.receipt(tag).filter(|_| !state.is_gone);
            receipt.map(str::to_owned).ok_or(PublishError::LeaseLost)?
        };
        let namespace = self.core.namespace.clone();
        let request = g::AckAndPublishRequest { namespace, receipt, publishes: grouped(messages) };
        let since = Instant::now();
        let mut client = self.core.publisher();
        let limit = self.core.options.confirm_timeout;
        let fault = match tokio::time::timeout(limit, client.ack_and_publish(request)).await {
            Ok(Ok(_)) => {
                self.free(tag, Settle::Ack);
                return Ok(());
            }
            Ok(Err(status)) => Fault::of_status(&status),
            Err(_) => Fault::lost("no answer came in time"),
        };
        let error = fault.into_publish(since.elapsed());
        if error == PublishError::LeaseLost {
            self.free(tag, Settle::Release);
        }
        Err(error)
    }

    /// Gives back the place of a delivery whose end the broker knows already.
    fn free(&self, tag: u64, how: Settle) {
        self.table.lock().table.settle(tag, how);
        self.news.notify_one();
    }
}

/// Messages by where they go, in order.
fn grouped(messages: Vec<Outgoing>) -> Vec<g::PublishTo> {
    let mut groups: Vec<g::PublishTo> = Vec::new();
    let mut before: Option<Destination> = None;
    for Outgoing { to, message } in messages {
        match groups.last_mut() {
            Some(group) if before.as_ref() == Some(&to) => group.messages.push(message.into()),
            _ => groups.push(g::PublishTo { to: Some(target(&to)), messages: vec![message.into()] }),
        }
        before = Some(to);
    }
    groups
}
