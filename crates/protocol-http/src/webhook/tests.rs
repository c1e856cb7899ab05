//! Push consumers over a broker in memory and a real HTTP server, each of whose answers the test gives by hand.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use broker::definitions::{BreakerConfig, QueueConfig, RetryConfig, WebhookConfig, WebhookFormat};
use broker::views::{Delivered, QueueInfo};
use broker::{Broker, BrokerOptions, Credentials, PublishOptions, PublishTo, Receive, Session};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use log::MemoryLog;
use testkit::ManualClock;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use types::clock::SystemClock;
use types::{Clock, Message, MessageId, Timestamp, Value};

use super::{PushOptions, Pusher};

/// No wait of a test is meant to be this long.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it happens within the test's patience")
}

/// A request at the endpoint. It waits for its answer.
struct Hit {
    path: String,
    headers: HeaderMap,
    body: Bytes,
    reply: oneshot::Sender<Response>,
}

impl Hit {
    fn answer(self, status: u16, headers: &[(&str, &str)]) {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        // The client may have gone.
        drop(self.reply.send(answer.body(Body::from("thank you")).expect("an answer")));
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("visible text"))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// The foreign endpoint.
struct Endpoint {
    port: u16,
    hits: mpsc::Receiver<Hit>,
}

impl Endpoint {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (send, hits) = mpsc::channel(100);
        let app = Router::new().fallback(hit).with_state(send);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { port, hits }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn next(&mut self) -> Hit {
        soon(self.hits.recv()).await.expect("the server runs")
    }

    fn is_quiet(&mut self) -> bool {
        self.hits.try_recv().is_err()
    }
}

async fn hit(State(hits): State<mpsc::Sender<Hit>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a small body");
    let (reply, answer) = oneshot::channel();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    hits.send(Hit { path, headers: parts.headers, body, reply }).await.expect("the test runs");
    match answer.await {
        Ok(answer) => answer,
        // The test keeps no hit that it does not answer, unless the client is to wait.
        Err(_) => std::future::pending().await,
    }
}

/// A broker that pushes.
struct Bench {
    broker: Broker,
    session: Session,
    endpoint: Endpoint,
    pusher: Pusher,
}

impl Bench {
    /// On the machine's clock, with everything due done at once.
    async fn new() -> Self {
        let bench = Self::on(Arc::new(SystemClock::new()), true).await;
        bench.keep_ticking();
        bench
    }

    async fn on(clock: Arc<dyn Clock>, allow_private: bool) -> Self {
        let options = BrokerOptions { webhook_allow_private: true, ..BrokerOptions::default() };
        let broker = Broker::open(Arc::new(MemoryLog::new()), clock.clone(), options).expect("opens");
        let principal = broker.authenticate(&Credentials::Anonymous).expect("anonymous");
        let session = broker.session(&principal, "default").expect("default");
        let options = PushOptions { allow_private, stop_timeout: PATIENCE, clock };
        let pusher = Pusher::start(broker.clone(), options);
        Self { broker, session, endpoint: Endpoint::new().await, pusher }
    }

    fn keep_ticking(&self) {
        let broker = self.broker.clone();
        tokio::spawn(async move {
            loop {
                let wait = broker.tick().await;
                tokio::time::sleep(wait).await;
            }
        });
    }

    fn webhook(&self) -> WebhookConfig {
        WebhookConfig {
            url: self.endpoint.url("/in?token=x"),
            secret: None,
            concurrency: None,
            timeout_ms: None,
            headers: BTreeMap::new(),
            format: None,
        }
    }

    /// Declares the queue `hook`, or changes it.
    async fn queue(&self, webhook: Option<WebhookConfig>, max_attempts: u32) {
        let retry = RetryConfig {
            max_attempts: Some(max_attempts),
            initial_ms: Some(1),
            jitter: Some(false),
            ..RetryConfig::default()
        };
        self.declare(QueueConfig { webhook, retry: Some(retry), ..QueueConfig::default() }).await;
    }

