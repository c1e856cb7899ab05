//! What Posthouse is compared with: found or built, and started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::process::{self, Server};

/// The release of nats-server that is compared with.
pub(super) const NATS_VERSION: &str = "v2.15.2";
const NATS_MODULE: &str = "github.com/nats-io/nats-server/v2";
/// Where Go is when it is not in `PATH`.
const GO: &str = "/usr/local/go/bin/go";

/// Where Debian puts RabbitMQ's own script; the one in `PATH` changes the user.
const RABBITMQ: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// The programs of the peers.
#[derive(Debug)]
pub(super) struct Programs {
    /// Drives them.
    pub(super) bench: PathBuf,
    pub(super) nats: PathBuf,
    pub(super) redis: PathBuf,
    /// As `redis-server --version` says it.
    pub(super) redis_version: String,
}

impl Programs {
    /// Finds them; nats-server is built by Go, once, below `home`.
    ///
    /// # Errors
    /// If one is missing, with how to get it.
    pub(super) fn find(bench: &Path, home: &Path) -> anyhow::Result<Self> {
        let redis = PathBuf::from(std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into()));
        let version = Command::new(&redis).arg("--version").output();
        let version =
            version.context("redis-server is missing: `apt-get install redis-server`, or name it in REDIS_SERVER")?;
        let version = String::from_utf8_lossy(&version.stdout);
        let redis_version =
            version.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_owned();
        Ok(Self { bench: bench.to_owned(), nats: nats_server(home)?, redis, redis_version })
    }

    /// Runs a command of the driver.
    ///
    /// # Errors
    /// If it fails.
    pub(super) fn run(&self, line: &str) -> anyhow::Result<Value> {
        process::run(Command::new(&self.bench).args(line.split_whitespace()))
    }
}

fn nats_server(home: &Path) -> anyhow::Result<PathBuf> {
    if let Some(given) = std::env::var_os("NATS_SERVER") {
        return Ok(given.into());
    }
    let directory = home.join("bin");
    let program = directory.join("nats-server");
    let wanted = NATS_VERSION.trim_start_matches('v');
    let is_there = |program: &Path| {
        let version = Command::new(program).arg("--version").output().ok()?;
        String::from_utf8_lossy(&version.stdout).contains(wanted).then_some(())
    };
    if is_there(&program).is_none() {
        let go = if Path::new(GO).exists() { GO } else { "go" };
        println!("building nats-server {NATS_VERSION}");
        let built = Command::new(go)
            .args(["install", &format!("{NATS_MODULE}@{NATS_VERSION}")])
            .env("GOBIN", &directory)
            .status()
            .context(
                "nats-server is missing, and Go to build it too: install Go, or name nats-server in NATS_SERVER",
            )?;
        anyhow::ensure!(built.success(), "nats-server {NATS_VERSION} cannot be built ({built})");
    }
    is_there(&program).with_context(|| format!("{} is not {NATS_VERSION}", program.display()))?;
    Ok(program)
}

/// The peers, running.
#[derive(Debug)]
pub(super) struct Peers {
    /// JetStream as it comes: files are synced every two minutes.
    pub(super) nats: (Server, u16),
    /// JetStream that syncs before it acknowledges.
    pub(super) nats_always: (Server, u16),
    /// Redis that syncs before it answers.
    pub(super) redis: (Server, u16),
}

impl Peers {
    /// Starts them, each with a directory of its own below `run`.
    ///
    /// # Errors
    /// If one does not start.
    pub(super) fn start(programs: &Programs, run: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            nats: nats(programs, &run.join("nats"), "")?,
            nats_always: nats(programs, &run.join("nats-always"), "sync_interval: always")?,
            redis: redis(programs, &run.join("redis"))?,
        })
    }
}

/// RabbitMQ of Debian's packages: a node of its own on loopback, which shares nothing with one that is installed.
#[derive(Debug)]
pub(super) struct RabbitMq {
    server: Server,
    port: u16,
    /// Its port mapper, which it needs to start.
    _mapper: Server,
}

impl RabbitMq {
    /// Starts it in a directory of its own.
    ///
    /// # Errors
    /// If it is not installed, or does not start.
    pub(super) fn start(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory.join("home"))?;
        let program = std::env::var_os("RABBITMQ_SERVER").map_or_else(|| RABBITMQ.into(), PathBuf::from);
        anyhow::ensure!(
            program.exists(),
            "RabbitMQ is missing: `apt-get install rabbitmq-server`, or name its script in RABBITMQ_SERVER"
        );
        let (mapper, mapper_port) = process::start("epmd", &directory.join("epmd.log"), |port| {
            let mut command = Command::new("epmd");
            command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
            command
        })?;
        let distribution = process::free_port()?;
        let (plugins, config) = (directory.join("plugins"), directory.join("rabbitmq.conf"));
        std::fs::write(&plugins, "[].\n")?;
        let (server, port) = process::start("rabbitmq-server", &directory.join("log"), |port| {
            let text = format!("listeners.tcp.local = 127.0.0.1:{port}\ndisk_free_limit.absolute = 50MB\n");
            // A configuration that is not there is an error of the server's.
            let _ = std::fs::write(&config, text);
            let mut command = Command::new(&program);
            command.env("HOME", directory.join("home")).env("ERL_EPMD_ADDRESS", "127.0.0.1");
            command.env("ERL_EPMD_PORT", mapper_port.to_string());
            command.env("RABBITMQ_NODENAME", format!("bench{port}@localhost"));
            command.env("RABBITMQ_DIST_PORT", distribution.to_string());
            command.env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"));
            command.env("RABBITMQ_LOG_BASE", directory.join("logs"));
            command.env("RABBITMQ_PID_FILE", directory.join("pid"));
            command.env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins).env("RABBITMQ_CONFIG_FILE", &config);
            command.env("RABBITMQ_CONF_ENV_FILE", "/dev/null");
            command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput -kernel inet_dist_use_interface {127,0,0,1}");
            // Its script becomes the server, instead of a parent that would outlive it.
            command.env("RABBITMQ_ALLOW_INPUT", "1");
            command
        })?;
        Ok(Self { server, port, _mapper: mapper })
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

fn nats(programs: &Programs, directory: &Path, setting: &str) -> anyhow::Result<(Server, u16)> {
    std::fs::create_dir_all(directory)?;
    let (config, store) = (directory.join("nats.conf"), directory.join("store"));
    let log = directory.join("log");
    process::start("nats-server", &log, |port| {
        let text = format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?}\n {setting} }}\n");
        // A configuration that is not there is an error of the server's.
        let _ = std::fs::write(&config, text);
        let mut command = Command::new(&programs.nats);
        command.arg("-c").arg(&config);
        command
    })
}

fn redis(programs: &Programs, directory: &Path) -> anyhow::Result<(Server, u16)> {
    std::fs::create_dir_all(directory)?;
    process::start("redis-server", &directory.join("log"), |port| {
        let mut command = Command::new(&programs.redis);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(directory);
        command.args([
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--save",
            "",
            "--auto-aof-rewrite-percentage",
            "0",
        ]);
        command
    })
}
