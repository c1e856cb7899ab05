//! A plain HTTP/1.1 client over one connection. It knows just enough to drive a server, and never tries again by itself: a test must
//! see each answer, and each that did not come.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::harness::{PATIENCE, Server};

/// Content type of one message in an envelope's batch.
pub(crate) const BATCH: &str = "application/vnd.posthouse.batch+json";
pub(crate) const JSON: &str = "application/json";

pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is empty.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap() }
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status / 100 == 2, "{} {}", self.status, String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The problem's slug, which must come with this status.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> (String, Value) {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        let problem = self.json();
        let kind = problem["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        (kind, problem)
    }
}

/// A connection without a word said, for what no client library would send.
pub(crate) fn raw(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Http {
    pub(crate) fn new(server: &Server) -> Self {
        Self { stream: BufReader::new(raw(server)) }
    }

    /// How a trace of the server's system calls names this connection.
    pub(crate) fn connection(&self) -> String {
        let stream = self.stream.get_ref();
        format!("[{}->{}]", stream.peer_addr().unwrap(), stream.local_addr().unwrap())
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// When the connection ends before the answer does.
    pub(crate) fn call(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> io::Result<Answer> {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: posthouse\r\nContent-Length: {}\r\n", body.len()).into_bytes();
        if !kind.is_empty() {
            write!(request, "Content-Type: {kind}\r\n")?;
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        read_answer(&mut self.stream)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Value {
        self.call("GET", path, "", b"").unwrap().ok()
    }

    #[track_caller]
    pub(crate) fn put(&mut self, path: &str, body: &Value) -> Value {
        self.call("PUT", path, JSON, body.to_string().as_bytes()).unwrap().ok()
    }

    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Value {
        self.call("POST", path, JSON, body.to_string().as_bytes()).unwrap().ok()
    }
}

/// Reads one answer. Only the framing that the server uses for whole answers is known: `Content-Length`.
///
/// # Errors
/// When the connection ends before the answer does.
pub(crate) fn read_answer(stream: &mut impl BufRead) -> io::Result<Answer> {
    let broken = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let mut len_bytes = 0;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(broken());
        }
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            len_bytes = value.trim().parse().map_err(|_| broken())?;
        }
    }
    let mut body = vec![0; len_bytes];
    stream.read_exact(&mut body)?;
    Ok(Answer { status, body })
}
