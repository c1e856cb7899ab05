//! The state machines: filters, the routing table, and a queue.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::time::Duration;

use broker::queue::{
    Arrival, ConsumerId, ConsumerRules, Credit, Overflow, Queue, QueueEvent, QueueRules, RetryRules, Settle,
};
use broker::router::{RouteTarget, Router, RouterBinding, RouterKind, RouterTopic, Routes};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use types::{
    AttributeTest, EntityId, Field, Filter, HeaderMatch, Message, Monotonic, Now, Offset, SubjectPattern, Timestamp,
    Value,
};

const CONSUMER: ConsumerId = ConsumerId(1);
const MESSAGES: u64 = 1000;

fn message() -> Message {
    Message {
        subject: Bytes::from_static(b"orders.eu.created"),
        headers: vec![
            ("region".into(), Value::from("eu")),
            ("tier".into(), Value::from("gold")),
            ("total".into(), Value::int(250)),
        ],
        ..Message::default()
    }
}

fn pattern(text: &str) -> Filter {
    Filter::Subject(SubjectPattern::parse(text).expect("a pattern"))
}

fn filters(criterion: &mut Criterion) {
    let wanted = vec![("region".into(), Some(Value::from("eu"))), ("tier".into(), None)];
    let attribute = |test| Filter::Attribute { field: Field::Header("total".into()), any_of: vec![test] };
    let cases = [
        ("exact subject", Filter::SubjectExact(Bytes::from_static(b"orders.eu.created"))),
        ("subject pattern", pattern("orders.*.created")),
        ("subject tail", pattern("orders.#")),
        ("headers", Filter::Headers { matching: HeaderMatch::All, wanted }),
        ("range", attribute(AttributeTest::Range { from: Some((100.0, true)), to: None })),
        (
            "and of three",
            Filter::And(vec![
                pattern("orders.#"),
                attribute(AttributeTest::Exists(true)),
                Filter::Not(Box::new(pattern("*.us.*"))),
            ]),
        ),
    ];
    let message = message();
    let mut group = criterion.benchmark_group("filter");
    for (name, filter) in cases {
        assert!(filter.matches(&message), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&filter).matches(black_box(&message))));
    }
    group.finish();
}

/// A topic with so many queues, each bound by what `filter` gives for its number.
fn router(queues: u64, filter: impl Fn(u64) -> Filter) -> (Router, EntityId) {
    let topic = EntityId(1);
    let bindings = (0..queues).map(|at| RouterBinding {
        id: EntityId(10_000 + at),
        source: topic,
        target: RouteTarget::Queue(EntityId(2 + at)),
        filter: filter(at),
        weight: 1,
    });
    let topics = [RouterTopic { id: topic, kind: RouterKind::Any, alternate: None, has_log: false }];
    (Router::build(topics, bindings).expect("a table"), topic)
}

fn routing(criterion: &mut Criterion) {
    let subject = |at: u64| Bytes::from(format!("orders.{at}.created"));
    let cases = [
        ("1 binding", router(1, |_| Filter::All)),
        ("10 bindings, all take it", router(10, |_| Filter::All)),
        ("1,000 exact subjects", router(1000, |at| Filter::SubjectExact(subject(at)))),
        ("1,000 patterns", router(1000, |at| pattern(&format!("orders.{at}.*")))),
    ];
    let message = Message { subject: subject(7), ..message() };
    let mut group = criterion.benchmark_group("router");
    for (name, (router, topic)) in cases {
        // The publisher keeps it from message to message.
        let mut routes = Routes::default();
        router.route(topic, &message, &mut routes).expect("a topic");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let _ = router.route(topic, black_box(&message), &mut routes);
                routes.queues.len()
            });
        });
    }
    group.finish();
}

fn rules(keyed: bool, priority_levels: u16) -> QueueRules {
    QueueRules {
        lease: Some(Duration::from_secs(30)),
        retry: RetryRules {
            max_attempts: Some(5),
            initial: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(300),
            jitter: true,
            non_retryable: Vec::new(),
        },
        has_dead_letter: true,
        keyed,
        priority_levels,
        ttl: None,
        delay: None,
        single_active: false,
        max_messages: None,
        max_bytes: None,
        overflow: Overflow::Reject,
        breaker: None,
        max_in_flight: usize::MAX,
        window: 65_536,
        window_bytes: 64 << 20,
    }
}

/// A thousand messages come, are handed out, acknowledged and gone.
fn pass(queue: &mut Queue<u64>, next: &mut u64, events: &mut Vec<QueueEvent>) {
    let now = Now { wall: Timestamp(1_772_366_400_000), mono: Monotonic(1_000_000_000) };
    for offset in *next..*next + MESSAGES {
        queue.enqueue(
            now,
            Arrival {
                offset: Offset(offset),
                key: Some(offset % 100),
                priority: (offset % 10) as u8,
                arrived: now.wall,
                not_before: None,
                expires_at: None,
                weight: 1100,
                payload: Some(offset),
            },
        );
    }
    *next += MESSAGES;
    let mut left = MESSAGES;
    let mut out = Vec::new();
    while left > 0 {
        queue.deliver(now, CONSUMER, Credit { messages: 100, bytes: u64::MAX }, &mut out);
        assert!(!out.is_empty(), "{left} messages are not handed out");
        left -= out.len() as u64;
        for delivery in out.drain(..) {
            queue.settle(now, delivery.lease, Settle::Ack).expect("it is out");
            queue.departed(delivery.lease.offset);
        }
    }
    events.clear();
    queue.take_events(events);
}

fn queues(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    group.throughput(Throughput::Elements(MESSAGES));
    for (name, rules) in [("plain", rules(false, 1)), ("keyed", rules(true, 1)), ("ten priorities", rules(false, 10))] {
        let mut queue = Queue::new(rules, 1);
        let consumer = ConsumerRules { exclusive: false, priority: 0, lease: None, auto_ack: false };
        queue.attach(CONSUMER, consumer).expect("the first");
        let (mut next, mut events) = (0, Vec::new());
        group.bench_function(format!("in, out and acknowledged, {name}"), |bencher| {
            bencher.iter(|| pass(&mut queue, &mut next, &mut events));
        });
    }
    group.finish();
}

criterion_group!(all, filters, routing, queues);
criterion_main!(all);
