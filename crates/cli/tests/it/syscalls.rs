//! What the server tells the system, in order: a confirm goes to its socket after the sync that covers its message. A kill keeps the page
//! cache and would not notice the difference.

use std::collections::{HashMap, VecDeque};
use std::io::{BufReader, Write};

use api::grpc as g;
use api::grpc::publisher_client::PublisherClient;
use lapin::options::BasicPublishOptions;
use prost::Message as _;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::amqp;
use crate::harness::Server;
use crate::http::{Http, raw, read_answer};
use crate::kill_grpc::{block_on, connect};
use crate::trace::{self, Call, Trace};

/// Writes and syncs of every kind, whichever of them the server uses.
const CALLS: &str =
    "trace=write,writev,pwrite64,pwritev,pwritev2,fdatasync,fsync,sync_file_range,sendto,sendmsg,sendmmsg";
const FLAGS: [&str; 8] =
    ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--amqp", "127.0.0.1:0", "--storage-wal-file", "4MiB"];
/// Connections that publish at the same time and wait for each answer.
const CLIENTS: usize = 3;
/// Requests that are sent before the first answer is read.
const PIPELINED: usize = 20;

#[test]
#[ignore = "needs strace: `cargo xtask proofs syscalls`"]
fn every_confirm_on_a_socket_follows_the_sync_that_covers_its_message() {
    let count = std::env::var("POSTHOUSE_PROOF_TRACED").map_or(100, |count| count.parse().unwrap());
    let (messages, wrong) = traced("fsync", count);
    println!("{messages} confirms, each after the sync of its message");
    assert!(wrong.is_empty(), "{} of {messages}: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
}

#[test]
#[ignore = "needs strace: `cargo xtask proofs syscalls`"]
fn a_confirm_that_follows_no_sync_is_found() {
    let (messages, wrong) = traced("os", 20);
    println!("{} of {messages} confirms before a sync, as asked for", wrong.len());
    for protocol in ["http", "grpc", "amqp"] {
        assert!(
            wrong.iter().any(|mark| mark.contains(protocol)),
            "{protocol} seems to sync where it need not: {wrong:?}"
        );
    }
}

/// Publishes so many messages in each way with this durability; gives how many that were, and what is wrong of which.
fn traced(durability: &str, count: usize) -> (usize, Vec<String>) {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("trace");
    let server = trace::start(&data.path().join("data"), &file, CALLS, &FLAGS);
    Http::new(&server).put("/v1/default/queues/traced", &json!({"durability": durability}));
    let mut confirms: Vec<Sent> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let server = &server;
                scope.spawn(move || http_one_by_one(server, client, count))
            })
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    confirms.push(http_pipelined(&server));
    confirms.push(block_on(grpc(&server, "grpc-one", count, 1)));
    // A connection for each stream: the trace tells them apart by their order.
    confirms.push(block_on(grpc(&server, "grpc-pipelined", count, count)));
    confirms.push(amqp_runtime().block_on(amqp(&server, "amqp-one", count, 1)));
    confirms.push(amqp_runtime().block_on(amqp(&server, "amqp-pipelined", count, count)));
    let pid = server.pid();
    server.signal("TERM");
    server.wait();
    let trace = Marked::new(Trace::read(&file, pid));
    let sent = confirms.iter().map(|sent| sent.marks.len()).sum();
    (sent, confirms.iter().flat_map(|sent| trace.wrong(sent)).collect())
}

/// What one connection sent.
struct Sent {
    protocol: Protocol,
    /// How the trace names the connection: the server's address, and the client's if that is known.
    connection: String,
    /// What tells each message from all others, in the order of their confirms.
    marks: Vec<String>,
}

enum Protocol {
    Http,
    Grpc,
    Amqp,
}

/// Ends in what no other mark goes on with.
fn mark(way: &str, number: usize) -> String {
    format!("<{way} {number}>")
}

/// What may be a mark, in what was written.
fn marks(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    const LONGEST_BYTES: usize = 64;
    let begins = data.iter().enumerate().filter(|(_, byte)| **byte == b'<').map(|(at, _)| &data[at..]);
    begins.filter_map(|rest| {
        let end = rest.iter().take(LONGEST_BYTES).position(|byte| *byte == b'>')?;
        Some(&rest[..=end])
    })
}

fn request(mark: &str) -> String {
    let head = "POST /v1/default/queues/traced/messages HTTP/1.1\r\nHost: posthouse\r\nContent-Type: text/plain";
    format!("{head}\r\nContent-Length: {}\r\n\r\n{mark}", mark.len())
}

