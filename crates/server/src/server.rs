//! A running server: the broker, its listeners and its clockwork.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerOptions};
use net::{ClientCertificates, Drain, Drained, Listener, ListenerOptions, TlsFiles, TlsStore};
use protocol_http::HttpOptions;
use protocol_http::webhook::{PushOptions, Pusher};
use tokio::task::JoinHandle;
use types::Clock;
use types::clock::SystemClock;

use crate::config::{Config, Listen};
use crate::{Metrics, StartError, engine, first_user};

/// The HTTP listener's setting, as errors name it.
const HTTP_FLAG: &str = "--http";

/// A running server.
pub struct Server {
    broker: Broker,
    drain: Drain,
    http: Option<(SocketAddr, bool)>,
    tasks: Vec<JoinHandle<()>>,
    pusher: Pusher,
    shutdown_limit: Duration,
}

impl Server {
    /// Starts: binds, opens what is stored, and serves. Ports are bound first, since that is quick to fail; clients that connect during
    /// a recovery wait for its end.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let tls = tls(config)?;
        let http = match &config.http {
            Listen::Off => None,
            Listen::At(address) => {
                let options = ListenerOptions {
                    name: "http",
                    flag: HTTP_FLAG,
                    tls: tls.clone(),
                    max_connections: config.max_connections,
                };
                Some(Listener::bind(address, options).await?)
            }
        };
        let http_address = http.as_ref().map(|listener| (listener.local_addr(), listener.is_tls()));
        let beyond = http_address.map(|(address, _)| address).filter(|address| !address.ip().is_loopback());

        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let broker = open_broker(config, Arc::clone(&clock), beyond).await?;
        let drain = Drain::new();
        let mut tasks = vec![tokio::spawn(tick(broker.clone(), drain.clone()))];
        let push = PushOptions {
            allow_private: config.webhook_allow_private,
            stop_timeout: config.shutdown_limit,
            clock: Arc::clone(&clock),
        };
        let pusher = Pusher::start(broker.clone(), push);
        if let Some(store) = tls {
            tasks.push(tokio::spawn(store.watch(drain.clone())));
        }
        if let Some(listener) = http {
            let counts = vec![("http", listener.counts())];
            let metrics = Metrics::new(broker.clone(), Arc::clone(&clock), counts, config.metrics_max_entities);
            let mut options = HttpOptions::new(Arc::new(move || metrics.page()), clock);
            options.webhook_allow_private = config.webhook_allow_private;
            let router = protocol_http::router(broker.clone(), options);
            tasks.push(tokio::spawn(protocol_http::serve(listener, router, drain.clone())));
        }
        Ok(Self { broker, drain, http: http_address, tasks, pusher, shutdown_limit: config.shutdown_limit })
    }

    /// Where the HTTP API is, if it is on.
    #[must_use]
    pub fn http_url(&self) -> Option<String> {
        self.http.map(|(address, tls)| format!("{}://{address}", if tls { "https" } else { "http" }))
    }

    /// The broker, for what runs in the same process.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Stops: no new connections, time for those that are there, then everything is written and closed.
    pub async fn stop(self) -> Drained {
        let (drained, ()) = tokio::join!(self.drain.finish(self.shutdown_limit), self.pusher.stop());
        self.broker.close().await;
        for task in self.tasks {
            task.abort();
        }
        drained
    }
}

fn tls(config: &Config) -> Result<Option<Arc<TlsStore>>, StartError> {
    let (Some(certificate), Some(key)) = (config.tls_cert.clone(), config.tls_key.clone()) else { return Ok(None) };
    let clients = match config.tls_client_ca.clone() {
        None => ClientCertificates::Off,
        Some(authorities) if config.tls_client_required => ClientCertificates::Required(authorities),
        Some(authorities) => ClientCertificates::Optional(authorities),
    };
    Ok(Some(TlsStore::open(TlsFiles { certificate, key, clients }, protocol_http::ALPN)?))
}

/// Opens the broker, with its first user if one is configured. `beyond` is an address that others than this machine reach.
async fn open_broker(config: &Config, clock: Arc<dyn Clock>, beyond: Option<SocketAddr>) -> Result<Broker, StartError> {
    let password = first_user::password(config)?;
    let anonymous = config.anonymous && (beyond.is_none() || config.insecure);
    let options = BrokerOptions { memory_high_bytes: config.memory_high.0, anonymous, auth_cache: config.auth_cache };
    let opening = {
        let config = config.clone();
        tokio::task::spawn_blocking(move || Ok::<_, StartError>(Broker::open(engine::open(&config)?, clock, options)?))
    };
    let system = |error: tokio::task::JoinError| StartError::System {
        what: "the broker could not be opened",
        error: std::io::Error::other(error),
    };
    let broker = opening.await.map_err(system)??;
    if let Some(password) = password.filter(|_| !broker.has_users()) {
        first_user::create(&broker, &password).await?;
    }
    let refusal = match beyond {
        _ if broker.has_users() || anonymous => None,
        Some(address) if config.anonymous => Some(StartError::Insecure { flag: HTTP_FLAG, address }),
        _ => Some(StartError::NobodyMayEnter),
    };
    match refusal {
        None => Ok(broker),
        Some(error) => {
            broker.close().await;
            Err(error)
        }
    }
}

/// Has the broker do what is due, for as long as the drain lets messages move.
async fn tick(broker: Broker, drain: Drain) {
    loop {
        let pause = broker.tick().await;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = broker.tick_due() => {}
            () = drain.over() => return,
        }
    }
}
