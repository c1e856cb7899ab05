//! What an operator sets and sees: quotas, policies, watermarks, figures; and what is live: subscriptions, requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::features::{Api, text};
use crate::harness::{PATIENCE, Server};
use crate::http::{Http, raw};
use crate::ws::Ws;

#[test]
fn a_namespace_holds_no_more_than_its_quota() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run(
        "namespace create shop --max-topics 1 --max-queues 2 --max-bindings 1 --max-body 100B --max-publish-rate 5",
    );
    let mut api = Api::within(&server, "shop");
    api.put("topics/a", &json!({}));
    let problem = api.refused(409, "quota-reached", "PUT", "topics/b", &json!({}));
    assert_eq!(problem["limit"], json!("max_topics"), "{problem}");
    api.put("queues/q", &json!({"dead_letter": "none"}));
    api.put("queues/r", &json!({"dead_letter": "none"}));
    api.refused(409, "quota-reached", "PUT", "queues/s", &json!({}));
    let binding = |queue: &str| json!({"topic": "a", "target": {"queue": queue}});
    api.post("bindings", &binding("q"));
    api.refused(409, "quota-reached", "POST", "bindings", &binding("r"));
    let problem = api.publish_refused(413, "too-large", "queues/q", &[json!({"text": "x".repeat(101)})]);
    assert_eq!(problem["limit"], json!("max_body_bytes"), "{problem}");
    let problem = api.publish_refused(429, "quota-reached", "queues/q", &vec![json!({"text": "x"}); 6]);
    assert!(problem["limit"] == json!("max_publish_rate") && problem["retry_after_ms"].is_u64(), "{problem}");
    api.publish("queues/q", &vec![json!({"text": "x"}); 5]);

    // Stored bytes; what is deleted makes room again.
    server.run("namespace create small --max-stored-bytes 4KiB");
    let mut small = Api::within(&server, "small");
    small.put("queues/q", &json!({}));
    small.text("queues/q", &"x".repeat(3000));
    let problem = small.publish_refused(429, "quota-reached", "queues/q", &[json!({"text": "x".repeat(3000)})]);
    assert_eq!(problem["limit"], json!("max_stored_bytes"), "{problem}");
    small.delete("queues/q/messages");
    let deadline = Instant::now() + PATIENCE;
    while small.http_status("queues/q", &[json!({"text": "x".repeat(3000)})]) != 200 {
        assert!(Instant::now() < deadline, "room does not come back");
    }
    // Another namespace knows nothing of all that.
    let mut other = Api::new(&server);
    other.put("topics/b", &json!({}));
    other.refused(404, "not-found", "GET", "queues/q", &Value::Null);
}

#[test]
fn a_policy_gives_defaults_and_overrides_to_all_names_that_fit() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    api.put("queues/eu.orders", &json!({"ttl_ms": 1000, "max_messages": 7}));
    server.run("policy create all 'eu.*' --applies-to queues --default ttl_ms=1h --default max_bytes=1MiB --override max_messages=1 --override overflow=reject");
    let queue = api.get("queues/eu.orders");
    assert_eq!(queue["policy"], json!("all"));
    let effective = &queue["effective"];
    assert_eq!(
        (&effective["ttl_ms"], &effective["max_bytes"], &effective["max_messages"]),
        (&json!(1000), &json!(1 << 20), &json!(1))
    );
    assert_eq!(effective["overflow"], json!("reject"));
    assert_eq!(queue["config"]["max_messages"], json!(7), "what the definition says is kept");
    let shown = server.run("queue show eu.orders");
    assert!(shown.contains("policy") && shown.contains("new messages are refused"), "{shown}");
    // It is in force, for queues of before and after.
    api.text("queues/eu.orders", "1");
    api.publish_refused(429, "queue-full", "queues/eu.orders", &[json!({"text": "2"})]);
    api.put("queues/eu.later", &json!({}));
    assert_eq!(api.get("queues/eu.later")["effective"]["ttl_ms"], json!(3_600_000));
    api.put("queues/us.orders", &json!({}));
    assert_eq!(api.get("queues/us.orders")["policy"], Value::Null);
    // The higher one wins, as a whole.
    server.run("policy create loose 'eu.orders' --priority 5 --override max_messages=9");
    let effective = api.get("queues/eu.orders")["effective"].clone();
    assert_eq!((&effective["max_messages"], &effective["max_bytes"]), (&json!(9), &Value::Null));
    api.publish("queues/eu.orders", &[json!({"text": "2"})]);
    server.run("policy delete loose");
    server.run("policy delete all");
    assert_eq!(api.get("queues/eu.orders")["effective"]["max_messages"], json!(7));

    server.run("policy create logs 'log.*' --applies-to topics --override retention.max_records=2");
    server.run("topic create log.web");
    assert_eq!(api.get("topics/log.web")["retention"]["max_records"], json!(2));
    let wrong = json!({"pattern": "*", "applies_to": "queues", "defaults": {"max_mesages": 1}});
    let problem = api.refused(400, "unknown-field", "PUT", "policies/bad", &wrong);
    assert_eq!(problem["did_you_mean"], json!("max_messages"), "{problem}");
    assert!(server.fails(2, "policy create bad '*' --default ttl=1h").contains("ttl"));
}

