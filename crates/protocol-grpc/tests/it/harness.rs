//! A broker in memory behind a listener, and a client of it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::grpc::consumer_client::ConsumerClient;
use api::grpc::publisher_client::PublisherClient;
use api::grpc::{self as g};
use broker::{Broker, BrokerOptions, Session};
use log::MemoryLog;
use net::{Drain, Listener, ListenerOptions};
use protocol_grpc::{Grpc, GrpcOptions};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use types::clock::SystemClock;

/// Longest that anything here may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) drain: Drain,
    pub(crate) channel: Channel,
    pub(crate) address: SocketAddr,
    running: Arc<Running>,
}

/// Ends with the last handle on the server.
struct Running {
    drain: Drain,
    ticker: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ticker.abort();
        self.drain.begin();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(BrokerOptions::default()).await
    }

    pub(crate) async fn with(options: BrokerOptions) -> Self {
        let clock = Arc::new(SystemClock::new());
        let broker = Broker::open(Arc::new(MemoryLog::new()), clock.clone(), options).unwrap();
        let options = ListenerOptions { name: "grpc", flag: "--grpc", tls: None, max_connections: 100 };
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), options).await.unwrap();
        let (address, drain) = (listener.local_addr(), Drain::new());
        let grpc = Grpc::new(broker.clone(), GrpcOptions::new(clock));
        tokio::spawn(protocol_grpc::serve(listener, grpc, drain.clone()));
        let ticking = broker.clone();
        let ticker = tokio::spawn(async move {
            loop {
                let pause = ticking.tick().await;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = ticking.tick_due() => {}
                }
            }
        });
        let channel = connect(address).await;
        let running = Arc::new(Running { drain: drain.clone(), ticker });
        Self { broker, drain, channel, address, running }
    }

    /// A handle on the same server with a connection of its own.
    pub(crate) async fn another(&self) -> Self {
        let channel = connect(self.address).await;
        let (broker, drain, running) = (self.broker.clone(), self.drain.clone(), Arc::clone(&self.running));
        Self { broker, drain, channel, address: self.address, running }
    }

    pub(crate) fn session(&self) -> Session {
        self.broker.internal_session("default").unwrap()
    }

    pub(crate) async fn queue(&self, name: &str) {
        self.queue_with(name, broker::definitions::QueueConfig::default()).await;
    }

    pub(crate) async fn queue_with(&self, name: &str, config: broker::definitions::QueueConfig) {
        self.session().declare_queue(name, config, true).await.unwrap();
    }

    pub(crate) async fn publishing(&self) -> (mpsc::Sender<g::PublishFrame>, Streaming<g::PublishConfirm>) {
        let (send, frames) = frames();
        let answers = PublisherClient::new(self.channel.clone()).publish_stream(frames).await.unwrap().into_inner();
        (send, answers)
    }

    pub(crate) async fn consuming(&self) -> (mpsc::Sender<g::ConsumeRequest>, Streaming<g::ConsumeResponse>) {
        let (send, frames) = frames();
        let answers = ConsumerClient::new(self.channel.clone()).consume(frames).await.unwrap().into_inner();
        (send, answers)
    }

    /// Publishes texts to a queue.
    pub(crate) async fn fill(&self, queue: &str, texts: &[&str]) {
        let messages = texts.iter().map(|text| types::Message::new("", text.to_string())).collect();
        let to = broker::PublishTo::Queue(queue.to_owned());
        self.session().publish(&to, messages, broker::PublishOptions::default()).await.unwrap();
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// A stream of frames that are sent into it.
pub(crate) fn frames<T: Send + 'static>() -> (mpsc::Sender<T>, impl Stream<Item = T> + Send + 'static) {
    let (send, receive) = mpsc::channel::<T>(64);
    let stream =
        futures_util::stream::unfold(receive, |mut receive| async move { Some((receive.recv().await?, receive)) });
    (send, stream)
}

/// What comes, or a panic if it takes too long.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

/// The next answer of a stream.
pub(crate) async fn next<T>(answers: &mut Streaming<T>) -> T {
    soon(answers.message()).await.unwrap().expect("the stream has ended")
}

pub(crate) fn text(text: &str) -> g::Message {
    types::Message::new("", text.to_owned()).into()
}

pub(crate) fn to_queue(name: &str) -> Option<g::Target> {
    Some(g::Target { to: Some(g::target::To::Queue(name.to_owned())) })
}

pub(crate) fn to_topic(name: &str) -> Option<g::Target> {
    Some(g::Target { to: Some(g::target::To::Topic(name.to_owned())) })
}

pub(crate) fn by_subject() -> Option<g::Target> {
    Some(g::Target { to: Some(g::target::To::Subject(g::BySubject {})) })
}

/// A message as the broker has it.
pub(crate) fn read(message: Option<g::Message>) -> types::Message {
    message.unwrap().into_message(types::Timestamp(0)).unwrap()
}

pub(crate) fn body(message: Option<g::Message>) -> String {
    String::from_utf8(read(message).body.unwrap_or_default().to_vec()).unwrap()
}

/// The code, type and field of a refusal.
#[track_caller]
pub(crate) fn refusal(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{status:?} has no details"));
    (status.code(), info.reason.clone(), info.metadata.get("field").cloned().unwrap_or_default())
}