fn http_one_by_one(server: &Server, client: usize, count: usize) -> Sent {
    let marks: Vec<String> = (0..count).map(|number| mark(&format!("http-{client}"), number)).collect();
    http(server, marks, 1)
}

fn http_pipelined(server: &Server) -> Sent {
    http(server, (0..PIPELINED).map(|number| mark("http-pipelined", number)).collect(), PIPELINED)
}

fn http(server: &Server, marks: Vec<String>, at_once: usize) -> Sent {
    let mut stream = raw(server);
    let (here, there) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    for some in marks.chunks(at_once) {
        let requests: String = some.iter().map(|mark| request(mark)).collect();
        stream.write_all(requests.as_bytes()).unwrap();
        for _ in some {
            read_answer(&mut answers).unwrap().ok();
        }
    }
    Sent { protocol: Protocol::Http, connection: format!("[{there}->{here}]"), marks }
}

/// Publishes over a connection of its own, so many frames on their way at a time.
async fn grpc(server: &Server, way: &str, count: usize, window: usize) -> Sent {
    let (send, frames) = mpsc::channel(window + 1);
    let to = g::Target { to: Some(g::target::To::Queue("traced".to_owned())) };
    let open = g::PublishOpen { to: Some(to), ..Default::default() };
    send.send(g::PublishFrame { open: Some(open), ..Default::default() }).await.unwrap();
    let mut client = PublisherClient::new(connect(server).await.unwrap());
    let mut answers = client.publish_stream(ReceiverStream::new(frames)).await.unwrap().into_inner();
    let marks: Vec<String> = (0..count).map(|number| mark(way, number)).collect();
    let mut confirmed = 0;
    for (number, mark) in marks.iter().enumerate() {
        let message = types::Message::new("", mark.clone()).into();
        send.send(g::PublishFrame { messages: vec![message], ..Default::default() }).await.unwrap();
        let wanted = if number + 1 == count { count } else { (number + 2).saturating_sub(window) };
        while confirmed < wanted {
            let answer = answers.message().await.unwrap().unwrap();
            assert!(answer.failures.is_empty(), "{:?}", answer.failures);
            confirmed = usize::try_from(answer.confirmed).unwrap();
        }
    }
    let address = server.grpc.trim_start_matches("grpc://");
    Sent { protocol: Protocol::Grpc, connection: format!("[{address}->"), marks }
}

/// lapin reads and writes in tasks of its own.
fn amqp_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The same over AMQP.
async fn amqp(server: &Server, way: &str, count: usize, window: usize) -> Sent {
    let (_connection, channel) = amqp::connect_confirming(server).await.unwrap();
    let marks: Vec<String> = (0..count).map(|number| mark(way, number)).collect();
    let mut open = VecDeque::new();
    for mark in &marks {
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), "traced".into(), options, mark.as_bytes(), amqp::persistent());
        open.push_back(sent.await.unwrap());
        while open.len() >= window {
            assert!(open.pop_front().unwrap().await.unwrap().is_ack());
        }
    }
    for confirm in open {
        assert!(confirm.await.unwrap().is_ack());
    }
    let address = server.amqp.trim_start_matches("amqp://");
    Sent { protocol: Protocol::Amqp, connection: format!("[{address}->"), marks }
}

/// A trace, and where the messages stand in it.
struct Marked {
    trace: Trace,
    /// The first write of each mark to the write-ahead log.
    writes: HashMap<Vec<u8>, usize>,
}

impl Marked {
    fn new(trace: Trace) -> Self {
        let mut writes = HashMap::new();
        for (at, call) in trace.calls.iter().enumerate() {
            if call.name.starts_with("pwrite") && call.target.contains("/wal/") {
                for mark in marks(&call.data) {
                    writes.entry(mark.to_vec()).or_insert(at);
                }
            }
        }
        Self { trace, writes }
    }

    /// What is wrong with the confirms of a connection.
    fn wrong(&self, sent: &Sent) -> Vec<String> {
        let confirms = match sent.protocol {
            Protocol::Http => self.trace.http_confirms(&sent.connection),
            Protocol::Grpc => self.grpc_confirms(&sent.connection, &sent.marks),
            Protocol::Amqp => self.amqp_confirms(&sent.connection, &sent.marks),
        };
        assert_eq!(confirms.len(), sent.marks.len(), "the trace does not show what came over {}", sent.connection);
        let mut wrong = Vec::new();
        for (mark, confirmed) in sent.marks.iter().zip(confirms) {
            match self.synced(mark) {
                Some(synced) if synced < confirmed => {}
                Some(synced) => wrong.push(format!("{mark}: confirmed on line {confirmed}, synced on line {synced}")),
                None => wrong.push(format!("{mark}: confirmed on line {confirmed}, never synced")),
            }
        }
        wrong
    }

