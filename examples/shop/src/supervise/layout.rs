//! Where everything of a shop is: ports, files, programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use sqlx::Connection;
use tokio::net::TcpListener;

use super::Plan;
use super::process::Launch;
use crate::faults::Faults;
use crate::services::Name;
use crate::settings::{Carrier, sqlite_url};

/// Where the services' databases are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Databases {
    /// A file of SQLite for each service, in the shop's directory.
    Files,
    /// A schema for each service in a database of PostgreSQL.
    Postgres {
        /// The database.
        url: String,
        /// What the schemas' names begin with: letters, digits and `_`.
        prefix: String,
    },
}

/// Where everything is. Made once, so that what is started again is where it was.
#[derive(Clone, Debug)]
pub struct Layout {
    directory: PathBuf,
    carrier: Carrier,
    pub(super) broker_url: String,
    databases: BTreeMap<Name, String>,
    http: BTreeMap<Name, SocketAddr>,
    quotes: SocketAddr,
    faults: Faults,
    stock: u32,
    otlp: Option<String>,
}

impl Layout {
    pub(super) async fn new(plan: &Plan) -> anyhow::Result<Self> {
        let directory = plan.directory.canonicalize()?;
        std::fs::create_dir_all(directory.join("logs"))?;
        let (mut databases, mut http) = (BTreeMap::new(), BTreeMap::new());
        for name in Name::ALL {
            let url = match &plan.databases {
                Databases::Files => sqlite_url(&directory.join(format!("{name}.db"))),
                Databases::Postgres { url, prefix } => make_schema(url, &format!("{prefix}_{name}")).await?,
            };
            databases.insert(name, url);
            http.insert(name, free_port().await?);
        }
        Ok(Self {
            directory,
            carrier: plan.carrier,
            broker_url: String::new(),
            databases,
            http,
            quotes: free_port().await?,
            faults: plan.faults,
            stock: plan.stock,
            otlp: plan.otlp.clone(),
        })
    }

    /// The directory of it all.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What carries the messages.
    #[must_use]
    pub const fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// The broker, as the services address it.
    #[must_use]
    pub fn broker_url(&self) -> &str {
        &self.broker_url
    }

    /// A service's HTTP side.
    #[must_use]
    pub fn http(&self, name: Name) -> SocketAddr {
        self.http.get(&name).copied().unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Where quotes are answered.
    #[must_use]
    pub const fn quotes(&self) -> SocketAddr {
        self.quotes
    }

    /// A service's database.
    #[must_use]
    pub fn database(&self, name: Name) -> &str {
        self.databases.get(&name).map_or("", String::as_str)
    }

    /// A process's log.
    #[must_use]
    pub fn log_of(&self, process: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{process}.log"))
    }

    /// How a service is started.
    pub(super) fn service(&self, name: Name) -> anyhow::Result<Launch> {
        let program = beside_us(&format!("shop-{name}"))?.with_context(|| {
            format!("there is no `shop-{name}` beside this program; build the services by `cargo build -p shop --bins`")
        })?;
        let mut arguments = vec![
            "--leashed".to_owned(),
            format!("--transport={}", self.carrier.as_str()),
            format!("--broker={}", self.broker_url),
            format!("--database={}", self.database(name)),
            format!("--http={}", self.http(name)),
        ];
        arguments.extend(self.otlp.iter().map(|url| format!("--otlp={url}")));
        match name {
            Name::Order => {
                arguments.push(format!("--inventory=http://{}", self.http(Name::Inventory)));
                arguments.push(format!("--payment=http://{}", self.quotes));
                arguments.extend(self.faults.to_args());
            }
            Name::Payment => {
                arguments.push(format!("--grpc={}", self.quotes));
                arguments.extend(self.faults.to_args());
            }
            Name::Inventory => arguments.push(format!("--stock={}", self.stock)),
            Name::Notification | Name::Loyalty | Name::Analytics => {}
        }
        Ok(Launch { program, arguments, environment: Vec::new() })
    }
}

/// A program in the directory of this one.
pub(super) fn beside_us(name: &str) -> anyhow::Result<Option<PathBuf>> {
    let us = std::env::current_exe().context("finding this program's own file")?;
    let directory = us.parent().context("this program's file has no directory")?;
    // A test's own binary is one directory further down.
    let places = [directory.to_owned(), directory.join("..")];
    Ok(places.into_iter().map(|place| place.join(name)).find(|file| file.is_file()))
}

/// Where servers listen: below the ports that the system gives to outgoing connections (from 32768 on, unless it was told otherwise). One of those
/// would be taken by some client between the choice and the server's start, or while a killed server is away.
const PORTS: std::ops::Range<u16> = 10_000..32_768;
/// How many ports are tried before it is given up.
const PORT_TRIES: usize = 200;

/// A port on which nobody listens, and which this process has not given out before.
pub(super) async fn free_port() -> anyhow::Result<SocketAddr> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    for _ in 0..PORT_TRIES {
        let port = fastrand::u16(PORTS);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let is_new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_new && TcpListener::bind(address).await.is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port was found between {} and {}", PORTS.start, PORTS.end)
}

/// Makes a schema, and gives the URL that leads there.
async fn make_schema(url: &str, schema: &str) -> anyhow::Result<String> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        bail!("{url:?} is no URL of a database of PostgreSQL: postgres://USER:PASSWORD@HOST:PORT/DATABASE");
    }
    run_on_schema(url, "CREATE SCHEMA IF NOT EXISTS", schema, "").await?;
    let join = if url.contains('?') { '&' } else { '?' };
    Ok(format!("{url}{join}options[search_path]={schema}"))
}

/// Drops the schemas of a shop that is not needed any more.
///
/// # Errors
/// If the database cannot be reached.
pub async fn drop_schemas(url: &str, prefix: &str) -> anyhow::Result<()> {
    for name in Name::ALL {
        run_on_schema(url, "DROP SCHEMA IF EXISTS", &format!("{prefix}_{name}"), " CASCADE").await?;
    }
    Ok(())
}

async fn run_on_schema(url: &str, before: &str, schema: &str, after: &str) -> anyhow::Result<()> {
    ensure!(
        schema.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
        "{schema:?} is no name of a schema"
    );
    let mut connection = sqlx::PgConnection::connect(url).await.context("connecting to PostgreSQL")?;
    // Made of constants and of a name that was looked at.
    let statement = sqlx::AssertSqlSafe(format!("{before} {schema}{after}"));
    sqlx::query(statement).execute(&mut connection).await.with_context(|| format!("{before} {schema}"))?;
    connection.close().await?;
    Ok(())
}
