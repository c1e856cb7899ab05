//! A broker in memory behind a listener, and a client that says exactly what it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};
use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable, LongString};
use broker::{Broker, BrokerOptions, Session};
use log::MemoryLog;
use net::{Drain, Listener, ListenerOptions};
use protocol_amqp::{Amqp, AmqpOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use types::clock::SystemClock;

/// Longest that anything here may take on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) address: SocketAddr,
    drain: Drain,
    ticker: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ticker.abort();
        self.drain.begin();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut AmqpOptions)) -> Self {
        let clock = Arc::new(SystemClock::new());
        let broker = Broker::open(Arc::new(MemoryLog::new()), clock.clone(), BrokerOptions::default()).unwrap();
        let options = ListenerOptions { name: "amqp", flag: "--amqp", tls: None, max_connections: 100 };
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), options).await.unwrap();
        let (address, drain) = (listener.local_addr(), Drain::new());
        let mut options = AmqpOptions::new(clock);
        change(&mut options);
        tokio::spawn(protocol_amqp::serve(listener, Amqp::new(broker.clone(), options), drain.clone()));
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
        Self { broker, address, drain, ticker }
    }

    pub(crate) fn session(&self) -> Session {
        self.broker.internal_session("default").unwrap()
    }

    /// How many messages a queue has ready, and how many are out.
    pub(crate) fn depth(&self, queue: &str) -> (u64, u64) {
        let depth = self.session().queue(queue).unwrap().depth;
        (depth.ready, depth.in_flight)
    }

    /// Waits until a queue has so many messages ready and out.
    pub(crate) async fn has(&self, queue: &str, ready: u64, in_flight: u64) {
        let wanted = (ready, in_flight);
        self.until(|| self.depth(queue) == wanted, || format!("{queue} has {:?}, not {wanted:?}", self.depth(queue)))
            .await;
    }

    pub(crate) async fn until(&self, holds: impl Fn() -> bool, what: impl Fn() -> String) {
        let asked = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, asked).await.is_ok(), "{}", what());
    }

    /// A connection that only has a socket.
    pub(crate) async fn socket(&self) -> Client {
        let socket = TcpStream::connect(self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Client { socket, input: Vec::new() }
    }

    /// A connection that is open, with a channel of number 1 that is too.
    pub(crate) async fn client(&self) -> Client {
        let mut client = self.open(Tune::default()).await;
        client.open_channel(1).await;
        client
    }

    pub(crate) async fn open(&self, tune: Tune) -> Client {
        let mut client = self.socket().await;
        client.start(start_ok("PLAIN", b"\0guest\0guest")).await;
        client.tune(tune).await;
        client.open_vhost("/").await;
        assert_eq!(client.method(0).await, connection_method(connection::AMQPMethod::OpenOk(connection::OpenOk {})));
        client
    }

    /// The server takes a new connection, and what is published there comes back.
    pub(crate) async fn is_well(&self) {
        let mut client = self.client().await;
        client.works("well").await;
    }
}

/// What a client answers to `connection.tune`.
#[derive(Clone, Copy)]
pub(crate) struct Tune {
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat: u16,
}

impl Default for Tune {
    fn default() -> Self {
        Self { channel_max: 2047, frame_max: 131_072, heartbeat: 0 }
    }
}

/// What a close said: its code, and class and number of the method that it is about.
pub(crate) type Close = (u16, u16, u16);

pub(crate) struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

pub(crate) fn connection_method(method: connection::AMQPMethod) -> AMQPClass {
    AMQPClass::Connection(method)
}

pub(crate) fn basic_method(method: basic::AMQPMethod) -> AMQPClass {
    AMQPClass::Basic(method)
}

pub(crate) fn queue_method(method: queue::AMQPMethod) -> AMQPClass {
    AMQPClass::Queue(method)
}

