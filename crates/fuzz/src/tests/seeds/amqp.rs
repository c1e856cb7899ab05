//! Seeds of AMQP, written by the crate that clients stand on.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, WriteContext, gen_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue, tx};
use amq_protocol::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};

use super::Seeds;
use crate::amqp_session::{FRAMED, LOGGED_IN, beginning, method};

fn every_type() -> FieldTable {
    let mut inner = FieldTable::default();
    inner.insert("in".into(), AMQPValue::ShortShortInt(-1));
    let values = [
        AMQPValue::Boolean(false),
        AMQPValue::ShortShortUInt(200),
        AMQPValue::ShortInt(-300),
        AMQPValue::ShortUInt(65_000),
        AMQPValue::LongInt(-70_000),
        AMQPValue::LongUInt(4_000_000_000),
        AMQPValue::LongLongInt(i64::MIN),
        AMQPValue::Float(1.5),
        AMQPValue::Double(-2.25),
        AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 12_345 }),
        AMQPValue::LongString("text".into()),
        AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void, AMQPValue::FieldTable(inner.clone())])),
        AMQPValue::Timestamp(1_700_000_000),
        AMQPValue::FieldTable(inner),
        AMQPValue::ByteArray(vec![0xff, 0].into()),
    ];
    let mut table = FieldTable::default();
    for (name, value) in ('a'..).zip(values) {
        table.insert(name.to_string().as_str().into(), value);
    }
    table
}

fn properties() -> basic::AMQPProperties {
    basic::AMQPProperties::default()
        .with_content_type("text/plain".into())
        .with_content_encoding("gzip".into())
        .with_headers(every_type())
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("c".into())
        .with_reply_to("amq.rabbitmq.reply-to".into())
        .with_expiration("60000".into())
        .with_message_id("m".into())
        .with_timestamp(1_700_000_000)
        .with_type("t".into())
        .with_user_id("guest".into())
        .with_app_id("a".into())
        .with_cluster_id("".into())
}

fn header(size: u64, properties: basic::AMQPProperties) -> Vec<u8> {
    let header = AMQPContentHeader { class_id: 60, body_size: size, properties };
    let frame = AMQPFrame::Header(1, header);
    gen_frame(&frame)(WriteContext::from(Vec::new())).expect("a vector takes all").into_inner().0
}

pub(super) fn contents() -> Seeds {
    let payload = |frame: Vec<u8>| frame[7..frame.len() - 1].to_vec();
    vec![
        payload(header(5, properties())),
        payload(header(0, basic::AMQPProperties::default())),
        payload(header(u64::MAX, basic::AMQPProperties::default().with_headers(FieldTable::default()))),
    ]
}

fn declare(name: &str, arguments: FieldTable) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: name.into(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments,
    }))
}

fn publish(exchange: &str, key: &str, properties: basic::AMQPProperties, body: &[u8], out: &mut Vec<u8>) {
    let publish =
        basic::Publish { exchange: exchange.into(), routing_key: key.into(), mandatory: true, immediate: false };
    method(1, AMQPClass::Basic(basic::AMQPMethod::Publish(publish)), out);
    out.extend(header(body.len() as u64, properties));
    for part in body.chunks(8) {
        out.extend([3, 0, 1]);
        out.extend(u32::try_from(part.len()).expect("a short body").to_be_bytes());
        out.extend(part);
        out.push(206);
    }
}

fn say(out: &mut Vec<u8>, methods: impl IntoIterator<Item = AMQPClass>) {
    for said in methods {
        method(1, said, out);
    }
}

fn consume(queue: &str, tag: &str, no_ack: bool) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: queue.into(),
        consumer_tag: tag.into(),
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

fn confirming() -> Vec<u8> {
    let mut out = Vec::new();
    say(&mut out, [AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }))]);
    say(&mut out, [consume("amq.rabbitmq.reply-to", "", true)]);
    publish("", "q", properties(), b"a body in three parts", &mut out);
    publish("", "nobody", basic::AMQPProperties::default(), b"", &mut out);
    say(
        &mut out,
        [
            AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos { prefetch_count: 2, global: false })),
            consume("q", "c", false),
            AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get { queue: "q".into(), no_ack: false })),
            AMQPClass::Basic(basic::AMQPMethod::Nack(basic::Nack { delivery_tag: 0, multiple: true, requeue: true })),
            AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag: 0, multiple: true })),
            AMQPClass::Basic(basic::AMQPMethod::Recover(basic::Recover { requeue: true })),
            AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag: "c".into(), nowait: false })),
            AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active: false })),
        ],
    );
    let close = channel::Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
    say(&mut out, [AMQPClass::Channel(channel::AMQPMethod::Close(close))]);
    let close = connection::Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
    method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)), &mut out);
    out
}

fn transactions() -> Vec<u8> {
    let mut out = Vec::new();
    say(&mut out, [AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}))]);
    publish("", "q", basic::AMQPProperties::default().with_delivery_mode(1), b"x", &mut out);
    say(
        &mut out,
        [
            AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {})),
            AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get { queue: "".into(), no_ack: false })),
            AMQPClass::Basic(basic::AMQPMethod::Reject(basic::Reject { delivery_tag: 1, requeue: false })),
            AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {})),
        ],
    );
    out
}

fn definitions() -> Vec<u8> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("e".into()));
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(1000));
    let mut wanted = FieldTable::default();
    wanted.insert("x-match".into(), AMQPValue::LongString("any".into()));
    wanted.insert("a".into(), AMQPValue::LongLongInt(1));
    let mut out = Vec::new();
    let none = FieldTable::default;
    say(
        &mut out,
        [
            AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
                exchange: "e".into(),
                kind: "headers".into(),
                passive: false,
                durable: true,
                auto_delete: true,
                internal: false,
                nowait: false,
                arguments: none(),
            })),
            declare("limited", arguments),
            AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
                queue: "limited".into(),
                exchange: "e".into(),
                routing_key: "a.*".into(),
                nowait: false,
                arguments: wanted,
            })),
            AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
                destination: "e".into(),
                source: "amq.topic".into(),
                routing_key: "#".into(),
                nowait: true,
                arguments: none(),
            })),
        ],
    );
    publish("e", "a.b", basic::AMQPProperties::default().with_headers(every_type()), b"x", &mut out);
    say(
        &mut out,
        [
            AMQPClass::Queue(queue::AMQPMethod::Purge(queue::Purge { queue: "limited".into(), nowait: false })),
            AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
                queue: "limited".into(),
                if_unused: true,
                if_empty: true,
                nowait: false,
            })),
        ],
    );
    out
}

pub(super) fn sessions() -> Seeds {
    let mode = |mode: u8, bytes: &[u8]| [&[mode], bytes].concat();
    let mut seeds = vec![
        mode(0, b"AMQP\x01\x01\x08\x00"),
        mode(0, &beginning()),
        mode(LOGGED_IN, b"\x03\x00\x01\x00\x00\x00\x01x\x00"),
    ];
    seeds.extend([confirming(), transactions(), definitions()].iter().map(|bytes| mode(LOGGED_IN | FRAMED, bytes)));
    seeds
}
