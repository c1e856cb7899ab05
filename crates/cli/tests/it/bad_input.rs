//! What no client should send: each gets a clear answer, and the neighbours notice nothing.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::Server;
use crate::http::{BATCH, Http, JSON, raw, read_answer};

/// A neighbour's publish, receive and acknowledgement together take less, whatever the others send.
const UNNOTICED: Duration = Duration::from_secs(10);

/// Does `work` while a neighbour publishes and consumes through a queue of its own, and looks at each of its answers.
pub(crate) fn beside_a_neighbour(server: &Server, work: impl FnOnce()) {
    let mut http = Http::new(server);
    http.put("/v1/default/queues/neighbour", &json!({}));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) || rounds == 0 {
                let begun = Instant::now();
                round_trip(&mut http, "neighbour", &format!("round {rounds}"));
                assert!(begun.elapsed() < UNNOTICED, "the neighbour waited {:?}", begun.elapsed());
                rounds += 1;
            }
            rounds
        });
        // Also when the work panics, or the neighbour would go on for ever.
        let end = OnDrop(&over);
        work();
        drop(end);
        assert!(neighbour.join().unwrap() > 0);
    });
}

/// Says that it is over when it goes.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes, receives and acknowledges one message.
#[track_caller]
fn round_trip(http: &mut Http, queue: &str, text: &str) {
    http.call("POST", &format!("/v1/default/queues/{queue}/messages"), "text/plain", text.as_bytes()).unwrap().ok();
    let answer = http.post(&format!("/v1/default/queues/{queue}/receive"), &json!({"wait_ms": 20_000}));
    let delivery = &answer["deliveries"][0];
    assert_eq!(delivery["message"]["text"], json!(text), "{answer}");
    http.post(&format!("/v1/default/queues/{queue}/ack"), &json!({"receipt": delivery["receipt"]}));
}

#[track_caller]
pub(crate) fn check(
    server: &Server,
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
    status: u16,
    slug: &str,
) -> Value {
    let answer = Http::new(server).call(method, path, kind, body).unwrap();
    let (found, problem) = answer.problem(status);
    assert_eq!(found, slug, "{problem}");
    problem
}

#[test]
fn what_cannot_be_taken_is_refused_with_what_is_wrong_with_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    Http::new(&server).put("/v1/default/queues/work", &json!({}));
    let (queue, messages) = ("/v1/default/queues/work", "/v1/default/queues/work/messages");
    beside_a_neighbour(&server, || {
        let problem = check(&server, "PUT", queue, JSON, br#"{"lease_msec": 5}"#, 400, "unknown-field");
        assert_eq!(problem["did_you_mean"], json!("lease_ms"), "{problem}");
        let envelope = br#"{"messages": [{"text": "x", "prioritie": 3}]}"#;
        let problem = check(&server, "POST", messages, BATCH, envelope, 400, "unknown-field");
        assert_eq!(problem["did_you_mean"], json!("priority"), "{problem}");

        check(&server, "PUT", queue, JSON, b"{\"description\": \"\xff\"}", 400, "bad-utf8");
        check(&server, "PUT", queue, JSON, b"{\"description\": ", 400, "bad-json");
        check(&server, "POST", messages, BATCH, b"{\"messages\": [{\"text\": \"\xc3\"}]}", 400, "bad-utf8");
        check(&server, "POST", "/v1/default/queues/work/messages?key=%ff", "", b"x", 400, "bad-query");
        check(&server, "PUT", queue, "text/plain", b"{}", 415, "unsupported-media-type");
        check(&server, "PUT", queue, "", b"{}", 415, "unsupported-media-type");

        let long = "n".repeat(256);
        let problem = check(&server, "PUT", &format!("/v1/default/queues/{long}"), JSON, b"{}", 400, "bad-name");
        assert!(problem.to_string().contains("255"), "{problem}");
        let problem = check(&server, "PUT", &format!("/v1/default/topics/{long}"), JSON, b"{}", 400, "bad-name");
        assert!(problem.to_string().contains("255"), "{problem}");
        check(&server, "POST", &format!("{queue}/ack"), JSON, br#"{"receipt": "r9"}"#, 400, "bad-receipt");
    });
    // None of it left anything behind.
    let depth = Http::new(&server).get(queue)["depth"].clone();
    assert_eq!(depth["ready"], json!(0), "{depth}");
}

#[test]
fn a_body_over_its_limit_is_refused_by_the_limits_name_before_it_is_read() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    Http::new(&server).put("/v1/default/queues/work", &json!({}));
    beside_a_neighbour(&server, || {
        for (method, path, kind, limit, len_bytes) in [
            ("POST", "/v1/default/queues/work/messages", "text/plain", "max_body_bytes", (16 << 20) + 1),
            ("POST", "/v1/default/queues/work/messages", BATCH, "max_batch_bytes", (48 << 20) + 1),
            ("PUT", "/v1/default/queues/work", JSON, "MAX_JSON_BYTES", (1 << 20) + 1),
        ] {
            let mut stream = raw(&server);
            // It says how much is to come: nothing of it has to be sent.
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len_bytes}\r\n\r\n"
            )
            .unwrap();
            let (slug, problem) = read_answer(&mut BufReader::new(stream)).unwrap().problem(413);
            assert_eq!((slug.as_str(), &problem["limit"]), ("too-large", &json!(limit)), "{problem}");
        }
        // It does not say so: as much is read as is allowed.
        let mut stream = raw(&server);
        let head = "PUT /v1/default/queues/work HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        for _ in 0..=16 {
            stream.write_all(chunk.as_bytes()).unwrap();
        }
        let (slug, problem) = read_answer(&mut BufReader::new(stream)).unwrap().problem(413);
        assert_eq!((slug.as_str(), &problem["limit"]), ("too-large", &json!("MAX_JSON_BYTES")), "{problem}");
    });
}

