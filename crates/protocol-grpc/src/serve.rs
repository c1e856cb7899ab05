//! Serves the API on a listener: HTTP/2 only, with bounds on slow and greedy clients.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use api::grpc::FILE_DESCRIPTOR_SET;
use broker::Broker;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use net::{Connection, Drain, Listener, PeerInfo};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::app::{App, GrpcOptions};
use crate::failure::{Failure, own_response};
use crate::health::HealthOf;
use crate::limits::{
    BEGIN_TIMEOUT, CONNECTION_WINDOW_BYTES, HTTP2_FRAME_BYTES, MAX_FRAME_BYTES, MAX_METADATA, MAX_METADATA_BYTES,
    MAX_RESET_STREAMS, MAX_SEND_BYTES, MAX_STREAMS, PING_INTERVAL, PING_TIMEOUT, STREAM_WINDOW_BYTES,
};
use crate::stall::{Calls, Watched};
use crate::{admin, consume, live, publish, replay};

/// The length of HTTP/2's preface (RFC 9113, section 3.4).
const PREFACE_BYTES: u64 = 24;

/// The application protocols that a TLS listener for gRPC offers.
pub const ALPN: &[&[u8]] = &[b"h2"];

/// The services. Cheap to clone.
#[derive(Clone)]
pub struct Grpc {
    routes: Routes,
}

impl Grpc {
    /// The services of this broker.
    #[must_use]
    pub fn new(broker: Broker, options: GrpcOptions) -> Self {
        let app = App::new(broker.clone(), options);
        macro_rules! service {
            ($module:ident :: $server:ident, $service:expr) => {
                api::grpc::$module::$server::new($service).max_decoding_message_size(MAX_FRAME_BYTES)
            };
        }
        let routes = Routes::new(service!(publisher_server::PublisherServer, publish::Publishing(app.clone())))
            .add_service(service!(consumer_server::ConsumerServer, consume::Consuming(app.clone())))
            .add_service(service!(reader_server::ReaderServer, replay::Reading(app.clone())))
            .add_service(service!(live_server::LiveServer, live::Living(app.clone())))
            .add_service(service!(admin_server::AdminServer, admin::Administration(app)))
            .add_service(tonic_health::pb::health_server::HealthServer::new(HealthOf(broker)));
        Self { routes: with_reflection(routes).prepare() }
    }
}

impl Grpc {
    /// The services for callers in the same process, who call them without a socket. Their streams end with the drain.
    #[must_use]
    pub fn service(&self, drain: Drain) -> Services {
        Services { routes: self.routes.clone(), drain }
    }
}

/// The services as a tower service. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    routes: Routes,
    drain: Drain,
}

impl tower::Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.drain.clone());
        let routes = self.routes.clone();
        Box::pin(async move { Ok(answer(routes, request).await) })
    }
}

/// Adds server reflection, as its first version and as the draft before it, which older tools speak.
fn with_reflection(routes: Routes) -> Routes {
    let of = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    match (of().build_v1(), of().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => routes.add_service(v1).add_service(v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            // The descriptors are compiled in, so that a test sees this first.
            tracing::error!(%error, "server reflection is off");
            routes
        }
    }
}

/// Serves until the drain begins. Every call carries the extensions [`PeerInfo`] and [`Drain`]; streams watch the drain and end with it.
pub async fn serve(listener: Listener, grpc: Grpc, drain: Drain) {
    let connections = drain.clone();
    listener
        .run(drain, move |connection, peer| {
            let (grpc, drain) = (grpc.clone(), connections.clone());
            async move { serve_connection(connection, peer, grpc, drain).await }
        })
        .await;
}

async fn serve_connection(connection: Connection, peer: PeerInfo, grpc: Grpc, drain: Drain) {
    let addr = peer.addr;
    let service = {
        let drain = drain.clone();
        hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(drain.clone());
            let routes = grpc.routes.clone();
            async move { Ok::<_, Infallible>(answer(routes, request).await.map(Watched::new)) }
        })
    };
    let heard_bytes = connection.heard_bytes();
    let served = builder().serve_connection(TokioIo::new(connection), service);
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

async fn answer<B>(routes: Routes, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError> + Send,
{
    if request.headers().len() > MAX_METADATA {
        let why = format!("a call has at most {MAX_METADATA} metadata entries (MAX_METADATA)");
        return Status::from(Failure::too_large(why, "MAX_METADATA")).into_http();
    }
    own_response(routes.oneshot(request).await.unwrap_or_else(|never| match never {}))
}

/// Ends when the client has not even sent HTTP/2's preface in the time to begin.
async fn silent(heard_bytes: &AtomicU64) {
    tokio::time::sleep(BEGIN_TIMEOUT).await;
    if heard_bytes.load(Ordering::Relaxed) >= PREFACE_BYTES {
        std::future::pending::<()>().await;
    }
}

fn builder() -> http2::Builder<Calls> {
    let mut builder = http2::Builder::new(Calls);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .max_header_list_size(MAX_METADATA_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_RESET_STREAMS)
        .max_send_buf_size(MAX_SEND_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