#[test]
fn a_webhook_that_the_server_would_not_call_is_refused_as_it_is_declared() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    for url in [
        "http://127.0.0.1:9/x",
        "http://localhost/x",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "http://10.0.0.7/",
    ] {
        let problem = api.refused(400, "invalid-value", "PUT", "queues/hook", &json!({"webhook": {"url": url}}));
        let detail = problem["detail"].as_str().unwrap();
        assert!(problem["field"] == json!("webhook.url") && detail.contains("webhook.allow_private"), "{problem}");
    }
    assert!(server.fails(2, "queue create hook --webhook http://192.168.1.1/").contains("webhook.allow_private"));
    server.run("queue create hook --webhook https://hooks.example/in");
    drop(server);

    // Where it is allowed, a message is pushed.
    let endpoint = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in", endpoint.local_addr().unwrap());
    let server = Server::start_with(data.path(), &["--http", "127.0.0.1:0", "--webhook-allow-private"], &[]);
    server.run(&format!("queue update hook --webhook {url}"));
    server.run("publish --queue hook pushed");
    let mut request = BufReader::new(endpoint.accept().unwrap().0);
    let (mut line, mut len_bytes) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        request.read_line(&mut line).unwrap();
        if let Some(len) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            len_bytes = len.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; len_bytes];
    request.read_exact(&mut body).unwrap();
    assert_eq!(body, b"pushed");
    request.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    Api::new(&server).until("queues/hook", |queue| queue["counters"]["acked"] == json!(1));
}

#[test]
fn above_the_memory_watermark_publishers_wait_and_acknowledgements_pass() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start_with(data.path(), &["--http", "127.0.0.1:0", "--memory-high", "64KiB"], &[]);
    let mut api = Api::new(&server);
    server.run("queue create work");
    server.run("queue create acks");
    api.text("queues/acks", "x");
    let taken = api.next("acks");
    let (seen, body) = (AtomicBool::new(false), "x".repeat(2 << 20));
    let deadline = Instant::now() + PATIENCE;
    // Each fits when it is alone; while one is on its way to the disk, others are told to come again.
    let push = || {
        let mut api = Api::new(&server);
        while !seen.load(Ordering::Relaxed) {
            assert!(Instant::now() < deadline, "the watermark was never reached");
            match api.http_status("queues/work", &[json!({ "text": body })]) {
                200 => {}
                503 => seen.store(true, Ordering::Relaxed),
                status => panic!("{status}"),
            }
        }
    };
    std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..4).map(|_| scope.spawn(push)).collect();
        api.settle("acks", "ack", &taken);
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
    });
    api.until("/admin/v1/status", |status| status["memory_high"] == json!(false));
    assert_eq!(api.metric("posthouse_memory_high"), 0.0);
    assert!(api.metric("posthouse_publish_errors_total") >= 1.0);
    api.text("queues/work", "again");
}

