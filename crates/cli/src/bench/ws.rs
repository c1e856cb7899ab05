//! The WebSocket protocol.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use api::ws::{ClientFrame, Consume, Credit, Reply, ServerFrame, Settle, Subscribe};
use api::{Action, Settlement};
use futures_util::stream::SplitStream;
use futures_util::{FutureExt, SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::driver::{Answered, Driver, Event, Frame, InFlight, Receiver, Sender, Target};
use super::text;
use crate::client::Client;
use crate::failure::{Exit, Failure};

/// Frames that wait to be written.
const OUTBOUND_FRAMES: usize = 1024;
/// Most deliveries that are acknowledged together.
const MAX_ACKS: u32 = 256;
/// Largest frame from the server.
const MAX_FRAME_BYTES: usize = 256 * 1024 * 1024;
/// The name of the only stream of a connection.
const STREAM: &str = "bench";

/// Frames of the WebSocket protocol.
#[derive(Clone, Debug)]
pub(super) struct Ws(pub(super) Client);

impl Driver for Ws {
    type Publisher = Publisher;
    type Asker = Asker;
    type Consumer = Consumer;

    async fn publisher(&self, targets: &[Target]) -> Result<Publisher, Failure> {
        let target = |target: &Target| match target {
            Target::Queue(name) => api::Target::Queue(name.clone()),
            Target::Topic(name) => api::Target::Topic(name.clone()),
        };
        let targets = targets.iter().map(|to| serde_json::to_string(&target(to)));
        let targets: Result<Vec<String>, _> = targets.collect();
        Ok(Publisher {
            socket: Socket::connect(&self.0).await?,
            targets: targets.map_err(std::io::Error::from)?,
            last: None,
            in_flight: InFlight::default(),
        })
    }

    async fn asker(&self, subject: &str) -> Result<Asker, Failure> {
        let socket = Socket::connect(&self.0).await?;
        Ok(Asker { socket, subject: subject.to_owned(), next: 0, in_flight: HashMap::new() })
    }

    async fn consumer(&self, queue: &str, credit: u32) -> Result<Consumer, Failure> {
        let mut socket = Socket::connect(&self.0).await?;
        let consume = Consume { id: STREAM.to_owned(), queue: queue.to_owned(), credit, ..Consume::default() };
        socket.send(&ClientFrame::Consume(consume)).await?;
        Ok(Consumer { socket, receipts: Vec::new(), acks: VecDeque::new(), in_flight: InFlight::default() })
    }

    async fn answer(&self, subject: &str, ready: oneshot::Sender<()>) -> Result<(), Failure> {
        answer(&self.0, subject, ready).await
    }
}

/// Answers all that is asked on a subject with what was asked.
pub(super) async fn answer(client: &Client, subject: &str, ready: oneshot::Sender<()>) -> Result<(), Failure> {
    let mut socket = Socket::connect(client).await?;
    let subscribe = Subscribe { id: STREAM.to_owned(), subject: subject.to_owned(), group: None };
    socket.send(&ClientFrame::Subscribe(subscribe)).await?;
    let mut ready = Some(ready);
    loop {
        match socket.next().await? {
            ServerFrame::Opened { .. } => {
                let _ = ready.take().map(|ready| ready.send(()));
            }
            ServerFrame::Message { message, .. } => {
                let Some(reply_to) = message.reply_to else { continue };
                let correlation_id = message.correlation_id;
                let message = api::Message { text: message.text, ..api::Message::default() };
                let reply = Reply { seq: None, reply_to, correlation_id, message };
                socket.send(&ClientFrame::Reply(Box::new(reply))).await?;
            }
            frame => refuse(frame)?,
        }
    }
}

/// Frames that no stream of ours expects: a failure ends it, all others are passed over.
fn refuse(frame: ServerFrame) -> Result<(), Failure> {
    match frame {
        ServerFrame::Failed { problem, .. }
        | ServerFrame::Error { problem }
        | ServerFrame::Ended { problem: Some(problem), .. } => Err(problem.into()),
        _ => Ok(()),
    }
}

/// A connection. What it sends is written by a task of its own: who waits to send would not read, and a server that waits for its
/// answers to be read reads no more either.
#[derive(Debug)]
struct Socket {
    frames: SplitStream<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    out: mpsc::Sender<Utf8Bytes>,
}

fn lost(error: &tungstenite::Error) -> Failure {
    Failure::new(Exit::Connection, format!("the WebSocket broke: {error}"))
}

impl Socket {
    async fn connect(client: &Client) -> Result<Self, Failure> {
        let mut url = client.within(&["ws"]);
        if url.scheme() != "http" || url.set_scheme("ws").is_err() {
            return Err(Failure::usage("the WebSocket client of the benchmark speaks no TLS")
                .hint("measure over --protocol http, or give --url http://..."));
        }
        let mut request = url.as_str().into_client_request().map_err(|error| lost(&error))?;
        if let Some(value) = client.authorization() {
            let value = value.parse().map_err(|_| Failure::usage("the credentials do not fit a header"))?;
            request.headers_mut().insert("authorization", value);
        }
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_FRAME_BYTES)).max_frame_size(Some(MAX_FRAME_BYTES));
        let (socket, _) = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await.map_err(
            |error| match error {
                tungstenite::Error::Http(answer) if matches!(answer.status().as_u16(), 401 | 403) => {
                    Failure::new(Exit::Access, "the WebSocket was refused: credentials are missing or wrong")
                }
                error => Failure::new(Exit::Connection, format!("{} cannot be reached: {error}", client.base())),
            },
        )?;
        let (mut sink, frames) = socket.split();
        let (out, mut waiting) = mpsc::channel::<Utf8Bytes>(OUTBOUND_FRAMES);
        tokio::spawn(async move {
            while let Some(frame) = waiting.recv().await {
                let mut sent = sink.feed(Message::Text(frame)).await;
                // All that waits goes out with one flush.
                while sent.is_ok() {
                    let Ok(frame) = waiting.try_recv() else { break };
                    sent = sink.feed(Message::Text(frame)).await;
                }
                if sent.is_err() || sink.flush().await.is_err() {
                    // The reading side finds out why.
                    return;
                }
            }
            let _ = sink.close().await;
        });
        let mut socket = Self { frames, out };
        match socket.next().await? {
            ServerFrame::Welcome { .. } => Ok(socket),
            frame => {
                refuse(frame)?;
                Err(Failure::new(Exit::Failed, "the server did not begin with a welcome"))
            }
        }
    }

    async fn send_text(&mut self, frame: Utf8Bytes) -> Result<(), Failure> {
        let gone = || Failure::new(Exit::Connection, "the WebSocket broke while sending");
        self.out.send(frame).await.map_err(|_| gone())
    }

    async fn send(&mut self, frame: &ClientFrame) -> Result<(), Failure> {
        let text = serde_json::to_string(frame).map_err(std::io::Error::from)?;
        self.send_text(text.into()).await
    }

    async fn next(&mut self) -> Result<ServerFrame, Failure> {
        loop {
            let message = match self.frames.next().await {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Err(lost(&error)),
                None => return Err(Failure::new(Exit::Connection, "the server closed the WebSocket")),
            };
            if let Message::Text(text) = message {
                return serde_json::from_str(&text)
                    .map_err(|error| Failure::new(Exit::Failed, format!("the server sent what is no frame: {error}")));
            }
        }
    }
}

