//! Methods: those of every message are read here, all others by the protocol crate, once their tables are known to be harmless.

use amq_protocol::protocol::{AMQPClass, parse_class};
use bytes::{Buf, Bytes};

use super::table::read_table;
use crate::fault::{Fault, MethodId};

/// The class `basic`.
pub(crate) const BASIC: u16 = 60;
const CONNECTION: u16 = 10;
const EXCHANGE: u16 = 40;
const QUEUE: u16 = 50;

/// A method as it came.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Method {
    Publish(Publish),
    Settle(Settle),
    Other(AMQPClass),
}

/// `basic.publish`. Its message follows in frames of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) exchange: Bytes,
    pub(crate) routing_key: Bytes,
    pub(crate) mandatory: bool,
    pub(crate) immediate: bool,
}

/// `basic.ack`, `basic.nack` or `basic.reject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settle {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
    pub(crate) how: How,
}

/// What is said of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Ack,
    Requeue,
    Drop,
}

/// `basic.publish`.
pub(crate) const PUBLISH: MethodId = (BASIC, 40);

/// Which method a payload says that it is; zeros if it says nothing.
pub(crate) fn id(payload: &[u8]) -> MethodId {
    match payload.first_chunk::<4>() {
        Some(&[c1, c0, m1, m0]) => (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])),
        None => (0, 0),
    }
}

/// Reads a method.
///
/// # Errors
/// 502 if its fields make no sense, 540 if there is no such method.
pub(crate) fn read(payload: &Bytes) -> Result<Method, Fault> {
    let (class, method) = id(payload);
    let Some(fields) = (payload.len() >= 4).then(|| payload.slice(4..)) else {
        return Err(Fault::syntax_error("a method has no class and number"));
    };
    match (class, method) {
        PUBLISH => publish(payload).map(Method::Publish).ok_or_else(|| malformed("basic.publish")),
        (BASIC, 80 | 90 | 120) => settle(method, &fields).map(Method::Settle).ok_or_else(|| malformed("basic.ack")),
        _ => {
            check_tables(class, method, fields)?;
            match parse_class(payload.as_ref()) {
                Ok(([], method)) => Ok(Method::Other(method)),
                _ if !is_known(class, method) => {
                    let why = format_args!("method {method} of class {class} is not known");
                    Err(Fault::not_implemented(why))
                }
                _ => Err(Fault::syntax_error(format_args!("the fields of method {class}.{method} cannot be read"))),
            }
        }
    }
}

fn malformed(name: &str) -> Fault {
    Fault::syntax_error(format_args!("the fields of {name} cannot be read"))
}

/// Whether the specification, with RabbitMQ's extensions, has such a method.
fn is_known(class: u16, method: u16) -> bool {
    match class {
        CONNECTION => matches!(method, 10 | 11 | 20 | 21 | 30 | 31 | 40 | 41 | 50 | 51 | 60 | 61 | 70 | 71),
        20 => matches!(method, 10 | 11 | 20 | 21 | 40 | 41),
        30 => matches!(method, 10 | 11),
        EXCHANGE => matches!(method, 10 | 11 | 20 | 21 | 30 | 31 | 40 | 51),
        QUEUE => matches!(method, 10 | 11 | 20 | 21 | 30 | 31 | 40 | 41 | 50 | 51),
        BASIC => matches!(method, 10 | 11 | 20 | 21 | 30 | 31 | 50 | 60 | 70..=72 | 100 | 110 | 111),
        85 => matches!(method, 10 | 11),
        90 => matches!(method, 10 | 11 | 20 | 21 | 30 | 31),
        _ => false,
    }
}

/// Behind class, number and a field that is not used any more come two short strings and an octet of bits.
fn publish(payload: &Bytes) -> Option<Publish> {
    let from = 7;
    let exchange = from..from + usize::from(*payload.get(from - 1)?);
    let from = exchange.end + 1;
    let key = from..from + usize::from(*payload.get(from - 1)?);
    let bits = *payload.get(key.end)?;
    let publish = Publish {
        exchange: payload.slice(exchange),
        routing_key: payload.slice(key.clone()),
        mandatory: bits & 1 != 0,
        immediate: bits & 2 != 0,
    };
    (payload.len() == key.end + 1).then_some(publish)
}

fn settle(method: u16, mut fields: &[u8]) -> Option<Settle> {
    let tag = fields.try_get_u64().ok()?;
    let bits = fields.try_get_u8().ok()?;
    let lose = |requeue: bool| if requeue { How::Requeue } else { How::Drop };
    let (multiple, how) = match method {
        80 => (bits & 1 != 0, How::Ack),
        90 => (false, lose(bits & 1 != 0)),
        _ => (bits & 1 != 0, lose(bits & 2 != 0)),
    };
    fields.is_empty().then_some(Settle { tag, multiple, how })
}

