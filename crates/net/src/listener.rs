//! The accept loop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use crate::connection::{Held, Stream};
use crate::limits::{ACCEPT_BACKOFF, COMPLAINT_INTERVAL, HANDSHAKE_TIMEOUT};
use crate::tls::common_name;
use crate::{BindError, Connection, Drain, ListenAddress, PeerInfo, TlsStore};

/// What a listener needs besides its address.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// What it is called in the log and in metrics, such as `http`.
    pub name: &'static str,
    /// What the operator sets its address with, such as `--http`; named in errors.
    pub flag: &'static str,
    /// Encrypt with these certificates.
    pub tls: Option<Arc<TlsStore>>,
    /// Open connections; one more is closed at once.
    pub max_connections: usize,
}

/// Counters of a listener, for metrics.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    accepted: AtomicU64,
    refused: AtomicU64,
    handshake_failed: AtomicU64,
    open: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
}

impl ConnectionCounts {
    /// Accepted since the start, those included that failed later.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
    /// Closed at once because the limit was reached.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
    /// TLS handshakes that failed or took too long.
    #[must_use]
    pub fn handshake_failed(&self) -> u64 {
        self.handshake_failed.load(Ordering::Relaxed)
    }
    /// Bytes read from clients, after decryption.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }
    /// Bytes written to clients, before encryption.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }
    /// There now, those included that are still in their handshake.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }
}

/// A bound port, ready to accept.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    options: ListenerOptions,
    counts: Arc<ConnectionCounts>,
}

impl Listener {
    /// Binds. Connections wait in the system's backlog until [`run`](Self::run).
    ///
    /// # Errors
    /// See [`BindError`].
    pub async fn bind(address: &ListenAddress, options: ListenerOptions) -> Result<Self, BindError> {
        let (socket, local) = address.bind(options.flag).await?;
        Ok(Self { socket, local, options, counts: Arc::default() })
    }

    /// Where it listens in fact: the port is known even if 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether it encrypts.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.options.tls.is_some()
    }

    /// Its counters.
    #[must_use]
    pub fn counts(&self) -> Arc<ConnectionCounts> {
        Arc::clone(&self.counts)
    }

    /// Accepts until the drain begins, and serves each connection in a task of its own with `serve`. Gives back at once then: the drain
    /// knows which connections are left. A connection's future is dropped when the drain is over.
    pub async fn run<F, S>(self, drain: Drain, serve: F)
    where
        F: Fn(Connection, PeerInfo) -> S + Clone + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let permits = Arc::new(Semaphore::new(self.options.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut complaint = Complaint::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.begun() => return,
                accepted = self.socket.accept() => accepted,
            };
            let (stream, addr) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    if complaint.due() {
                        tracing::error!(listener = self.options.name, %error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                    continue;
                }
            };
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                if complaint.due() {
                    let max_connections = self.options.max_connections;
                    tracing::warn!(
                        listener = self.options.name,
                        max_connections,
                        "connections are refused: the limit is reached"
                    );
                }
                continue;
            };
            let held = Held { _permit: permit, _drain: drain.connection(), open: Open::new(&self.counts) };
            let (tls, counts, serve, drain) =
                (self.options.tls.clone(), Arc::clone(&self.counts), serve.clone(), drain.clone());
            let listener = self.options.name;
            tokio::spawn(async move {
                let work = async {
                    if let Some((connection, peer)) = establish(stream, addr, tls, held, listener, &counts).await {
                        serve(connection, peer).await;
                    }
                };
                tokio::select! {
                    () = work => {}
                    () = drain.over() => {}
                }
            });
        }
    }
}

/// Finishes the handshake, if there is one to make.
async fn establish(
    stream: TcpStream,
    addr: SocketAddr,
    tls: Option<Arc<TlsStore>>,
    held: Held,
    listener: &'static str,
    counts: &ConnectionCounts,
) -> Option<(Connection, PeerInfo)> {
    // Small answers must not wait for more bytes; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let peer = PeerInfo { addr, tls: false, client_cn: None };
        return Some((Connection::new(Stream::Plain(stream), held), peer));
    };
    let why = match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls.current()).accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates();
            let client_cn = shown.and_then(<[_]>::first).and_then(common_name);
            let peer = PeerInfo { addr, tls: true, client_cn };
            return Some((Connection::new(Stream::Tls(Box::new(stream)), held), peer));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs()),
    };
    counts.handshake_failed.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(listener, peer = %addr, why, "TLS handshake failed");
    None
}

/// Errors of accept that say something of the connection that was to come, and nothing of the listener.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::ConnectionRefused | K::Interrupted)
}

/// Keeps a connection in the count of open ones while it lives.
#[derive(Debug)]
pub(crate) struct Open(pub(crate) Arc<ConnectionCounts>);

impl Open {
    fn new(counts: &Arc<ConnectionCounts>) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says a thing at most once an interval.
#[derive(Default)]
struct Complaint(Option<Instant>);

impl Complaint {
    fn due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
