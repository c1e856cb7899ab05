//! Answers on their way back: one inbox a client, and who waits for what.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::Envelope;
use crate::transport::{Inbox, Transport, TransportError};

/// Questions that may be on their way to the inbox's task at a time.
const MAX_ASKED: usize = 1024;
/// Answers to one question that may wait to be looked at.
const MAX_ANSWERS: usize = 1024;

/// Hands out answers by correlation id. The inbox is opened with the first question.
pub(super) struct Answers {
    transport: Arc<dyn Transport>,
    /// The way to the task that has the inbox; made again if the task ended.
    task: tokio::sync::Mutex<Option<mpsc::Sender<Waiting>>>,
    numbers: AtomicU64,
}

/// Somebody who waits for answers from now on.
struct Waiting {
    id: String,
    answers: mpsc::Sender<Envelope>,
    address: oneshot::Sender<String>,
}

/// Answers to one question. Dropped, it waits no more.
pub(super) struct Awaited {
    pub(super) id: String,
    pub(super) reply_to: String,
    pub(super) answers: mpsc::Receiver<Envelope>,
}

impl Answers {
    pub(super) fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, task: tokio::sync::Mutex::new(None), numbers: AtomicU64::new(0) }
    }

    /// Begins to wait for the answers to a new question.
    pub(super) async fn begin(&self) -> Result<Awaited, TransportError> {
        // The inbox is this client's alone, so that a number would do; whoever looks at messages sees an id that is no other's.
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", uuid::Uuid::now_v7());
        // A task that ended in the same moment is replaced, once.
        for _ in 0..2 {
            let task = self.task().await?;
            let (answers, received) = mpsc::channel(MAX_ANSWERS);
            let (address, told) = oneshot::channel();
            let waiting = Waiting { id: id.clone(), answers, address };
            if task.send(waiting).await.is_err() {
                continue;
            }
            if let Ok(reply_to) = told.await {
                return Ok(Awaited { id, reply_to, answers: received });
            }
        }
        Err(TransportError::Closed)
    }

    async fn task(&self) -> Result<mpsc::Sender<Waiting>, TransportError> {
        let mut task = self.task.lock().await;
        if let Some(running) = task.as_ref().filter(|running| !running.is_closed()) {
            return Ok(running.clone());
        }
        let inbox = self.transport.open_inbox().await?;
        let (send, receive) = mpsc::channel(MAX_ASKED);
        tokio::spawn(hand_out(inbox, receive));
        *task = Some(send.clone());
        Ok(send)
    }
}

/// Hands answers to those who wait, until the client or the transport is gone.
async fn hand_out(mut inbox: Box<dyn Inbox>, mut asked: mpsc::Receiver<Waiting>) {
    let waiting: Mutex<HashMap<String, mpsc::Sender<Envelope>>> = Mutex::default();
    loop {
        tokio::select! {
            biased;
            new = asked.recv() => {
                let Some(new) = new else { return };
                let mut waiting = waiting.lock();
                waiting.retain(|_, answers| !answers.is_closed());
                waiting.insert(new.id, new.answers);
                let _ = new.address.send(inbox.address());
            }
            answer = inbox.next() => {
                let Some(answer) = answer else { return };
                let Some(id) = answer.correlation_id.as_deref() else { continue };
                // Nobody may wait any more, or more answers may come than anybody reads: both are given up.
                if let Some(answers) = waiting.lock().get(id) {
                    let _ = answers.try_send(answer.clone());
                }
            }
        }
    }
}
