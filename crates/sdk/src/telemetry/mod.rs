//! Traces and metrics of messaging, as OpenTelemetry's conventions name them.
//!
//! The SDK calls OpenTelemetry's API alone. As long as a service installs no provider (its own, or that of `telemetry::otlp` with the feature `otlp`) there are no spans
//! and no metrics, and a message costs next to nothing more. The *trace context* is passed on all the same: a service without tracing does not
//! cut the trace of the services around it.
//!
//! # One order, one trace
//!
//! The conventions leave open whether a consumer's span is a child of its producer's or only linked to it. Here it is both, where a message is
//! handled alone: `process orders` is a *child* of `send orders`, in whatever service, and what the handler publishes goes on from there. All that
//! follows from an order is therefore one trace with one root, which any viewer shows as a tree. The *link*, which the conventions want, says the same to
//! those who look for links. Where several messages are handled at once no one of them can be the parent: the span then has a
//! link to each ([`Telemetry::processing_many`]).
//!
//! A message that carries a trace context before it is published, such as one out of an outbox, goes on with that trace, and not with the one of the relay
//! that happens to publish it.
//!
//! # In log lines
//!
//! [`Processing::log_span`] is a span of the crate `tracing` that carries the trace id, so that every line that a handler logs can be
//! found by it, whether or not traces are exported.

mod attributes;
mod context;
mod error_type;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod spans;

use std::fmt;
use std::sync::Arc;

use opentelemetry::global::{self, BoxedTracer};
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};

use self::attributes::Place;
use self::metrics::Metrics;
use self::spans::Watch;
use crate::Envelope;
use crate::transport::Destination;

pub use self::context::{extract, inject};
pub use self::error_type::ErrorType;
#[cfg(feature = "otlp")]
pub use self::otlp::{Guard, Identity, OtlpError, otlp};
pub use self::spans::{Processing, Producing};

/// Name of the instrumentation scope, which every span and metric carries.
const SCOPE: &str = "sdk";
/// Target of the spans of `tracing` that carry the trace id: a layer that makes OpenTelemetry spans of them would show each message twice.
pub const LOG_TARGET: &str = "sdk::telemetry::message";

/// Where spans and metrics go.
#[derive(Clone)]
pub struct Providers {
    tracer: Arc<BoxedTracer>,
    meter: Meter,
}

impl Providers {
    /// Those that are installed for the process, at this moment.
    #[must_use]
    pub fn global() -> Self {
        Self { tracer: Arc::new(global::tracer_with_scope(scope())), meter: global::meter_with_scope(scope()) }
    }

    /// These, as where several services run in one process.
    #[must_use]
    pub fn new<P>(tracers: &P, meters: &dyn MeterProvider) -> Self
    where
        P: TracerProvider,
        P::Tracer: Send + Sync + 'static,
        <P::Tracer as Tracer>::Span: Send + Sync + 'static,
    {
        let tracer = BoxedTracer::new(Box::new(tracers.tracer_with_scope(scope())));
        Self { tracer: Arc::new(tracer), meter: meters.meter_with_scope(scope()) }
    }
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Providers").finish_non_exhaustive()
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build()
}

/// Whether a tracer makes spans. The API has no question for that, but a tracer that does nothing hands on its parent's context even where telemetry is
/// suppressed, and any other makes no span then.
fn makes_spans(tracer: &BoxedTracer) -> bool {
    let parent = SpanContext::new(TraceId::from(1), SpanId::from(1), TraceFlags::NOT_SAMPLED, true, TraceState::NONE);
    let context = Context::new().with_remote_span_context(parent.clone()).with_telemetry_suppressed();
    tracer.build_with_context(SpanBuilder::from_name("probe"), &context).span_context() != &parent
}

