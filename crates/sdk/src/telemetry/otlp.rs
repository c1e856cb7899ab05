//! Export of traces and metrics by OTLP over gRPC.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::{LOG_TARGET, Providers, SCOPE, scope};

/// How long the end of a service waits for what was not yet exported, for traces and for metrics each.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Who exports: the resource of every span and metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `service.name`.
    pub service: String,
    /// `service.version`.
    pub version: String,
    /// `service.instance.id`, another for each process.
    pub instance: String,
}

/// Why traces and metrics are not exported. The service can run all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// The endpoint or another setting makes no sense.
    #[error(
        "traces and metrics cannot be exported: {0}; look at the endpoint and at the variables OTEL_EXPORTER_OTLP_*"
    )]
    Settings(String),
    /// The thread that exports could not be started.
    #[error("the thread that exports traces and metrics cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Exports the process's traces and metrics by OTLP over gRPC, from now until the guard is dropped: call it first in `main`, before anything of the SDK is made.
///
/// The endpoint is `http://host:4317` or `https://...`; `None` is what `OTEL_EXPORTER_OTLP_ENDPOINT` says, or else `http://localhost:4317`. The other variables of
/// OpenTelemetry's specification hold as well: `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*` for the batches of spans,
/// `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_EXPORTER_OTLP_HEADERS` and so on. The queue of spans that wait is bounded; a collector that is away costs
/// spans, and never a message.
///
/// ```no_run
/// use sdk::telemetry::{self, Identity};
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let identity = Identity {
///         service: "payment".to_owned(),
///         version: env!("CARGO_PKG_VERSION").to_owned(),
///         instance: std::process::id().to_string(),
///     };
///     let telemetry = telemetry::otlp(&identity, None)?;
///     // ... the service ...
///     telemetry.shutdown();
///     Ok(())
/// }
/// ```
///
/// # Errors
/// [`OtlpError`]. That nobody listens at the endpoint is none: exports are tried again and again.
pub fn otlp(identity: &Identity, endpoint: Option<&str>) -> Result<Guard, OtlpError> {
    let guard = Guard::new(identity, endpoint)?;
    guard.install();
    Ok(guard)
}

/// Holds an export. What was not yet exported is exported when it is dropped, or by [`shutdown`](Self::shutdown).
#[derive(Debug)]
#[must_use = "the export ends when this is dropped"]
pub struct Guard {
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
    /// The exporters' connections live on a runtime of their own, so that a blocked or ended runtime of the service cannot hold up the last export.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Guard {
    /// As [`otlp`], but for those who are handed its [`providers`](Self::providers) alone.
    ///
    /// # Errors
    /// [`OtlpError`].
    pub fn new(identity: &Identity, endpoint: Option<&str>) -> Result<Self, OtlpError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build()?;
        let entered = runtime.enter();
        let settings = |error: opentelemetry_otlp::ExporterBuildError| OtlpError::Settings(error.to_string());
        let (mut spans, mut metrics) = (SpanExporter::builder().with_tonic(), MetricExporter::builder().with_tonic());
        if let Some(endpoint) = endpoint {
            (spans, metrics) = (spans.with_endpoint(endpoint), metrics.with_endpoint(endpoint));
        }
        let (spans, metrics) = (spans.build().map_err(settings)?, metrics.build().map_err(settings)?);
        let resource = Resource::builder()
            .with_service_name(identity.service.clone())
            .with_attribute(KeyValue::new("service.version", identity.version.clone()))
            .with_attribute(KeyValue::new("service.instance.id", identity.instance.clone()))
            .build();
        let tracers = SdkTracerProvider::builder().with_batch_exporter(spans).with_resource(resource.clone()).build();
        let meters = SdkMeterProvider::builder().with_periodic_exporter(metrics).with_resource(resource).build();
        drop(entered);
        Ok(Self { tracers, meters, runtime: Some(runtime) })
    }

    /// Makes it the process's: what uses OpenTelemetry's global providers, and W3C propagation, uses it from now on.
    pub fn install(&self) {
        global::set_tracer_provider(self.tracers.clone());
        global::set_meter_provider(self.meters.clone());
        global::set_text_map_propagator(TraceContextPropagator::new());
    }

    /// Its providers.
    #[must_use]
    pub fn providers(&self) -> Providers {
        Providers::new(&self.tracers, &self.meters)
    }

    /// A layer of `tracing-subscriber` that makes spans of the service's own `tracing` spans: those within a handler become children of its message's
    /// span, and what is logged in them becomes their events.
    ///
    /// ```no_run
    /// use tracing_subscriber::layer::SubscriberExt;
    /// use tracing_subscriber::util::SubscriberInitExt;
    ///
    /// # fn example(guard: &sdk::telemetry::Guard) {
    /// tracing_subscriber::registry().with(tracing_subscriber::fmt::layer()).with(guard.layer()).init();
    /// # }
    /// ```
    #[must_use]
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let tracer = self.tracers.tracer_with_scope(scope());
        // The SDK makes its messages' spans itself, and the exporter's own log lines would never end.
        let ours = filter_fn(|metadata| {
            let target = metadata.target();
            target != LOG_TARGET && !NOT_EXPORTED.iter().any(|prefix| target.starts_with(prefix))
        });
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours)
    }

    /// Exports what waits, now.
    pub fn flush(&self) {
        report("traces", self.tracers.force_flush());
        report("metrics", self.meters.force_flush());
    }

    /// Exports what waits, and ends. Blocks for at most some seconds; from asynchronous code dropping it last in `main` is as good.
    pub fn shutdown(self) {
        drop(self);
    }
}

/// What the export itself stands on.
const NOT_EXPORTED: [&str; 5] = ["opentelemetry", "tonic", "h2", "hyper", "tower"];

impl Drop for Guard {
    fn drop(&mut self) {
        report("traces", self.tracers.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        report("metrics", self.meters.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it would be refused within another runtime, and nothing is left to wait for.
            runtime.shutdown_background();
        }
    }
}

fn report(what: &'static str, result: opentelemetry_sdk::error::OTelSdkResult) {
    if let Err(error) = result {
        tracing::warn!(target: SCOPE, %error, "{what} were not all exported; they are lost, messages are not");
    }
}