/// Connections that were begun and not gone on with: without a word, in the middle of a head, in the middle of a body.
fn unfinished(server: &Server) -> Vec<(&'static str, TcpStream)> {
    let head = "POST /v1/default/queues/neighbour/messages HTTP/1.1\r\nHost: x\r\n";
    let body =
        "POST /v1/default/queues/neighbour/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n0123456789";
    let begin = |what, sent: &str| {
        let mut stream = raw(server);
        stream.write_all(sent.as_bytes()).unwrap();
        (what, stream)
    };
    vec![begin("silent", ""), begin("head", head), begin("body", body)]
}

#[test]
fn half_open_and_slow_connections_hold_up_nobody() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut open = Vec::new();
    beside_a_neighbour(&server, || {
        for _ in 0..100 {
            open.extend(unfinished(&server));
        }
        let mut slow = raw(&server);
        for byte in b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" {
            slow.write_all(&[*byte]).unwrap();
        }
        assert_eq!(read_answer(&mut BufReader::new(slow)).unwrap().status, 200, "slow is not wrong");
        for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\0\0\0\0\0\0\0\0\r\n\r\n", b"GET\r\n\r\n"] {
            let mut stream = raw(&server);
            stream.write_all(garbage).unwrap();
            let mut said = Vec::new();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut said);
            assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&said));
        }
    });
    // Half of a message is none.
    drop(open);
    assert_eq!(Http::new(&server).get("/v1/default/queues/neighbour")["depth"]["ready"], json!(0));
}

#[test]
#[ignore = "long: `cargo xtask proofs slow-senders`"]
fn slow_senders_are_cut_off_in_time() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    beside_a_neighbour(&server, || {
        for (what, mut stream) in unfinished(&server) {
            let begun = Instant::now();
            let mut said = Vec::new();
            stream.read_to_end(&mut said).unwrap();
            let said = String::from_utf8_lossy(&said);
            println!("{what}: ended after {:?} more, with {said:?}", begun.elapsed());
            match what {
                "body" => assert!(said.contains("408") && said.contains("body-too-slow"), "{said}"),
                _ => assert!(said.is_empty() || said.contains("408"), "{said}"),
            }
        }
    });
}

#[test]
fn a_client_too_many_is_turned_away_and_those_inside_go_on() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--http", "127.0.0.1:0", "--max-connections", "8"], &[]);
    beside_a_neighbour(&server, || {
        let mut open: Vec<TcpStream> = (0..20).map(|_| raw(&server)).collect();
        let mut said = [0; 1];
        let refused = open.last_mut().unwrap().read(&mut said);
        assert!(matches!(refused, Ok(0) | Err(_)), "it is closed at once: {refused:?}");
    });
}
