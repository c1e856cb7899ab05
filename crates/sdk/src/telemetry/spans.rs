//! What is watched from its beginning to its end.

use std::sync::Arc;
use std::time::Instant;

use opentelemetry::global::BoxedSpan;
use opentelemetry::trace::{Span, Status, TraceContextExt, TraceId};
use opentelemetry::{Context, KeyValue};

use super::{ErrorType, Inner, LOG_TARGET, attributes};
use crate::Envelope;

/// `error.type` of what was given up before it came to an end.
const DROPPED: &str = "cancelled";

/// What is measured of an operation.
pub(super) struct Watch {
    inner: Arc<Inner>,
    started: Instant,
    /// The metrics' attributes.
    attributes: Vec<KeyValue>,
}

impl Watch {
    #[allow(clippy::disallowed_methods, reason = "a duration is measured where it arises")]
    pub(super) fn new(inner: Arc<Inner>, attributes: Vec<KeyValue>) -> Self {
        Self { inner, started: Instant::now(), attributes }
    }

    /// The attributes with the error, and how long it took.
    fn end(mut self, error: Option<&'static str>) -> (Arc<Inner>, f64, Vec<KeyValue>) {
        self.attributes.extend(error.map(|error| KeyValue::new(attributes::ERROR_TYPE, error)));
        (self.inner, self.started.elapsed().as_secs_f64(), self.attributes)
    }
}

/// How an operation ended.
enum End {
    Well,
    Failed(&'static str, String),
    Dropped,
}

impl End {
    fn of<T, E: ErrorType>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Well,
            Err(error) => Self::Failed(error.error_type(), error.to_string()),
        }
    }

    fn error_type(&self) -> Option<&'static str> {
        match self {
            Self::Well => None,
            Self::Failed(kind, _) => Some(kind),
            Self::Dropped => Some(DROPPED),
        }
    }

    fn status(self) -> Option<Status> {
        match self {
            Self::Well => None,
            Self::Failed(_, description) => Some(Status::error(description)),
            Self::Dropped => Some(Status::error("given up before it came to an end")),
        }
    }
}

/// A message on its way out. Dropped without [`finish`](Self::finish), it counts as given up.
#[must_use = "the span ends when this is finished or dropped"]
pub struct Producing {
    watch: Option<Watch>,
    span: Option<BoxedSpan>,
}

impl Producing {
    pub(super) const fn unwatched() -> Self {
        Self { watch: None, span: None }
    }

    pub(super) const fn new(watch: Watch, span: Option<BoxedSpan>) -> Self {
        Self { watch: Some(watch), span }
    }

    /// It was sent, or was not.
    pub fn finish<T, E: ErrorType>(mut self, result: &Result<T, E>) {
        if self.watch.is_some() {
            self.end(End::of(result));
        }
    }

    fn end(&mut self, end: End) {
        let Some(watch) = self.watch.take() else { return };
        let kind = end.error_type();
        if let Some(mut span) = self.span.take() {
            if let Some(kind) = kind {
                span.set_attribute(KeyValue::new(attributes::ERROR_TYPE, kind));
            }
            if let Some(status) = end.status() {
                span.set_status(status);
            }
            span.end();
        }
        let (inner, took_s, attributes) = watch.end(kind);
        if let Some(metrics) = &inner.metrics {
            metrics.sent(took_s, &attributes);
        }
    }
}

impl Drop for Producing {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

/// A message that is being handled. Dropped without [`finish`](Self::finish), it counts as given up.
#[must_use = "the span ends when this is finished or dropped"]
pub struct Processing {
    context: Context,
    watch: Option<Watch>,
    /// Whether the context's span is of this.
    has_span: bool,
}

impl Processing {
    pub(super) const fn unwatched(context: Context) -> Self {
        Self { context, watch: None, has_span: false }
    }

    pub(super) const fn new(context: Context, watch: Watch, has_span: bool) -> Self {
        Self { context, watch: Some(watch), has_span }
    }

    /// What the handler runs with: `handler.with_context(processing.context().clone())`, by `opentelemetry::context::FutureExt`.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// The trace that it belongs to, if it is of one.
    #[must_use]
    pub fn trace_id(&self) -> Option<TraceId> {
        let trace_id = self.context.span().span_context().trace_id();
        (trace_id != TraceId::INVALID).then_some(trace_id)
    }

    /// A span of the crate `tracing` for the handler to run in (`tracing::Instrument`), so that what it logs carries destination, message id and trace id.
    #[must_use]
    pub fn log_span(&self, destination: &str, envelope: &Envelope) -> tracing::Span {
        let span = tracing::info_span!(
            target: LOG_TARGET,
            "process",
            destination,
            message_id = tracing::field::Empty,
            trace_id = tracing::field::Empty,
        );
        if span.is_disabled() {
            return span;
        }
        if let Some(id) = &envelope.id {
            span.record("message_id", tracing::field::display(id));
        }
        if let Some(trace_id) = self.trace_id() {
            span.record("trace_id", tracing::field::display(trace_id));
        }
        span
    }

    /// It was handled, or was not.
    pub fn finish<T, E: ErrorType>(mut self, result: &Result<T, E>) {
        if self.watch.is_some() {
            self.end(End::of(result));
        }
    }

    fn end(&mut self, end: End) {
        let Some(watch) = self.watch.take() else { return };
        let kind = end.error_type();
        if self.has_span {
            let span = self.context.span();
            if let Some(kind) = kind {
                span.set_attribute(KeyValue::new(attributes::ERROR_TYPE, kind));
            }
            if let Some(status) = end.status() {
                span.set_status(status);
            }
            span.end();
        }
        let (inner, took_s, attributes) = watch.end(kind);
        if let Some(metrics) = &inner.metrics {
            metrics.processed(took_s, &attributes);
        }
    }
}

impl Drop for Processing {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}
