//! Methods that wait for what came before them, and that what comes behind them waits for: definitions, `basic.get`, commits, ends.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, channel, connection, exchange, queue as queue_class, tx};
use amq_protocol::types::{FieldTable, ShortString};
use broker::views::Delivered;
use broker::{ConsumeError, Publishes, Receive, Session};

use super::consumers::Source;
use super::delivering::{Item, shown};
use super::methods::not_transactional;
use super::publishing::{End, REPLY_TO, options};
use super::settling::how_of;
use super::{Open, State};
use crate::channel::{Mode, Transaction};
use crate::codec::method::How;
use crate::codec::outbox::Content;
use crate::codec::table::headers_of;
use crate::entities::binding::{Binding, Destination, bind, unbind};
use crate::entities::exchange as exchanges;
use crate::entities::names::Kind;
use crate::entities::queue::{self, Declared, Found, QueueType};
use crate::fault::{Fault, MethodId};
use crate::message::{self, Outgoing};
use crate::unsettled::Unsettled;

/// A method that is being done.
pub(super) struct Operation {
    number: u16,
    channel_id: u64,
    method: MethodId,
    future: Pin<Box<dyn Future<Output = Result<Reply, Fault>> + Send>>,
}

/// What a method comes to.
enum Reply {
    Nothing,
    Send(AMQPClass),
    /// The connection ends, as the client asked.
    Closed,
    Declared {
        declared: Declared,
        nowait: bool,
    },
    Got {
        delivered: Option<Box<Delivered>>,
        left: u64,
        no_ack: bool,
        counts: bool,
    },
    Committed {
        ends: Vec<End>,
        transaction: Box<Transaction>,
    },
}

impl Open {
    /// Begins the method that waits, if nothing is under way any more. `true` if it did.
    pub(super) fn begin_waiting(&mut self) -> bool {
        if self.operation.is_some() || !self.publishing.is_empty() || !self.settling.is_empty() {
            return false;
        }
        let Some((number, method)) = self.waiting.take() else { return false };
        if self.state != State::Open {
            return true;
        }
        // A publish before it may have closed the channel.
        let channel_id = self.channels.get(number).filter(|channel| !channel.closing).map(|channel| channel.id);
        if number != 0 && channel_id.is_none() {
            return true;
        }
        let id = (method.get_amqp_class_id(), method.get_amqp_method_id());
        match self.operation_of(number, method) {
            Ok(None) => {}
            Ok(Some(future)) => {
                let channel_id = channel_id.unwrap_or_default();
                self.operation = Some(Operation { number, channel_id, method: id, future });
            }
            Err(fault) => self.fail(number, &fault.of(id)),
        }
        true
    }

    /// Hears of the method that is being done. `true` if it has ended.
    pub(super) fn poll_operation(&mut self, context: &mut Context<'_>) -> bool {
        let Some(operation) = &mut self.operation else { return false };
        let Poll::Ready(end) = operation.future.as_mut().poll(context) else { return false };
        let Operation { number, channel_id, method, .. } = match self.operation.take() {
            Some(operation) => operation,
            None => return false,
        };
        if number != 0 && self.channel_of(number, channel_id).is_none() {
            return true;
        }
        if let Err(fault) = end.and_then(|reply| self.reply(number, reply)) {
            self.fail(number, &fault.of(method));
        }
        true
    }

