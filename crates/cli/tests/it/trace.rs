//! What a server tells the system: `strace` beside the real binary, and its trace read.
//!
//! `strace` stops a thread at each call and writes a line before the thread goes on, so the order of lines is the order of things: a call
//! that began on a later line than another ended on began after it.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Server, posthouse};

/// Longest buffer that the trace shows. Longer ones are marked as cut.
const SHOWN_BYTES: &str = "1048576";

/// The server as a child of this process, with `strace` beside it.
pub(crate) fn start(data: &Path, trace: &Path, calls: &str, flags: &[&str]) -> Server {
    let mut command = std::process::Command::new("strace");
    command
        .args(["-D", "-f", "-xx", "-yy", "-ttt", "-s", SHOWN_BYTES, "-e", calls, "-e", "signal=none", "-o"])
        .arg(trace);
    let server = posthouse();
    // The binary under the other checks of `.ci/run`, where it runs this one.
    let program = std::env::var_os("POSTHOUSE").unwrap_or_else(|| server.get_program().to_owned());
    command.arg("--").arg(program);
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.arg("serve").args(flags).arg("--data").arg(data);
    Server::start_command(&mut command)
}

/// A call.
pub(crate) struct Call {
    pub(crate) name: String,
    /// The file or connection that it was about.
    pub(crate) target: String,
    /// All text among the arguments, and that in one.
    pub(crate) texts: Vec<Vec<u8>>,
    pub(crate) data: Vec<u8>,
    /// The last argument, if it is a number; and whether the flags say that a file is to be made.
    pub(crate) last: Option<u64>,
    pub(crate) makes: bool,
    /// Whether the trace shows less than was to be written.
    pub(crate) is_cut: bool,
    /// Line on which it began, and the one on which it ended.
    pub(crate) began: usize,
    pub(crate) ended: usize,
    /// What it gave back; negative is an error.
    pub(crate) result: i64,
}

pub(crate) struct Trace {
    /// In the order in which they began.
    pub(crate) calls: Vec<Call>,
}

impl Trace {
    /// Waits until `strace` has written the end of this process, and reads it all.
    pub(crate) fn read(file: &Path, pid: u32) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let end = format!("{pid} ");
        let text = loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.lines().rev().any(|line| line.starts_with(&end) && line.contains("+++ ")) {
                break text;
            }
            assert!(Instant::now() < deadline, "strace does not tell of the server's end");
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut calls: Vec<Call> = Vec::new();
        // Calls under way, by thread.
        let mut open: HashMap<&str, usize> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            // Numbers of threads are padded.
            let Some((_time, rest)) = rest.trim_start().split_once(' ') else { continue };
            // Of a thread that ended meanwhile it cannot say more.
            if rest.starts_with("???") || rest.starts_with("<... ???") {
                continue;
            }
            if rest.starts_with("<... ") {
                let call = &mut calls[open.remove(thread).unwrap()];
                (call.ended, call.result) = (at, result(rest));
                call.data.truncate(usize::try_from(call.result).unwrap_or(0));
            } else if let Some((name, arguments)) = rest.split_once('(')
                && !name.contains(' ')
            {
                let open_call = arguments.strip_suffix(" <unfinished ...>");
                let mut call = call(name, open_call.unwrap_or(arguments), at);
                if open_call.is_some() {
                    open.insert(thread, calls.len());
                } else {
                    call.result = result(rest);
                    call.data.truncate(usize::try_from(call.result).unwrap_or(0));
                }
                calls.push(call);
            }
        }
        Self { calls }
    }

    /// All that was written to a connection, with the line on which each byte's call began.
    pub(crate) fn written(&self, connection: &str) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut lines) = (Vec::new(), Vec::new());
        for call in self.calls.iter().filter(|call| call.target.contains(connection)) {
            assert!(!call.is_cut, "the trace shows only a part of what was written to {connection}");
            bytes.extend_from_slice(&call.data);
            lines.resize(bytes.len(), call.began);
        }
        (bytes, lines)
    }

    /// The line of each good answer.
    pub(crate) fn http_confirms(&self, connection: &str) -> Vec<usize> {
        const HEAD: &[u8] = b"HTTP/1.1 2";
        let (bytes, lines) = self.written(connection);
        (0..bytes.len()).filter(|at| bytes[*at..].starts_with(HEAD)).map(|at| lines[at]).collect()
    }
}

fn call(name: &str, arguments: &str, at: usize) -> Call {
    // The first argument is a file or connection, or where there is none, a name.
    let first = if arguments.starts_with('"') { 0 } else { arguments.find([',', ')']).unwrap_or(arguments.len()) };
    let (target, rest) = arguments.split_at(first);
    let target = target.split_once('<').map_or("", |(_, target)| target.trim_end_matches('>'));
    let target = String::from_utf8_lossy(&unescaped(target)).into_owned();
    // Text is all hexadecimal, so a quote is none of its own.
    let texts: Vec<Vec<u8>> = rest.split('"').skip(1).step_by(2).map(unescaped).collect();
    let data = texts.concat();
    let end = rest.rfind(") = ").unwrap_or(rest.len());
    let last = rest[..end].rsplit(", ").next().and_then(|number| number.parse().ok());
    Call {
        name: name.to_owned(),
        target,
        texts,
        data,
        last,
        makes: rest.contains("O_CREAT"),
        is_cut: rest.contains("\"..."),
        began: at,
        ended: at,
        result: 0,
    }
}

/// What follows the last ` = `, up to a blank, or to what a new file is. A call that the end of the process cut off has failed.
fn result(line: &str) -> i64 {
    line.rsplit_once(" = ")
        .and_then(|(_, rest)| rest.split([' ', '<']).next())
        .and_then(|text| text.parse().ok())
        .unwrap_or(-1)
}

/// The bytes of a text in which each may stand as `\x` and two digits.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut parts = text.split("\\x");
    bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at(part.len().min(2));
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}