/// Makes the spans and metrics of one service on one transport.
///
/// ```
/// use sdk::Envelope;
/// use sdk::telemetry::{Providers, Source, Telemetry};
/// use sdk::transport::{Destination, PublishError};
///
/// let telemetry = Telemetry::new(&Providers::global(), "posthouse", Some(("localhost", 7443)));
///
/// // To publish:
/// let mut envelope = Envelope::new("order.created", "{}");
/// let span = telemetry.producing(&mut envelope, &Destination::Topic("orders".to_owned()));
/// let published: Result<(), PublishError> = Ok(());
/// span.finish(&published);
///
/// // To handle:
/// let source = Source::Queue { queue: "payment", group: Some("payment") };
/// let span = telemetry.processing(&envelope, &source);
/// let handled: Result<(), sdk::Error> = Ok(()); // what ran with `span.context()`
/// span.finish(&handled);
/// ```
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// `None` if nobody looks.
    inner: Option<Arc<Inner>>,
}

/// What watches have in common.
struct Inner {
    tracer: Option<Arc<BoxedTracer>>,
    metrics: Option<Metrics>,
    /// On every span and metric.
    base: Vec<KeyValue>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("traces", &self.tracer.is_some())
            .field("metrics", &self.metrics.is_some())
            .finish()
    }
}

/// What a message was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source<'a> {
    /// A queue.
    Queue {
        /// Its name.
        queue: &'a str,
        /// Those who share its messages: the service.
        group: Option<&'a str>,
    },
    /// A topic's log.
    Log {
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: u32,
        /// The name that its offsets are committed under.
        group: Option<&'a str>,
    },
    /// What is published live.
    Live {
        /// The pattern that was listened to.
        pattern: &'a str,
        /// Those who share its messages.
        group: Option<&'a str>,
    },
}

impl Telemetry {
    /// For one transport: `system` is [`Transport::system`](crate::transport::Transport::system), `server` the broker's host and port, if there is one.
    ///
    /// Whether anything is watched is decided here: install providers first.
    #[must_use]
    pub fn new(providers: &Providers, system: &'static str, server: Option<(&str, u16)>) -> Self {
        let tracer = makes_spans(&providers.tracer).then(|| Arc::clone(&providers.tracer));
        let metrics = Metrics::new(&providers.meter);
        if tracer.is_none() && metrics.is_none() {
            return Self::off();
        }
        let mut base = vec![KeyValue::new(attributes::SYSTEM, system)];
        if let Some((address, port)) = server {
            base.push(KeyValue::new(attributes::SERVER_ADDRESS, address.to_owned()));
            base.push(KeyValue::new(attributes::SERVER_PORT, i64::from(port)));
        }
        Self { inner: Some(Arc::new(Inner { tracer, metrics, base })) }
    }

    /// Watches nothing, and passes trace contexts on.
    #[must_use]
    pub const fn off() -> Self {
        Self { inner: None }
    }

    /// Whether there are spans or metrics.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.inner.is_some()
    }

    /// A message is about to be sent: begins the span `send <destination>` and writes its context into the message's headers. The span is a child of the
    /// context that the message carries, if it does, and of the current one otherwise. A message that is sent again after a lost connection is
    /// still one sending.
    #[must_use = "the span ends when this is finished or dropped"]
    pub fn producing(&self, envelope: &mut Envelope, to: &Destination) -> Producing {
        match &self.inner {
            None => pass_on(envelope),
            Some(inner) => inner.produce(envelope, |envelope| Place::sent(to, envelope)),
        }
    }

    /// An answer is about to be sent: as [`producing`](Self::producing), to a destination that lives as long as its request.
    #[must_use = "the span ends when this is finished or dropped"]
    pub fn answering(&self, answer: &mut Envelope) -> Producing {
        match &self.inner {
            None => pass_on(answer),
            Some(inner) => inner.produce(answer, |_| Place::answered()),
        }
    }

    /// A message is about to be handled: begins the span `process <destination>`, a child of the producer's span and linked to it.
    ///
    /// Run the handler with [`Processing::context`], so that what it publishes, and the spans that it makes, belong to the trace.
    #[must_use = "the span ends when this is finished or dropped"]
    pub fn processing(&self, envelope: &Envelope, from: &Source<'_>) -> Processing {
        let producer = extract(envelope);
        let parent = match &producer {
            Some(producer) => Context::current().with_remote_span_context(producer.clone()),
            None => Context::current(),
        };
        let Some(inner) = &self.inner else { return Processing::unwatched(parent) };
        let place = Place::taken(from, Some(envelope));
        let mut extra = Vec::with_capacity(4);
        attributes::of_message(envelope, &mut extra);
        inner.process(parent, &place, extra, producer, 1)
    }

    /// Several messages are about to be handled at once: begins one span, a child of the current one, linked to each message's producer.
    #[must_use = "the span ends when this is finished or dropped"]
    pub fn processing_many<'a>(
        &self,
        envelopes: impl IntoIterator<Item = &'a Envelope>,
        from: &Source<'_>,
    ) -> Processing {
        let Some(inner) = &self.inner else { return Processing::unwatched(Context::current()) };
        let (mut count, mut links) = (0, Vec::new());
        for envelope in envelopes {
            count += 1;
            links.extend(extract(envelope));
        }
        let extra = vec![KeyValue::new(attributes::BATCH_COUNT, i64::try_from(count).unwrap_or(i64::MAX))];
        inner.process(Context::current(), &Place::taken(from, None), extra, links, count)
    }
}