    /// The line on which the sync ended that covers the first write of this message to the write-ahead log.
    fn synced(&self, mark: &str) -> Option<usize> {
        let write = self.writes.get(mark.as_bytes());
        let write = *write.unwrap_or_else(|| panic!("{mark} was confirmed, and is in no write to the write-ahead log"));
        let (target, ended) = (&self.trace.calls[write].target, self.trace.calls[write].ended);
        let is_sync = |call: &&Call| matches!(call.name.as_str(), "fdatasync" | "fsync") && call.result == 0;
        // Calls stand in the order in which they began.
        let later = self.trace.calls[write..].iter().filter(is_sync);
        later.filter(|call| call.began > ended).find(|call| call.target == *target).map(|sync| sync.ended)
    }

    /// What was written to a connection. Of several connections to one address it is the one that has as many as there are messages,
    /// in the order in which they came.
    fn connection(&self, address: &str, marks: &[String]) -> (Vec<u8>, Vec<usize>) {
        let mut connections: Vec<&str> = Vec::new();
        for call in self.trace.calls.iter().filter(|call| call.target.contains(address)) {
            if !connections.contains(&call.target.as_str()) {
                connections.push(&call.target);
            }
        }
        let nth = usize::from(marks[0].contains("pipelined"));
        self.trace.written(connections[nth])
    }

    fn amqp_confirms(&self, address: &str, marks: &[String]) -> Vec<usize> {
        let (bytes, lines) = self.connection(address, marks);
        amqp_acks(&bytes, &lines)
    }

    fn grpc_confirms(&self, address: &str, marks: &[String]) -> Vec<usize> {
        let (bytes, lines) = self.connection(address, marks);
        let (payload, lines) = http2_data(&bytes, &lines);
        let mut confirms = Vec::new();
        let mut at = 0;
        // A gRPC message: a byte of flags, its length, itself.
        while let Some(head) = payload.get(at..at + 5) {
            let end = at + 5 + u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let Some(message) = payload.get(at + 5..end) else { break };
            let confirm = g::PublishConfirm::decode(message).unwrap();
            confirms.resize(confirms.len().max(usize::try_from(confirm.confirmed).unwrap()), lines[end - 1]);
            at = end;
        }
        confirms
    }
}

/// The line of each confirm among an AMQP connection's frames: each `basic.ack` confirms one publish, or all up to it.
fn amqp_acks(bytes: &[u8], lines: &[usize]) -> Vec<usize> {
    const HEAD_BYTES: usize = 7;
    const ACK: [u8; 4] = [0, 60, 0, 80];
    let (mut confirms, mut at) = (Vec::new(), 0);
    while let Some(head) = bytes.get(at..at + HEAD_BYTES) {
        let begin = at + HEAD_BYTES;
        let end = begin + u32::from_be_bytes(head[3..].try_into().unwrap()) as usize;
        let Some(payload) = bytes.get(begin..end) else { break };
        if head[0] == 1 && payload.starts_with(&ACK) {
            let tag = usize::try_from(u64::from_be_bytes(payload[4..12].try_into().unwrap())).unwrap();
            let one = payload[12] & 1 == 0;
            assert!(tag > confirms.len() && (!one || tag == confirms.len() + 1), "confirms come in their order");
            confirms.resize(tag, lines[end]);
        }
        at = end + 1;
    }
    confirms
}

/// The content of an HTTP/2 connection's DATA frames, with the lines of its bytes. (RFC 9113, section 4.1)
fn http2_data(bytes: &[u8], lines: &[usize]) -> (Vec<u8>, Vec<usize>) {
    const HEAD_BYTES: usize = 9;
    const DATA: u8 = 0;
    const PADDED: u8 = 8;
    let (mut content, mut content_lines, mut at) = (Vec::new(), Vec::new(), 0);
    while let Some(head) = bytes.get(at..at + HEAD_BYTES) {
        let begin = at + HEAD_BYTES;
        let end = begin + u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == DATA {
            assert_eq!(head[4] & PADDED, 0, "a padded frame");
            content.extend_from_slice(&bytes[begin..end]);
            content_lines.extend_from_slice(&lines[begin..end]);
        }
        at = end;
    }
    (content, content_lines)
}
