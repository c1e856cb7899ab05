//! Methods, one by one.

use amq_protocol::protocol::{AMQPClass, access, basic, channel, confirm, connection, tx};

use super::{Open, State};
use crate::channel::{Channel, Mode, Transaction};
use crate::codec::method::Method;
use crate::fault::Fault;

impl Open {
    /// Handles a method.
    pub(super) fn method(&mut self, number: u16, method: Method) -> Result<(), Fault> {
        let is_other = matches!(method, Method::Other(_));
        let end = self.method_now(number, method);
        if is_other && let Some(channel) = self.channels.get(number) {
            channel.show();
        }
        end
    }

    fn method_now(&mut self, number: u16, method: Method) -> Result<(), Fault> {
        if self.state != State::Open {
            // We said that we close: nothing counts any more but the end.
            if let Method::Other(AMQPClass::Connection(method)) = method {
                self.closing_method(&method);
            }
            return Ok(());
        }
        match method {
            Method::Publish(publish) => {
                if self.open_channel(number)?.is_some() {
                    self.begin_content(number, publish)?;
                }
                Ok(())
            }
            Method::Settle(settle) => self.settle(number, settle),
            Method::Other(AMQPClass::Connection(method)) if number == 0 => self.connection_method(method),
            Method::Other(AMQPClass::Connection(_)) => {
                Err(Fault::command_invalid("methods of the connection come on channel 0"))
            }
            Method::Other(AMQPClass::Channel(method)) => self.channel_method(number, method),
            Method::Other(_) if number == 0 => {
                Err(Fault::command_invalid("only methods of the connection come on channel 0"))
            }
            Method::Other(method) => {
                if self.open_channel(number)?.is_none() {
                    return Ok(());
                }
                self.work_method(number, method)
            }
        }
    }

