//! Handlers whose effect happens once: the inbox's row, the effect and what follows from it in one transaction.

use std::fmt;
use std::future::{Future, ready};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

use super::backend::Backend;
use super::relay::{Relay, RelayOptions};
use super::store::{Store, Tx};
use crate::extract::FromContext;
use crate::reaction::Reaction;
use crate::runtime::HandlerFn;
use crate::service::{KeptIn, Replay, Responder, Service, Subscription};
use crate::transport::{Outgoing, Position};
use crate::{Context, Error, telemetry};

/// Where a handler's transaction waits for the handler, and afterwards for its end.
struct Slot<DB: Backend>(Arc<Mutex<Option<Tx<DB>>>>);

impl<DB: Backend> Clone for Slot<DB> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A handler's argument: the transaction that its effect is to be part of, which derefs to [`Tx`]. Only handlers of an
/// [idempotent](Subscription::idempotent) subscription or responder have one.
///
/// It is committed when the handler succeeds, together with the inbox's row and with what the handler returns or emits, which goes into the outbox. It is
/// rolled back when the handler fails.
pub struct Transactional<DB: Backend> {
    /// There until it is dropped.
    tx: Option<Tx<DB>>,
    slot: Slot<DB>,
}

impl<DB: Backend> Deref for Transactional<DB> {
    type Target = Tx<DB>;

    #[allow(clippy::expect_used, reason = "it is taken by the drop alone")]
    fn deref(&self) -> &Tx<DB> {
        self.tx.as_ref().expect("a transaction is there until it is dropped")
    }
}

impl<DB: Backend> DerefMut for Transactional<DB> {
    #[allow(clippy::expect_used, reason = "it is taken by the drop alone")]
    fn deref_mut(&mut self) -> &mut Tx<DB> {
        self.tx.as_mut().expect("a transaction is there until it is dropped")
    }
}

impl<DB: Backend> Drop for Transactional<DB> {
    fn drop(&mut self) {
        *self.slot.0.lock() = self.tx.take();
    }
}

impl<DB: Backend> fmt::Debug for Transactional<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactional").finish_non_exhaustive()
    }
}

impl<DB: Backend, S: Sync> FromContext<S> for Transactional<DB> {
    fn from_context(context: &Context, _: &S) -> impl Future<Output = Result<Self, Error>> + Send {
        let slot = context.get::<Slot<DB>>();
        let tx = slot.and_then(|slot| {
            let tx = slot.0.lock().take()?;
            Some(Self { tx: Some(tx), slot: slot.clone() })
        });
        ready(tx.ok_or_else(|| {
            Error::terminal(
                "there is no transaction: register the handler by `.idempotent(store)`, with a store of the same database, and take it once",
            )
        }))
    }
}

impl<S: Clone + Send + Sync + 'static> Subscription<S> {
    /// Handles each message once, however often it comes: its id, the handler's work by [`Transactional`], and what the handler returns
    /// or emits are one transaction of the service's own database. A message that was handled is acknowledged and passed over. What is published leaves
    /// by the outbox, so give the service its [relay](crate::Service::outbox).
    ///
    /// What the handler does elsewhere (another database, a call) is not part of it. With SQLite one handler has the database at a time.
    #[must_use]
    pub fn idempotent<DB: Backend>(mut self, store: &Store<DB>) -> Self {
        let (bind, store) = (self.bind, store.clone());
        self.window = Some(store.inbox().window());
        self.bind = Box::new(move |state| once(bind(state), store));
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Responder<S> {
    /// Does what is asked once for each id of a question ([`Asking::idempotency_key`](crate::Asking::idempotency_key)), and gives the same answer again when it
    /// is asked again: the answer is kept with the inbox's row. A refusal (a terminal error) is not kept, since nothing was done.
    #[must_use]
    pub fn idempotent<DB: Backend>(mut self, store: &Store<DB>) -> Self {
        let (bind, store) = (self.bind, store.clone());
        self.bind = Box::new(move |state| once(bind(state), store));
        self
    }
}

impl<S: Clone + Send + Sync + 'static> Replay<S> {
    /// Keeps how far it has read in the service's own database, under the replay's name and version, in one transaction with what its handlers write by
    /// [`Transactional`]: each record has its effect once, whatever happens in between, and however many instances read. One handler for each message. What handlers
    /// return leaves by the [outbox](crate::Service::outbox).
    #[must_use]
    pub fn checkpoint_in<DB: Backend>(mut self, store: &Store<DB>) -> Self {
        let (kept, moved) = (store.clone(), store.clone());
        self.kept_in = Some(KeptIn {
            positions: Box::new(move |name| {
                let (kept, name) = (kept.clone(), name.to_owned());
                Arc::new(move || {
                    let (kept, name) = (kept.clone(), name.clone());
                    Box::pin(async move { kept.checkpoints().load(&name).await.map_err(|error| error.to_string()) })
                })
            }),
            wrap: Box::new(move |handler, name| checkpointed(handler, moved.clone(), name.to_owned())),
        });
        self
    }
}

