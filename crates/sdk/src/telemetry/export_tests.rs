//! What reaches a collector.

use std::time::Duration;

use opentelemetry::context::FutureExt;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::testkit::collector::{Collector, Span};
use crate::transport::PublishError;
use crate::{Error, headers};

const WITHIN: Duration = Duration::from_secs(20);

fn guard(collector: &Collector, service: &str) -> Guard {
    let identity =
        Identity { service: service.to_owned(), version: "1.2.3".to_owned(), instance: format!("{service}-1") };
    Guard::new(&identity, Some(&collector.endpoint())).expect("an exporter")
}

fn telemetry(guard: &Guard) -> Telemetry {
    let telemetry = Telemetry::new(&guard.providers(), "posthouse", Some(("broker.example", 7443)));
    assert!(telemetry.is_on());
    telemetry
}

/// What waits is exported, without holding up the runtime that the collector runs on.
async fn end(guards: Vec<Guard>) {
    tokio::task::spawn_blocking(|| drop(guards)).await.expect("exported");
}

fn message(subject: &str, id: &str) -> Envelope {
    let mut envelope = Envelope::new(subject.to_owned(), r#"{"total": 12}"#);
    envelope.id = Some(types::MessageId::Text(id.into()));
    envelope.correlation_id = Some("order-1".into());
    envelope
}

fn topic(name: &str) -> Destination {
    Destination::Topic(name.to_owned())
}

fn queue(queue: &str) -> Source<'_> {
    Source::Queue { queue, group: Some(queue) }
}

/// The span of this name; there is one.
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} in {spans:#?}");
    found[0]
}

fn attributes(span: &Span, wanted: &[(&str, &str)]) {
    for (name, value) in wanted {
        assert_eq!(span.attribute(name), Some(*value), "{name} of {span:#?}");
    }
}

const WELL: Result<(), Error> = Ok(());

