//! The gRPC API: one HTTP/2 connection for each connection of the benchmark, without a pool or a queue in between.

mod connection;
mod consume;
mod publish;
mod request;

use api::grpc::{ReplyFrame, Target as WireTarget, live_client::LiveClient, target};
use futures_util::stream;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use self::connection::Connection;
use super::driver::{Driver, Target};
use crate::client::Client;
use crate::failure::{Exit, Failure};

/// Frames of a stream that wait to be written.
const OUTBOUND_FRAMES: usize = 1024;

/// Calls of the gRPC API.
#[derive(Clone, Debug)]
pub(super) struct Grpc {
    address: String,
    namespace: String,
    authorization: Option<String>,
    /// Publishes are calls of their own, instead of frames of a stream.
    unary: bool,
    /// The server has TLS on all its listeners.
    is_tls: bool,
}

impl Grpc {
    /// Of a server whose gRPC listener is at `address`.
    pub(super) fn new(client: &Client, address: String, unary: bool) -> Self {
        let (namespace, authorization) = (client.namespace().to_owned(), client.authorization());
        Self { address, namespace, authorization, unary, is_tls: client.base().scheme() == "https" }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        if self.is_tls {
            return Err(Failure::usage("the gRPC client of the benchmark speaks no TLS")
                .hint("measure over --protocol http, or give --url http://..."));
        }
        Connection::open(&self.address, self.authorization.as_deref()).await
    }
}

impl Driver for Grpc {
    type Publisher = publish::Publisher;
    type Asker = request::Asker;
    type Consumer = consume::Consumer;

    async fn publisher(&self, targets: &[Target]) -> Result<publish::Publisher, Failure> {
        let targets = targets.iter().map(wire).collect();
        publish::Publisher::open(self.connect().await?, &self.namespace, targets, self.unary).await
    }

    async fn asker(&self, subject: &str) -> Result<request::Asker, Failure> {
        Ok(request::Asker::new(self.connect().await?, &self.namespace, subject))
    }

    async fn consumer(&self, queue: &str, credit: u32) -> Result<consume::Consumer, Failure> {
        consume::Consumer::open(self.connect().await?, &self.namespace, queue, credit).await
    }

    async fn answer(&self, subject: &str, ready: oneshot::Sender<()>) -> Result<(), Failure> {
        let connection = self.connect().await?;
        let mut client = LiveClient::with_origin(connection.clone(), connection.origin())
            .max_decoding_message_size(connection::MAX_FRAME_BYTES);
        let (out, frames) = mpsc::channel::<ReplyFrame>(OUTBOUND_FRAMES);
        request::answer(&mut client, out, outbound(frames), &self.namespace, subject, ready).await
    }
}

fn wire(target: &Target) -> WireTarget {
    let to = match target {
        Target::Queue(name) => target::To::Queue(name.clone()),
        Target::Topic(name) => target::To::Topic(name.clone()),
    };
    WireTarget { to: Some(to) }
}

/// What is sent into the channel, as a call's stream.
fn outbound<T: Send + 'static>(mut frames: mpsc::Receiver<T>) -> impl futures_util::Stream<Item = T> + Send + 'static {
    stream::poll_fn(move |context| frames.poll_recv(context))
}

/// What a call that failed says.
fn refused(status: &Status) -> Failure {
    let exit = match status.code() {
        tonic::Code::InvalidArgument => Exit::Usage,
        tonic::Code::NotFound => Exit::NotFound,
        tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Exit::Access,
        tonic::Code::DeadlineExceeded => Exit::Timeout,
        tonic::Code::Unavailable | tonic::Code::Unknown => Exit::Connection,
        tonic::Code::FailedPrecondition | tonic::Code::ResourceExhausted | tonic::Code::Aborted => Exit::Refused,
        _ => Exit::Failed,
    };
    let what = match status.message() {
        "" => format!("the server answers {:?}", status.code()),
        message => message.to_owned(),
    };
    Failure::new(exit, what)
}

fn gone() -> Failure {
    Failure::new(Exit::Connection, "the server ended the stream")
}