/// Writes the current trace context into messages that carry none, for those that are published later, or by somebody else.
pub(crate) fn inject_current(envelopes: &mut [Envelope]) {
    envelopes.iter_mut().for_each(|envelope| drop(pass_on(envelope)));
}

/// Sends a message without a span, with the context that it belongs to.
fn pass_on(envelope: &mut Envelope) -> Producing {
    Context::map_current(|current| {
        // One that it carries already is where it belongs.
        if current.has_active_span() && envelope.header(crate::headers::TRACEPARENT).is_none() {
            inject(envelope, current.span().span_context());
        }
    });
    Producing::unwatched()
}

impl Inner {
    fn produce(self: &Arc<Self>, envelope: &mut Envelope, place: impl FnOnce(&Envelope) -> Place) -> Producing {
        let place = place(envelope);
        let shared = self.shared("send", "send", &place);
        let parent = match extract(envelope) {
            Some(carried) => Context::new().with_remote_span_context(carried),
            None => Context::current(),
        };
        let span = self.tracer.as_ref().map(|tracer| {
            let mut attributes = shared.clone();
            attributes.extend(place.span);
            attributes::of_message(envelope, &mut attributes);
            let builder = SpanBuilder::from_name(format!("send {}", place.name)).with_kind(SpanKind::Producer);
            tracer.build_with_context(builder.with_attributes(attributes), &parent)
        });
        match &span {
            Some(span) => inject(envelope, span.span_context()),
            None => inject(envelope, parent.span().span_context()),
        }
        Producing::new(Watch::new(Arc::clone(self), shared), span)
    }

    fn process(
        self: &Arc<Self>,
        parent: Context,
        place: &Place,
        extra: Vec<KeyValue>,
        links: impl IntoIterator<Item = SpanContext>,
        messages: u64,
    ) -> Processing {
        let shared = self.shared("process", "process", place);
        if let Some(metrics) = &self.metrics {
            metrics.consumed(messages, &shared);
        }
        let context = match &self.tracer {
            None => parent,
            Some(tracer) => {
                let attributes = shared.iter().chain(&place.span).cloned().chain(extra).collect::<Vec<_>>();
                let links = links.into_iter().map(Link::with_context).collect();
                let builder = SpanBuilder::from_name(format!("process {}", place.name)).with_kind(SpanKind::Consumer);
                let span = tracer.build_with_context(builder.with_attributes(attributes).with_links(links), &parent);
                parent.with_span(span)
            }
        };
        Processing::new(context, Watch::new(Arc::clone(self), shared), self.tracer.is_some())
    }

    /// The attributes that a span has in common with the metrics about it.
    fn shared(&self, name: &'static str, kind: &'static str, place: &Place) -> Vec<KeyValue> {
        // Room for what a span adds and for the error.
        let mut shared = Vec::with_capacity(self.base.len() + place.shared.len() + 7);
        shared.extend_from_slice(&self.base);
        shared.push(KeyValue::new(attributes::OPERATION_NAME, name));
        shared.push(KeyValue::new(attributes::OPERATION_TYPE, kind));
        shared.extend_from_slice(&place.shared);
        shared
    }
}

#[cfg(all(test, feature = "otlp", feature = "testkit"))]
mod export_tests;
#[cfg(test)]
mod tests;
