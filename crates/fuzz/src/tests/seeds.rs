//! First inputs, made of what our own code writes.

use std::sync::Arc;

use api::grpc as g;
use bytes::Bytes;
use log::batch::{BatchBuilder, BatchOptions, Codec, NO_HEADERS, Producer, RecordBatch, TransactionOutcome};
use log::{Append, Commit, Durability, EmbeddedLog, Log, LogConfig, Operation, Target};
use prost::Message as _;
use testkit::FaultDisk;
use types::{Epoch, LogId, Message, Offset, Timestamp, Value};

use crate::data_directory::{Kind, file, options, path};
use crate::http_body::REQUESTS;

mod amqp;

type Seeds = Vec<Vec<u8>>;

pub(super) fn all() -> Vec<(&'static str, Seeds)> {
    let (write_ahead_log, data_directory) = directories();
    vec![
        ("record_batch", record_batches()),
        ("write_ahead_log", write_ahead_log),
        ("data_directory", data_directory),
        ("filter", filters()),
        ("http_body", http_bodies()),
        ("websocket", WEBSOCKET.iter().map(|frames| frames.as_bytes().to_vec()).collect()),
        ("grpc_frame", grpc_frames()),
        ("amqp_session", amqp::sessions()),
        ("amqp_content", amqp::contents()),
    ]
}

/// Each seed once as it is and once with its checksums put right after a mutation.
fn both(bytes: &[u8]) -> [Vec<u8>; 2] {
    [0, 1].map(|mode| [&[mode], bytes].concat())
}

fn batch(codec: Codec, records: &[(Option<&str>, Option<&str>)]) -> RecordBatch {
    let producer = Some(Producer { id: 7, epoch: 1, base_sequence: 3 });
    let mut builder = BatchBuilder::new(BatchOptions { codec, producer, ..BatchOptions::default() });
    for (key, value) in records {
        let headers = [("ph-subject", Some(b"a.b".as_slice())), ("none", None)];
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        builder.push(None, 1_700_000_000_000, key, value, headers).expect("a good record");
    }
    builder.finish().expect("a good batch")
}

fn record_batches() -> Seeds {
    let records = [(Some("key"), Some("value value value")), (None, None), (Some(""), Some("{\"a\": 1}"))];
    let mut seeds = Seeds::new();
    for codec in Codec::ALL {
        seeds.extend(both(&batch(codec, &records).bytes()));
    }
    let marker = RecordBatch::end_transaction(TransactionOutcome::Commit, 3, 7, 1, 5).expect("a good batch");
    seeds.extend(both(&marker.bytes()));
    let mut gaps = BatchBuilder::new(BatchOptions::default());
    for delta in [0, 5, 1000] {
        gaps.push(Some(delta), i64::from(delta), None, Some(b"x"), NO_HEADERS).expect("a good record");
    }
    seeds.extend(both(&gaps.finish().expect("a good batch").bytes()));
    seeds
}

fn commit(engine: &EmbeddedLog, operations: Vec<(u64, Operation)>) {
    let target = |(log, operation)| Target { log: LogId(log), epoch: Epoch(1), expected_end: None, operation };
    let operations = operations.into_iter().map(target).collect();
    let done = Box::new(|outcome| assert!(matches!(outcome, log::CommitOutcome::Committed(_)), "{outcome:?}"));
    engine.commit(Commit { durability: Durability::Fsync, operations, uses_reserve: false }, done);
    engine.run_round();
}

fn append(records: &[(Option<&str>, Option<&str>)], codec: Codec) -> Operation {
    Operation::Append(Append { batch: batch(codec, records), selection: None, weight: 10 })
}

/// A young directory, whose write-ahead file is the one, and an older one with segments and a checkpoint.
fn directories() -> (Seeds, Seeds) {
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).expect("an empty disk");
    let config = |label: &str, key_index: bool| LogConfig {
        label: label.to_owned(),
        cleanup: log::Cleanup::default(),
        key_index,
        volatile: false,
        apart: false,
    };
    let create = |label: &str, key_index| Operation::Create(config(label, key_index));
    commit(&engine, vec![(1, create("orders", true)), (2, create("", false))]);
    let one = [(Some("k"), Some("first")), (Some("l"), Some("second"))];
    commit(&engine, vec![(1, append(&one, Codec::None)), (2, append(&one[..1], Codec::Lz4))]);
    let half = Append { batch: batch(Codec::None, &one), selection: Some(std::iter::once(1..2).collect()), weight: 1 };
    commit(&engine, vec![(2, Operation::Append(half))]);
    let gone = std::iter::once(Offset(0)..Offset(1)).collect();
    commit(&engine, vec![(1, Operation::Delete { ranges: gone, weight: 5 }), (2, Operation::Trim(Offset(1)))]);
    let young = used(&disk.contents(path(Kind::WriteAhead, 1)).expect("the first file"));
    let text = "x".repeat(300);
    for _ in 0..40 {
        commit(&engine, vec![(1, append(&[(None, Some(&text))], Codec::None))]);
        engine.run_maintenance();
    }
    commit(&engine, vec![(2, Operation::Remove)]);
    engine.run_maintenance();
    engine.checkpoint().expect("the disk is in memory");
    drop(engine);
    let mut files = Vec::new();
    for kind in [Kind::WriteAhead, Kind::Segment, Kind::Checkpoint] {
        for number in 0..16u8 {
            if let Ok(bytes) = disk.contents(path(kind, number.into())) {
                files.extend(file(kind, number, &bytes));
            }
        }
    }
    let mut few = file(Kind::WriteAhead, 1, &young);
    few.extend(file(Kind::Checkpoint, 1, b"PHCHECK\n"));
    (vec![young], vec![files, few])
}