    fn reply(&mut self, number: u16, reply: Reply) -> Result<(), Fault> {
        match reply {
            Reply::Nothing => {}
            Reply::Send(method) => self.send(number, method),
            Reply::Closed => {
                self.send(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {})));
                self.state = State::Closed;
            }
            Reply::Declared { declared: Declared { name, messages, consumers }, nowait } => {
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.last_queue.clone_from(&name);
                }
                if !nowait {
                    let queue = name.as_str().into();
                    let ok = queue_class::DeclareOk { queue, message_count: messages, consumer_count: consumers };
                    self.send(number, AMQPClass::Queue(queue_class::AMQPMethod::DeclareOk(ok)));
                }
            }
            Reply::Got { delivered: None, .. } => {
                let empty = basic::AMQPMethod::GetEmpty(basic::GetEmpty {});
                self.send(number, AMQPClass::Basic(empty));
            }
            Reply::Got { delivered: Some(delivered), left, no_ack, counts } => {
                self.got(number, *delivered, left, no_ack, counts);
            }
            Reply::Committed { ends, transaction } => self.committed(number, &ends, *transaction),
        }
        Ok(())
    }

    fn got(&mut self, number: u16, delivered: Delivered, left: u64, no_ack: bool, counts: bool) {
        let since = self.app.options.clock.now().mono;
        let Some(channel) = self.channels.get_mut(number) else { return };
        let receipt = Some(delivered.receipt);
        let entry = Unsettled { receipt, consumer: None, counts, since, timeout: None };
        let delivery_tag = channel.unsettled.push((!no_ack).then_some(entry));
        let redelivered = delivered.redelivered;
        let mut item =
            Item { message: delivered.message, receipt, redelivered, attempt: delivered.attempt, offset: None };
        let Outgoing { exchange, routing_key, properties, body } = shown(&mut item, counts);
        let message_count = u32::try_from(left).unwrap_or(u32::MAX);
        let how = Content::GetOk { delivery_tag, redelivered, message_count };
        self.wire.out.content(number, &how, &exchange, &routing_key, &properties, &body);
    }

    fn committed(&mut self, number: u16, ends: &[End], transaction: Transaction) {
        for (outbound, end) in transaction.publishes.iter().zip(ends) {
            if let Some(returned) = outbound.mandatory.as_ref().filter(|_| !end.routed) {
                self.give_back(number, returned);
            }
        }
        for (_, entry, _) in &transaction.settlements {
            self.settled(number, entry);
        }
        self.send(number, AMQPClass::Tx(tx::AMQPMethod::CommitOk(tx::CommitOk {})));
    }

    /// What a method is to do; `None` if it is done already.
    fn operation_of(&mut self, number: u16, method: AMQPClass) -> Result<Option<Doing>, Fault> {
        let session = self.session.clone();
        Ok(Some(match method {
            AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
                // Clients write it before what their channels still have to say.
                self.lingers = true;
                self.release_channels();
                Box::pin(async move {
                    // Whoever hears that the connection is closed may declare its exclusive queues anew.
                    if let Err(error) = session.delete_owned().await {
                        tracing::warn!(%error, "the exclusive queues of an AMQP connection could not be deleted");
                    }
                    Ok(Reply::Closed)
                })
            }
            AMQPClass::Connection(connection::AMQPMethod::UpdateSecret(_)) => {
                // Only a login that runs out has a secret to renew, and none of those that AMQP offers does: as with RabbitMQ's own users, the
                // connection goes on as who it is.
                let ok = connection::AMQPMethod::UpdateSecretOk(connection::UpdateSecretOk {});
                self.send(0, AMQPClass::Connection(ok));
                return Ok(None);
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                self.release_channel(number);
                self.send(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
                self.channels.remove(number);
                return Ok(None);
            }
            AMQPClass::Exchange(method) => exchange_operation(session, method)?,
            AMQPClass::Queue(method) => self.queue_operation(number, session, method)?,
            AMQPClass::Basic(basic::AMQPMethod::Get(get)) => {
                let name = self.queue_name(number, get.queue.as_str())?;
                Box::pin(async move { fetch(&session, &name, get.no_ack).await })
            }
            AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                let doing = self.cancel(number, cancel);
                return Ok(doing);
            }
            AMQPClass::Basic(basic::AMQPMethod::Recover(recover)) => {
                self.recover(number, recover.requeue)?;
                self.send(number, AMQPClass::Basic(basic::AMQPMethod::RecoverOk(basic::RecoverOk {})));
                return Ok(None);
            }
            AMQPClass::Basic(basic::AMQPMethod::RecoverAsync(recover)) => {
                self.recover(number, recover.requeue)?;
                return Ok(None);
            }
            AMQPClass::Tx(tx::AMQPMethod::Commit(_)) => self.commit(number)?,
            _ => return Err(Fault::command_invalid("a client does not say that")),
        }))
    }

    /// `basic.recover`: all that is unsettled goes back.
    fn recover(&mut self, number: u16, requeue: bool) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::not_implemented("requeue=false"));
        }
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let mut entries = Vec::with_capacity(channel.unsettled.len());
        channel.unsettled.take_to(0, |_, entry| entries.push(entry));
        for entry in entries {
            self.settled(number, &entry);
            if let Some(receipt) = entry.receipt {
                self.settling.push(receipt, how_of(How::Requeue, &entry));
            }
        }
        self.begin_settling();
        Ok(())
    }

    /// `basic.cancel`: what the consumer has stays with the channel.
    fn cancel(&mut self, number: u16, cancel: basic::Cancel) -> Option<Doing> {
        let ok = AMQPClass::Basic(basic::AMQPMethod::CancelOk(basic::CancelOk {
            consumer_tag: cancel.consumer_tag.clone(),
        }));
        let reply = if cancel.nowait { Reply::Nothing } else { Reply::Send(ok) };
        let key = self.channels.get_mut(number)?.forget_consumer(cancel.consumer_tag.as_str());
        let Some(mut consumer) = key.and_then(|key| self.consumers.remove(&key)) else {
            return Some(Box::pin(std::future::ready(Ok(reply))));
        };
        let Source::Queue(source) = &mut consumer.source else {
            return Some(Box::pin(std::future::ready(Ok(reply))));
        };
        let retiring = source.retire();
        if consumer.unsettled > 0
            && let Some(key) = key
        {
            consumer.cancelled = true;
            self.consumers.insert(key, consumer);
        }
        Some(Box::pin(async move {
            retiring.await;
            Ok(reply)
        }))
    }

    fn commit(&mut self, number: u16) -> Result<Doing, Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Err(not_transactional()) };
        let Mode::Transaction(transaction) = &mut channel.mode else { return Err(not_transactional()) };
        let transaction = std::mem::take(transaction);
        let receipts = transaction.receipts();
        let mut publishes = Publishes::with_capacity(transaction.publishes.len());
        for outbound in &transaction.publishes {
            for to in &outbound.to {
                publishes.push(to, outbound.message.clone());
            }
        }
        // What the caller may publish, and where to, was asked as each message came.
        let session = self.internal.clone();
        Ok(Box::pin(async move {
            session.memory_ready().await;
            let published = session.transact(publishes, receipts, options()).await?;
            let mut results = published.into_iter().map(Ok);
            let mut ends = Vec::with_capacity(transaction.publishes.len());
            for outbound in &transaction.publishes {
                ends.push(End::of(results.by_ref().take(outbound.to.len()))?);
            }
            Ok(Reply::Committed { ends, transaction })
        }))
    }

    fn queue_operation(&self, number: u16, session: Session, method: queue_class::AMQPMethod) -> Result<Doing, Fault> {
        use queue_class::AMQPMethod as M;
        let answer =
            |nowait: bool, method: M| if nowait { Reply::Nothing } else { Reply::Send(AMQPClass::Queue(method)) };
        Ok(match method {
            M::Declare(declare) if declare.passive => {
                let name = declare.queue.to_string();
                if name == REPLY_TO {
                    return Ok(ready(declared(REPLY_TO, declare.nowait)));
                }
                if session.is_awaited(&message::address(name.clone().into())) {
                    return Ok(ready(declared(&name, declare.nowait)));
                }
                let found = queue::passive(&session, &name)?;
                ready(Reply::Declared { declared: found, nowait: declare.nowait })
            }
            M::Declare(declare) => Box::pin(async move {
                let asked = queue::Declare {
                    name: declare.queue.as_str(),
                    durable: declare.durable,
                    exclusive: declare.exclusive,
                    auto_delete: declare.auto_delete,
                    arguments: headers_of(&declare.arguments),
                };
                let declared = queue::declare(&session, asked).await?;
                Ok(Reply::Declared { declared, nowait: declare.nowait })
            }),
            M::Bind(given) => {
                let name = self.queue_name(number, given.queue.as_str())?;
                Box::pin(async move {
                    let key = key_of(given.queue.as_str(), given.routing_key.as_str(), &name);
                    let binding = binding(Destination::Queue(&name), &given.exchange, key, &given.arguments);
                    bind(&session, binding).await?;
                    Ok(answer(given.nowait, M::BindOk(queue_class::BindOk {})))
                })
            }
            M::Unbind(given) => {
                let name = self.queue_name(number, given.queue.as_str())?;
                Box::pin(async move {
                    let key = key_of(given.queue.as_str(), given.routing_key.as_str(), &name);
                    let binding = binding(Destination::Queue(&name), &given.exchange, key, &given.arguments);
                    unbind(&session, binding).await?;
                    Ok(answer(false, M::UnbindOk(queue_class::UnbindOk {})))
                })
            }
            M::Purge(purge) => {
                let name = self.queue_name(number, purge.queue.as_str())?;
                Box::pin(async move {
                    let message_count = queue::purge(&session, &name).await?;
                    Ok(answer(purge.nowait, M::PurgeOk(queue_class::PurgeOk { message_count })))
                })
            }
            M::Delete(delete) => {
                let name = self.queue_name(number, delete.queue.as_str())?;
                Box::pin(async move {
                    let message_count = queue::delete(&session, &name, delete.if_unused, delete.if_empty).await?;
                    Ok(answer(delete.nowait, M::DeleteOk(queue_class::DeleteOk { message_count })))
                })
            }
            _ => return Err(Fault::command_invalid("a client does not say that")),
        })
    }
}

