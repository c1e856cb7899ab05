//! The WebSocket protocol over a real socket.

use api::ws::{ClientFrame, ServerFrame};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::harness::App;

struct Client {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    server: tokio::task::JoinHandle<()>,
    address: std::net::SocketAddr,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Client {
    async fn connect(app: &App) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let drain = app.drain.clone();
        let router = app.router.clone().layer(axum::Extension(drain));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/v1/default/ws")).await.unwrap();
        let mut client = Self { socket, server, address };
        assert!(matches!(client.next().await, ServerFrame::Welcome { .. }));
        client
    }

    async fn send(&mut self, frame: Value) {
        // What a test sends must be a frame that a client of the API's types can write.
        serde_json::from_value::<Value>(frame.clone()).unwrap();
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn message(&mut self) -> Message {
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn next(&mut self) -> ServerFrame {
        let message = self.message().await;
        serde_json::from_str(message.to_text().unwrap()).unwrap()
    }

    async fn closed(&mut self) -> u16 {
        match self.message().await {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn publishes_are_confirmed_in_order_and_deliveries_keep_to_the_credit() {
    let app = App::new();
    app.put("/v1/default/queues/q", json!({})).await.ok();
    let mut client = Client::connect(&app).await;
    for seq in 0..5 {
        let to = if seq == 2 { "missing" } else { "q" };
        client
            .send(json!({"publish": {"seq": seq, "to": {"queue": to}, "messages": [{"text": seq.to_string()}]}}))
            .await;
    }
    for want in 0..5 {
        match client.next().await {
            ServerFrame::Published { seq, published } => assert_eq!((seq, published[0].queues), (want, 1)),
            ServerFrame::Failed { seq, problem, .. } => {
                assert_eq!((seq, want, problem.slug()), (Some(2), 2, "not-found"))
            }
            other => panic!("{other:?}"),
        }
    }
    client.send(json!({"consume": {"id": "c", "queue": "q", "credit": 3}})).await;
    assert_eq!(client.next().await, ServerFrame::Opened { id: "c".into() });
    let mut receipts = Vec::new();
    for want in ["0", "1", "3"] {
        let ServerFrame::Delivery { id, delivery } = client.next().await else { panic!() };
        assert_eq!((id.as_str(), delivery.message.text.as_deref()), ("c", Some(want)));
        receipts.push(delivery.receipt);
    }
    // No credit is left: the next thing to come is the answer to a ping, not the fourth message.
    client.send(json!({"ping": {"seq": 9}})).await;
    assert_eq!(client.next().await, ServerFrame::Pong { seq: Some(9) });
    let settlements = json!([{"receipt": receipts[0], "action": "ack"}, {"receipt": receipts[0], "action": "ack"}, {"receipt": receipts[1], "action": "extend", "by_ms": 1000}]);
    client.send(json!({"settle": {"seq": 7, "settlements": settlements}})).await;
    let ServerFrame::Settled { seq, results } = client.next().await else { panic!() };
    assert_eq!((seq, results.iter().map(|result| result.ok).collect::<Vec<_>>()), (Some(7), vec![true, false, true]));
    client.send(json!({"credit": {"id": "c", "messages": 1}})).await;
    assert!(
        matches!(client.next().await, ServerFrame::Delivery { delivery, .. } if delivery.message.text.as_deref() == Some("4"))
    );
    client.send(json!({"cancel": {"id": "c"}})).await;
    assert_eq!(client.next().await, ServerFrame::Ended { id: "c".into(), problem: None });
    // What was not settled is back: two were out, one was released by the cancel with them.
    assert_eq!(app.get("/v1/default/queues/q").await.ok().json()["depth"]["ready"], 3);
}

#[tokio::test]
async fn requests_are_answered_between_connections() {
    let app = App::new();
    let (mut asks, mut answers) = (Client::connect(&app).await, Client::connect(&app).await);
    answers.send(json!({"subscribe": {"id": "s", "subject": "ask.>"}})).await;
    assert_eq!(answers.next().await, ServerFrame::Opened { id: "s".into() });
    asks.send(json!({"request": {"seq": 1, "message": {"subject": "ask.me", "text": "?"}}})).await;
    let ServerFrame::Message { message, .. } = answers.next().await else { panic!() };
    let reply = json!({"reply": {"seq": 2, "reply_to": message.reply_to, "correlation_id": message.correlation_id, "message": {"text": "!"}}});
    answers.send(reply).await;
    assert_eq!(answers.next().await, ServerFrame::Replied { seq: 2 });
    assert!(
        matches!(asks.next().await, ServerFrame::Answer { seq: 1, message } if message.text.as_deref() == Some("!"))
    );
    asks.send(json!({"request": {"seq": 3, "message": {"subject": "nobody", "text": "?"}}})).await;
    assert!(
        matches!(asks.next().await, ServerFrame::Failed { seq: Some(3), problem, .. } if problem.slug() == "no-responders")
    );
}

#[tokio::test]
async fn a_tail_follows_a_log() {
    let app = App::new();
    app.put("/v1/default/topics/t", json!({"retention": {}})).await.ok();
    let mut client = Client::connect(&app).await;
    client.send(json!({"tail": {"id": "t", "topic": "t", "from": "earliest", "credit": 10}})).await;
    assert_eq!(client.next().await, ServerFrame::Opened { id: "t".into() });
    app.call("POST", "/v1/default/topics/t/messages", "text/plain", "x").await.ok();
    assert!(
        matches!(client.next().await, ServerFrame::Record { record, .. } if record.message.text.as_deref() == Some("x"))
    );
    client.send(json!({"tail": {"id": "t", "topic": "t", "from": "earliest", "credit": 10}})).await;
    assert!(
        matches!(client.next().await, ServerFrame::Failed { id: Some(_), problem, .. } if problem.slug() == "id-in-use")
    );
}

#[tokio::test]
async fn a_bad_frame_is_explained_and_closes_the_connection() {
    let app = App::new();
    for (text, slug, code) in [
        (Message::text("{"), "bad-json", 1007),
        (Message::text(r#"{"pin":{}}"#), "bad-json", 1008),
        (Message::text(r#"{"ping":{"sec":1}}"#), "unknown-field", 1008),
        (Message::binary(vec![1]), "unsupported-media-type", 1003),
        (Message::text("x".repeat(protocol_http::limits::MAX_FRAME_BYTES + 1)), "too-large", 1009),
    ] {
        let mut client = Client::connect(&app).await;
        client.socket.send(text).await.unwrap();
        let ServerFrame::Error { problem } = client.next().await else { panic!() };
        assert_eq!(problem.slug(), slug, "{problem:?}");
        assert_eq!(client.closed().await, code);
    }
}

#[tokio::test]
async fn a_drain_closes_the_connection_at_once() {
    let app = App::new();
    let mut client = Client::connect(&app).await;
    app.drain.begin();
    assert_eq!(client.closed().await, 1001);
}

/// The frames that docs/protocols/websocket.md shows can be read.
#[test]
fn the_documented_frames_are_frames() {
    let page = include_str!("../../../../docs/protocols/websocket.md");
    let mut seen = 0;
    for line in page.lines().filter(|line| line.starts_with('{')) {
        let is_client = serde_json::from_str::<ClientFrame>(line);
        let is_server = serde_json::from_str::<ServerFrame>(line);
        assert!(is_client.is_ok() || is_server.is_ok(), "{line}: {:?} {:?}", is_client.err(), is_server.err());
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} frames");
}

/// Waits until a queue has so many consumers, and so many messages that are ready and in flight.
async fn until(app: &App, queue: &str, consumers: u64, ready: u64, in_flight: u64) {
    let mut shown = Value::Null;
    // A minute at least.
    for _ in 0..12_000 {
        shown = app.get(&format!("/v1/default/queues/{queue}")).await.ok().json();
        let found = [&shown["consumers"], &shown["depth"]["ready"], &shown["depth"]["in_flight"]];
        if found == [&json!(consumers), &json!(ready), &json!(in_flight)] {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{shown:#}");
}

const LONG: std::time::Duration = std::time::Duration::from_secs(3600);

#[tokio::test]
async fn a_client_that_is_silent_too_long_is_cut_off_and_what_it_had_goes_back() {
    let times = protocol_http::WebSocketTimes {
        write: LONG,
        ping: std::time::Duration::from_millis(20),
        silence: std::time::Duration::from_millis(200),
    };
    let app = App::with(|options| options.websocket = times);
    app.put("/v1/default/queues/q", json!({})).await.ok();
    app.call("POST", "/v1/default/queues/q/messages", "text/plain", "x").await.ok();
    let mut alive = Client::connect(&app).await;
    let mut silent = Client::connect(&app).await;
    silent.send(json!({"consume": {"id": "c", "queue": "q", "credit": 1}})).await;
    until(&app, "q", 1, 0, 1).await;
    // One reads, and so answers pings; the other's machine is gone, as far as anybody can tell.
    let listening = tokio::spawn(async move {
        alive.send(json!({"subscribe": {"id": "s", "subject": "end"}})).await;
        assert!(matches!(alive.next().await, ServerFrame::Opened { .. }));
        alive.next().await
    });
    until(&app, "q", 0, 1, 0).await;
    app.call("POST", "/v1/default/subjects/end/messages", "text/plain", "still there").await.ok();
    assert!(matches!(listening.await.unwrap(), ServerFrame::Message { .. }), "who answers pings stays");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_what_it_had_goes_back() {
    let times =
        protocol_http::WebSocketTimes { write: std::time::Duration::from_millis(100), ping: LONG, silence: LONG };
    let app = App::with(|options| options.websocket = times);
    app.put("/v1/default/queues/q", json!({})).await.ok();
    app.put("/v1/default/topics/t", json!({"retention": {}})).await.ok();
    app.call("POST", "/v1/default/queues/q/messages", "text/plain", "x").await.ok();
    let mut client = Client::connect(&app).await;
    client.send(json!({"consume": {"id": "c", "queue": "q", "credit": 1}})).await;
    until(&app, "q", 1, 0, 1).await;
    // More than the sockets' buffers hold.
    for _ in 0..32 {
        app.call("POST", "/v1/default/topics/t/messages", "text/plain", "x".repeat(1 << 20)).await.ok();
    }
    client.send(json!({"tail": {"id": "t", "topic": "t", "from": "earliest", "credit": 100}})).await;
    until(&app, "q", 0, 1, 0).await;
}

#[tokio::test]
async fn a_socket_counts_among_the_namespaces_connections() {
    let app = App::new();
    app.put("/admin/v1/namespaces/default", json!({"quota": {"max_connections": 1}})).await.ok();
    let connections = async || app.get("/admin/v1/namespaces/default").await.ok().json()["connections"].clone();
    let client = Client::connect(&app).await;
    assert_eq!(connections().await, 1);
    let address = client.address;
    let refused = tokio_tungstenite::connect_async(format!("ws://{address}/v1/default/ws")).await.unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused:?}") };
    assert_eq!(answer.status(), 429);
}
