//! A bare gRPC echo on loopback: what a request costs when nothing is done for it.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use api::grpc::{Codec, Message};
use clap::Args;
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;

use crate::measure::{Meter, Report, WARMUP, body, now, runtime, seconds};

const PATH: &str = "/bench.Echo/Echo";

#[derive(Args, Debug)]
pub(crate) struct Echo {
    /// Size of a request and of its answer, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Measure for so many seconds.
    #[arg(long, value_parser = seconds, default_value = "3")]
    duration: Duration,
}

pub(crate) fn run(echo: Echo) -> anyhow::Result<Report> {
    let (address, listens) = std::sync::mpsc::sync_channel(1);
    // A thread and a runtime of its own: as a server that is another process.
    std::thread::spawn(move || -> anyhow::Result<()> {
        runtime(1)?.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            address.send(listener.local_addr()?)?;
            serve(listener).await
        })
    });
    let address = listens.recv()?;
    runtime(1)?.block_on(ask(address, echo))
}

async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let service = service_fn(|request: hyper::Request<Incoming>| async {
            let echo = tower::service_fn(|request: tonic::Request<Message>| async {
                Ok::<_, tonic::Status>(tonic::Response::new(request.into_inner()))
            });
            let mut grpc = tonic::server::Grpc::new(Codec::<Message, Message>::default());
            Ok::<_, Infallible>(grpc.unary(echo, request).await)
        });
        tokio::spawn(server::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service));
    }
}

async fn ask(address: SocketAddr, echo: Echo) -> anyhow::Result<Report> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (requests, connection) = client::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection);
    let origin = format!("http://{address}").parse()?;
    let mut grpc = tonic::client::Grpc::with_origin(Connection(requests), origin);
    let message = types::Message { body: Some(body(echo.size)), ..types::Message::default() };
    let mut meter = Meter::new(WARMUP, echo.duration, None)?;
    loop {
        let since = now();
        if meter.is_over(since) {
            return meter.finish("grpc-echo");
        }
        grpc.ready().await?;
        let request = tonic::Request::new(Message::from(message.clone()));
        let path = hyper::http::uri::PathAndQuery::from_static(PATH);
        grpc.unary(request, path, Codec::<Message, Message>::default()).await?;
        meter.note(since, now(), 1);
    }
}

/// A connection without a pool or a queue, as that of `posthouse bench` is.
struct Connection(client::SendRequest<Body>);

impl tower::Service<hyper::Request<Body>> for Connection {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
