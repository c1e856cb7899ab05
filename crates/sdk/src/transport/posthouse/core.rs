//! What all parts of a transport share, and single calls that wait out a lost connection.

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use api::grpc as g;
use api::grpc::admin_client::AdminClient;
use api::grpc::consumer_client::ConsumerClient;
use api::grpc::live_client::LiveClient;
use api::grpc::publisher_client::PublisherClient;
use api::grpc::reader_client::ReaderClient;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::{Response, Status};

use super::door::Door;
use super::fault::Fault;
use super::{PosthouseOptions, Time};
use crate::backoff::Pace;
use crate::transport::{Connection, Destination, TransportError};

/// Largest frame from the broker, in bytes. Its own bound on a body is smaller.
const MAX_ANSWER_BYTES: usize = 160 * 1024 * 1024;
/// How long one try of a single call may take: a broker that answers nothing at all counts as lost.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Core {
    door: Door,
    pub(super) namespace: String,
    /// Without credentials.
    pub(super) address: String,
    pub(super) options: PosthouseOptions,
    pub(super) time: Box<dyn Time>,
    pub(super) connection: watch::Sender<Connection>,
    /// Why there is no connection, as far as that was seen.
    pub(super) fault: Mutex<Option<Fault>>,
    /// The user has closed the transport: what is under way ends, and nothing else begins.
    pub(super) closing: CancellationToken,
    pub(super) tasks: TaskTracker,
}

macro_rules! client {
    ($name:ident, $client:ident) => {
        pub(super) fn $name(&self) -> $client<Door> {
            $client::new(self.door.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
        }
    };
}

impl Core {
    pub(super) fn new(
        door: Door,
        namespace: String,
        address: String,
        options: PosthouseOptions,
        time: Box<dyn Time>,
    ) -> Self {
        Self {
            door,
            namespace,
            address,
            options,
            time,
            connection: watch::Sender::new(Connection::Down),
            fault: Mutex::new(None),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    client!(publisher, PublisherClient);
    client!(consumer, ConsumerClient);
    client!(reader, ReaderClient);
    client!(live, LiveClient);
    client!(admin, AdminClient);

    /// Refuses what would need no call once the transport is closed.
    pub(super) fn check_open(&self) -> Result<(), TransportError> {
        if self.closing.is_cancelled() { Err(TransportError::Closed) } else { Ok(()) }
    }

    pub(super) fn pace(&self) -> Pace {
        Pace::new(self.options.backoff)
    }

    /// A call whose failures are given as they are, once waiting helps no more.
    pub(super) async fn try_call<T, F>(&self, mut begin: impl FnMut() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let until = Instant::now() + self.options.connect_timeout;
        let mut pace = self.pace();
        loop {
            let answer = tokio::select! {
                biased;
                () = self.closing.cancelled() => return Err(CallError::Closed),
                answer = tokio::time::timeout(CALL_TIMEOUT, begin()) => answer,
            };
            let fault = match answer {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => Fault::of_status(&status),
                Err(_) => Fault::lost("the broker did not answer in time (CALL_TIMEOUT)"),
            };
            let wait = pace.next();
            if !fault.heals() || Instant::now() + wait >= until {
                return Err(CallError::Failed(fault));
            }
            tokio::select! {
                () = self.closing.cancelled() => return Err(CallError::Closed),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// A call that is safe to make again. `what` says in errors what it was about.
    pub(super) async fn call<T, F>(&self, what: &str, begin: impl FnMut() -> F) -> Result<T, TransportError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.try_call(begin).await.map_err(|error| error.into_transport(what, &self.address))
    }

    /// Waits before the next try; `false` if the transport is closed instead.
    pub(super) async fn pause(&self, pace: &mut Pace) -> bool {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => false,
            () = tokio::time::sleep(pace.next()) => true,
        }
    }
}

/// What the user's handles hold: when the last of them goes, the transport is closed as if by its user, without anybody waiting for it.
#[derive(Clone)]
pub(super) struct Keep {
    core: Arc<Core>,
    _closer: Arc<DropGuard>,
}

impl Keep {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let closer = Arc::new(core.closing.clone().drop_guard());
        Self { core, _closer: closer }
    }

    /// For tasks, which end with the transport and do not keep it.
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }
}

impl Deref for Keep {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

/// Why a call was given up.
#[derive(Debug)]
pub(super) enum CallError {
    Failed(Fault),
    Closed,
}

impl CallError {
    pub(super) fn into_transport(self, what: &str, address: &str) -> TransportError {
        match self {
            Self::Failed(fault) => fault.into_transport(what, address),
            Self::Closed => TransportError::Closed,
        }
    }
}

/// A destination in the broker's words.
pub(super) fn target(to: &Destination) -> g::Target {
    use g::target::To;
    let to = match to {
        Destination::Topic(name) => To::Topic(name.clone()),
        Destination::Queue(name) => To::Queue(name.clone()),
        Destination::Live => To::Subject(g::BySubject {}),
    };
    g::Target { to: Some(to) }
}
