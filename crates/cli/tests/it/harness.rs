//! Starts servers and runs commands.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest that anything here may take on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, without what the environment of the tests might say to it.
pub(crate) fn posthouse() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTHOUSE_") {
            command.env_remove(name);
        }
    }
    // Servers of several tests run at a time; each default port is one.
    for listener in ["GRPC", "AMQP", "MANAGEMENT"] {
        command.env(format!("POSTHOUSE_{listener}"), "off");
    }
    command
}

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    /// Where the gRPC API is, as `grpc://`; empty if it is off.
    pub(crate) grpc: String,
    /// Where AMQP is, as `amqp://`; empty if it is off.
    pub(crate) amqp: String,
    pub(crate) ready: String,
}

impl Server {
    /// On a port of the system's choice.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &["--http", "127.0.0.1:0"], &[])
    }

    pub(crate) fn start_with(data: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = posthouse();
        command.arg("serve").arg("--data").arg(data).args(flags).envs(variables.iter().copied());
        Self::start_command(&mut command)
    }

    /// By a command that becomes a server.
    pub(crate) fn start_command(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        if ready.is_empty() {
            let mut why = String::new();
            child.stderr.take().unwrap().read_to_string(&mut why).unwrap();
            panic!("the server did not start: {why}");
        }
        let address =
            |scheme| ready.split_whitespace().find(|word| word.starts_with(scheme)).unwrap_or_default().to_owned();
        let (url, grpc, amqp) = (address("http"), address("grpc"), address("amqp"));
        Self { child, url, grpc, amqp, ready }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end; gives its exit code and what it logged.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let mut log = String::new();
                self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
                return (status.code(), log);
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A client command of this server.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = posthouse();
        command.args(words(line)).env("POSTHOUSE_URL", &self.url);
        command
    }

    /// Runs a client command that must succeed; gives its output.
    #[track_caller]
    pub(crate) fn run(&self, line: &str) -> String {
        done(&self.command(line).output().unwrap(), line)
    }

    /// As [`run`](Self::run), with this on standard input.
    #[track_caller]
    pub(crate) fn run_with(&self, line: &str, input: &str) -> String {
        let mut child =
            self.command(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that has no use for it may be gone before it is written.
        let written = child.stdin.take().unwrap().write_all(input.as_bytes());
        assert!(written.is_ok() || child.wait().unwrap().success(), "{line} did not take its input");
        done(&child.wait_with_output().unwrap(), line)
    }

    /// Runs a client command that must fail with this exit code; gives what it says.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, line: &str) -> String {
        failed(&mut self.command(line), code)
    }

    /// Runs a command until what it prints is as wanted: for what happens soon, but not at once.
    #[track_caller]
    pub(crate) fn until(&self, line: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.run(line);
            if wanted(&output) {
                return output;
            }
            assert!(Instant::now() < deadline, "{line} still says\n{output}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn done(output: &Output, line: &str) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {} {said}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs a command that must end with this exit code; gives what it says on standard error.
#[track_caller]
pub(crate) fn failed(command: &mut Command, code: i32) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
    said
}

/// Splits a line at blanks; single quotes hold a word together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// JSON, one value a line.
pub(crate) fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