/// A file without its trailing zeros, but for a few: mutations should fall on what is there.
fn used(file: &[u8]) -> Vec<u8> {
    let end = file.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 64);
    file[..end.min(file.len())].to_vec()
}

fn filters() -> Seeds {
    let patterns = ["", "orders.*.created", "orders.#", "a.>", r"\*.\\#", "a..b", "#.a.#"];
    let json = [
        r#""all""#,
        r##"{"subject": "orders.*.created.#"}"##,
        r#"{"subject_words": [{"literal": "*"}, "one", {"literal_base64": "/w=="}, "rest"]}"#,
        r#"{"subject_exact": "a.*"}"#,
        r#"{"headers": {"match": "any", "wanted": [{"name": "a", "value": null}, {"name": "b", "value": {"type": "int8", "value": 3}}]}}"#,
        r#"{"attribute": {"field": {"body": ["a", "b"]}, "any_of": [{"equals": 1}, {"prefix": "x"}, {"anything_but": [{"suffix": "y"}]}]}}"#,
        r#"{"attribute": {"field": {"header": "price"}, "any_of": [{"range": {"gt": 1.5, "lte": 2e3}}, {"exists": false}]}}"#,
        r#"{"attribute": {"field": "key", "any_of": [{"cidr": "10.0.0.0/8"}, {"wildcard": "a*\\*"}, {"equals_ignore_case": "z"}]}}"#,
        r##"{"and": [{"or": [{"not": "all"}, {"subject": "#"}]}, {"not": {"not": {"subject": "a"}}}, {"attribute": {"field": "subject", "any_of": []}}]}"##,
    ];
    let with = |kind: u8, text: &str| [&[kind], text.as_bytes()].concat();
    patterns.iter().map(|text| with(0, text)).chain(json.iter().map(|text| with(1, text))).collect()
}

fn http_bodies() -> Seeds {
    let bodies = [
        r#"{"subject": "orders.created", "key": "k", "headers": {"region": "eu", "n": {"type": "decimal", "value": "12.50"}}, "body": {"order": 1.0}}"#,
        r#"{"messages": [{"text": "a"}, {"base64": "/w==", "subject_base64": "/w==", "delay_ms": 5, "priority": 3}, {"tombstone": true, "key": "k"}]}"#,
        "{\"text\": \"a\"}\n\n{\"body\": [1, null, \"x\"], \"ttl_ms\": 100, \"dedup_id\": \"d\", \"transient\": true}",
        r#"{"specversion": "1.0", "id": "1", "source": "/s", "type": "a.b", "time": "2024-02-29T12:00:00Z", "subject": "x", "n": 5, "b": true, "data": {"a": 1}}"#,
        r#"[{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "datacontenttype": "text/plain", "data": "x"}, {"specversion": "1.0", "id": "2", "source": "/s", "type": "t", "data_base64": "/w=="}]"#,
        r#"{"messages": [{"body": null}]}"#,
        r##"{"topic": "t", "target": {"queue": "q"}, "filter": {"and": [{"subject": "a.#"}, {"headers": {"match": "all", "wanted": [{"name": "a"}]}}]}}"##,
        r#"{"settlements": [{"receipt": "@RECEIPT", "action": "nack", "after_ms": 100, "error": "no"}, {"receipt": "@RECEIPT", "action": "ack"}, {"receipt": "@RECEIPT", "action": "extend", "by_ms": 1000}]}"#,
        r#"{"receipt": "@RECEIPT", "publishes": [{"to": {"topic": "t"}, "messages": [{"text": "next"}]}]}"#,
        r#"{"max": 10, "max_bytes": 1000, "wait_ms": 10, "lease_ms": 100, "auto_ack": true}"#,
        r#"{"retry": {"max_attempts": 3, "initial_ms": 10, "factor": 1.5, "cap_ms": 1000}, "lease_ms": 1000, "max_messages": 10, "overflow": "drop-oldest"}"#,
        r#"{"partitions": 3, "retention": {"max_age_ms": 1000, "max_bytes": 100000}, "router": "subject"}"#,
        r#"{"pattern": "orders*", "applies_to": "queues", "priority": 1, "overrides": {"ttl_ms": 1000}}"#,
        r#"{"to": "q.dlq", "rate": 10.5, "max": 3}"#,
        r#"{"topic": "t", "start": "earliest"}"#,
    ];
    assert_eq!(bodies.len(), REQUESTS.len());
    let mut seeds: Seeds = (0..).zip(bodies).map(|(at, body)| [&[at], body.as_bytes()].concat()).collect();
    let no_data = r#"{"specversion": "1.0", "id": "00000000-0000-4000-8000-000000000000", "source": "s", "type": "t", "partitionkey": "k", "traceparent": "x"}"#;
    seeds.push([&[3], no_data.as_bytes()].concat());
    seeds
}