/// The routing key of a queue's binding: whoever names neither queue nor key means the queue declared last, and its name as the key.
fn key_of<'a>(queue: &str, key: &'a str, name: &'a str) -> &'a str {
    if queue.is_empty() && key.is_empty() { name } else { key }
}

fn binding<'a>(
    destination: Destination<'a>,
    source: &'a ShortString,
    key: &'a str,
    arguments: &FieldTable,
) -> Binding<'a> {
    Binding { destination, source: source.as_str(), key, arguments: headers_of(arguments) }
}

/// Something to be done.
type Doing = Pin<Box<dyn Future<Output = Result<Reply, Fault>> + Send>>;

fn ready(reply: Reply) -> Doing {
    Box::pin(std::future::ready(Ok(reply)))
}

fn declared(name: &str, nowait: bool) -> Reply {
    Reply::Declared { declared: Declared { name: name.to_owned(), messages: 0, consumers: 1 }, nowait }
}

fn exchange_operation(session: Session, method: exchange::AMQPMethod) -> Result<Doing, Fault> {
    use exchange::AMQPMethod as M;
    let answer =
        |nowait: bool, method: M| if nowait { Reply::Nothing } else { Reply::Send(AMQPClass::Exchange(method)) };
    Ok(match method {
        M::Declare(declare) => Box::pin(async move {
            let name = declare.exchange.as_str();
            if declare.passive {
                exchanges::check(&session, name)?;
            } else {
                let asked = exchanges::Declare {
                    name,
                    kind: declare.kind.as_str(),
                    durable: declare.durable,
                    auto_delete: declare.auto_delete,
                    internal: declare.internal,
                    arguments: headers_of(&declare.arguments),
                };
                exchanges::declare(&session, asked).await?;
            }
            Ok(answer(declare.nowait, M::DeclareOk(exchange::DeclareOk {})))
        }),
        M::Delete(delete) => Box::pin(async move {
            exchanges::delete(&session, delete.exchange.as_str(), delete.if_unused).await?;
            Ok(answer(delete.nowait, M::DeleteOk(exchange::DeleteOk {})))
        }),
        M::Bind(given) => Box::pin(async move {
            let to = Destination::Exchange(given.destination.as_str());
            let binding = binding(to, &given.source, given.routing_key.as_str(), &given.arguments);
            bind(&session, binding).await?;
            Ok(answer(given.nowait, M::BindOk(exchange::BindOk {})))
        }),
        M::Unbind(given) => Box::pin(async move {
            let to = Destination::Exchange(given.destination.as_str());
            let binding = binding(to, &given.source, given.routing_key.as_str(), &given.arguments);
            unbind(&session, binding).await?;
            Ok(answer(given.nowait, M::UnbindOk(exchange::UnbindOk {})))
        }),
        _ => return Err(Fault::command_invalid("a client does not say that")),
    })
}