pub(crate) fn start_ok(mechanism: &str, response: &[u8]) -> connection::StartOk {
    let mut capabilities = FieldTable::default();
    for name in ["authentication_failure_close", "consumer_cancel_notify", "publisher_confirms", "basic.nack"] {
        capabilities.insert(name.into(), AMQPValue::Boolean(true));
    }
    let mut client_properties = FieldTable::default();
    client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let response = LongString::from(response.to_vec());
    connection::StartOk { client_properties, mechanism: mechanism.into(), response, locale: "en_US".into() }
}

pub(crate) fn bytes_of(frame: &AMQPFrame) -> Vec<u8> {
    gen_frame(frame)(WriteContext::from(Vec::new())).unwrap().into_inner().0
}

pub(crate) fn method_bytes(channel: u16, method: AMQPClass) -> Vec<u8> {
    bytes_of(&AMQPFrame::Method(channel, method))
}

/// A frame as it should be, of any type and payload.
pub(crate) fn raw_frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend(payload);
    out.push(206);
    out
}

pub(crate) fn publish_method(exchange: &str, key: &str, mandatory: bool) -> AMQPClass {
    basic_method(basic::AMQPMethod::Publish(basic::Publish {
        exchange: exchange.into(),
        routing_key: key.into(),
        mandatory,
        immediate: false,
    }))
}

/// A content header's payload without properties.
pub(crate) fn header_bytes(channel: u16, size: u64) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend(size.to_be_bytes());
    payload.extend([0, 0]);
    raw_frame(2, channel, &payload)
}

pub(crate) fn body_bytes(channel: u16, body: &[u8]) -> Vec<u8> {
    raw_frame(3, channel, body)
}

pub(crate) fn publish_bytes(channel: u16, exchange: &str, key: &str, body: &[u8]) -> Vec<u8> {
    let mut out = method_bytes(channel, publish_method(exchange, key, false));
    out.extend(header_bytes(channel, body.len() as u64));
    if !body.is_empty() {
        out.extend(body_bytes(channel, body));
    }
    out
}

pub(crate) fn declare(queue: &str, exclusive: bool, arguments: FieldTable) -> AMQPClass {
    queue_method(queue::AMQPMethod::Declare(queue::Declare {
        queue: queue.into(),
        passive: false,
        durable: !exclusive,
        exclusive,
        auto_delete: false,
        nowait: false,
        arguments,
    }))
}

