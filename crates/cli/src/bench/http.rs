//! The HTTP API.

use std::time::{Duration, Instant};

use api::{Action, ReceiveRequest, SettleAnswer, SettleRequest, Settlement};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use reqwest::Url;
use serde::Deserialize;

use super::driver::{Answered, Driver, Event, Frame, Receiver, Sender, Target};
use super::{text, ws};
use crate::client::Client;
use crate::failure::{Exit, Failure};

/// How long a receive waits for the first message.
const RECEIVE_WAIT: Duration = Duration::from_secs(5);
/// Most messages that one receive may ask for.
const MAX_RECEIVE: u32 = 1000;
/// Content type of a body that is a message's body as it is.
const RAW_TYPE: &str = "text/plain";

/// Requests to the HTTP API.
#[derive(Clone, Debug)]
pub(super) struct Http(pub(super) Client);

impl Driver for Http {
    type Publisher = Requests;
    type Asker = Requests;
    type Consumer = Polls;

    async fn publisher(&self, targets: &[Target]) -> Result<Requests, Failure> {
        let url = |target: &Target| match target {
            Target::Queue(name) => self.0.within(&["queues", name, "messages"]),
            Target::Topic(name) => self.0.within(&["topics", name, "messages"]),
        };
        Ok(Requests::new(self.0.clone(), targets.iter().map(url).collect(), Kind::Publish))
    }

    async fn asker(&self, subject: &str) -> Result<Requests, Failure> {
        Ok(Requests::new(self.0.clone(), vec![self.0.within(&["request", subject])], Kind::Ask))
    }

    async fn consumer(&self, queue: &str, credit: u32) -> Result<Polls, Failure> {
        Ok(Polls {
            client: self.0.clone(),
            receive: self.0.within(&["queues", queue, "receive"]),
            settle: self.0.within(&["queues", queue, "settle"]),
            max: credit.min(MAX_RECEIVE),
            poll: None,
            receipts: Vec::new(),
            settling: FuturesUnordered::new(),
        })
    }

    /// On a WebSocket: a request that is answered over HTTP alone comes by Server-Sent Events, which no client would use for speed.
    async fn answer(&self, subject: &str, ready: tokio::sync::oneshot::Sender<()>) -> Result<(), Failure> {
        ws::answer(&self.0, subject, ready).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Publish,
    Ask,
}

/// A pool of connections with a request in flight on each.
#[derive(Debug)]
pub(super) struct Requests {
    client: Client,
    urls: Vec<Url>,
    kind: Kind,
    batch: text::Batches,
    in_flight: FuturesUnordered<LocalBoxFuture<'static, Result<Answered, Failure>>>,
}

impl Requests {
    fn new(client: Client, urls: Vec<Url>, kind: Kind) -> Self {
        Self { client, urls, kind, batch: text::Batches::default(), in_flight: FuturesUnordered::new() }
    }
}

/// What a benchmark wants to know of what became of a message.
#[derive(Deserialize)]
struct Fate {
    routed: bool,
}

#[derive(Deserialize)]
struct Fates {
    published: Vec<Fate>,
}

async fn publish(client: Client, url: Url, kind: &'static str, body: Bytes, frame: Frame) -> Result<Answered, Failure> {
    let sent = client.post_as::<Fates>(url, kind, body, Duration::ZERO).await;
    let (since, count) = (frame.since, frame.count);
    Ok(match sent {
        Ok(fates) => {
            let routed = fates.published.iter().filter(|fate| fate.routed).count();
            let done = u32::try_from(routed).unwrap_or(u32::MAX).min(count);
            let why = (done < count).then(|| "no queue took it".to_owned());
            Answered { since, done, failed: count - done, why }
        }
        Err(failure) if failure.exit == Exit::Connection => return Err(failure),
        Err(failure) => Answered::refused(since, count, failure.what),
    })
}

async fn ask(client: Client, url: Url, frame: Frame) -> Result<Answered, Failure> {
    let sent = client.post_as::<serde::de::IgnoredAny>(url, RAW_TYPE, frame.body, Duration::ZERO).await;
    match sent {
        Ok(_) => Ok(Answered { since: frame.since, done: 1, failed: 0, why: None }),
        Err(failure) if failure.exit == Exit::Connection => Err(failure),
        Err(failure) => Ok(Answered::refused(frame.since, 1, failure.what)),
    }
}

impl Sender for Requests {
    async fn send(&mut self, frame: Frame) -> Result<(), Failure> {
        let Some(url) = self.urls.get(frame.to).cloned() else { return Ok(()) };
        let client = self.client.clone();
        if self.kind == Kind::Ask {
            // A request is one message: several of a frame are as many requests.
            for _ in 0..frame.count {
                self.in_flight
                    .push(ask(client.clone(), url.clone(), Frame { count: 1, ..frame.clone() }).boxed_local());
            }
            return Ok(());
        }
        let (kind, body) = match frame.count {
            1 => (RAW_TYPE, frame.body.clone()),
            _ => (api::BATCH_TYPE, self.batch.of(&frame)?),
        };
        self.in_flight.push(publish(client, url, kind, body, frame).boxed_local());
        Ok(())
    }