    /// Changes the webhook of the queue, and waits until nothing goes by the old one any more.
    async fn replace(&self, webhook: WebhookConfig, max_attempts: u32) {
        self.queue(None, max_attempts).await;
        self.until("nobody is there", |info| info.consumers == 0).await;
        self.queue(Some(webhook), max_attempts).await;
    }

    async fn declare(&self, config: QueueConfig) {
        self.session.declare_queue("hook", config, true).await.expect("declares");
    }

    async fn publish(&self, bodies: &[&'static str]) {
        self.publish_all(bodies.iter().map(|body| Message::new("orders.new", *body)).collect()).await;
    }

    async fn publish_all(&self, messages: Vec<Message>) {
        let to = PublishTo::Queue("hook".to_owned());
        self.session.publish(&to, messages, PublishOptions::default()).await.expect("publishes");
    }

    fn info(&self) -> QueueInfo {
        self.session.queue("hook").expect("there")
    }

    /// Waits until the queue is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&QueueInfo) -> bool) {
        let reached = async {
            while !wanted(&self.info()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{what}: {:?}", self.info());
    }

    async fn until_empty(&self) {
        self.until("empty", |info| {
            let depth = &info.depth;
            depth.ready + depth.delayed + depth.parked + depth.in_flight == 0
        })
        .await;
    }

    /// What the dead letter that comes next says.
    async fn dead(&self) -> (Delivered, String, String) {
        let receive = Receive { max: 1, max_bytes: u64::MAX, wait: PATIENCE, lease: None, auto_ack: true };
        let dead = soon(self.session.receive("hook.dlq", receive)).await.expect("there").pop().expect("a dead letter");
        let header = |name: &str| dead.message.header(name).and_then(Value::as_text).unwrap_or_default().to_owned();
        let (reason, error) = (header("ph-dead-letter-reason"), header("ph-dead-letter-error"));
        (dead, reason, error)
    }
}

#[tokio::test]
async fn a_message_arrives_with_all_that_it_says_and_an_answer_of_success_acknowledges_it() {
    let mut bench = Bench::new().await;
    let headers = [("X-Team", "fulfilment"), ("authorization", "Bearer k")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    bench.queue(Some(WebhookConfig { headers, ..bench.webhook() }), 5).await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let message = Message {
        id: Some(MessageId::Text("order.1".into())),
        key: Some(Bytes::from_static(b"caf\xc3\xa9 \xff")),
        content_type: Some("application/json".into()),
        timestamp: Some(Timestamp(1_735_689_600_250)),
        correlation_id: Some("c 1".into()),
        reply_to: Some("answers".into()),
        priority: Some(3),
        headers: vec![
            ("Tenant Name".into(), Value::from("100% \"Müller\"")),
            ("n".into(), Value::int(7)),
            ("n".into(), Value::Bool(true)),
            ("raw".into(), Value::Bytes(Bytes::from_static(b"\x00\x01"))),
            ("list".into(), Value::List(vec![Value::int(1), Value::from("a")])),
            ("traceparent".into(), Value::from(parent)),
            ("tracestate".into(), Value::from("a=1")),
        ],
        ..Message::new("orders.neu", "{\"total\":12}")
    };
    bench.publish_all(vec![message]).await;
    let hit = bench.endpoint.next().await;
    assert_eq!((hit.path.as_str(), hit.text()), ("/in?token=x", "{\"total\":12}"));
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-length", "12"),
        ("x-team", "fulfilment"),
        ("authorization", "Bearer k"),
        ("posthouse-namespace", "default"),
        ("posthouse-queue", "hook"),
        ("posthouse-id", "order.1"),
        ("posthouse-subject", "orders.neu"),
        ("posthouse-key", "caf%C3%A9%20%FF"),
        ("posthouse-attempt", "1"),
        ("posthouse-timestamp", "2025-01-01T00:00:00.250Z"),
        ("posthouse-correlation-id", "c%201"),
        ("posthouse-reply-to", "answers"),
        ("posthouse-priority", "3"),
        ("posthouse-header-tenant%20name", "100%25%20%22M%C3%BCller%22"),
        ("posthouse-header-raw", "AAE="),
        ("posthouse-header-list", "[1,%22a%22]"),
        ("traceparent", parent),
        ("tracestate", "a=1"),
        ("webhook-id", "order%2E1"),
        ("webhook-signature", ""),
        ("posthouse-redelivered", ""),
        ("posthouse-headers-omitted", ""),
        ("posthouse-header-traceparent", ""),
    ] {
        assert_eq!(hit.header(name), value, "{name}");
    }
    assert_eq!(hit.headers.get_all("posthouse-header-n").iter().collect::<Vec<_>>(), ["7", "true"]);
    assert!(hit.header("user-agent").starts_with("Posthouse/"));
    hit.answer(204, &[]);
    bench.until_empty().await;
    let metrics = bench.pusher.metrics();
    assert_eq!((metrics.sent(), metrics.ok(), metrics.failed(), metrics.paused()), (1, 1, 0, 0));
}

#[tokio::test]
async fn headers_beyond_their_bounds_are_left_out_and_counted() {
    let mut bench = Bench::new().await;
    bench.queue(Some(bench.webhook()), 5).await;
    let mut message = Message::new("a", "b");
    message.headers.push(("long".into(), Value::Text("x".repeat(5000).into())));
    message.headers.extend((0..100).map(|_| ("many".into(), Value::Text("x".repeat(100).into()))));
    bench.publish_all(vec![message]).await;
    let hit = bench.endpoint.next().await;
    let sent = hit.headers.get_all("posthouse-header-many").iter().count();
    assert!((30..60).contains(&sent), "{sent}");
    assert_eq!(hit.header("posthouse-headers-omitted"), (101 - sent).to_string());
    hit.answer(200, &[]);
    bench.until_empty().await;
}

#[tokio::test]
async fn the_signature_holds_for_exactly_what_was_sent_and_every_attempt_has_its_own() {
    let mut bench = Bench::new().await;
    let secret = format!("whsec_{}", BASE64.encode(b"a key of some length"));
    bench.queue(Some(WebhookConfig { secret: Some(secret), ..bench.webhook() }), 5).await;
    bench.publish(&["pay"]).await;
    let mut ids = Vec::new();
    for status in [500, 200] {
        let hit = bench.endpoint.next().await;
        let (id, timestamp) = (hit.header("webhook-id").to_owned(), hit.header("webhook-timestamp").to_owned());
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"a key of some length").expect("a key");
        mac.update(format!("{id}.{timestamp}.pay").as_bytes());
        let signature = hit.header("webhook-signature").strip_prefix("v1,").expect("version 1").to_owned();
        mac.verify_slice(&BASE64.decode(signature).expect("base64")).expect("the signature holds");
        let now = SystemClock::new().now().wall.0 / 1000;
        assert!((now - 60..=now).contains(&timestamp.parse().expect("seconds")), "{timestamp}, now {now}");
        ids.push(id);
        hit.answer(status, &[]);
    }
    assert_eq!(ids[0], ids[1], "the id tells a receiver that it is the same message");
    bench.until_empty().await;
}

#[tokio::test]
async fn a_failure_is_tried_again_by_the_queues_policy_and_counted() {
    let mut bench = Bench::new().await;
    bench.queue(Some(bench.webhook()), 5).await;
    bench.publish(&["a"]).await;
    for (attempt, status) in [(1, 500), (2, 425), (3, 408), (4, 200)] {
        let hit = bench.endpoint.next().await;
        assert_eq!(hit.header("posthouse-attempt"), attempt.to_string());
        assert_eq!(hit.header("posthouse-redelivered"), if attempt == 1 { "" } else { "true" });
        hit.answer(status, &[]);
    }
    bench.until_empty().await;
    let metrics = bench.pusher.metrics();
    assert_eq!((metrics.sent(), metrics.ok(), metrics.failed()), (4, 1, 3));
}

#[tokio::test]
async fn retry_after_holds_back_the_message_and_everything_else_for_the_endpoint() {
    let mut bench = Bench::new().await;
    bench.queue(Some(WebhookConfig { concurrency: Some(1), ..bench.webhook() }), 5).await;
    bench.publish(&["a", "b"]).await;
    bench.endpoint.next().await.answer(429, &[("retry-after", "1")]);
    let asked = Instant::now();
    bench.until("a waits", |info| (info.depth.delayed, info.depth.ready) == (1, 1)).await;
    let hit = bench.endpoint.next().await;
    assert!(asked.elapsed() >= Duration::from_millis(900), "it came after {:?}", asked.elapsed());
    assert_eq!(bench.pusher.metrics().paused(), 1);
    hit.answer(200, &[]);
    bench.endpoint.next().await.answer(200, &[]);
    bench.until_empty().await;
}

#[tokio::test]
async fn a_long_retry_after_outlasts_the_queues_backoff() {
    let clock = Arc::new(ManualClock::new());
    let mut bench = Bench::on(clock.clone(), true).await;
    bench.queue(Some(bench.webhook()), 5).await;
    bench.publish(&["a"]).await;
    // A second's pause would be too long for a backoff of one millisecond; of 500 the pusher does not pause for all.
    bench.endpoint.next().await.answer(500, &[("retry-after", "120")]);
    bench.until("a waits", |info| info.depth.delayed == 1).await;
    clock.advance(Duration::from_secs(119));
    bench.broker.tick().await;
    assert_eq!(bench.info().depth.delayed, 1, "it is not due yet");
    clock.advance(Duration::from_secs(1));
    bench.broker.tick().await;
    let hit = bench.endpoint.next().await;
    assert_eq!(hit.header("posthouse-attempt"), "2");
    hit.answer(200, &[]);
    bench.until_empty().await;
    assert_eq!(bench.pusher.metrics().paused(), 0);
}

#[tokio::test]
async fn what_the_endpoint_will_never_take_is_a_dead_letter_at_once_with_the_reason() {
    let mut bench = Bench::new().await;
    bench.queue(Some(bench.webhook()), 5).await;
    for (status, wanted) in
        [(404, "http 404: Not Found"), (410, "http 410: Gone"), (422, "http 422: Unprocessable Entity")]
    {
        bench.publish(&["a"]).await;
        bench.endpoint.next().await.answer(status, &[("retry-after", "1")]);
        let (dead, reason, error) = bench.dead().await;
        assert_eq!((reason.as_str(), error.as_str()), ("rejected", wanted));
        assert_eq!(dead.message.body.as_deref(), Some(&b"a"[..]));
    }
    assert!(bench.endpoint.is_quiet(), "nothing was tried twice");
}

#[tokio::test]
async fn a_redirect_is_a_failure_that_says_so_and_is_not_followed() {
    let mut bench = Bench::new().await;
    bench.queue(Some(bench.webhook()), 1).await;
    for status in [301, 302, 307, 308] {
        bench.publish(&["a"]).await;
        let elsewhere = bench.endpoint.url("/elsewhere");
        bench.endpoint.next().await.answer(status, &[("location", &elsewhere)]);
        let (_, _, error) = bench.dead().await;
        assert!(
            error.starts_with(&format!("http {status}: ")) && error.contains("redirects are not followed"),
            "{error}"
        );
    }
    assert!(bench.endpoint.is_quiet(), "nobody went elsewhere");
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_in_time_has_failed() {
    let mut bench = Bench::new().await;
    bench.queue(Some(WebhookConfig { timeout_ms: Some(50), ..bench.webhook() }), 1).await;
    bench.publish(&["a"]).await;
    let unanswered = bench.endpoint.next().await;
    let (_, reason, error) = bench.dead().await;
    assert_eq!((reason.as_str(), error.as_str()), ("max-attempts", "timeout: no answer within 50 ms"));
    drop(unanswered);
}

#[tokio::test]
async fn no_lease_runs_out_under_a_request() {
    let clock = Arc::new(ManualClock::new());
    let mut bench = Bench::on(clock.clone(), true).await;
    let webhook = Some(WebhookConfig { timeout_ms: Some(60_000), ..bench.webhook() });
    bench.declare(QueueConfig { webhook, lease_ms: Some(1_000), ..QueueConfig::default() }).await;
    bench.publish(&["a"]).await;
    let hit = bench.endpoint.next().await;
    clock.advance(Duration::from_secs(60));
    bench.broker.tick().await;
    assert_eq!((bench.info().depth.in_flight, bench.info().counters.failed), (1, 0));
    hit.answer(200, &[]);
    bench.until_empty().await;
    assert_eq!(bench.info().counters.acked, 1);
}

#[tokio::test]
async fn an_endpoint_that_nobody_listens_at_has_failed_and_the_error_shows_no_url() {
    let bench = Bench::new().await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = unused.local_addr().expect("bound").port();
    drop(unused);
    let url = format!("http://127.0.0.1:{port}/in?token=secret");
    bench.queue(Some(WebhookConfig { url, ..bench.webhook() }), 1).await;
    bench.publish(&["a"]).await;
    let (_, _, error) = bench.dead().await;
    assert!(error.starts_with("connect: ") && !error.contains("token"), "{error}");
}

#[tokio::test]
async fn an_https_endpoint_must_show_a_certificate_that_is_trusted() {
    let bench = Bench::new().await;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("fit");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let accepting = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(socket).await.map(drop)
    });
    bench.queue(Some(WebhookConfig { url: format!("https://localhost:{port}/"), ..bench.webhook() }), 1).await;
    bench.publish(&["a"]).await;
    let (_, _, error) = bench.dead().await;
    assert!(error.starts_with("connect: ") && error.contains("certificate"), "{error}");
    assert!(soon(accepting).await.expect("ends").is_err(), "nothing was sent over it");
}

/// What is logged, for a test to look through.
#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn neither_secrets_nor_the_rest_of_the_url_are_logged() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // For all threads: one that has no subscriber would switch off for all what it is the first to log. What other tests log besides
    // does no harm here.
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");
    let mut bench = Bench::new().await;
    let url = bench.endpoint.url("/path-password?token=query-password");
    let headers = [("authorization".to_owned(), "header-password".to_owned())].into();
    let webhook = WebhookConfig { url, secret: Some("secret-password".to_owned()), headers, ..bench.webhook() };
    bench.queue(Some(webhook), 5).await;
    bench.publish(&["a"]).await;
    for status in [429, 500, 302, 200] {
        bench.endpoint.next().await.answer(status, &[("retry-after", if status == 429 { "1" } else { "0" })]);
    }
    bench.until_empty().await;
    let logged = String::from_utf8(logged.0.lock().expect("no panic").clone()).expect("text");
    let endpoint = format!("http://127.0.0.1:{}", bench.endpoint.port);
    let lines: Vec<&str> = logged.lines().filter(|line| line.contains(&endpoint)).collect();
    for told in ["pushing to a webhook", "asks for a pause", "http 429", "http 302", "takes messages again"] {
        assert!(lines.iter().any(|line| line.contains(told)), "{told:?} is not in {lines:#?}");
    }
    for password in ["path-password", "query-password", "header-password", "secret-password"] {
        assert!(!logged.contains(password), "{password:?} is in {logged}");
    }
}