const WEBSOCKET: &[&str] = &[
    r#"{"publish": {"seq": 1, "to": {"queue": "q"}, "messages": [{"body": {"a": 1}}, {"text": "x", "headers": {"a": 1.5}}]}}
{"publish": {"seq": 2, "to": {"topic": "t"}, "messages": [{"text": "y", "subject": "a.b"}], "options": {"expect_key_version": "none", "durability": "memory"}}}
{"consume": {"id": "c", "queue": "q", "credit": 10, "lease_ms": 1000}}
{"credit": {"id": "c", "messages": 5}}
{"settle": {"seq": 3, "settlements": [{"receipt": "x", "action": "ack"}]}}
{"cancel": {"id": "c"}}
{"ping": {"seq": 9}}"#,
    r##"{"subscribe": {"id": "s", "subject": "a.#", "group": "g"}}
{"tail": {"id": "t", "topic": "t", "from": "earliest", "credit": 3}}
{"request": {"seq": 5, "message": {"subject": "a.b", "text": "?"}, "timeout_ms": 10}}
{"reply": {"seq": 6, "reply_to": "x", "correlation_id": "y", "message": {"text": "!"}}}
{"publish": {"seq": 7, "to": "subject", "messages": [{"subject": "a.b", "text": "x"}]}}"##,
    r#"{"ping": {}}
{"ping": {"sec": 1}}"#,
];

fn grpc_frames() -> Seeds {
    let values = vec![
        Value::Null,
        Value::Bool(true),
        Value::Int { value: -3, width_bytes: 2 },
        Value::int(5),
        Value::Uint { value: 200, width_bytes: 1 },
        Value::Uint { value: u64::MAX, width_bytes: 8 },
        Value::Float(1.5),
        Value::Double(f64::NAN),
        Value::Bytes(Bytes::from_static(b"\xff")),
        Value::Timestamp(Timestamp(-1)),
        Value::Decimal { scale: 2, unscaled: 1250 },
        Value::Map(vec![("m".into(), Value::Text("t".into()))]),
    ];
    let message = Message {
        id: Some(api::id_from_text("0190a6f0-0000-7000-8000-000000000001".to_owned())),
        subject: Bytes::from_static(b"orders.created"),
        key: Some(Bytes::from_static(b"k")),
        headers: vec![("all".into(), Value::List(values)), ("region".into(), Value::Text("eu".into()))],
        body: Some(Bytes::from_static(b"body")),
        content_type: Some("text/plain".into()),
        timestamp: Some(Timestamp(5)),
        correlation_id: Some("c".into()),
        reply_to: Some("r".into()),
        not_before: Some(Timestamp(6)),
        expires_at: Some(Timestamp(7)),
        priority: Some(9),
        dedup_id: Some("d".into()),
        durable: false,
        // The wire knows neither of these.
        also: Vec::new(),
        topic: None,
    };
    let tombstone = Message { subject: Bytes::from_static(b"\xff"), body: None, ..Message::default() };
    let (full, bare) = (g::Message::from(message), g::Message::from(tombstone));
    let header = g::Header { name: "h".into(), value: g::Value(Value::int(1)) };
    let to = || Some(g::Target { to: Some(g::target::To::Queue("q".to_owned())) });
    let frame = g::PublishFrame {
        open: Some(g::PublishOpen { namespace: "default".to_owned(), to: to(), ..g::PublishOpen::default() }),
        messages: vec![full.clone(), bare.clone()],
        subject: "s".to_owned(),
        ..g::PublishFrame::default()
    };
    let request = g::PublishRequest { to: to(), messages: vec![bare.clone()], ..g::PublishRequest::default() };
    // A header whose value is a list that comes in two parts.
    let halves = b"\x22\x11\x0a\x01h\x12\x0c\x4a\x04\x0a\x02\x08\x01\x4a\x04\x0a\x02\x08\x01";
    let parts = [
        (0, halves.to_vec()),
        (0, full.encode_to_vec()),
        (0, bare.encode_to_vec()),
        (1, frame.encode_to_vec()),
        (2, g::ConsumeRequest::default().encode_to_vec()),
        (3, header.encode_to_vec()),
        (4, request.encode_to_vec()),
    ];
    parts.into_iter().map(|(kind, bytes): (u8, _)| [&[kind], bytes.as_slice()].concat()).collect()
}