/// A delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // The server may have had enough.
        let _ = timeout(PATIENCE, self.socket.write_all(bytes)).await.expect("the server does not read");
    }

    pub(crate) async fn send(&mut self, channel: u16, method: AMQPClass) {
        self.send_bytes(&method_bytes(channel, method)).await;
    }

    pub(crate) async fn end_sending(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    /// Sends as much as the server takes until it takes no more for a while; gives how much that was.
    pub(crate) async fn flood(&mut self, bytes: &[u8], most: usize) -> usize {
        let mut sent = 0;
        while sent < most {
            match timeout(Duration::from_secs(2), self.socket.write(bytes.get(sent % bytes.len()..).unwrap())).await {
                Ok(Ok(written)) => sent += written,
                Ok(Err(error)) => panic!("the server ended the connection: {error}"),
                Err(_) => break,
            }
        }
        sent
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<AMQPFrame> {
        loop {
            if self.input.len() >= 7 {
                let size = u32::from_be_bytes(self.input[3..7].try_into().unwrap()) as usize;
                if self.input.len() >= size + 8 {
                    let whole: Vec<u8> = self.input.drain(..size + 8).collect();
                    let (rest, frame) = parse_frame(whole.as_slice()).expect("the server's frames can be read");
                    assert!(rest.is_empty(), "a frame has room left: {frame:?}");
                    return Some(frame);
                }
            }
            if !self.read().await {
                assert!(self.input.is_empty(), "the server stops in the middle of a frame");
                return None;
            }
        }
    }

    async fn read(&mut self) -> bool {
        let mut some = vec![0; 64 * 1024];
        match timeout(PATIENCE, self.socket.read(&mut some)).await.expect("the server says nothing") {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.input.extend_from_slice(&some[..read]);
                true
            }
        }
    }

    /// All bytes to the end.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read().await {}
        std::mem::take(&mut self.input)
    }

    /// The next frame, which is a method of this channel.
    pub(crate) async fn method(&mut self, channel: u16) -> AMQPClass {
        match self.frame().await {
            Some(AMQPFrame::Method(of, method)) if of == channel => method,
            other => panic!("a method of channel {channel} was expected, not {other:?}"),
        }
    }

    /// Says the header and the login.
    pub(crate) async fn start(&mut self, start_ok: connection::StartOk) {
        self.send_bytes(HEADER).await;
        let start = self.method(0).await;
        assert!(matches!(start, AMQPClass::Connection(connection::AMQPMethod::Start(_))), "{start:?}");
        self.send(0, connection_method(connection::AMQPMethod::StartOk(start_ok))).await;
    }

    pub(crate) async fn tune(&mut self, Tune { channel_max, frame_max, heartbeat }: Tune) {
        let tune = self.method(0).await;
        assert!(matches!(tune, AMQPClass::Connection(connection::AMQPMethod::Tune(_))), "{tune:?}");
        let ok = connection::TuneOk { channel_max, frame_max, heartbeat };
        self.send(0, connection_method(connection::AMQPMethod::TuneOk(ok))).await;
    }

    pub(crate) async fn open_vhost(&mut self, vhost: &str) {
        let open = connection::Open { virtual_host: vhost.into() };
        self.send(0, connection_method(connection::AMQPMethod::Open(open))).await;
    }

    pub(crate) async fn open_channel(&mut self, number: u16) {
        self.send(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))).await;
        let ok = AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}));
        assert_eq!(self.method(number).await, ok);
    }

    pub(crate) async fn close_channel(&mut self, number: u16) {
        let close = channel::Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
        self.send(number, AMQPClass::Channel(channel::AMQPMethod::Close(close))).await;
        while self.frame().await.expect("the connection goes on")
            != AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})))
        {
        }
    }

    /// The connection is closed: for what, and then the socket ends.
    pub(crate) async fn closed(&mut self) -> Close {
        let close = loop {
            match self.frame().await {
                Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => break close,
                Some(_) => {}
                None => panic!("the socket ended without a connection.close"),
            }
        };
        assert!(!close.reply_text.as_str().is_empty());
        self.send(0, connection_method(connection::AMQPMethod::CloseOk(connection::CloseOk {}))).await;
        // The server may have ended first.
        let _ = self.socket.shutdown().await;
        assert_eq!(self.frame().await, None, "nothing comes behind the close");
        (close.reply_code, close.class_id, close.method_id)
    }

    /// The channel is closed: for what.
    pub(crate) async fn channel_closed(&mut self, number: u16) -> Close {
        let close = loop {
            match self.frame().await {
                Some(AMQPFrame::Method(of, AMQPClass::Channel(channel::AMQPMethod::Close(close)))) if of == number => {
                    break close;
                }
                Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => {
                    panic!("the connection was closed: {close:?}")
                }
                Some(_) => {}
                None => panic!("the socket ended without a channel.close"),
            }
        };
        assert!(!close.reply_text.as_str().is_empty());
        self.send(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))).await;
        (close.reply_code, close.class_id, close.method_id)
    }

    pub(crate) async fn declare(&mut self, channel: u16, queue: &str) {
        self.declare_with(channel, declare(queue, false, FieldTable::default())).await;
    }

    pub(crate) async fn declare_with(&mut self, channel: u16, declare: AMQPClass) {
        self.send(channel, declare).await;
        let ok = self.method(channel).await;
        assert!(matches!(ok, AMQPClass::Queue(queue::AMQPMethod::DeclareOk(_))), "{ok:?}");
    }

    pub(crate) async fn confirm(&mut self, channel: u16) {
        self.send(channel, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }))).await;
        assert_eq!(self.method(channel).await, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})));
    }

    pub(crate) async fn publish(&mut self, channel: u16, exchange: &str, key: &str, body: &str) {
        self.send_bytes(&publish_bytes(channel, exchange, key, body.as_bytes())).await;
    }

    pub(crate) async fn qos(&mut self, channel: u16, prefetch_count: u16, global: bool) {
        let qos = basic::Qos { prefetch_count, global };
        self.send(channel, basic_method(basic::AMQPMethod::Qos(qos))).await;
        assert_eq!(self.method(channel).await, basic_method(basic::AMQPMethod::QosOk(basic::QosOk {})));
    }

    pub(crate) async fn consume(&mut self, channel: u16, queue: &str, tag: &str) {
        self.send(channel, consume(queue, tag, false)).await;
        let ok = basic::ConsumeOk { consumer_tag: tag.into() };
        assert_eq!(self.method(channel).await, basic_method(basic::AMQPMethod::ConsumeOk(ok)));
    }

    pub(crate) async fn delivery(&mut self, channel: u16) -> Delivery {
        let (tag, redelivered) = match self.method(channel).await {
            AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)) => (deliver.delivery_tag, deliver.redelivered),
            AMQPClass::Basic(basic::AMQPMethod::GetOk(got)) => (got.delivery_tag, got.redelivered),
            other => panic!("a delivery was expected, not {other:?}"),
        };
        Delivery { tag, redelivered, body: self.content(channel).await }
    }

    /// What comes behind a method that carries a message.
    pub(crate) async fn content(&mut self, channel: u16) -> String {
        let Some(AMQPFrame::Header(of, header)) = self.frame().await else { panic!("a header was expected") };
        assert_eq!(of, channel);
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_size {
            let Some(AMQPFrame::Body(of, part)) = self.frame().await else { panic!("a body was expected") };
            assert_eq!(of, channel);
            body.extend(part);
        }
        String::from_utf8(body).unwrap()
    }

    pub(crate) async fn get(&mut self, channel: u16, queue: &str) -> Option<Delivery> {
        let get = basic::Get { queue: queue.into(), no_ack: false };
        self.send(channel, basic_method(basic::AMQPMethod::Get(get))).await;
        match self.method(channel).await {
            AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_)) => None,
            AMQPClass::Basic(basic::AMQPMethod::GetOk(got)) => {
                let (tag, redelivered) = (got.delivery_tag, got.redelivered);
                Some(Delivery { tag, redelivered, body: self.content(channel).await })
            }
            other => panic!("an answer to basic.get was expected, not {other:?}"),
        }
    }

    pub(crate) async fn ack(&mut self, channel: u16, delivery_tag: u64) {
        self.send(channel, basic_method(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple: false }))).await;
    }

    /// Publishes on a channel that is open, and takes what it published.
    pub(crate) async fn works(&mut self, queue: &str) {
        self.works_on(1, queue).await;
    }

    pub(crate) async fn works_on(&mut self, channel: u16, queue: &str) {
        self.declare_with(channel, declare(queue, false, FieldTable::default())).await;
        self.publish(channel, "", queue, "hello").await;
        let got = self.get(channel, queue).await.expect("what was published is there");
        assert_eq!(got.body, "hello");
        self.ack(channel, got.tag).await;
    }
}

pub(crate) fn consume(queue: &str, tag: &str, no_ack: bool) -> AMQPClass {
    basic_method(basic::AMQPMethod::Consume(basic::Consume {
        queue: queue.into(),
        consumer_tag: tag.into(),
        no_local: false,
        no_ack,
        exclusive: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

pub(crate) fn declare_exchange(name: &str, kind: &str) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}