#[tokio::test(flavor = "multi_thread")]
async fn one_order_is_one_trace_through_its_services() {
    let collector = Collector::start().await.expect("a collector");
    let guards = vec![guard(&collector, "front"), guard(&collector, "order"), guard(&collector, "payment")];
    let [front, order, payment] = [0, 1, 2].map(|at| telemetry(&guards[at]));

    let mut placed = message("order.placed", "m-1");
    front.producing(&mut placed, &topic("orders")).finish(&WELL);

    let processing = order.processing(&placed, &queue("order"));
    let context = processing.context().clone();
    let asked = async {
        tokio::task::yield_now().await;
        let mut asked = message("payment.asked", "m-2");
        order.producing(&mut asked, &topic("payments")).finish(&WELL);
        asked
    };
    let asked = asked.with_context(context).await;
    processing.finish(&WELL);

    payment.processing(&asked, &queue("payment")).finish(&Err::<(), _>(Error::terminal("the card is expired")));

    end(guards).await;
    let spans = collector.wait(WITHIN, |spans| spans.len() >= 4).await;
    let sent = named(&spans, "send orders");
    let handled = named(&spans, "process order");
    let sent_on = named(&spans, "send payments");
    let failed = named(&spans, "process payment");
    assert_eq!(spans.len(), 4);
    assert!(spans.iter().all(|span| span.trace_id == sent.trace_id), "{spans:#?}");
    assert_eq!((sent.parent_id.as_ref(), sent.service.as_str()), (None, "front"));
    assert!(handled.is_child_of(sent) && handled.is_linked_to(sent));
    assert!(sent_on.is_child_of(handled) && sent_on.links.is_empty());
    assert!(failed.is_child_of(sent_on) && failed.is_linked_to(sent_on));
    assert_eq!((sent.kind, handled.kind), (SpanKind::Producer, SpanKind::Consumer));
    assert_eq!((handled.service.as_str(), handled.instance.as_str()), ("order", "order-1"));
    assert!(handled.times_ns.0 <= sent_on.times_ns.0 && sent_on.times_ns.1 <= handled.times_ns.1);

    attributes(
        sent,
        &[
            ("messaging.system", "posthouse"),
            ("messaging.operation.name", "send"),
            ("messaging.operation.type", "send"),
            ("messaging.destination.name", "orders"),
            ("messaging.message.id", "m-1"),
            ("messaging.message.conversation_id", "order-1"),
            ("messaging.message.body.size", "13"),
            ("server.address", "broker.example"),
            ("server.port", "7443"),
        ],
    );
    attributes(
        failed,
        &[
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "payment"),
            ("messaging.consumer.group.name", "payment"),
            ("messaging.message.id", "m-2"),
            ("error.type", "terminal"),
        ],
    );
    assert_eq!((failed.error.as_deref(), handled.error.as_deref()), (Some("the card is expired"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_batch_are_linked_and_an_outbox_goes_on_with_their_trace() {
    let collector = Collector::start().await.expect("a collector");
    let guard = guard(&collector, "analytics");
    let telemetry = telemetry(&guard);

    let mut batch = [message("a", "m-1"), message("b", "m-2")];
    for envelope in &mut batch {
        telemetry.producing(envelope, &topic("sales")).finish(&WELL);
    }
    let source = Source::Log { topic: "sales", partition: 3, group: Some("report") };
    telemetry.processing_many(&batch, &source).finish(&WELL);

    // A relay, in the trace of its own timer, publishes what was put into the outbox within another.
    let timer = telemetry.processing(&message("tick", "m-3"), &queue("timer"));
    let entered = timer.context().clone().attach();
    let mut relayed = batch[0].clone();
    telemetry.producing(&mut relayed, &topic("relayed")).finish(&Err::<(), _>(PublishError::Closed));
    drop(entered);
    drop(timer);

    let listened = Source::Live { pattern: "price.*", group: None };
    telemetry.processing(&message("price.book", "m-4"), &listened).finish(&WELL);
    telemetry.answering(&mut message("price", "m-5")).finish(&WELL);

    end(vec![guard]).await;
    let spans = collector.wait(WITHIN, |spans| spans.len() >= 7).await;
    let producers: Vec<&Span> = spans.iter().filter(|span| span.name == "send sales").collect();
    let batch = named(&spans, "process sales");
    assert!(producers.len() == 2 && producers.iter().all(|producer| batch.is_linked_to(producer)), "{spans:#?}");
    assert!(batch.parent_id.is_none() && batch.trace_id != producers[0].trace_id);
    attributes(batch, &[("messaging.batch.message_count", "2"), ("messaging.destination.partition.id", "3")]);

    let relayed = named(&spans, "send relayed");
    let first = producers.iter().find(|span| span.attribute("messaging.message.id") == Some("m-1"));
    assert!(relayed.is_child_of(first.expect("m-1")), "{relayed:#?}");
    attributes(relayed, &[("error.type", "closed")]);
    attributes(named(&spans, "process timer"), &[("error.type", "cancelled")]);

    let template = ("messaging.destination.template", "price.*");
    attributes(named(&spans, "process price.*"), &[template, ("messaging.destination.name", "price.book")]);
    attributes(named(&spans, "send (temporary)"), &[("messaging.destination.temporary", "true")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_the_names_units_and_buckets_of_the_conventions() {
    let collector = Collector::start().await.expect("a collector");
    let guard = guard(&collector, "order");
    let telemetry = telemetry(&guard);
    let mut envelope = message("a", "m-1");
    telemetry.producing(&mut envelope, &topic("orders")).finish(&WELL);
    telemetry.producing(&mut envelope, &topic("orders")).finish(&Err::<(), _>(PublishError::Closed));
    telemetry.processing(&envelope, &queue("order")).finish(&WELL);
    end(vec![guard]).await;

    let points = collector.points();
    let point = |name: &str, error: Option<&str>| {
        let mut found = points.iter().filter(|point| point.name == name && point.attribute("error.type") == error);
        found.next_back().unwrap_or_else(|| panic!("{name} {error:?} in {points:#?}"))
    };
    for (name, unit, error, destination) in [
        ("messaging.client.operation.duration", "s", None, "orders"),
        ("messaging.client.operation.duration", "s", Some("closed"), "orders"),
        ("messaging.client.sent.messages", "{message}", None, "orders"),
        ("messaging.client.sent.messages", "{message}", Some("closed"), "orders"),
        ("messaging.client.consumed.messages", "{message}", None, "order"),
        ("messaging.process.duration", "s", None, "order"),
    ] {
        let point = point(name, error);
        assert_eq!((point.unit.as_str(), point.count), (unit, 1), "{point:#?}");
        assert_eq!(point.attribute("messaging.destination.name"), Some(destination), "{point:#?}");
        assert_eq!(point.attribute("messaging.system"), Some("posthouse"));
        assert_eq!(point.attribute("messaging.message.id"), None, "ids have no place in metrics");
        let bounds = if unit == "s" { 14 } else { 0 };
        assert_eq!(point.bounds.len(), bounds, "{point:#?}");
    }
    assert!(points.iter().all(|point| point.name != "messaging.client.probe"), "{points:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tracing_spans_of_a_handler_are_in_the_messages_trace() {
    let collector = Collector::start().await.expect("a collector");
    let guard = guard(&collector, "order");
    let telemetry = telemetry(&guard);
    let mut envelope = message("a", "m-1");
    telemetry.producing(&mut envelope, &topic("orders")).finish(&WELL);

    let lines = Lines::default();
    let writer = lines.clone();
    let fmt = tracing_subscriber::fmt::layer().json().with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(guard.layer()).with(fmt);
    let logged = tracing::subscriber::set_default(subscriber);
    let processing = telemetry.processing(&envelope, &queue("order"));
    let reserving = async {
        tracing::info!("reserving");
        let mut next = message("b", "m-2");
        telemetry.producing(&mut next, &topic("stock")).finish(&WELL);
    };
    let handler = async { reserving.instrument(tracing::info_span!("reserve")).await };
    let handler = handler.instrument(processing.log_span("order", &envelope));
    handler.with_context(processing.context().clone()).await;
    let trace_id = processing.trace_id().expect("a trace").to_string();
    processing.finish(&WELL);
    drop(logged);

    end(vec![guard]).await;
    let spans = collector.wait(WITHIN, |spans| spans.len() >= 4).await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let reserve = named(&spans, "reserve");
    assert!(reserve.is_child_of(named(&spans, "process order")), "{spans:#?}");
    assert!(named(&spans, "send stock").is_child_of(reserve), "{spans:#?}");
    let text = String::from_utf8(lines.0.lock().clone()).expect("text");
    let line = text.lines().find(|line| line.contains("reserving")).expect("a line");
    assert!(line.contains(&trace_id) && line.contains("m-1"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let collector = Collector::start().await.expect("a collector");
    let guard = guard(&collector, "order");
    drop(collector);
    let telemetry = telemetry(&guard);
    let mut envelope = message("a", "m-1");
    telemetry.producing(&mut envelope, &topic("orders")).finish(&WELL);
    assert!(headers::text(&envelope, headers::TRACEPARENT).is_some());
    tokio::time::timeout(WITHIN, end(vec![guard])).await.expect("it ends all the same");
}

#[test]
fn an_endpoint_that_is_none_is_refused() {
    let identity = Identity { service: "a".to_owned(), version: "1".to_owned(), instance: "1".to_owned() };
    let error = Guard::new(&identity, Some("not an endpoint")).expect_err("refused").to_string();
    assert!(error.starts_with("traces and metrics cannot be exported: "), "{error}");
}

/// What a subscriber writes.
#[derive(Clone, Default)]
struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
