//! The trace of an order where the SDK does not see it: through HTTP and gRPC. Between messages the SDK carries it on by itself.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use sdk::Envelope;

/// Name of the shop's own instrumentation.
const SCOPE: &str = "shop";

/// A layer of axum: answers a request within a span, whose parent is whoever asked if they say so.
pub async fn traced(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("?", MatchedPath::as_str);
    let method = request.method().as_str().to_owned();
    let attributes =
        vec![KeyValue::new("http.request.method", method.clone()), KeyValue::new("http.route", route.to_owned())];
    let context = serving(request.headers(), format!("{method} {route}"), attributes);
    let response = next.run(request).with_context(context.clone()).await;
    let (span, status) = (context.span(), response.status());
    span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
    if status.is_server_error() {
        span.set_status(Status::error(""));
    }
    span.end();
    response
}

/// A span of a server, and a context with it in it. `span().end()` ends it.
pub fn serving(headers: &HeaderMap, name: String, attributes: Vec<KeyValue>) -> Context {
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(headers)));
    let tracer = global::tracer(SCOPE);
    let span = tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
    let span = span.start_with_context(&tracer, &parent);
    parent.with_span(span)
}

/// The headers that carry the current trace to whoever is asked.
#[must_use]
pub fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject(&mut HeadersMut(&mut headers)));
    headers
}

/// Has a message go on with the current trace, whenever it is published: one that is put into an outbox.
pub fn carry(message: &mut Envelope) {
    sdk::telemetry::inject(message, Context::current().span().span_context());
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
