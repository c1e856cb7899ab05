//! Processes that the benchmark starts, and ends by their own ids.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

/// Longest that a server may take to answer.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Longest that one measurement may take.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// How often something is looked at that tells nothing by itself.
const LOOK: Duration = Duration::from_millis(20);

#[expect(clippy::disallowed_methods, reason = "deadlines of real processes")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a process's end and an open port can only be looked for")]
fn pause() {
    std::thread::sleep(LOOK);
}

/// A server, killed when dropped. Its data is thrown away with it, so that it need not end in order.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
}

impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free now.
pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Starts a server that takes a port, and waits until it accepts connections there.
///
/// # Errors
/// If it cannot be started, or does not accept in time; with what it wrote.
pub(super) fn start(name: &str, log: &Path, command: impl FnOnce(u16) -> Command) -> anyhow::Result<(Server, u16)> {
    let port = free_port()?;
    let output = std::fs::File::create(log)?;
    let mut command = command(port);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
    let mut server = Server { child };
    let deadline = now() + START_LIMIT;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = server.child.try_wait()?;
        if ended.is_some() || now() > deadline {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            anyhow::bail!("{name} does not accept connections: {said}");
        }
        pause();
    }
    Ok((server, port))
}

/// Our own server.
#[derive(Debug)]
pub(super) struct Posthouse {
    server: Server,
    program: PathBuf,
    /// What it printed once it was ready.
    ready: String,
}

impl Posthouse {
    /// Starts it, on ports of the system's choice, with these listeners.
    ///
    /// # Errors
    /// If it does not say that it is ready.
    pub(super) fn start(program: &Path, data: &Path, listeners: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("serve").args(listeners.split_whitespace()).arg("--data").arg(data);
        clean(&mut command);
        let log = std::fs::File::create(data.with_extension("log"))?;
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let server = Server { child };
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready)?;
        Ok(Self { ready, program: program.to_owned(), server })
    }

    /// Where it listens, by the scheme of the protocol.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn place(&self, scheme: &str) -> anyhow::Result<&str> {
        let found = self.ready.split_whitespace().find_map(|word| Some(&word[word.find(scheme)?..]));
        found.with_context(|| format!("the server is not ready on {scheme}: {:?}", self.ready))
    }

    pub(super) fn pid(&self) -> u32 {
        self.server.pid()
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Runs `posthouse bench` against it.
    ///
    /// # Errors
    /// If it fails.
    pub(super) fn bench(&self, line: &str) -> anyhow::Result<Value> {
        let (url, grpc, pid) = (self.place("http://")?, self.place("grpc://")?, self.pid());
        self.bench_without_server(&format!("{line} --url {url} --grpc {grpc} --broker-pid {pid}"))
    }

    /// As [`bench`](Self::bench), of what needs no server.
    ///
    /// # Errors
    /// If it fails.
    pub(super) fn bench_without_server(&self, line: &str) -> anyhow::Result<Value> {
        let mut command = Command::new(&self.program);
        command.arg("bench").args(line.split_whitespace()).args(["-o", "json"]);
        clean(&mut command);
        run(&mut command)
    }
}

/// Takes away what the environment of the developer might say to the binary.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTHOUSE_") {
            command.env_remove(name);
        }
    }
}

/// Runs a command that prints one value in JSON.
///
/// # Errors
/// If it fails, takes too long, or prints something else.
pub(super) fn run(command: &mut Command) -> anyhow::Result<Value> {
    let shown = format!("{command:?}");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // What it prints is short; a pipe holds it until the command has ended.
    let deadline = now() + RUN_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            anyhow::bail!("{shown} took more than {} s", RUN_LIMIT.as_secs());
        }
        pause();
    };
    let (mut output, mut said) = (String::new(), String::new());
    child.stdout.take().context("no output")?.read_to_string(&mut output)?;
    child.stderr.take().context("no output")?.read_to_string(&mut said)?;
    anyhow::ensure!(status.success(), "{shown} failed ({status}): {}", said.trim());
    serde_json::from_str(&output).with_context(|| format!("{shown} printed no JSON: {output}"))
}

/// Lets the disk finish what others left to it, so that the next measurement does not pay for it.
pub(super) fn settle_disk() {
    let _ = Command::new("sync").status();
}

/// Resident memory of a process, in bytes: now, and at its most.
pub(super) fn memory_bytes(pid: u32) -> Option<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some((field("VmRSS:")?, field("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_or_prints_no_json_is_an_error() {
        let shell = |script: &str| run(Command::new("sh").args(["-c", script]));
        assert_eq!(shell("echo '{\"a\": 1}'").unwrap()["a"], 1);
        assert!(shell("echo no >&2; exit 3").unwrap_err().to_string().contains("no"));
        assert!(shell("echo no").unwrap_err().to_string().contains("no JSON"));
    }

    #[test]
    fn memory_is_that_of_the_process() {
        let (now, most) = memory_bytes(std::process::id()).unwrap();
        assert!(now > 0 && most >= now);
    }
}