#[tokio::test]
async fn the_breaker_opens_on_a_failing_endpoint_probes_it_with_one_message_and_closes() {
    let clock = Arc::new(ManualClock::new());
    let mut bench = Bench::on(clock.clone(), true).await;
    let breaker = BreakerConfig { failure_ratio: 1.0, window: 2, pause_ms: 60_000 };
    let retry = RetryConfig { initial_ms: Some(1000), jitter: Some(false), ..RetryConfig::default() };
    let webhook = Some(WebhookConfig { concurrency: Some(2), ..bench.webhook() });
    let config = QueueConfig { webhook, breaker: Some(breaker), retry: Some(retry), ..QueueConfig::default() };
    bench.declare(config).await;
    bench.publish(&["a", "b", "c", "d"]).await;
    let both = [bench.endpoint.next().await, bench.endpoint.next().await];
    bench.until("two are out", |info| (info.depth.in_flight, info.depth.ready) == (2, 2)).await;
    both.into_iter().for_each(|hit| hit.answer(503, &[]));
    bench.until("paused", |info| info.paused_consumers == 1 && info.depth.delayed == 2).await;
    clock.advance(Duration::from_secs(59));
    bench.broker.tick().await;
    assert_eq!((bench.info().depth.in_flight, bench.info().depth.ready), (0, 4), "what is ready waits");
    assert!(bench.endpoint.is_quiet());
    clock.advance(Duration::from_secs(1));
    bench.broker.tick().await;
    let probe = bench.endpoint.next().await;
    bench.until("one is probed with", |info| (info.depth.in_flight, info.depth.ready) == (1, 3)).await;
    assert!(bench.endpoint.is_quiet());
    probe.answer(200, &[]);
    for _ in 0..3 {
        bench.endpoint.next().await.answer(200, &[]);
    }
    bench.until_empty().await;
    assert_eq!(bench.info().paused_consumers, 0);
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_allowed() {
    let mut bench = Bench::new().await;
    bench.queue(Some(WebhookConfig { concurrency: Some(3), ..bench.webhook() }), 5).await;
    bench.publish(&["a", "b", "c", "d", "e", "f", "g"]).await;
    let mut open = Vec::new();
    for ready in [4, 3, 2, 1, 0] {
        while open.len() < 3 {
            open.push(bench.endpoint.next().await);
        }
        bench.until("three are out", |info| (info.depth.in_flight, info.depth.ready) == (3, ready)).await;
        assert_eq!(bench.pusher.metrics().in_flight(), 3);
        assert!(bench.endpoint.is_quiet());
        open.remove(0).answer(200, &[]);
    }
    open.into_iter().for_each(|hit| hit.answer(200, &[]));
    bench.until_empty().await;
}

#[tokio::test]
async fn private_targets_are_refused_by_address_and_by_name_with_an_error_that_says_so() {
    let mut bench = Bench::on(Arc::new(SystemClock::new()), false).await;
    bench.keep_ticking();
    let port = bench.endpoint.port;
    for (url, wanted) in [
        (format!("http://127.0.0.1:{port}/"), "refused: 127.0.0.1 is a loopback address"),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), "refused: ::ffff:127.0.0.1 is an IPv4-mapped address"),
        (format!("http://localhost:{port}/"), "refused: localhost resolves to "),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "refused: 169.254.169.254 is a cloud metadata address"),
    ] {
        bench.replace(WebhookConfig { url, ..bench.webhook() }, 1).await;
        bench.publish(&["a"]).await;
        let (_, reason, error) = bench.dead().await;
        assert!(error.starts_with(wanted) && error.contains("private targets"), "{error}");
        assert_eq!(reason, "max-attempts");
    }
    assert!(bench.endpoint.is_quiet(), "nothing was connected to");
}

