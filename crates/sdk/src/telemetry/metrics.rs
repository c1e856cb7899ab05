//! The metrics of OpenTelemetry's conventions for messaging clients.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

/// Bounds of the durations' buckets, in seconds, as the conventions advise.
const DURATION_BOUNDS_S: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// The instruments of one service on one transport.
#[derive(Debug)]
pub(super) struct Metrics {
    operation: Histogram<f64>,
    sent: Counter<u64>,
    consumed: Counter<u64>,
    process: Histogram<f64>,
}

impl Metrics {
    /// The instruments, or nothing where nobody reads them.
    pub(super) fn new(meter: &Meter) -> Option<Self> {
        if !is_read(meter) {
            return None;
        }
        let duration = |name: &'static str, description: &'static str| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(description);
            histogram.with_boundaries(DURATION_BOUNDS_S.to_vec()).build()
        };
        let messages = |name: &'static str, description: &'static str| {
            meter.u64_counter(name).with_unit("{message}").with_description(description).build()
        };
        Some(Self {
            operation: duration("messaging.client.operation.duration", "Duration of messaging operations."),
            sent: messages("messaging.client.sent.messages", "Messages that were sent, or not sent for an error."),
            consumed: messages("messaging.client.consumed.messages", "Messages that were handed to the application."),
            process: duration("messaging.process.duration", "Duration of processing a message."),
        })
    }

    pub(super) fn sent(&self, took_s: f64, attributes: &[KeyValue]) {
        self.operation.record(took_s, attributes);
        self.sent.add(1, attributes);
    }

    pub(super) fn consumed(&self, messages: u64, attributes: &[KeyValue]) {
        self.consumed.add(messages, attributes);
    }

    pub(super) fn processed(&self, took_s: f64, attributes: &[KeyValue]) {
        self.process.record(took_s, attributes);
    }
}

/// Whether a meter is of a provider that does something. The API has no question for that, but a provider that does nothing drops the callback of an
/// observable instrument, and any other keeps it. This one reports nothing.
fn is_read(meter: &Meter) -> bool {
    let kept = Arc::new(());
    let held = Arc::clone(&kept);
    meter.u64_observable_counter("messaging.client.probe").with_callback(move |_| drop(Arc::clone(&held))).build();
    Arc::strong_count(&kept) > 1
}
