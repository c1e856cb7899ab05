//! One WebSocket: reads frames in order, and answers publishes and settlements in order.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use api::Problem;
use api::ws::{ClientFrame, ServerFrame};
use axum::extract::ws::{Message, WebSocket};
use broker::Session;
use futures_util::StreamExt;
use futures_util::stream::{FuturesOrdered, SplitStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::outbound::{Close, Gone, Outbound};
use super::streams::Streams;
use crate::app::{App, Draining};
use crate::consume::{check_count, settle_all};
use crate::input::from_json;
use crate::limits::{MAX_FRAME_BYTES, MAX_PIPELINED, MAX_REQUESTS, MAX_STREAMS};
use crate::problem::Failure;
use crate::publish::{from_envelopes, options, target};
use crate::request::{asked, deadline, waited};
use crate::views;

/// Work whose answers go out in the order in which it came in; `None` if there is nothing to say.
type Work = Pin<Box<dyn Future<Output = Option<ServerFrame>> + Send>>;

struct Connection {
    app: App,
    session: Session,
    out: Outbound,
    streams: Streams,
    pending: FuturesOrdered<Work>,
    requests: Arc<Semaphore>,
}

/// Why reading ends.
enum End {
    /// Closed by the client, or broken.
    Gone,
    /// The client broke the protocol.
    Broken(Close, Box<Problem>),
    /// The listener drains.
    Drain,
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

pub(crate) async fn run(app: App, session: Session, drain: Draining, socket: WebSocket) {
    let (sink, stream) = socket.split();
    let out = Outbound::start(sink, app.options.websocket.write);
    let mut connection = Connection {
        streams: Streams::new(session.clone(), out.clone()),
        requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
        pending: FuturesOrdered::new(),
        app,
        session,
        out: out.clone(),
    };
    match connection.serve(stream, &drain).await {
        End::Gone => {}
        End::Broken(close, problem) => {
            let reason = short(&problem.detail);
            if out.send(&ServerFrame::Error { problem: *problem }).await.is_ok() {
                out.close(close, &reason).await;
            }
        }
        End::Drain => {
            // What was accepted is confirmed before the connection goes.
            while let Some(done) = connection.pending.next().await {
                if let Some(frame) = done
                    && out.send(&frame).await.is_err()
                {
                    break;
                }
            }
            out.close(Close::GoingAway, "the broker is stopping").await;
        }
    }
    out.over.cancel();
}

/// A close frame's reason has at most 123 bytes. (RFC 6455, section 5.5.)
fn short(reason: &str) -> String {
    let mut short = String::new();
    for c in reason.chars().take_while({
        let mut len = 0;
        move |c| {
            len += c.len_utf8();
            len <= 123
        }
    }) {
        short.push(c);
    }
    short
}

impl Connection {
    async fn serve(&mut self, mut stream: SplitStream<WebSocket>, drain: &Draining) -> End {
        let welcome = ServerFrame::Welcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            namespace: self.session.namespace().to_owned(),
            max_frame_bytes: u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX),
            max_pipelined: u32::try_from(MAX_PIPELINED).unwrap_or(u32::MAX),
            max_streams: u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX),
        };
        if self.out.send(&welcome).await.is_err() {
            return End::Gone;
        }
        let mut heard = Instant::now();
        let mut ping = tokio::time::interval(self.app.options.websocket.ping);
        loop {
            let step = tokio::select! {
                () = drain.0.begun() => return End::Drain,
                () = self.out.over.cancelled() => return End::Gone,
                Some(done) = self.pending.next() => match done {
                    Some(frame) => self.out.send(&frame).await.map_err(End::from),
                    None => Ok(()),
                },
                () = self.streams.ended() => Ok(()),
                _ = ping.tick() => match heard.elapsed() > self.app.options.websocket.silence {
                    true => return End::Gone,
                    false => self.out.ping().await.map_err(End::from),
                },
                message = stream.next(), if self.pending.len() < MAX_PIPELINED => {
                    heard = Instant::now();
                    self.message(message).await
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn message(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let text = match message {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Ok(()),
            Some(Ok(Message::Binary(_))) => {
                let failure = Failure::new(415, "unsupported-media-type", "frames are text");
                return Err(End::Broken(Close::Unsupported, failure.0));
            }
            Some(Err(error)) => return Err(unreadable(&error)),
            Some(Ok(Message::Close(_))) | None => return Err(End::Gone),
        };
        if text.len() > MAX_FRAME_BYTES {
            return Err(End::Broken(Close::TooBig, too_big().0));
        }
        let frame = from_json::<ClientFrame>(text.as_bytes()).map_err(|failure| {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            End::Broken(if is_json { Close::Policy } else { Close::BadPayload }, failure.0)
        })?;
        self.frame(frame).await.map_err(End::from)
    }

    async fn frame(&mut self, frame: ClientFrame) -> Result<(), Gone> {
        match frame {
            ClientFrame::Publish(publish) => {
                let seq = publish.seq;
                match self.publish(*publish) {
                    Ok(work) => self.begin(work).await,
                    // In order with the publishes before it.
                    Err(failure) => {
                        self.begin(Box::pin(std::future::ready(Some(failed(Some(seq), None, failure))))).await
                    }
                }
                Ok(())
            }
            ClientFrame::Settle(settle) => {
                self.settle(settle).await;
                Ok(())
            }
            ClientFrame::Consume(request) => {
                let id = request.id.clone();
                let done = self.streams.consume(request).await;
                tell(&self.out, done, None, Some(id)).await
            }
            ClientFrame::Subscribe(request) => {
                let id = request.id.clone();
                let done = self.streams.subscribe(request).await;
                tell(&self.out, done, None, Some(id)).await
            }
            ClientFrame::Tail(request) => {
                let id = request.id.clone();
                let done = self.streams.tail(request).await;
                tell(&self.out, done, None, Some(id)).await
            }
            ClientFrame::Credit(request) => {
                let done = self.streams.credit(&request);
                tell(&self.out, done, None, Some(request.id)).await
            }
            ClientFrame::Cancel(request) => {
                let done = self.streams.cancel(&request);
                tell(&self.out, done, None, Some(request.id)).await
            }
            ClientFrame::Request(request) => {
                let seq = request.seq;
                let done = self.request(*request);
                tell(&self.out, done, Some(seq), None).await
            }
            ClientFrame::Reply(reply) => {
                self.reply(*reply).await;
                Ok(())
            }
            ClientFrame::Ping(ping) => self.out.send(&ServerFrame::Pong { seq: ping.seq }).await,
        }
    }

    /// Begins work at once, so that publishes enter the broker in the order of their frames, and answers it in that order.
    async fn begin(&mut self, mut work: Work) {
        let now = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        self.pending.push_back(match now {
            Poll::Ready(done) => Box::pin(std::future::ready(done)),
            Poll::Pending => work,
        });
    }

    fn publish(&self, publish: api::ws::Publish) -> Result<Work, Failure> {
        let options = options(&publish.options)?;
        let mut messages = from_envelopes(publish.messages, self.app.now())?;
        for message in &mut messages {
            crate::publish::fill(message, &publish.options, self.app.now());
        }
        let (session, to, seq) = (self.session.clone(), target(publish.to), publish.seq);
        Ok(Box::pin(async move {
            Some(match session.publish(&to, messages, options).await {
                Ok(published) => {
                    ServerFrame::Published { seq, published: published.iter().map(views::published).collect() }
                }
                Err(error) => failed(Some(seq), None, error.into()),
            })
        }))
    }

    async fn settle(&mut self, settle: api::ws::Settle) {
        let seq = settle.seq;
        if let Err(failure) = check_count(settle.settlements.len()) {
            return self.begin(Box::pin(std::future::ready(Some(failed(seq, None, failure))))).await;
        }
        let session = self.session.clone();
        let work = async move {
            let mut results = settle_all(&session, None, settle.settlements).await;
            if seq.is_none() {
                results.retain(|result| !result.ok);
            }
            (seq.is_some() || !results.is_empty()).then_some(ServerFrame::Settled { seq, results })
        };
        self.begin(Box::pin(work)).await;
    }

    fn request(&self, request: api::ws::Request) -> Result<(), Failure> {
        let deadline = deadline(request.timeout_ms)?;
        let message = request.message.into_message(self.app.now())?;
        let Ok(permit) = Arc::clone(&self.requests).try_acquire_owned() else {
            let why = format!("a connection has at most {MAX_REQUESTS} requests waiting (MAX_REQUESTS)");
            return Err(Failure::new(429, "too-many-waiting", why).limit("MAX_REQUESTS"));
        };
        let (session, out, seq) = (self.session.clone(), self.out.clone(), request.seq);
        tokio::spawn(async move {
            let _permit = permit;
            let answer = tokio::select! {
                answer = session.request(message, deadline) => answer,
                () = out.over.cancelled() => return,
            };
            let frame = match answer {
                Ok(answer) => ServerFrame::Answer { seq, message: api::Message::from(&*answer) },
                Err(error) => failed(Some(seq), None, error.into()),
            };
            // A client that is gone needs no answer.
            out.send(&frame).await.ok();
        });
        Ok(())
    }

    async fn reply(&mut self, reply: api::ws::Reply) {
        let (session, seq) = (self.session.clone(), reply.seq);
        let answer = reply.message.into_message(self.app.now());
        let asked = asked(reply.reply_to, reply.correlation_id);
        let work = async move {
            let done = match answer {
                Ok(answer) => session.reply(&asked, answer).await.map_err(Failure::from).and_then(waited),
                Err(error) => Err(error.into()),
            };
            match (done, seq) {
                (Ok(()), seq) => seq.map(|seq| ServerFrame::Replied { seq }),
                (Err(failure), seq) => Some(failed(seq, None, failure)),
            }
        };
        self.begin(Box::pin(work)).await;
    }
}

/// Tells a failure, if there is one.
async fn tell(out: &Outbound, done: Result<(), Failure>, seq: Option<u64>, id: Option<String>) -> Result<(), Gone> {
    match done {
        Ok(()) => Ok(()),
        Err(failure) => out.send(&failed(seq, id, failure)).await,
    }
}

fn failed(seq: Option<u64>, id: Option<String>, failure: Failure) -> ServerFrame {
    ServerFrame::Failed { seq, id, problem: *failure.0 }
}

fn too_big() -> Failure {
    Failure::too_large(format!("a frame has at most {MAX_FRAME_BYTES} bytes (MAX_FRAME_BYTES)"), "MAX_FRAME_BYTES")
}

/// What the library could not read. It tells its reasons by text only.
fn unreadable(error: &axum::Error) -> End {
    let text = error.to_string();
    if text.contains("Space limit exceeded") {
        return End::Broken(Close::TooBig, too_big().0);
    }
    if text.to_ascii_lowercase().contains("utf-8") || text.to_ascii_lowercase().contains("utf8") {
        return End::Broken(Close::BadPayload, Failure::new(400, "bad-utf8", "a text frame is not UTF-8").0);
    }
    End::Gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_reason_fits_its_frame() {
        assert_eq!(short("short"), "short");
        let long = "ü".repeat(100);
        assert_eq!(short(&long).len(), 122);
    }
}
