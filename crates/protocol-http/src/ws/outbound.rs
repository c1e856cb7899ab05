//! The one writer of a WebSocket. Everything that is sent goes through a bounded channel: a client that does not read stops what
//! sends to it, and after a while loses the connection.

use std::time::Duration;

use api::ws::ServerFrame;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::limits::OUTBOUND_FRAMES;

/// How a connection ends. (RFC 6455, section 7.4.1.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The broker stops.
    GoingAway = 1001,
    /// A binary frame.
    Unsupported = 1003,
    /// Not JSON.
    BadPayload = 1007,
    /// JSON that is no frame, or one that breaks the protocol.
    Policy = 1008,
    /// Too large.
    TooBig = 1009,
}

enum Item {
    Frame(String),
    Ping,
    Close(Close, String),
}

/// A handle of the writer.
#[derive(Clone)]
pub(crate) struct Outbound {
    items: mpsc::Sender<Item>,
    /// Cancelled once the connection is over, whoever ended it.
    pub(crate) over: CancellationToken,
}

/// The connection is over.
#[derive(Debug)]
pub(crate) struct Gone;

impl Outbound {
    /// Starts the writer. A frame that takes longer than `timeout` ends the connection.
    pub(crate) fn start(socket: SplitSink<WebSocket, Message>, timeout: Duration) -> Self {
        let (items, receiver) = mpsc::channel(OUTBOUND_FRAMES);
        let over = CancellationToken::new();
        tokio::spawn(write(socket, receiver, over.clone(), timeout));
        Self { items, over }
    }

    /// Sends a frame; waits while the client is slow.
    pub(crate) async fn send(&self, frame: &ServerFrame) -> Result<(), Gone> {
        let text = serde_json::to_string(frame).map_err(|_| Gone)?;
        self.item(Item::Frame(text)).await
    }

    pub(crate) async fn ping(&self) -> Result<(), Gone> {
        self.item(Item::Ping).await
    }

    /// Says why, closes, and waits until that is written.
    pub(crate) async fn close(&self, close: Close, reason: &str) {
        if self.item(Item::Close(close, reason.to_owned())).await.is_ok() {
            self.over.cancelled().await;
        }
    }

    async fn item(&self, item: Item) -> Result<(), Gone> {
        tokio::select! {
            sent = self.items.send(item) => sent.map_err(|_| Gone),
            () = self.over.cancelled() => Err(Gone),
        }
    }
}

async fn write(
    mut socket: SplitSink<WebSocket, Message>,
    mut items: mpsc::Receiver<Item>,
    over: CancellationToken,
    timeout: Duration,
) {
    let _ends = over.clone().drop_guard();
    loop {
        let item = tokio::select! {
            item = items.recv() => item,
            () = over.cancelled() => return,
        };
        let Some(item) = item else { return };
        let last = matches!(item, Item::Close(..));
        let message = match item {
            Item::Frame(text) => Message::Text(text.into()),
            Item::Ping => Message::Ping(Default::default()),
            Item::Close(code, reason) => Message::Close(Some(CloseFrame { code: code as u16, reason: reason.into() })),
        };
        match tokio::time::timeout(timeout, socket.send(message)).await {
            Ok(Ok(())) if !last => {}
            _ => return,
        }
    }
}
