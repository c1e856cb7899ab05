//! A broker from its start to its stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerOptions};
use log::{EmbeddedLog, EmbeddedOptions, FileDisk, FileDiskError, Log, MemoryLog};
use net::{Drain, ListenAddress, Listener, ListenerOptions};
use protocol_amqp::{Amqp, AmqpOptions};
use protocol_grpc::{Grpc, GrpcOptions, Services};
use tokio::task::JoinHandle;
use types::Clock;

use crate::embedded::{Builder, StartError};

/// Connections that a listener takes.
const MAX_CONNECTIONS: usize = 1000;
/// How long connections may take to end when the broker stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the port and the directory of a broker that has stopped are looked at, and how long after each other: the last of its calls may
/// have them still.
const TRIES: u32 = 250;
const PAUSE: Duration = Duration::from_millis(20);
/// Most rounds of doing what is due after the clock was moved: work that always leads to more must not hold a test for ever.
const MAX_TICKS: usize = 10_000;
/// A tick that says so has nothing more to do now.
const SOON: Duration = Duration::from_millis(1);
/// Write-ahead files are small: an embedded broker has little to write, and starts often.
const WAL_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// See the module.
pub(crate) struct Running {
    broker: Broker,
    drain: Drain,
    ticking: JoinHandle<()>,
    serving: Vec<JoinHandle<()>>,
    pub(crate) services: Services,
    pub(crate) places: Places,
}

/// Where the listeners are, once they are somewhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Places {
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) amqp: Option<SocketAddr>,
}

impl Running {
    /// Starts a broker on what the one before has left. `places` are its listeners' addresses.
    pub(crate) async fn start(
        builder: &Builder,
        memory: &Arc<MemoryLog>,
        clock: Arc<dyn Clock>,
        mut places: Places,
    ) -> Result<Self, StartError> {
        let grpc = listen(builder.listen_grpc, "grpc", &mut places.grpc).await?;
        let amqp = listen(builder.listen_amqp, "amqp", &mut places.amqp).await?;
        let broker = open(builder, memory, Arc::clone(&clock)).await?;
        let drain = Drain::new();
        let ticking = tokio::spawn(tick(broker.clone()));
        let api = Grpc::new(broker.clone(), GrpcOptions::new(Arc::clone(&clock)));
        let services = api.service(drain.clone());
        let mut serving = Vec::new();
        if let Some(listener) = grpc {
            serving.push(tokio::spawn(protocol_grpc::serve(listener, api, drain.clone())));
        }
        if let Some(listener) = amqp {
            let protocol = Amqp::new(broker.clone(), AmqpOptions::new(clock));
            serving.push(tokio::spawn(protocol_amqp::serve(listener, protocol, drain.clone())));
        }
        Ok(Self { broker, drain, ticking, serving, services, places })
    }

    /// Does what is due, and what follows from it.
    pub(crate) async fn settle(&self) {
        for _ in 0..MAX_TICKS {
            let pause = self.broker.tick().await;
            // What was woken gets its turn, and may make more due.
            tokio::task::yield_now().await;
            if pause > SOON {
                return;
            }
        }
    }

    pub(crate) async fn stop(mut self) {
        self.drain.finish(STOP_TIMEOUT).await;
        self.broker.close().await;
        self.ticking.abort();
        (&mut self.ticking).await.ok();
        for task in std::mem::take(&mut self.serving) {
            task.abort();
            // Its socket is closed once it is gone.
            task.await.ok();
        }
    }
}

impl Drop for Running {
    /// Whoever did not stop it in order is served no more.
    fn drop(&mut self) {
        self.drain.begin();
        self.ticking.abort();
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

async fn tick(broker: Broker) {
    loop {
        let pause = broker.tick().await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = broker.tick_due() => {}
        }
    }
}

async fn open(builder: &Builder, memory: &Arc<MemoryLog>, clock: Arc<dyn Clock>) -> Result<Broker, StartError> {
    let Some(path) = builder.data.clone() else {
        return Ok(Broker::open(Arc::clone(memory) as Arc<dyn Log>, clock, BrokerOptions::default())?);
    };
    let mut tries = 0;
    let disk = loop {
        let wanted = path.clone();
        let opened = tokio::task::spawn_blocking(move || FileDisk::open(&wanted)).await;
        match opened.map_err(|error| StartError::Ended(error.to_string()))? {
            Ok(disk) => break disk,
            Err(FileDiskError::InUse { pid: Some(pid), .. }) if pid == std::process::id() && tries < TRIES => {
                tries += 1
            }
            Err(error) => return Err(StartError::Data { path, why: error.to_string() }),
        }
        tokio::time::sleep(PAUSE).await;
    };
    let opening = tokio::task::spawn_blocking(move || {
        let data = |why: String| StartError::Data { path: path.clone(), why };
        let options = EmbeddedOptions { wal_file_bytes: WAL_FILE_BYTES, ..EmbeddedOptions::default() };
        let log = EmbeddedLog::open(Arc::new(disk), options).map_err(|error| data(error.to_string()))?;
        Ok(Broker::open(Arc::new(log), clock, BrokerOptions::default())?)
    });
    opening.await.unwrap_or_else(|error| Err(StartError::Ended(error.to_string())))
}

/// A listener on loopback: on the port of the one before it, or on a free one.
async fn listen(
    is_wanted: bool,
    name: &'static str,
    place: &mut Option<SocketAddr>,
) -> Result<Option<Listener>, StartError> {
    if !is_wanted {
        return Ok(None);
    }
    let wanted = place.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let refused = |why: String| StartError::Listen { name, why };
    let address: ListenAddress = wanted.to_string().parse().map_err(|error| refused(format!("{error}")))?;
    let mut tries = 0;
    loop {
        let options = ListenerOptions { name, flag: name, tls: None, max_connections: MAX_CONNECTIONS };
        match Listener::bind(&address, options).await {
            Ok(listener) => {
                *place = Some(listener.local_addr());
                return Ok(Some(listener));
            }
            Err(error) if tries >= TRIES => return Err(refused(error.to_string())),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(PAUSE).await;
    }
}
