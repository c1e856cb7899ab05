//! The connection: made again for as long as the transport is open.
//!
//! Lapin can recover connections by itself, topology and consumers with them, but tells nobody which publishes it lost, keeps deliveries of the
//! lost connection in its streams, and waits without jitter. So each connection here is a new one of lapin's, and whoever needs one waits for the next.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Channel, ConnectionProperties};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::faults;
use super::options::{AmqpOptions, CONNECT_TIMEOUT, GOODBYE_TIMEOUT};
use crate::transport::{Connection, TransportError};

/// How often a connection is looked at that says nothing: lapin's events tell of its end, and this is for those that were missed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A connection that held so long was a good one: the waits begin anew.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// The wait after a channel could not be opened on a connection that seems well.
const CHANNEL_RETRY: Duration = Duration::from_millis(100);

/// One connection.
struct Session {
    connection: lapin::Connection,
}

/// What keeps a connection.
pub(super) struct Link {
    uri: AMQPUri,
    /// Where the broker is, without credentials.
    pub(super) address: String,
    pub(super) options: AmqpOptions,
    session: watch::Sender<Option<Arc<Session>>>,
    state: watch::Sender<Connection>,
    /// Nothing new is begun.
    pub(super) closing: CancellationToken,
    /// All has ended.
    pub(super) closed: CancellationToken,
}

impl Link {
    /// Makes the first connection, and keeps one from then on.
    ///
    /// # Errors
    /// The login was refused, or there was none within the patience of the options.
    pub(super) async fn connect(address: &str, options: AmqpOptions) -> Result<Arc<Self>, TransportError> {
        options.check()?;
        let uri = options.uri(address)?;
        let address = format!("{}:{}/{}", uri.authority.host, uri.authority.port, uri.vhost);
        let link = Self {
            uri,
            address,
            session: watch::Sender::new(None),
            state: watch::Sender::new(Connection::Down),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            options,
        };
        let deadline = Instant::now() + link.options.patience;
        let mut waits = link.options.pace();
        let first = loop {
            match link.attempt().await {
                Ok(connection) => break connection,
                Err(error) if faults::is_refused_login(&error) || Instant::now() >= deadline => {
                    return Err(faults::transport_error(&error, "vhost", &link.address));
                }
                Err(_) => sleep(waits.next()).await,
            }
        };
        let link = Arc::new(link);
        tokio::spawn(Arc::clone(&link).keep(first));
        Ok(link)
    }

    async fn attempt(&self) -> lapin::Result<lapin::Connection> {
        let name = self.options.connection_name.as_bytes().to_vec();
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        match timeout(CONNECT_TIMEOUT, lapin::Connection::connect_uri(self.uri.clone(), properties)).await {
            Ok(result) => result,
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }

    /// Keeps a connection until the transport is closed.
    async fn keep(self: Arc<Self>, first: lapin::Connection) {
        let mut next = Some(first);
        let mut waits = self.options.pace();
        while !self.closed.is_cancelled() {
            let Some(connection) = next.take() else {
                tokio::select! {
                    () = self.closed.cancelled() => break,
                    () = sleep(waits.next()) => {}
                }
                match self.attempt().await {
                    Ok(connection) => next = Some(connection),
                    Err(error) => {
                        tracing::warn!(address = %self.address, %error, "cannot connect to the broker; trying again")
                    }
                }
                continue;
            };
            let since = Instant::now();
            self.serve(Arc::new(Session { connection })).await;
            if since.elapsed() >= GOOD_AFTER {
                waits = self.options.pace();
            }
        }
        self.session.send_replace(None);
        self.state.send_replace(Connection::Closed);
    }

    /// Lends a connection out until it ends.
    async fn serve(&self, session: Arc<Session>) {
        let mut events = std::pin::pin!(session.connection.events_listener());
        self.session.send_replace(Some(Arc::clone(&session)));
        self.state.send_replace(Connection::Up);
        tracing::debug!(address = %self.address, "connected to the broker");
        while session.connection.status().connected() {
            tokio::select! {
                () = self.closed.cancelled() => {
                    let goodbye = session.connection.close(200, "the service ends".into());
                    // A broker that does not answer is not waited for: the connection ends with this process's part of it anyway.
                    let _ = timeout(GOODBYE_TIMEOUT, goodbye).await;
                    return;
                }
                _ = events.next() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
        self.session.send_replace(None);
        self.state.send_replace(Connection::Down);
        tracing::warn!(address = %self.address, "the connection to the broker is lost; connecting again");
    }

    /// Whether there is a connection.
    pub(super) fn state(&self) -> watch::Receiver<Connection> {
        self.state.subscribe()
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// [`TransportError::Closed`].
    async fn session(&self) -> Result<Arc<Session>, TransportError> {
        let mut sessions = self.session.subscribe();
        tokio::select! {
            () = self.closed.cancelled() => Err(TransportError::Closed),
            session = sessions.wait_for(Option::is_some) => {
                session.ok().and_then(|session| session.clone()).ok_or(TransportError::Closed)
            }
        }
    }

    /// Waits for a connection, and opens a channel on it. It goes when the last clone is dropped.
    ///
    /// # Errors
    /// [`TransportError::Closed`].
    pub(super) async fn channel(&self) -> Result<Channel, TransportError> {
        loop {
            let session = self.session().await?;
            match session.connection.create_channel().await {
                Ok(channel) => return Ok(channel),
                Err(error) => tracing::debug!(%error, "cannot open a channel; trying again"),
            }
            sleep(CHANNEL_RETRY).await;
        }
    }

    /// The same, and waits no longer than until `deadline`.
    ///
    /// # Errors
    /// [`TransportError::Closed`], [`TransportError::Unavailable`].
    pub(super) async fn channel_by(&self, deadline: Instant) -> Result<Channel, TransportError> {
        if self.closing.is_cancelled() {
            return Err(TransportError::Closed);
        }
        timeout_at(deadline, self.channel()).await.unwrap_or_else(|_| Err(self.unavailable()))
    }

    /// When whoever asks now loses patience.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.options.patience
    }

    /// What they are told then.
    pub(super) fn unavailable(&self) -> TransportError {
        TransportError::Unavailable { address: self.address.clone(), why: "no answer in time".into() }
    }

    /// Whether an operation that failed so is worth another attempt, after a moment that this waits for.
    pub(super) async fn again(&self, error: &lapin::Error, deadline: Instant) -> bool {
        let worth_it = !faults::is_of_channel(error) && !faults::is_refused_login(error) && Instant::now() < deadline;
        if worth_it {
            sleep(CHANNEL_RETRY).await;
        }
        worth_it
    }
}