/// Wraps a handler of a log in a transaction that moves the checkpoint.
fn checkpointed<DB: Backend>(handler: HandlerFn, store: Store<DB>, name: String) -> HandlerFn {
    Arc::new(move |context: Context| {
        let (handler, store, name) = (Arc::clone(&handler), store.clone(), name.clone());
        Box::pin(async move {
            let Some(at) = context.get::<Position>() else {
                return Err(Error::terminal("only records of a log have a position"));
            };
            let mut tx = store.begin().await?;
            if !store.checkpoints().pass(&mut tx, &name, at).await? {
                tx.rollback().await?;
                return Ok(Reaction::none());
            }
            let (mut tx, reaction) = within(handler, tx, &context).await?;
            send_all(&mut tx, reaction.publishes).await?;
            tx.commit().await?;
            Ok(Reaction::none())
        })
    })
}

/// Runs a handler with a transaction. It is there afterwards if the handler has succeeded.
async fn within<DB: Backend>(handler: HandlerFn, tx: Tx<DB>, context: &Context) -> Result<(Tx<DB>, Reaction), Error> {
    let slot = Slot(Arc::new(Mutex::new(Some(tx))));
    let _ = context.insert(slot.clone());
    let outcome = handler(context.clone()).await;
    let Some(tx) = slot.0.lock().take() else {
        return Err(outcome.err().unwrap_or_else(|| {
            Error::transient(
                "the handler has ended and its transaction has not: something that it began still holds it",
            )
        }));
    };
    match outcome {
        Ok(reaction) => Ok((tx, reaction)),
        Err(error) => {
            // Dropping it does the same, a little later.
            let _ = tx.rollback().await;
            Err(error)
        }
    }
}

/// Puts what follows into the outbox, with the trace that it belongs to.
async fn send_all<DB: Backend>(tx: &mut Tx<DB>, messages: Vec<Outgoing>) -> Result<(), Error> {
    for mut outgoing in messages {
        telemetry::inject_current(std::slice::from_mut(&mut outgoing.message));
        tx.send(outgoing).await?;
    }
    Ok(())
}

impl<S: Clone + Send + Sync + 'static> Service<S> {
    /// Has the service bring what is in this database's outbox to the broker, and forget in time what its inbox need not know any more: the tasks
    /// [`Relay::run`] and [`Store::maintain`].
    #[must_use]
    pub fn outbox<DB: Backend>(self, store: &Store<DB>) -> Self {
        let (relayed, kept) = (store.clone(), store.clone());
        self.task("outbox relay", move |_, client, stop| async move {
            let transport = Arc::clone(client.transport());
            if let Err(error) = Relay::run(relayed, transport, RelayOptions::default(), stop).await {
                tracing::error!(%error, "the outbox is not relayed any more");
            }
        })
        .task("inbox maintenance", move |_, _, stop| async move { kept.maintain(stop).await })
    }
}

/// Wraps a handler in a transaction.
fn once<DB: Backend>(handler: HandlerFn, store: Store<DB>) -> HandlerFn {
    Arc::new(move |context: Context| {
        let (handler, store) = (Arc::clone(&handler), store.clone());
        Box::pin(async move { handle(handler, &store, context).await })
    })
}

async fn handle<DB: Backend>(handler: HandlerFn, store: &Store<DB>, context: Context) -> Result<Reaction, Error> {
    let id = context.message_id();
    if id.is_empty() {
        return Err(Error::terminal("the message has no id, by which it could be known again"));
    }
    let place = context.place();
    let consumer = format!("{}/{}", place.service, place.handler);
    let mut tx = store.begin().await?;
    if !tx.first_time(&consumer, &id).await? {
        let answer = store.inbox().answer(&mut tx, &consumer, &id).await?;
        tx.rollback().await?;
        return Ok(Reaction { publishes: Vec::new(), answer });
    }
    let (mut tx, reaction) = within(handler, tx, &context).await?;
    send_all(&mut tx, reaction.publishes).await?;
    if let Some(answer) = &reaction.answer {
        store.inbox().keep_answer(&mut tx, &consumer, &id, answer).await?;
    }
    tx.commit().await?;
    Ok(Reaction { publishes: Vec::new(), answer: reaction.answer })
}