    fn closing_method(&mut self, method: &connection::AMQPMethod) {
        match method {
            connection::AMQPMethod::CloseOk(_) => self.state = State::Closed,
            connection::AMQPMethod::Close(_) => {
                self.send(0, AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {})));
                self.state = State::Closed;
            }
            _ => {}
        }
    }

    fn connection_method(&mut self, method: connection::AMQPMethod) -> Result<(), Fault> {
        match method {
            // What came before it is to have happened once it is answered.
            method @ (connection::AMQPMethod::Close(_) | connection::AMQPMethod::UpdateSecret(_)) => {
                self.wait(0, AMQPClass::Connection(method));
                Ok(())
            }
            // Clients may answer what they were told of the broker's memory.
            connection::AMQPMethod::Blocked(_) | connection::AMQPMethod::Unblocked(_) => Ok(()),
            _ => Err(Fault::command_invalid("the connection is open already")),
        }
    }

    fn channel_method(&mut self, number: u16, method: channel::AMQPMethod) -> Result<(), Fault> {
        match method {
            channel::AMQPMethod::Open(_) => self.channel_open(number),
            channel::AMQPMethod::CloseOk(_) => {
                if self.channels.get(number).is_some_and(|channel| channel.closing) {
                    self.channels.remove(number);
                }
                Ok(())
            }
            channel::AMQPMethod::Close(_) if self.channels.get(number).is_some_and(|channel| channel.closing) => {
                // Both sides closed it.
                self.channels.remove(number);
                self.send(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
                Ok(())
            }
            channel::AMQPMethod::Close(_) if self.channels.has(number) => {
                self.wait(number, AMQPClass::Channel(method));
                Ok(())
            }
            channel::AMQPMethod::Flow(flow) => {
                if self.open_channel(number)?.is_none() {
                    return Ok(());
                }
                if !flow.active {
                    // As RabbitMQ has it. A client that wants less is to use `basic.qos`.
                    return Err(Fault::not_implemented("active=false"));
                }
                self.send(number, AMQPClass::Channel(channel::AMQPMethod::FlowOk(channel::FlowOk { active: true })));
                Ok(())
            }
            channel::AMQPMethod::FlowOk(_) => Ok(()),
            _ => Err(Fault::channel_error("expected 'channel.open'")),
        }
    }

    fn channel_open(&mut self, number: u16) -> Result<(), Fault> {
        if number == 0 {
            return Err(Fault::command_invalid("only methods of the connection come on channel 0"));
        }
        if number > self.terms.channel_max {
            let most = self.terms.channel_max;
            return Err(Fault::not_allowed(format_args!(
                "number of channels opened ({number}) has reached the negotiated channel_max ({most})"
            )));
        }
        if self.channels.has(number) {
            return Err(Fault::channel_error("second 'channel.open' seen"));
        }
        let id = self.next_channel;
        self.next_channel += 1;
        let place = self.terms.place.channel().map_err(|full| Fault::not_allowed(&full))?;
        let entry = self.entry.open_channel(number);
        let channel = Channel { id, entry: Some(entry), _place: Some(place), ..Channel::default() };
        self.channels.insert(number, channel);
        self.send(number, AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
        Ok(())
    }

    /// Methods of an open channel.
    fn work_method(&mut self, number: u16, method: AMQPClass) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        match method {
            AMQPClass::Basic(basic::AMQPMethod::Qos(qos)) => self.qos(number, &qos),
            AMQPClass::Basic(basic::AMQPMethod::Consume(consume)) => self.consume(number, consume),
            AMQPClass::Basic(
                basic::AMQPMethod::ConsumeOk(_) | basic::AMQPMethod::CancelOk(_) | basic::AMQPMethod::QosOk(_),
            ) => Ok(()),
            AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => {
                match channel.mode {
                    Mode::Plain => channel.mode = Mode::Confirm { next: 1 },
                    Mode::Confirm { .. } => {}
                    Mode::Transaction(_) => {
                        return Err(Fault::precondition_failed("cannot switch from tx to confirm mode"));
                    }
                }
                if !select.nowait {
                    let ok = confirm::AMQPMethod::SelectOk(confirm::SelectOk {});
                    self.send(number, AMQPClass::Confirm(ok));
                }
                Ok(())
            }
            AMQPClass::Tx(tx::AMQPMethod::Select(_)) => {
                match channel.mode {
                    Mode::Plain => channel.mode = Mode::Transaction(Box::<Transaction>::default()),
                    Mode::Transaction(_) => {}
                    Mode::Confirm { .. } => {
                        return Err(Fault::precondition_failed("cannot switch from confirm to tx mode"));
                    }
                }
                self.send(number, AMQPClass::Tx(tx::AMQPMethod::SelectOk(tx::SelectOk {})));
                Ok(())
            }
            AMQPClass::Tx(tx::AMQPMethod::Rollback(_)) => self.rollback(number),
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                // Of before 0-9-1: some clients still ask, and want a ticket.
                self.send(number, AMQPClass::Access(access::AMQPMethod::RequestOk(access::RequestOk {})));
                Ok(())
            }
            method => {
                self.wait(number, method);
                Ok(())
            }
        }
    }

    fn rollback(&mut self, number: u16) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let Mode::Transaction(transaction) = &mut channel.mode else { return Err(not_transactional()) };
        let transaction = std::mem::take(&mut **transaction);
        let mut entries: Vec<_> = transaction.settlements.into_iter().map(|(tag, entry, _)| (tag, entry)).collect();
        entries.sort_unstable_by_key(|(tag, _)| *tag);
        channel.unsettled.put_back(entries);
        self.send(number, AMQPClass::Tx(tx::AMQPMethod::RollbackOk(tx::RollbackOk {})));
        Ok(())
    }

    /// `basic.qos`.
    fn qos(&mut self, number: u16, qos: &basic::Qos) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        if qos.global {
            channel.global_prefetch = qos.prefetch_count;
        } else {
            channel.prefetch = qos.prefetch_count;
        }
        self.send(number, AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {})));
        self.raise_all(number);
        Ok(())
    }

    /// Writes a method.
    pub(super) fn send(&mut self, number: u16, method: AMQPClass) {
        self.wire.out.method(number, method);
    }

    /// Has a method wait for all that came before it.
    fn wait(&mut self, number: u16, method: AMQPClass) {
        self.flush_out();
        self.waiting = Some((number, method));
    }
}

/// 406: the channel has no transaction.
pub(super) fn not_transactional() -> Fault {
    Fault::precondition_failed("channel is not transactional")
}