/// Opens a stream of Server-Sent Events, and reads its head.
fn events(server: &Server, path: &str) -> BufReader<TcpStream> {
    let mut stream = BufReader::new(raw(server));
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: posthouse\r\n\r\n").unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).unwrap();
        assert!(!line.starts_with("HTTP") || line.contains("200"), "{line}");
    }
    stream
}

/// The next event: its kind, id and data.
fn event(stream: &mut BufReader<TcpStream>) -> (String, String, Value) {
    let (mut kind, mut id) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the stream ended");
        if let Some(given) = line.strip_prefix("event: ") {
            kind = given.trim().to_owned();
        } else if let Some(given) = line.strip_prefix("id: ") {
            id = given.trim().to_owned();
        } else if let Some(given) = line.strip_prefix("data: ") {
            return (kind, id, serde_json::from_str(given).unwrap());
        }
    }
}

#[test]
fn live_subscriptions_and_tails_give_what_is_published_from_now_on() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("topic create log --retain forever --partitions 2");
    let mut live = events(&server, "/v1/default/live?subject=sensors.%3E");
    let (mut one, mut two) = (Ws::new(&server), Ws::new(&server));
    for client in [&mut one, &mut two] {
        client.send(&json!({"subscribe": {"id": "s", "subject": "sensors.*", "group": "g"}}));
        assert_eq!(client.next()["opened"]["id"], json!("s"));
    }
    api.until("/admin/v1/status", |status| status["live_subscriptions"] == json!(3));
    let published = api.text("subjects/sensors.kitchen", "21");
    assert_eq!((&published["routed"], &published["live"]), (&json!(true), &json!(2)), "the group counts once");
    let (kind, _, message) = event(&mut live);
    assert_eq!(
        (kind.as_str(), &message["subject"], &message["text"]),
        ("message", &json!("sensors.kitchen"), &json!("21"))
    );
    // Of a group's members each message reaches one.
    for n in 0..20 {
        api.text("subjects/sensors.hall", &n.to_string());
    }
    // Each reads until it gets a mark, which comes after all that was published before.
    let read =
        |client: &mut Ws| (0..).take_while(|_| client.next()["message"]["message"]["text"] != json!("end")).count();
    let reached = std::thread::scope(|scope| {
        let readers = [scope.spawn(|| read(&mut one)), scope.spawn(|| read(&mut two))];
        while readers.iter().any(|reader| !reader.is_finished()) {
            api.text("subjects/sensors.hall", "end");
        }
        readers.map(|reader| reader.join().unwrap())
    });
    assert_eq!(reached.iter().sum::<usize>(), 21, "{reached:?}");
    assert_eq!(api.text("subjects/other.subject", "x")["routed"], json!(false));
    let mut third = Ws::new(&server);
    third.send(&json!({"subscribe": {"id": "bad", "subject": "a.>.b"}}));
    assert_eq!(third.next()["failed"]["problem"]["status"], json!(400));

    // A tail goes on where the last event left off.
    let mut tail = events(&server, "/v1/default/topics/log/tail?from=earliest");
    api.publish("topics/log?partition=1", &[json!({"text": "a"})]);
    let (kind, id, record) = event(&mut tail);
    assert_eq!((kind.as_str(), id.as_str(), text(&record).as_str()), ("record", "0:0,1:1", "a"));
    api.publish("topics/log?partition=0", &[json!({"text": "b"})]);
    assert_eq!(text(&event(&mut tail).2), "b");
    let mut again = raw(&server);
    write!(again, "GET /v1/default/topics/log/tail HTTP/1.1\r\nHost: posthouse\r\nLast-Event-ID: {id}\r\n\r\n")
        .unwrap();
    assert_eq!(text(&event(&mut BufReader::new(again)).2), "b", "nothing is missed, nothing comes twice");
    third.send(&json!({"tail": {"id": "t", "topic": "log", "partition": 1, "from": "earliest", "credit": 1}}));
    assert_eq!(third.next()["opened"]["id"], json!("t"));
    assert_eq!(text(&third.next()["record"]["record"]), "a");
}