/// Publishes. Answers come in the order of the frames.
#[derive(Debug)]
pub(super) struct Publisher {
    socket: Socket,
    /// In JSON.
    targets: Vec<String>,
    /// The last frame's target, body and count, and its text: most frames are like the one before.
    last: Option<(Frame, Utf8Bytes)>,
    in_flight: InFlight,
}

impl Publisher {
    fn text(&mut self, frame: &Frame) -> Result<Utf8Bytes, Failure> {
        if let Some((last, text)) = &self.last
            && (last.to, last.count) == (frame.to, frame.count)
            && last.body.as_ptr() == frame.body.as_ptr()
        {
            return Ok(text.clone());
        }
        let to = self.targets.get(frame.to).map_or("\"subject\"", String::as_str);
        let text = format!("{{\"publish\":{{\"seq\":0,\"to\":{to},\"messages\":{}}}}}", text::messages(frame)?);
        let text = Utf8Bytes::from(text);
        self.last = Some((frame.clone(), text.clone()));
        Ok(text)
    }
}

impl Sender for Publisher {
    async fn send(&mut self, frame: Frame) -> Result<(), Failure> {
        let text = self.text(&frame)?;
        self.in_flight.push(frame.since, frame.count);
        self.socket.send_text(text).await
    }

    async fn answered(&mut self) -> Result<Answered, Failure> {
        loop {
            let (published, why) = match self.socket.next().await? {
                ServerFrame::Published { published, .. } => (published, None),
                ServerFrame::Failed { seq: Some(_), problem, .. } => (Vec::new(), Some(problem.detail)),
                frame => {
                    refuse(frame)?;
                    continue;
                }
            };
            let Some((since, count)) = self.in_flight.pop() else { continue };
            if let Some(why) = why {
                return Ok(Answered::refused(since, count, why));
            }
            let routed = published.iter().filter(|published| published.routed).count();
            let done = u32::try_from(routed).unwrap_or(u32::MAX).min(count);
            let why = (done < count).then(|| "no queue took it".to_owned());
            return Ok(Answered { since, done, failed: count - done, why });
        }
    }
}

