//! Without providers: contexts are passed on, and nothing else happens.

use opentelemetry::metrics::noop::NoopMeterProvider;
use opentelemetry::trace::noop::NoopTracerProvider;

use super::*;
use crate::{Error, headers};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn off() -> Telemetry {
    let telemetry =
        Telemetry::new(&Providers::new(&NoopTracerProvider::new(), &NoopMeterProvider::new()), "test", None);
    assert!(!telemetry.is_on(), "nobody looks, so nothing is watched");
    telemetry
}

fn sent(telemetry: &Telemetry, envelope: &mut Envelope) {
    telemetry.producing(envelope, &Destination::Queue("next".to_owned())).finish(&Ok::<(), Error>(()));
}

const FROM: Source<'static> = Source::Queue { queue: "orders", group: None };

#[test]
fn a_trace_is_passed_on_without_providers() {
    let telemetry = off();
    let mut envelope = Envelope::new("order.created", "{}");
    headers::set(&mut envelope, headers::TRACEPARENT, PARENT);
    headers::set(&mut envelope, headers::TRACESTATE, "vendor=1");
    let processing = telemetry.processing(&envelope, &FROM);
    assert_eq!(processing.trace_id().map(|id| id.to_string()).as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));

    let entered = processing.context().clone().attach();
    let mut next = Envelope::new("order.paid", "{}");
    sent(&telemetry, &mut next);
    drop(entered);
    assert_eq!(headers::text(&next, headers::TRACEPARENT), Some(PARENT));
    assert_eq!(headers::text(&next, headers::TRACESTATE), Some("vendor=1"));
    processing.finish(&Ok::<(), Error>(()));
}

#[test]
fn a_message_of_no_trace_stays_so() {
    let telemetry = off();
    let mut envelope = Envelope::new("order.created", "{}");
    sent(&telemetry, &mut envelope);
    assert_eq!(envelope.headers, Vec::new());
    assert_eq!(telemetry.processing(&envelope, &FROM).trace_id(), None);
}

#[test]
fn a_message_that_has_a_context_keeps_it() {
    let telemetry = off();
    let other = PARENT.replace("4bf9", "0000");
    let mut relayed = Envelope::new("order.created", "{}");
    headers::set(&mut relayed, headers::TRACEPARENT, PARENT);
    let mut around = Envelope::new("tick", "");
    headers::set(&mut around, headers::TRACEPARENT, other);
    let relay = telemetry.processing(&around, &FROM);
    let entered = relay.context().clone().attach();
    sent(&telemetry, &mut relayed);
    drop(entered);
    assert_eq!(headers::text(&relayed, headers::TRACEPARENT), Some(PARENT));
}
