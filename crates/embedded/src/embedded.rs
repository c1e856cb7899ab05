//! The embedded broker as its user has it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use log::MemoryLog;
use parking_lot::Mutex;
use sdk::transport::Transport;
use sdk::transport::posthouse::{Backoff, BoxedService, Posthouse, PosthouseOptions};
use tower::{BoxError, ServiceExt};

use crate::running::{Places, Running};
use crate::service::Slot;
use crate::time::Clockwork;

/// What errors call it.
const PLACE: &str = "embedded";
/// How soon a transport looks whether a broker that was stopped is there again.
const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(1), cap: Duration::from_millis(50) };

/// What an embedded broker is to be like.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(crate) data: Option<PathBuf>,
    pub(crate) listen_grpc: bool,
    pub(crate) listen_amqp: bool,
    manual_clock: bool,
    namespace: String,
}

impl Builder {
    /// Keep everything in this directory, which is made if it is missing, rather than in memory.
    #[must_use]
    pub fn data(mut self, path: impl Into<PathBuf>) -> Self {
        self.data = Some(path.into());
        self
    }

    /// The time stands still until [`Embedded::advance`] moves it.
    #[must_use]
    pub fn manual_clock(mut self) -> Self {
        self.manual_clock = true;
        self
    }

    /// The namespace of [`Embedded::transport`]; `default` unless said. It must be there.
    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = name.into();
        self
    }

    /// Listen for gRPC on a free port of loopback as well; [`Embedded::grpc_url`] says where.
    #[must_use]
    pub fn listen_grpc(mut self) -> Self {
        self.listen_grpc = true;
        self
    }

    /// Listen for AMQP 0-9-1 on a free port of loopback as well; [`Embedded::amqp_url`] says where.
    #[must_use]
    pub fn listen_amqp(mut self) -> Self {
        self.listen_amqp = true;
        self
    }

    /// Starts it. Within a tokio runtime, which it lives in.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self) -> Result<Embedded, StartError> {
        let time = if self.manual_clock { Clockwork::manual() } else { Clockwork::system() };
        let state = State { memory: Arc::new(MemoryLog::new()), places: Places::default(), running: None };
        let broker = Embedded {
            builder: self,
            time,
            slot: Slot::default(),
            state: tokio::sync::Mutex::new(state),
            places: Mutex::default(),
        };
        broker.start_again().await?;
        Ok(broker)
    }
}

/// A broker in this process. Dropping it ends it as a killed process ends; [`stop`](Self::stop) is the orderly way.
pub struct Embedded {
    builder: Builder,
    time: Clockwork,
    slot: Slot,
    state: tokio::sync::Mutex<State>,
    places: Mutex<Places>,
}

struct State {
    memory: Arc<MemoryLog>,
    places: Places,
    running: Option<Running>,
}

impl Embedded {
    /// A broker that keeps everything in memory.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// To say what it is to be like.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A new transport to it, with connections of its own. It outlives a stop, and goes on once the broker is started again.
    ///
    /// To be called within a tokio runtime.
    #[must_use]
    pub fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(self.posthouse(PosthouseOptions { backoff: BACKOFF, ..PosthouseOptions::default() }))
    }

    /// As [`transport`](Self::transport), with other options.
    #[must_use]
    pub fn posthouse(&self, options: PosthouseOptions) -> Posthouse {
        let service = BoxedService::new(self.slot.clone().map_err(|never| -> BoxError { match never {} }));
        Posthouse::over(service, PLACE, &self.builder.namespace, options, Box::new(self.time.clone()))
    }

    /// Where it listens for gRPC, in the form that [`Posthouse::connect`] takes, if it does. The same after a new start.
    #[must_use]
    pub fn grpc_url(&self) -> Option<String> {
        self.places.lock().grpc.map(|place| format!("posthouse://{place}"))
    }

    /// Where it listens for AMQP, if it does. The same after a new start.
    #[must_use]
    pub fn amqp_url(&self) -> Option<String> {
        self.places.lock().amqp.map(|place| format!("amqp://{place}"))
    }

    /// Moves the manual clock, and has the broker do what is due then: delayed and failed messages become ready, leases and lives end. Timers
    /// ([`Transport::sleep`]) that end by then are woken. With the machine's clock, which nobody moves, it does what is due and logs a warning.
    pub async fn advance(&self, by: Duration) {
        if !self.time.advance(by) {
            tracing::warn!(
                "the broker runs by the machine's clock, which cannot be moved; build it with `manual_clock`"
            );
        }
        if let Some(running) = &self.state.lock().await.running {
            running.settle().await;
        }
    }

    /// Stops the broker in order: streams end, what is under way is written. Transports keep what they have to send, and wait.
    pub async fn stop(&self) {
        let mut state = self.state.lock().await;
        self.slot.put(None);
        if let Some(running) = state.running.take() {
            running.stop().await;
            state.memory = Arc::new(state.memory.reopen());
        }
    }

    /// Starts it again on the same data, the same ports and the same clock, stopping it first if it runs.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start_again(&self) -> Result<(), StartError> {
        self.stop().await;
        let mut state = self.state.lock().await;
        let running = Running::start(&self.builder, &state.memory, self.time.clock(), state.places).await?;
        state.places = running.places;
        *self.places.lock() = running.places;
        self.slot.put(Some(running.services.clone()));
        state.running = Some(running);
        Ok(())
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.slot.put(None);
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("builder", &self.builder).finish_non_exhaustive()
    }
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("the data in {path} cannot be used: {why}")]
    Data {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What is stored cannot be read.
    #[error("the broker cannot read what is stored: {0}")]
    Storage(#[from] broker::StorageError),
    /// A port cannot be had.
    #[error("the broker cannot listen for {name}: {why}")]
    Listen {
        /// Which protocol.
        name: &'static str,
        /// Why not.
        why: String,
    },
    /// The runtime ended while it started.
    #[error("the broker's start was cut off: {0}")]
    Ended(String),
}