#[tokio::test]
async fn a_changed_definition_takes_effect_without_a_restart() {
    let mut bench = Bench::new().await;
    bench.queue(Some(bench.webhook()), 5).await;
    bench.publish(&["a"]).await;
    let old = bench.endpoint.next().await;
    // The new endpoint and key serve from now on, and do not wait for what the old one has under way.
    let url = bench.endpoint.url("/new");
    bench.queue(Some(WebhookConfig { url, secret: Some("k".to_owned()), ..bench.webhook() }), 5).await;
    bench.until("both are there", |info| info.consumers == 2).await;
    bench.publish(&["b"]).await;
    let new = bench.endpoint.next().await;
    assert_eq!((old.path.as_str(), new.path.as_str(), new.text()), ("/in?token=x", "/new", "b"));
    assert!(!new.header("webhook-signature").is_empty());
    old.answer(200, &[]);
    new.answer(200, &[]);
    bench.until_empty().await;
    // Without a webhook nothing is pushed.
    bench.queue(None, 5).await;
    bench.until("nobody is there", |info| info.consumers == 0).await;
    bench.publish(&["c"]).await;
    assert_eq!(bench.info().depth.ready, 1);
    bench.queue(Some(bench.webhook()), 5).await;
    let hit = bench.endpoint.next().await;
    assert_eq!((hit.text(), hit.path.as_str()), ("c", "/in?token=x"));
    // A queue may be deleted under a request, and made anew.
    bench.session.delete_queue("hook", false, false).await.expect("deletes");
    hit.answer(200, &[]);
    bench.queue(Some(bench.webhook()), 5).await;
    bench.publish(&["d"]).await;
    let hit = bench.endpoint.next().await;
    assert_eq!(hit.text(), "d");
    hit.answer(200, &[]);
    bench.until_empty().await;
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_takes_nothing_more() {
    let mut bench = Bench::new().await;
    bench.queue(Some(WebhookConfig { concurrency: Some(1), ..bench.webhook() }), 5).await;
    bench.publish(&["a", "b"]).await;
    let hit = bench.endpoint.next().await;
    let Bench { pusher, session, mut endpoint, .. } = bench;
    let metrics = Arc::clone(pusher.metrics());
    let stopping = tokio::spawn(pusher.stop());
    hit.answer(200, &[]);
    soon(stopping).await.expect("stops");
    let depth = session.queue("hook").expect("there").depth;
    assert_eq!((depth.ready, depth.in_flight, metrics.ok(), metrics.sent()), (1, 0, 1, 1));
    assert!(endpoint.is_quiet());
}

#[tokio::test]
async fn what_does_not_end_in_time_goes_back_untried_when_stopping() {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
    let mut bench = Bench::on(clock.clone(), true).await;
    bench.queue(Some(bench.webhook()), 5).await;
    soon(std::mem::replace(&mut bench.pusher, Pusher::start(bench.broker.clone(), PushOptions::default())).stop())
        .await;
    soon(bench.pusher.stop()).await;
    let options = PushOptions { allow_private: true, stop_timeout: Duration::from_millis(20), clock };
    let pusher = Pusher::start(bench.broker.clone(), options);
    let to = PublishTo::Queue("hook".to_owned());
    bench.session.publish(&to, vec![Message::new("a", "b")], PublishOptions::default()).await.expect("publishes");
    let unanswered = bench.endpoint.next().await;
    soon(pusher.stop()).await;
    let receive = Receive { max: 1, max_bytes: u64::MAX, wait: Duration::ZERO, lease: None, auto_ack: false };
    let again = bench.session.receive("hook", receive).await.expect("there");
    assert_eq!((again.len(), again[0].attempt, again[0].redelivered), (1, 1, true));
    drop(unanswered);
}

#[tokio::test]
async fn cloud_events_go_in_either_mode() {
    let mut bench = Bench::new().await;
    bench.queue(Some(WebhookConfig { format: Some(WebhookFormat::CloudeventsBinary), ..bench.webhook() }), 5).await;
    let message = || Message {
        id: Some(MessageId::Text("1".into())),
        content_type: Some("application/json".into()),
        headers: vec![("tenant".into(), Value::from("é")), ("long".into(), Value::Text("x".repeat(7000).into()))],
        ..Message::new("order.created", "{\"a\":1}")
    };
    bench.publish_all(vec![message()]).await;
    let hit = bench.endpoint.next().await;
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-type", "order.created"),
        ("ce-source", "/v1/default/queues/hook"),
        ("ce-tenant", "%C3%A9"),
        ("ce-phattempt", "1"),
        ("content-type", "application/json"),
        ("webhook-id", "1"),
        ("posthouse-headers-omitted", "1"),
    ] {
        assert_eq!(hit.header(name), value, "{name}");
    }
    assert_eq!(hit.text(), "{\"a\":1}");
    hit.answer(200, &[]);
    bench.until_empty().await;
    let structured = WebhookConfig { format: Some(WebhookFormat::CloudeventsStructured), ..bench.webhook() };
    bench.replace(structured, 5).await;
    bench.publish_all(vec![message()]).await;
    let hit = bench.endpoint.next().await;
    assert_eq!(hit.header("content-type"), "application/cloudevents+json");
    let event: serde_json::Value = serde_json::from_slice(&hit.body).expect("JSON");
    assert_eq!((&event["type"], &event["data"]["a"]), (&serde_json::json!("order.created"), &serde_json::json!(1)));
    hit.answer(200, &[]);
    bench.until_empty().await;
}
