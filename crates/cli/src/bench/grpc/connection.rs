//! One HTTP/2 connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::body::Body;

use crate::failure::{Exit, Failure};

/// Largest frame from the server.
pub(super) const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;
/// What a stream, and the connection, may be sent before it has read it. A window that runs empty would measure the round trip.
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Largest HTTP/2 frame either way, and what is copied into one before it is sent.
const HTTP2_FRAME_BYTES: u32 = 256 * 1024;
const SEND_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// A connection that sends requests as tonic makes them.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    requests: http2::SendRequest<Body>,
    origin: Uri,
    authorization: Option<HeaderValue>,
}

impl Connection {
    /// # Errors
    /// If the server cannot be reached.
    pub(super) async fn open(address: &str, authorization: Option<&str>) -> Result<Self, Failure> {
        let unreachable = |why: String| {
            Failure::new(Exit::Connection, format!("{address} cannot be reached: {why}"))
                .hint("--grpc says where the server's gRPC listener is")
        };
        let socket = TcpStream::connect(address).await.map_err(|error| unreachable(error.to_string()))?;
        socket.set_nodelay(true)?;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(HTTP2_FRAME_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        // Its error comes out of every call that it carries.
        tokio::spawn(connection);
        let wrong = |_| Failure::usage("the address or the credentials do not fit a request");
        Ok(Self {
            requests,
            origin: format!("http://{address}")
                .parse()
                .map_err(|error: hyper::http::uri::InvalidUri| wrong(error.to_string()))?,
            authorization: authorization
                .map(str::parse)
                .transpose()
                .map_err(|error: hyper::header::InvalidHeaderValue| wrong(error.to_string()))?,
        })
    }

    pub(super) fn origin(&self) -> Uri {
        self.origin.clone()
    }
}

impl tower::Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Box::pin(self.requests.send_request(request))
    }
}
