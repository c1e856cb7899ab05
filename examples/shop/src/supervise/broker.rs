//! The broker: Posthouse's own binary, RabbitMQ of Debian's packages, or somebody else's.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::layout::{beside_us, free_port};
use super::process::{Launch, Process};
use super::{Plan, READY_LIMIT, STOP_LIMIT};
use crate::settings::Carrier;

/// Where Debian's packages put RabbitMQ.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Erlang's port mapper, of the same packages.
const EPMD: &str = "epmd";

/// Which broker carries the messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// Posthouse, started here.
    Posthouse,
    /// RabbitMQ, started here.
    Rabbitmq,
    /// One that runs already, at this URL.
    Running(String),
}

/// The broker of a shop.
#[derive(Debug)]
pub(super) struct Broker {
    url: String,
    process: Option<Process>,
    /// RabbitMQ needs a port mapper.
    mapper: Option<Process>,
    places: Vec<(String, String)>,
}

impl Broker {
    /// Starts it, and waits until it is ready.
    pub(super) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let mut broker = match (&plan.broker, plan.carrier) {
            (BrokerKind::Running(url), _) => {
                return Ok(Self {
                    url: url.clone(),
                    process: None,
                    mapper: None,
                    places: vec![("broker".to_owned(), url.clone())],
                });
            }
            (BrokerKind::Rabbitmq, Carrier::Posthouse) => {
                bail!("RabbitMQ does not speak Posthouse's gRPC; use --transport amqp with it")
            }
            (BrokerKind::Posthouse, carrier) => Self::posthouse(plan, carrier).await?,
            (BrokerKind::Rabbitmq, Carrier::Amqp) => Self::rabbitmq(plan).await?,
        };
        if let Some(mapper) = broker.mapper.as_mut() {
            mapper.start()?;
            mapper.wait_until_ready(READY_LIMIT).await?;
        }
        if let Some(process) = broker.process.as_mut() {
            process.start()?;
            process.wait_until_ready(READY_LIMIT).await?;
        }
        Ok(broker)
    }

    async fn posthouse(plan: &Plan, carrier: Carrier) -> anyhow::Result<Self> {
        let program = beside_us("posthouse")?.context(
            "there is no `posthouse` beside this program; build the broker by `cargo build -p cli`, then try again",
        )?;
        let (http, grpc, amqp) = (free_port().await?, free_port().await?, free_port().await?);
        let data = plan.directory.join("broker");
        let mut arguments =
            vec!["serve".to_owned(), format!("--data={}", data.display()), "--management=off".to_owned()];
        arguments.extend([format!("--http={http}"), format!("--grpc={grpc}"), format!("--amqp={amqp}")]);
        let launch = Launch { program, arguments, environment: Vec::new() };
        let log = plan.directory.join("logs").join("broker.log");
        let url = match carrier {
            Carrier::Posthouse => format!("posthouse://{grpc}"),
            Carrier::Amqp => format!("amqp://guest:guest@{amqp}/%2f"),
        };
        let places = vec![
            ("broker".to_owned(), url.clone()),
            ("broker, HTTP API".to_owned(), format!("http://{http}/docs")),
            ("broker, for the CLI".to_owned(), format!("posthouse queue list --url http://{http}")),
        ];
        let process = Process::new("broker", launch, log).ready_at(http, "/readyz");
        Ok(Self { url, process: Some(process), mapper: None, places })
    }

    /// With a node name, a cookie and a port mapper of its own, all on loopback: nothing that is installed is touched.
    async fn rabbitmq(plan: &Plan) -> anyhow::Result<Self> {
        if !Path::new(RABBITMQ).is_file() {
            bail!(
                "RabbitMQ is not installed: apt-get install rabbitmq-server, or give the URL of one that runs by --broker-url"
            );
        }
        let (amqp, distribution, mapping) = (free_port().await?, free_port().await?, free_port().await?);
        let directory = plan.directory.join("broker");
        std::fs::create_dir_all(directory.join("home")).context("making RabbitMQ's directory")?;
        let directory = directory.canonicalize()?;
        std::fs::write(directory.join("plugins"), "[].\n")?;
        std::fs::write(directory.join("rabbitmq.conf"), configuration(amqp))?;
        let environment = environment(&directory, amqp, distribution, mapping);
        let launch = Launch { program: RABBITMQ.into(), arguments: Vec::new(), environment: environment.clone() };
        let log = |name: &str| plan.directory.join("logs").join(name);
        let process = Process::new("broker", launch, log("broker.log")).ready_when_listening(amqp);
        let arguments =
            ["-address", "127.0.0.1", "-port"].map(str::to_owned).into_iter().chain([mapping.port().to_string()]);
        let launch = Launch { program: PathBuf::from(EPMD), arguments: arguments.collect(), environment };
        let mapper = Process::new("epmd", launch, log("epmd.log")).ready_when_listening(mapping);
        let url = format!("amqp://guest:guest@{amqp}/%2f");
        let places = vec![("broker".to_owned(), url.clone())];
        Ok(Self { url, process: Some(process), mapper: Some(mapper), places })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn describe(&self) -> Vec<(String, String)> {
        self.places.clone()
    }

    pub(super) const fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        for process in [self.process.as_mut(), self.mapper.as_mut()].into_iter().flatten() {
            process.terminate()?;
            process.wait_until_ended(STOP_LIMIT).await?;
        }
        Ok(())
    }
}

fn configuration(amqp: SocketAddr) -> String {
    format!(
        "listeners.tcp.local = {amqp}\nvm_memory_high_watermark.relative = 0.6\ndisk_free_limit.absolute = 50MB\nlog.console = false\n"
    )
}

fn environment(
    directory: &Path,
    amqp: SocketAddr,
    distribution: SocketAddr,
    mapping: SocketAddr,
) -> Vec<(String, String)> {
    let file = |name: &str| directory.join(name).display().to_string();
    [
        ("HOME", file("home")),
        ("RABBITMQ_NODENAME", format!("shop{}@localhost", amqp.port())),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_DIST_PORT", distribution.port().to_string()),
        ("RABBITMQ_MNESIA_BASE", file("mnesia")),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins")),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_PID_FILE", file("pid")),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}".to_owned()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("ERL_EPMD_PORT", mapping.port().to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