/// Takes a short string.
pub(super) fn short(fields: &mut Bytes) -> Option<Bytes> {
    let len = usize::from(fields.try_get_u8().ok()?);
    (fields.len() >= len).then(|| fields.split_to(len))
}

/// Looks at the tables of a method before the protocol crate does, which calls itself for each level of them.
///
/// # Errors
/// 502 if one nests too deep, has too many fields or cannot be read.
fn check_tables(class: u16, method: u16, mut fields: Bytes) -> Result<(), Fault> {
    // How many numbers of two bytes, short strings and octets of bits stand before the table.
    let (numbers, shorts, bits) = match (class, method) {
        (CONNECTION, 11) => (0, 0, 0),
        (EXCHANGE, 10) => (1, 2, 1),
        (EXCHANGE, 30 | 40) | (QUEUE, 20) => (1, 3, 1),
        (QUEUE, 10) => (1, 1, 1),
        (QUEUE, 50) => (1, 3, 0),
        (BASIC, 20) => (1, 2, 1),
        _ => return Ok(()),
    };
    let skip = |fields: &mut Bytes| {
        (0..numbers).try_for_each(|_| fields.try_get_u16().ok().map(drop))?;
        (0..shorts).try_for_each(|_| short(fields).map(drop))?;
        (0..bits).try_for_each(|_| fields.try_get_u8().ok().map(drop))
    };
    if skip(&mut fields).is_none() {
        return Err(Fault::syntax_error(format_args!("the fields of method {class}.{method} cannot be read")));
    }
    match read_table(&mut fields) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::syntax_error(format_args!("a table of method {class}.{method}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame};
    use amq_protocol::protocol::{basic, queue};
    use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};

    use super::*;

    fn payload(method: AMQPClass) -> Bytes {
        let frame = AMQPFrame::Method(1, method);
        let (out, _) = gen_frame(&frame)(WriteContext::from(Vec::new())).unwrap().into_inner();
        Bytes::copy_from_slice(&out[7..out.len() - 1])
    }

    #[test]
    fn what_is_read_here_is_what_the_protocol_crate_writes() {
        let publish =
            basic::Publish { exchange: "e".into(), routing_key: "r.k".into(), mandatory: true, immediate: false };
        let expected = Publish { exchange: "e".into(), routing_key: "r.k".into(), mandatory: true, immediate: false };
        let written = payload(AMQPClass::Basic(basic::AMQPMethod::Publish(publish)));
        assert_eq!(read(&written).unwrap(), Method::Publish(expected));
        for multiple in [false, true] {
            let ack = AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag: 7, multiple }));
            assert_eq!(read(&payload(ack)).unwrap(), Method::Settle(Settle { tag: 7, multiple, how: How::Ack }));
            for requeue in [false, true] {
                let how = if requeue { How::Requeue } else { How::Drop };
                let nack = basic::Nack { delivery_tag: 8, multiple, requeue };
                let nack = AMQPClass::Basic(basic::AMQPMethod::Nack(nack));
                assert_eq!(read(&payload(nack)).unwrap(), Method::Settle(Settle { tag: 8, multiple, how }));
                let reject = basic::Reject { delivery_tag: 9, requeue };
                let reject = AMQPClass::Basic(basic::AMQPMethod::Reject(reject));
                assert_eq!(read(&payload(reject)).unwrap(), Method::Settle(Settle { tag: 9, multiple: false, how }));
            }
        }
        for len in 0..written.len() {
            assert_eq!(read(&written.slice(..len)).unwrap_err().code, 502, "cut at {len}");
        }
    }

    #[test]
    fn a_declaration_comes_through_whole_and_its_tables_have_bounds() {
        let declare = |arguments| {
            AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
                queue: "q".into(),
                passive: false,
                durable: true,
                exclusive: false,
                auto_delete: false,
                nowait: false,
                arguments,
            }))
        };
        let mut table = FieldTable::default();
        table.insert("x-max-length".into(), AMQPValue::LongInt(5));
        assert_eq!(read(&payload(declare(table.clone()))).unwrap(), Method::Other(declare(table)));
        let mut value = AMQPValue::Void;
        for _ in 0..64 {
            value = AMQPValue::FieldArray(FieldArray::from(vec![value]));
        }
        let mut deep = FieldTable::default();
        deep.insert("a".into(), value);
        let fault = read(&payload(declare(deep))).unwrap_err();
        assert!(fault.code == 502 && fault.text.contains("MAX_VALUE_DEPTH"), "{fault}");
        assert_eq!(read(&Bytes::from_static(&[0, 60, 0, 99])).unwrap_err().code, 540);
        assert_eq!(read(&Bytes::from_static(&[0, 99, 0, 1])).unwrap_err().code, 540);
    }
}