    async fn answered(&mut self) -> Result<Answered, Failure> {
        match self.in_flight.next().await {
            Some(answered) => answered,
            None => std::future::pending().await,
        }
    }
}

#[derive(Deserialize)]
struct Came {
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
struct Delivery {
    receipt: String,
    message: Carried,
}

#[derive(Deserialize)]
struct Carried {
    #[serde(default)]
    text: String,
}

/// One receive after another, and settlements beside them.
pub(super) struct Polls {
    client: Client,
    receive: Url,
    settle: Url,
    max: u32,
    poll: Option<LocalBoxFuture<'static, Result<Came, Failure>>>,
    receipts: Vec<String>,
    settling: FuturesUnordered<LocalBoxFuture<'static, Result<Answered, Failure>>>,
}

impl Polls {
    async fn poll(client: Client, url: Url, max: u32) -> Result<Came, Failure> {
        let wait_ms = u64::try_from(RECEIVE_WAIT.as_millis()).ok();
        let request = ReceiveRequest { max: Some(max), wait_ms, ..ReceiveRequest::default() };
        client.post_waiting(url, &request, RECEIVE_WAIT).await
    }
}

async fn settle(client: Client, url: Url, receipts: Vec<String>, since: Instant) -> Result<Answered, Failure> {
    let count = u32::try_from(receipts.len()).unwrap_or(u32::MAX);
    let settlement = |receipt| Settlement { receipt, action: Action::Ack, ..Settlement::default() };
    let request = SettleRequest { settlements: receipts.into_iter().map(settlement).collect() };
    match client.post::<SettleAnswer>(url, &request).await {
        Ok(answer) => Ok(text::settled(since, answer.results)),
        Err(failure) if failure.exit == Exit::Connection => Err(failure),
        Err(failure) => Ok(Answered::refused(since, count, failure.what)),
    }
}

impl Receiver for Polls {
    async fn next(&mut self, look: &mut impl FnMut(&[u8])) -> Result<Event, Failure> {
        loop {
            let (client, url, max) = (&self.client, &self.receive, self.max);
            let poll = self.poll.get_or_insert_with(|| Self::poll(client.clone(), url.clone(), max).boxed_local());
            let came = tokio::select! {
                Some(settled) = self.settling.next() => return settled.map(Event::Acknowledged),
                came = poll => came,
            };
            self.poll = None;
            let came = came?;
            if came.deliveries.is_empty() {
                continue;
            }
            let count = u32::try_from(came.deliveries.len()).unwrap_or(u32::MAX);
            for delivery in came.deliveries {
                look(delivery.message.text.as_bytes());
                self.receipts.push(delivery.receipt);
            }
            return Ok(Event::Came(count));
        }
    }

    async fn acknowledge(&mut self, now: Instant) -> Result<(), Failure> {
        let receipts = std::mem::take(&mut self.receipts);
        if !receipts.is_empty() {
            self.settling.push(settle(self.client.clone(), self.settle.clone(), receipts, now).boxed_local());
        }
        Ok(())
    }
}