#[test]
fn a_request_gets_one_answer_a_deadline_or_the_word_that_nobody_answers() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    let ask = |path: &str| Http::new(&server).call("POST", path, "text/plain", b"21").unwrap();
    let begun = Instant::now();
    assert_eq!(ask("/v1/default/request/math.double?timeout_ms=30000").problem(404).0, "no-responders");
    assert!(begun.elapsed().as_secs() < 10, "at once, not after the deadline");
    assert_eq!(api.metric("posthouse_requests_without_responder_total"), 1.0);

    // By a live subscription, over WebSocket.
    let mut replier = Ws::new(&server);
    replier.send(&json!({"subscribe": {"id": "s", "subject": "math.*"}}));
    replier.next();
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask("/v1/default/request/math.double?timeout_ms=30000"));
        let request = replier.next()["message"]["message"].clone();
        assert_eq!(request["text"], json!("21"));
        let reply = json!({"seq": 9, "reply_to": request["reply_to"], "correlation_id": request["correlation_id"], "message": {"text": "42"}});
        replier.send(&json!({ "reply": reply }));
        assert_eq!(replier.next(), json!({"replied": {"seq": 9}}));
        let answer = asking.join().unwrap().ok();
        // Nobody waits for a second one.
        replier.send(&json!({ "reply": reply }));
        assert_eq!(replier.next()["failed"]["problem"]["type"], json!("urn:posthouse:problem:nobody-waits"));
        answer
    });
    assert_eq!(answer["text"], json!("42"));
    assert_eq!(ask("/v1/default/request/math.double?timeout_ms=50").problem(504).0, "timeout");

    // By a queue's consumer, over HTTP.
    server.run("topic create jobs --capture 'jobs.*'");
    server.run("queue create workers");
    server.run("binding create jobs workers");
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask("/v1/default/request/jobs.resize?timeout_ms=30000"));
        let job = api.next("workers");
        let path = format!("reply/{}", job["message"]["reply_to"].as_str().unwrap());
        api.post(&path, &json!({"done": true}));
        api.settle("workers", "ack", &job);
        asking.join().unwrap().ok()
    });
    assert_eq!(answer["body"], json!({"done": true}));
}

#[test]
fn depth_age_and_rates_are_in_the_view_and_in_the_metrics() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("queue create work --keyed --retry-initial 1h");
    let keyed = ["a", "a", "b", "c"].map(|key| json!({"key": key, "text": "x"}));
    api.publish("queues/work", &keyed);
    api.publish("queues/work", &[json!({"text": "x", "delay_ms": 3_600_000})]);
    let taken = api.receive("work", 2, 5000);
    api.settle("work", "ack", &taken[1]);
    let queue = api.until("queues/work", |queue| queue["oldest_age_ms"].as_u64() >= Some(5));
    let depth = &queue["depth"];
    assert_eq!(
        ["ready", "delayed", "parked", "in_flight"].map(|state| depth[state].as_u64().unwrap()),
        [1, 1, 1, 1],
        "{depth}"
    );
    let counters = &queue["counters"];
    assert_eq!(["enqueued", "delivered", "acked", "failed"].map(|name| counters[name].as_u64().unwrap()), [5, 2, 1, 0]);
    api.settle("work", "nack", &taken[0]);
    let labels = "namespace=\"default\",queue=\"work\"";
    for (state, count) in [("ready", 1.0), ("delayed", 2.0), ("parked", 1.0), ("in_flight", 0.0)] {
        let series = format!("posthouse_queue_messages{{{labels},state=\"{state}\"}}");
        assert_eq!(api.metric(&series), count, "{state}");
    }
    assert_eq!(api.metric(&format!("posthouse_queue_nacked_messages_total{{{labels}}}")), 1.0);
    assert!(api.metric(&format!("posthouse_queue_oldest_age_seconds{{{labels}}}")) > 0.0);
    assert!(api.metric("posthouse_log_fsync_duration_seconds_count") > 0.0);
    api.until("queues/work", |queue| queue["rates"]["enqueued"].as_f64() > Some(0.0));
    let status = server.run("status");
    assert!(status.contains("work"), "{status}");
}
