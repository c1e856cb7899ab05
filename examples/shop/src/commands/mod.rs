//! The commands of the binary `shop`.

pub mod chaos;
mod customer;
mod load;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::faults::Faults;
use crate::output;
use crate::settings::Carrier;
use crate::supervise::{BrokerKind, Databases, Plan};

/// What the `shop` is told.
#[derive(Debug, Parser)]
#[command(
    name = "shop",
    version,
    about = "An online shop of six services: starts it, sends it orders, and breaks it to see whether its books balance"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the broker and the services, and say where everything is. Ctrl-C stops them.
    Up(up::Options),
    /// Send orders to a shop that is up, and say what became of them.
    Load(load::Options),
    /// Start everything, kill it at random under load, and prove the books. Exits with 1 when they do not balance.
    Chaos(chaos::Options),
}

/// Which broker is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum WhichBroker {
    /// Posthouse: the binary beside this one.
    #[default]
    Posthouse,
    /// RabbitMQ of Debian's packages. Needs `--transport amqp`.
    Rabbitmq,
}

/// What is started, and on what.
#[derive(Args, Clone, Debug)]
struct What {
    /// What carries the messages.
    #[arg(long, value_enum, default_value_t)]
    transport: Carrier,
    /// The broker to start.
    #[arg(long, value_enum, default_value_t)]
    broker: WhichBroker,
    /// Use a broker that runs already and has nothing of a shop in it, and start none: posthouse://HOST:PORT of its gRPC API, or amqp://USER:PASSWORD@HOST:PORT/VHOST.
    #[arg(long, value_name = "URL", conflicts_with = "broker")]
    broker_url: Option<String>,
    /// Keep the services' data in this database of PostgreSQL, a schema for each, instead of files of SQLite: postgres://USER:PASSWORD@HOST/DATABASE.
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// Send traces to this OTLP collector: http://HOST:PORT, gRPC.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

impl What {
    fn plan(&self, directory: PathBuf, schemas: &str, faults: Faults, stock: u32) -> Plan {
        let broker = match (&self.broker_url, self.broker) {
            (Some(url), _) => BrokerKind::Running(url.clone()),
            (None, WhichBroker::Posthouse) => BrokerKind::Posthouse,
            (None, WhichBroker::Rabbitmq) => BrokerKind::Rabbitmq,
        };
        let databases = match &self.postgres {
            Some(url) => Databases::Postgres { url: url.clone(), prefix: schemas.to_owned() },
            None => Databases::Files,
        };
        Plan { directory, carrier: self.transport, broker, databases, faults, stock, otlp: self.otlp.clone() }
    }
}

/// A reason without the articles that it names, so that there are few to count.
fn brief(why: &str) -> &str {
    if why.starts_with("there is not enough of ") { "there is not enough of something" } else { why }
}

/// Ready when somebody asks this program to stop: Ctrl-C, or SIGTERM.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Runs a command.
pub async fn run(cli: Cli) -> ExitCode {
    let ran = match cli.command {
        Command::Up(options) => up::run(options).await,
        Command::Load(options) => load::run(options).await,
        Command::Chaos(options) => chaos::run(options).await,
    };
    match ran {
        Ok(code) => code,
        Err(error) => {
            output::remark(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
