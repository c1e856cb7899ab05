//! A running server: the broker, its listeners and its clockwork.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, BrokerOptions};
use net::{ClientCertificates, Drain, Drained, Listener, ListenerOptions, TlsFiles, TlsStore};
use protocol_amqp::management::ManagementOptions;
use protocol_amqp::{Amqp, AmqpOptions};
use protocol_grpc::{Grpc, GrpcOptions};
use protocol_http::HttpOptions;
use protocol_http::webhook::{PushOptions, Pusher};
use tokio::task::JoinHandle;
use types::Clock;
use types::clock::SystemClock;

use crate::config::{Config, Listen};
use crate::{Metrics, StartError, engine, first_user};

/// The listeners' settings, as errors name them.
const HTTP_FLAG: &str = "--http";
const GRPC_FLAG: &str = "--grpc";
const AMQP_FLAG: &str = "--amqp";
const AMQPS_FLAG: &str = "--amqps";
const MANAGEMENT_FLAG: &str = "--management";

/// A running server.
pub struct Server {
    broker: Broker,
    drain: Drain,
    http: Option<(SocketAddr, bool)>,
    grpc: Option<(SocketAddr, bool)>,
    amqp: Vec<(SocketAddr, bool)>,
    management: Option<(SocketAddr, bool)>,
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
        let http_tls = tls(config, protocol_http::ALPN)?;
        let grpc_tls = tls(config, protocol_grpc::ALPN)?;
        let http = listener(config, &config.http, "http", HTTP_FLAG, http_tls.clone()).await?;
        let grpc = listener(config, &config.grpc, "grpc", GRPC_FLAG, grpc_tls.clone()).await?;
        let amqps_tls = tls(config, protocol_amqp::ALPN)?;
        if amqps_tls.is_none() && config.amqps != Listen::Off {
            return Err(StartError::NoCertificate { flag: AMQPS_FLAG });
        }
        let amqp = listener(config, &config.amqp, "amqp", AMQP_FLAG, None).await?;
        let amqps = listener(config, &config.amqps, "amqps", AMQPS_FLAG, amqps_tls.clone()).await?;
        let management_tls = tls(config, protocol_http::ALPN)?;
        let management =
            listener(config, &config.management, "management", MANAGEMENT_FLAG, management_tls.clone()).await?;
        let place = |listener: &Option<Listener>| listener.as_ref().map(|bound| (bound.local_addr(), bound.is_tls()));
        let (http_address, grpc_address) = (place(&http), place(&grpc));
        let (amqp_address, amqps_address) = (place(&amqp), place(&amqps));
        let management_address = place(&management);
        let places = [
            (HTTP_FLAG, http_address),
            (GRPC_FLAG, grpc_address),
            (AMQP_FLAG, amqp_address),
            (AMQPS_FLAG, amqps_address),
            (MANAGEMENT_FLAG, management_address),
        ];
        let beyond = places.into_iter().find_map(|(flag, place)| {
            place.map(|(address, _)| (flag, address)).filter(|(_, address)| !address.ip().is_loopback())
        });

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
        for store in [http_tls, grpc_tls, amqps_tls, management_tls].into_iter().flatten() {
            tasks.push(tokio::spawn(store.watch(drain.clone())));
        }
        let named = [("http", &http), ("grpc", &grpc), ("amqp", &amqp), ("amqps", &amqps), ("management", &management)]
            .into_iter();
        let counts: Vec<_> = named.filter_map(|(name, listener)| Some((name, listener.as_ref()?.counts()))).collect();
        if let Some(listener) = grpc {
            let grpc = Grpc::new(broker.clone(), GrpcOptions::new(Arc::clone(&clock)));
            tasks.push(tokio::spawn(protocol_grpc::serve(listener, grpc, drain.clone())));
        }
        let options = AmqpOptions::new(Arc::clone(&clock));
        if let Some(listener) = management {
            let listeners = listening([
                ("amqp", amqp_address),
                ("amqp/ssl", amqps_address),
                (if listener.is_tls() { "https" } else { "http" }, management_address),
                ("posthouse/http", http_address),
                ("posthouse/grpc", grpc_address),
            ]);
            let registry = options.registry.clone();
            let options = ManagementOptions { clock: Arc::clone(&clock), listeners, registry };
            let router = protocol_amqp::management::router(broker.clone(), options);
            tasks.push(tokio::spawn(protocol_http::serve(listener, router, drain.clone())));
        }
        let protocol = Amqp::new(broker.clone(), options);
        for listener in [amqp, amqps].into_iter().flatten() {
            tasks.push(tokio::spawn(protocol_amqp::serve(listener, protocol.clone(), drain.clone())));
        }
        if let Some(listener) = http {
            let metrics = Metrics::new(broker.clone(), Arc::clone(&clock), counts, config.metrics_max_entities);
            let options = HttpOptions::new(Arc::new(move || metrics.page()), clock);
            let router = protocol_http::router(broker.clone(), options);
            tasks.push(tokio::spawn(protocol_http::serve(listener, router, drain.clone())));
        }
        let shutdown_limit = config.shutdown_limit;
        let amqp = [amqp_address, amqps_address].into_iter().flatten().collect();
        Ok(Self {
            broker,
            drain,
            http: http_address,
            grpc: grpc_address,
            amqp,
            management: management_address,
            tasks,
            pusher,
            shutdown_limit,
        })
    }

    /// Where the HTTP API is, if it is on.
    #[must_use]
    pub fn http_url(&self) -> Option<String> {
        self.http.map(|(address, tls)| format!("{}://{address}", if tls { "https" } else { "http" }))
    }

    /// Where the gRPC API is, if it is on. `grpcs` is with TLS.
    #[must_use]
    pub fn grpc_url(&self) -> Option<String> {
        self.grpc.map(|(address, tls)| format!("{}://{address}", if tls { "grpcs" } else { "grpc" }))
    }

    /// Where AMQP listens: without TLS, then with it.
    #[must_use]
    pub fn amqp_urls(&self) -> Vec<String> {
        self.amqp.iter().map(|(address, tls)| format!("{}://{address}", if *tls { "amqps" } else { "amqp" })).collect()
    }

    /// Where RabbitMQ's management API is, if it is on.
    #[must_use]
    pub fn management_url(&self) -> Option<String> {
        self.management.map(|(address, tls)| format!("{}://{address}", if tls { "https" } else { "http" }))
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

/// The listeners that are on.
fn listening<const N: usize>(all: [(&'static str, Option<(SocketAddr, bool)>); N]) -> Vec<(&'static str, SocketAddr)> {
    all.into_iter().filter_map(|(protocol, place)| Some((protocol, place?.0))).collect()
}

/// Binds a listener, if it is on.
async fn listener(
    config: &Config,
    listen: &Listen,
    name: &'static str,
    flag: &'static str,
    tls: Option<Arc<TlsStore>>,
) -> Result<Option<Listener>, StartError> {
    let Listen::At(address) = listen else { return Ok(None) };
    let options = ListenerOptions { name, flag, tls, max_connections: config.max_connections };
    Ok(Some(Listener::bind(address, options).await?))
}

fn tls(config: &Config, alpn: &[&[u8]]) -> Result<Option<Arc<TlsStore>>, StartError> {
    let (Some(certificate), Some(key)) = (config.tls_cert.clone(), config.tls_key.clone()) else { return Ok(None) };
    let clients = match config.tls_client_ca.clone() {
        None => ClientCertificates::Off,
        Some(authorities) if config.tls_client_required => ClientCertificates::Required(authorities),
        Some(authorities) => ClientCertificates::Optional(authorities),
    };
    Ok(Some(TlsStore::open(TlsFiles { certificate, key, clients }, alpn)?))
}

/// Opens the broker, with its first user if one is configured. `beyond` is a listener that others than this machine reach.
async fn open_broker(
    config: &Config,
    clock: Arc<dyn Clock>,
    beyond: Option<(&'static str, SocketAddr)>,
) -> Result<Broker, StartError> {
    let password = first_user::password(config)?;
    let anonymous = config.anonymous && (beyond.is_none() || config.insecure);
    let options = BrokerOptions {
        memory_high_bytes: config.memory_high.0,
        anonymous,
        auth_cache: config.auth_cache,
        webhook_allow_private: config.webhook_allow_private,
        ..BrokerOptions::default()
    };
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
        Some((flag, address)) if config.anonymous => Some(StartError::Insecure { flag, address }),
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
