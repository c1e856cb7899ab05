//! A process that was started here.

use std::fmt;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use crate::http::client;
use crate::services::Name;

/// How often it is asked whether it is ready.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// Time for an answer to that.
const ASK_LIMIT: Duration = Duration::from_secs(2);
/// Lines of its log that are shown when it does not start.
const LAST_LINES: usize = 12;

/// A process that can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Victim {
    /// The broker.
    Broker,
    /// A service.
    Service(Name),
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker => f.pad("broker"),
            Self::Service(name) => f.pad(name.as_str()),
        }
    }
}

/// What is started.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it finds in its environment besides ours.
    pub environment: Vec<(String, String)>,
}

/// How it is known to be ready.
#[derive(Clone, Debug)]
enum Readiness {
    /// It answers this path with success.
    Http(SocketAddr, &'static str),
    /// It takes connections.
    Tcp(SocketAddr),
    /// It is told by others.
    None,
}

/// A process. Its group is its own, so that a Ctrl-C at the terminal reaches only the supervisor, and so that what it starts itself dies with it.
#[derive(Debug)]
pub struct Process {
    name: String,
    launch: Launch,
    log: PathBuf,
    ready: Readiness,
    child: Option<Child>,
}

impl Process {
    /// A process that is not started yet.
    #[must_use]
    pub fn new(name: impl Into<String>, launch: Launch, log: PathBuf) -> Self {
        Self { name: name.into(), launch, log, ready: Readiness::None, child: None }
    }

    /// It is ready when it answers this with success.
    #[must_use]
    pub fn ready_at(mut self, address: SocketAddr, path: &'static str) -> Self {
        self.ready = Readiness::Http(address, path);
        self
    }

    /// It is ready when it takes connections.
    #[must_use]
    pub fn ready_when_listening(mut self, address: SocketAddr) -> Self {
        self.ready = Readiness::Tcp(address);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// If there is no such program, or its log cannot be written.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let Launch { program, arguments, environment } = &self.launch;
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("opening the log {}", self.log.display()))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            // Ends when we end: what is leashed stops then.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("starting {} ({})", self.name, program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// If it ends instead, or takes too long; with the end of its log.
    pub async fn wait_until_ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let http = client(ASK_LIMIT)?;
        let asked = async {
            loop {
                if let Some(died) = self.died() {
                    bail!("{died}\n{}", self.last_lines());
                }
                if self.is_ready(&http).await {
                    return Ok(());
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(ready) => ready,
            Err(_) => bail!("{} is not ready after {limit:?}\n{}", self.name, self.last_lines()),
        }
    }

    async fn is_ready(&self, http: &reqwest::Client) -> bool {
        match &self.ready {
            Readiness::None => true,
            Readiness::Tcp(address) => tokio::net::TcpStream::connect(address).await.is_ok(),
            Readiness::Http(address, path) => {
                let answer = http.get(format!("http://{address}{path}")).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            }
        }
    }

    /// How it ended, if it did so by itself.
    pub fn died(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(format!("{} has ended by itself ({status}); its log is {}", self.name, self.log.display()))
    }

    /// Kills it and all that it started, without a warning.
    ///
    /// # Errors
    /// If it does not die.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = pid_of(&child) {
            kill_process_group(pid, Signal::KILL).with_context(|| format!("killing {}", self.name))?;
        }
        child.wait().await.with_context(|| format!("waiting for the end of {}", self.name))?;
        Ok(())
    }

    /// Tells it to stop.
    ///
    /// # Errors
    /// If it cannot be told.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let Some(pid) = self.child.as_ref().and_then(pid_of) else { return Ok(()) };
        kill_process(pid, Signal::TERM).with_context(|| format!("stopping {}", self.name))
    }

    /// Waits until it has ended, and kills it after a while.
    ///
    /// # Errors
    /// If it does not die.
    pub async fn wait_until_ended(&mut self, limit: Duration) -> anyhow::Result<()> {
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        if tokio::time::timeout(limit, child.wait()).await.is_err() {
            return self.kill().await;
        }
        // What it started itself may outlive it.
        self.child = None;
        Ok(())
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines.iter().skip(lines.len().saturating_sub(LAST_LINES));
        shown.map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group, and not only the process that `kill_on_drop` knows of.
        if let Some(pid) = self.child.as_ref().and_then(pid_of) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// The id of a process that has not been waited for, so that nobody else has it.
fn pid_of(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()?).ok()?)
}
