//! Serves a router on a listener: HTTP/1.1 and HTTP/2 on one port, with bounds on slow and greedy clients.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use net::{Connection, Drain, Listener, PeerInfo};
use tower::ServiceExt;

/// How long a client may take to send a request's head, and how long an idle connection is kept between requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes: request line and headers.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// Most header fields of a request over HTTP/1.1.
const MAX_HEADERS: usize = 128;
/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// Streams that an HTTP/2 client may open and reset before they were answered; more close its connection ("rapid reset").
const MAX_RESET_STREAMS: usize = 64;
/// Bytes that wait to be written on one HTTP/2 stream.
const MAX_SEND_BYTES: usize = 1024 * 1024;
/// How often a silent HTTP/2 connection is asked for a sign of life, and how long that may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// See [`PING_INTERVAL`].
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The bytes that tell HTTP/2 from HTTP/1.1: the length of its preface (RFC 9113, section 3.4).
const PREFACE_BYTES: u64 = 24;

/// The application protocols that a TLS listener for HTTP offers, the preferred first.
pub const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Serves until the drain begins. Every request carries the extensions [`PeerInfo`] and [`Drain`]; answers that may last, such as long
/// polls and streams, watch the drain and end with it.
pub async fn serve(listener: Listener, router: Router, drain: Drain) {
    let connections = drain.clone();
    listener
        .run(drain, move |connection, peer| {
            let (router, drain) = (router.clone(), connections.clone());
            async move { serve_connection(connection, peer, router, drain).await }
        })
        .await;
}

async fn serve_connection(connection: Connection, peer: PeerInfo, router: Router, drain: Drain) {
    let addr = peer.addr;
    let service = {
        let drain = drain.clone();
        hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let (mut request, router) = (request.map(Body::new), router.clone());
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(drain.clone());
            async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
        })
    };
    let builder = builder();
    let heard_bytes = connection.heard_bytes();
    let served = builder.serve_connection_with_upgrades(TokioIo::new(connection), service);
    tokio::pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = silent(&heard_bytes) => return,
        () = drain.begun() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        // Clients go away and send nonsense all day: this is theirs, and of interest only to who looks for it.
        tracing::debug!(peer = %addr, %error, "connection ended");
    }
}

/// Ends when the client has not even sent enough to tell its version of HTTP in the time for a head. The timeouts of [`builder`]
/// begin only once the version is known.
async fn silent(heard_bytes: &AtomicU64) {
    tokio::time::sleep(HEADER_TIMEOUT).await;
    if heard_bytes.load(Ordering::Relaxed) >= PREFACE_BYTES {
        std::future::pending::<()>().await;
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .max_send_buf_size(MAX_SEND_BYTES)
        .adaptive_window(true)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