/// Asks. Answers come as they come.
#[derive(Debug)]
pub(super) struct Asker {
    socket: Socket,
    subject: String,
    next: u64,
    in_flight: HashMap<u64, Instant>,
}

impl Sender for Asker {
    async fn send(&mut self, frame: Frame) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&frame.body).into_owned();
        for _ in 0..frame.count {
            let seq = self.next;
            self.next += 1;
            self.in_flight.insert(seq, frame.since);
            let (subject, text) = (Some(self.subject.clone()), Some(text.clone()));
            let message = api::Message { subject, text, ..api::Message::default() };
            let request = api::ws::Request { seq, message, timeout_ms: None };
            self.socket.send(&ClientFrame::Request(Box::new(request))).await?;
        }
        Ok(())
    }

    async fn answered(&mut self) -> Result<Answered, Failure> {
        loop {
            let (seq, why) = match self.socket.next().await? {
                ServerFrame::Answer { seq, .. } => (seq, None),
                ServerFrame::Failed { seq: Some(seq), problem, .. } => (seq, Some(problem.detail)),
                frame => {
                    refuse(frame)?;
                    continue;
                }
            };
            let Some(since) = self.in_flight.remove(&seq) else { continue };
            return Ok(match why {
                None => Answered { since, done: 1, failed: 0, why: None },
                Some(why) => Answered::refused(since, 1, why),
            });
        }
    }
}

/// Takes and acknowledges.
#[derive(Debug)]
pub(super) struct Consumer {
    socket: Socket,
    receipts: Vec<String>,
    acks: VecDeque<Answered>,
    in_flight: InFlight,
}

impl Consumer {
    /// Takes a frame in; says whether it was a delivery.
    fn frame(&mut self, frame: ServerFrame, look: &mut impl FnMut(&[u8])) -> Result<bool, Failure> {
        match frame {
            ServerFrame::Delivery { delivery, .. } => {
                look(delivery.message.text.unwrap_or_default().as_bytes());
                self.receipts.push(delivery.receipt);
                return Ok(true);
            }
            ServerFrame::Settled { results, .. } => {
                if let Some((since, _)) = self.in_flight.pop() {
                    self.acks.push_back(text::settled(since, results));
                }
            }
            frame => refuse(frame)?,
        }
        Ok(false)
    }
}

impl Receiver for Consumer {
    async fn next(&mut self, look: &mut impl FnMut(&[u8])) -> Result<Event, Failure> {
        loop {
            if let Some(answered) = self.acks.pop_front() {
                return Ok(Event::Acknowledged(answered));
            }
            let frame = self.socket.next().await?;
            let mut came = u32::from(self.frame(frame, look)?);
            while came > 0 && came < MAX_ACKS {
                let Some(frame) = self.socket.next().now_or_never() else { break };
                came += u32::from(self.frame(frame?, look)?);
            }
            if came > 0 {
                return Ok(Event::Came(came));
            }
        }
    }

    async fn acknowledge(&mut self, now: Instant) -> Result<(), Failure> {
        let receipts = std::mem::take(&mut self.receipts);
        let count = u32::try_from(receipts.len()).unwrap_or(u32::MAX);
        let settlement = |receipt| Settlement { receipt, action: Action::Ack, ..Settlement::default() };
        let settlements = receipts.into_iter().map(settlement).collect();
        self.in_flight.push(now, count);
        self.socket.send(&ClientFrame::Settle(Settle { seq: Some(0), settlements })).await?;
        self.socket.send(&ClientFrame::Credit(Credit { id: STREAM.to_owned(), messages: count })).await
    }
}