/// `basic.get`.
async fn fetch(session: &Session, name: &str, no_ack: bool) -> Result<Reply, Fault> {
    Kind::Queue.may(session, broker::access::Action::Read, name)?;
    let counts = match queue::find(session, name)? {
        Found::Stream(_) => {
            let why = format!("basic.get not supported by stream {}", Kind::Queue.named(session, name));
            return Err(Fault::not_implemented(why));
        }
        Found::Queue(found) => queue::queue_type(&found.config) == QueueType::Quorum,
    };
    let receive = Receive { max: 1, max_bytes: u64::MAX, wait: Duration::ZERO, lease: None, auto_ack: no_ack };
    let found = session.receive(name, receive).await.map_err(|error| match error {
        ConsumeError::NotFound { .. } | ConsumeError::Deleted(_) => Kind::Queue.missing(session, name),
        ConsumeError::Held { .. } => Kind::Queue.locked(session, name),
        ConsumeError::Attach(_) => {
            Fault::access_refused(format_args!("{} in exclusive use", Kind::Queue.named(session, name)))
        }
        error => error.into(),
    })?;
    let left = session.queue(name).map_or(0, |queue| queue.depth.ready);
    let delivered = found.into_iter().next().map(Box::new);
    Ok(Reply::Got { delivered, left, no_ack, counts })
}
