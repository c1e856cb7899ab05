//! A collector of traces and metrics, for tests: it takes what services export by OTLP over gRPC, as a real one does, and keeps it to look at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

/// Most spans, and most data points of metrics, that are kept. What comes after them is refused, which exporters report.
const MAX_KEPT: usize = 100_000;

/// A running collector. It ends when it is dropped.
///
/// ```no_run
/// use std::time::Duration;
/// use sdk::testkit::collector::Collector;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let collector = Collector::start().await?;
/// // Start services with OTEL_EXPORTER_OTLP_ENDPOINT set to `collector.endpoint()`, place an order, then:
/// let spans = collector.wait(Duration::from_secs(10), |spans| spans.iter().any(|span| span.service == "loyalty")).await;
/// assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id), "one order is one trace");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    kept: Arc<Kept>,
    _ends: DropGuard,
}

/// Names and values, these as text.
pub type Attributes = Vec<(String, String)>;

/// A span as it was exported.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// `service.name` of the service that made it.
    pub service: String,
    /// `service.instance.id`.
    pub instance: String,
    /// Its name: `send orders`.
    pub name: String,
    /// `Internal`, `Server`, `Client`, `Producer` or `Consumer`.
    pub kind: SpanKind,
    /// The trace, in hex.
    pub trace_id: String,
    /// Its id, in hex.
    pub span_id: String,
    /// The id of its parent, in hex; `None` for the root of a trace.
    pub parent_id: Option<String>,
    /// The spans that it is linked to.
    pub links: Vec<LinkTo>,
    /// Its attributes, with values as text.
    pub attributes: Attributes,
    /// What went wrong, if its status is that of an error.
    pub error: Option<String>,
    /// When it began and ended, in nanoseconds since 1970.
    pub times_ns: (u64, u64),
}

/// What a span is linked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTo {
    /// The trace, in hex.
    pub trace_id: String,
    /// The span, in hex.
    pub span_id: String,
}

impl Span {
    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }

    /// Whether it is linked to this span.
    #[must_use]
    pub fn is_linked_to(&self, other: &Span) -> bool {
        self.links.iter().any(|link| link.trace_id == other.trace_id && link.span_id == other.span_id)
    }

    /// Whether this span is its parent.
    #[must_use]
    pub fn is_child_of(&self, other: &Span) -> bool {
        self.trace_id == other.trace_id && self.parent_id.as_deref() == Some(other.span_id.as_str())
    }
}

/// A data point of a metric as it was exported. The same series comes again with each export.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// `service.name` of the service that made it.
    pub service: String,
    /// The metric.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Its attributes, with values as text.
    pub attributes: Attributes,
    /// The value of a counter, or how often a histogram was recorded.
    pub count: u64,
    /// The bounds of a histogram's buckets.
    pub bounds: Vec<f64>,
}

impl Point {
    /// The value of an attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        find(&self.attributes, name)
    }
}

fn find<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

impl Collector {
    /// Starts one on a free port of this machine.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one at an address.
    ///
    /// # Errors
    /// If it cannot listen there.
    pub async fn start_on(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (changed, _) = watch::channel(());
        let kept = Arc::new(Kept { spans: Mutex::default(), points: Mutex::default(), changed });
        let ends = CancellationToken::new();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::from_arc(Arc::clone(&kept)))
            .add_service(MetricsServiceServer::from_arc(Arc::clone(&kept)))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), ends.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the collector ended");
            }
        });
        Ok(Self { address, kept, _ends: ends.drop_guard() })
    }

    /// What services export to: `http://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans so far, as they came.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().clone()
    }

    /// The data points of metrics so far, as they came.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.kept.points.lock().clone()
    }

    /// Waits until the spans are as wanted, or for so long; the spans then.
    pub async fn wait(&self, at_most: Duration, wanted: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let mut changed = self.kept.changed.subscribe();
        let until_wanted = async {
            while !wanted(&self.kept.spans.lock()) {
                if changed.changed().await.is_err() {
                    break;
                }
            }
        };
        // Whether it came or not is for the caller to say, who sees what is there.
        let _ = tokio::time::timeout(at_most, until_wanted).await;
        self.spans()
    }
}

/// What came.
#[derive(Debug)]
struct Kept {
    spans: Mutex<Vec<Span>>,
    points: Mutex<Vec<Point>>,
    changed: watch::Sender<()>,
}

impl Kept {
    fn keep<T>(&self, place: &Mutex<Vec<T>>, new: Vec<T>) -> Result<(), Status> {
        let mut kept = place.lock();
        if kept.len().saturating_add(new.len()) > MAX_KEPT {
            return Err(Status::resource_exhausted(format!("this test collector keeps {MAX_KEPT} at most")));
        }
        kept.extend(new);
        drop(kept);
        self.changed.send_replace(());
        Ok(())
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = Vec::new();
        for resource_spans in request.into_inner().resource_spans {
            let resource = texts(resource_spans.resource.map(|resource| resource.attributes).unwrap_or_default());
            let of_scopes = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(of_scopes.map(|span| read_span(span, &resource)));
        }
        self.keep(&self.spans, spans)?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Kept {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let mut points = Vec::new();
        for resource_metrics in request.into_inner().resource_metrics {
            let resource = texts(resource_metrics.resource.map(|resource| resource.attributes).unwrap_or_default());
            let service = find(&resource, "service.name").unwrap_or_default();
            for metric in resource_metrics.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                let data = metric.data.map(read_points).unwrap_or_default();
                points.extend(data.into_iter().map(|(attributes, count, bounds)| Point {
                    service: service.to_owned(),
                    name: metric.name.clone(),
                    unit: metric.unit.clone(),
                    attributes,
                    count,
                    bounds,
                }));
            }
        }
        self.keep(&self.points, points)?;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn read_span(span: WireSpan, resource: &[(String, String)]) -> Span {
    let of_resource = |name| find(resource, name).unwrap_or_default().to_owned();
    let links = span.links.iter();
    let links = links.map(|link| LinkTo { trace_id: hex(&link.trace_id), span_id: hex(&link.span_id) }).collect();
    let failed = span.status.as_ref().filter(|status| status.code == STATUS_ERROR);
    Span {
        service: of_resource("service.name"),
        instance: of_resource("service.instance.id"),
        kind: span.kind(),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
        links,
        error: failed.map(|status| status.message.clone()),
        times_ns: (span.start_time_unix_nano, span.end_time_unix_nano),
        name: span.name,
        attributes: texts(span.attributes),
    }
}

/// `STATUS_CODE_ERROR` of OTLP.
const STATUS_ERROR: i32 = 2;

/// Attributes, count and bounds of each data point.
fn read_points(data: Data) -> Vec<(Attributes, u64, Vec<f64>)> {
    use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
    match data {
        Data::Sum(sum) => sum
            .data_points
            .into_iter()
            .map(|point| {
                let count = match point.value {
                    Some(Value::AsInt(value)) => u64::try_from(value).unwrap_or_default(),
                    Some(Value::AsDouble(value)) => value as u64,
                    None => 0,
                };
                (texts(point.attributes), count, Vec::new())
            })
            .collect(),
        Data::Histogram(histogram) => histogram
            .data_points
            .into_iter()
            .map(|point| (texts(point.attributes), point.count, point.explicit_bounds))
            .collect(),
        // The SDK makes no others.
        _ => Vec::new(),
    }
}

fn texts(attributes: Vec<KeyValue>) -> Attributes {
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
