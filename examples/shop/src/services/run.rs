//! What all services do when they are started, and when they are to stop.

use std::future::Future;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use futures_util::future::BoxFuture;
use sdk::sql::Store;
use sdk::telemetry::{self, Guard, Identity};
use sdk::transport::{Transport, TransportError};
use sdk::{Client, Running, Service, ServiceError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::db::Db;
use crate::http::{self, Readiness};
use crate::settings::{Common, connect};

/// The pause between attempts to start while the broker is away.
const START_AGAIN: Duration = Duration::from_millis(500);

/// Begins the log of this process, on standard error, and the export of its traces if there is somewhere to send them: until the guard is dropped.
pub(super) fn observe(service: &str, common: &Common) -> anyhow::Result<Option<Guard>> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let lines = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let identity = Identity {
        service: service.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: std::process::id().to_string(),
    };
    let guard = common.otlp.as_deref().map(|url| telemetry::otlp(&identity, Some(url))).transpose()?;
    let spans = guard.as_ref().map(Guard::layer);
    // A second service in the same process, as in tests, logs as the first one does.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(spans).try_init();
    Ok(guard)
}

/// Serves HTTP at once, runs the service as soon as there is a broker, and stops both when told to. What a service makes of messages is
/// built anew for each attempt to start it. What runs beside it does not end by itself: that it does is an error.
pub(super) async fn run<S>(
    common: &Common,
    router: Router,
    service: impl Fn(&dyn Transport) -> Service<S>,
    beside: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()>
where
    S: Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind(common.http).await.with_context(|| format!("listening on {}", common.http))?;
    let (ready, stop) = (Readiness::default(), CancellationToken::new());
    let front = tokio::spawn(http::serve(listener, router, ready.clone(), stop.clone()));
    let work = async {
        let transport = connect(common.transport, &common.broker).await?;
        let running = start(&transport, &service).await?;
        ready.begin(running.health().clone());
        tracing::info!(service = running.name(), http = %common.http, "ready");
        Ok::<_, anyhow::Error>((transport, running))
    };
    let stopping = stopping(common.leashed);
    tokio::pin!(stopping, beside);
    let started = tokio::select! {
        started = work => Some(started?),
        () = &mut stopping => None,
        ended = &mut beside => return ended,
    };
    if let Some((transport, running)) = started {
        tokio::select! {
            () = &mut stopping => {}
            ended = &mut beside => return ended,
        }
        tracing::info!("stopping");
        running.stop().await;
        transport.close().await;
    }
    stop.cancel();
    front.await.context("the HTTP side ended by itself")?.context("the HTTP side failed")
}

/// Starts a service, however often that takes while the broker is away.
async fn start<S>(
    transport: &Arc<dyn Transport>,
    service: impl Fn(&dyn Transport) -> Service<S>,
) -> Result<Running, ServiceError>
where
    S: Clone + Send + Sync + 'static,
{
    loop {
        match service(&**transport).start(Arc::clone(transport)).await {
            Err(ServiceError::Transport { error: error @ TransportError::Unavailable { .. }, .. }) => {
                tracing::warn!(%error, "not started yet");
                tokio::time::sleep(START_AGAIN).await;
            }
            started => return started,
        }
    }
}

/// A task that lets the inbox forget what cannot come again.
pub(super) fn forget(
    store: &Store<Db>,
) -> impl FnOnce((), Client, CancellationToken) -> BoxFuture<'static, ()> + Send + use<> {
    let store = store.clone();
    move |(), _, stop| Box::pin(async move { store.maintain(stop).await })
}

/// Ready when this process is to stop: by a signal, or because whoever started it is gone.
async fn stopping(leashed: bool) {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    let abandoned = async {
        if !leashed {
            return std::future::pending().await;
        }
        let (mut input, mut byte) = (tokio::io::stdin(), [0]);
        // Nothing is ever written there: it ends, or something is wrong with it.
        while input.read(&mut byte).await.is_ok_and(|bytes| bytes > 0) {}
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
        () = abandoned => {}
    }
}
