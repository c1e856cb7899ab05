//! Serves the protocol on a listener.

use std::net::SocketAddr;
use std::sync::Arc;

use broker::Broker;
use net::{Drain, Listener, PeerInfo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::app::{AmqpOptions, App};
use crate::connection::{self, Ends};

/// The application protocols that a TLS listener offers: AMQP has none.
pub const ALPN: &[&[u8]] = &[];

/// The protocol over a broker. Cheap to clone.
#[derive(Clone)]
pub struct Amqp {
    app: App,
}

impl Amqp {
    /// The protocol over this broker.
    #[must_use]
    pub fn new(broker: Broker, options: AmqpOptions) -> Self {
        Self { app: App { broker, options, next: Arc::default() } }
    }

    /// Serves one connection to its end, whatever carries it: between this client and this place of ours.
    pub async fn serve_one<S>(&self, socket: S, peer: PeerInfo, local: SocketAddr, drain: Drain)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        connection::serve(self.app.clone(), socket, Ends { peer, local }, drain).await;
    }
}

/// Serves until the drain begins; connections are closed then.
pub async fn serve(listener: Listener, amqp: Amqp, drain: Drain) {
    let (connections, local) = (drain.clone(), listener.local_addr());
    listener
        .run(drain, move |socket, peer| {
            let (app, drain) = (amqp.app.clone(), connections.clone());
            async move { connection::serve(app, socket, Ends { peer, local }, drain).await }
        })
        .await;
}
