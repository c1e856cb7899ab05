//! Messages that come in over one protocol and go out over another: AMQP by lapin, HTTP, gRPC.

use std::time::Duration;

use api::grpc as g;
use api::grpc::consumer_client::ConsumerClient;
use api::grpc::publisher_client::PublisherClient;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel};
use serde_json::{Value, json};
use tokio::time::timeout;
use types::Timestamp;

use crate::amqp::{connect, connect_confirming, declare, publish, take};
use crate::harness::{PATIENCE, Server};
use crate::http::Http;
use crate::kill_grpc;

const HOUR_MS: u64 = 3_600_000;

fn start(data: &std::path::Path) -> Server {
    Server::start_with(data, &["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--amqp", "127.0.0.1:0"], &[])
}

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(test)
}

/// Takes one message over HTTP.
fn receive(http: &mut Http, queue: &str) -> Value {
    let wanted = json!({"max": 1, "wait_ms": 10_000, "auto_ack": true});
    http.post(&format!("/v1/default/queues/{queue}/receive"), &wanted)["deliveries"][0]["message"].clone()
}

fn amqp_properties() -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("region".into(), AMQPValue::LongString("eu".into()));
    headers.insert("count".into(), AMQPValue::LongLongInt(7));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_correlation_id("c-1".into())
        .with_reply_to("answers".into())
        .with_message_id("m-1".into())
        .with_priority(3)
        .with_delivery_mode(2)
        .with_expiration(HOUR_MS.to_string().as_str().into())
        .with_headers(headers)
}

/// What a client of AMQP sees of a message that came in over another protocol, as [`amqp_properties`] has it.
fn check_amqp(delivery: &lapin::message::Delivery) {
    let properties = &delivery.properties;
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    assert_eq!(text(properties.content_type()).as_deref(), Some("application/json"));
    assert_eq!(text(properties.correlation_id()).as_deref(), Some("c-1"));
    assert_eq!(text(properties.reply_to()).as_deref(), Some("answers"));
    assert_eq!(text(properties.message_id()).as_deref(), Some("m-1"));
    assert_eq!(*properties.priority(), Some(3));
    assert_eq!(*properties.delivery_mode(), Some(2));
    let lives: u64 = text(properties.expiration()).expect("an expiration").parse().unwrap();
    assert!((HOUR_MS - 60_000..=HOUR_MS).contains(&lives), "{lives}");
    let headers = properties.headers().as_ref().unwrap().inner();
    assert_eq!(headers.get("region"), Some(&AMQPValue::LongString("eu".into())));
    assert_eq!(headers.get("count"), Some(&AMQPValue::LongLongInt(7)));
    assert!(headers.keys().all(|name| !name.as_str().starts_with("ph-")), "{headers:?}");
    assert_eq!(delivery.data, br#"{"a":1}"#);
}

/// The same over HTTP.
fn check_json(message: &Value) {
    for (field, value) in [
        ("id", json!("m-1")),
        ("content_type", json!("application/json")),
        ("correlation_id", json!("c-1")),
        ("reply_to", json!("answers")),
        ("priority", json!(3)),
        ("body", json!({"a": 1})),
    ] {
        assert_eq!(message[field], value, "{field}: {message}");
    }
    let (expires, published) = (message["expires_at_ms"].as_i64().unwrap(), message["timestamp_ms"].as_i64());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!((now + 3_000_000..=now + HOUR_MS as i64).contains(&expires), "{expires}, {published:?}");
    assert_eq!(message["headers"]["region"], json!("eu"), "{message}");
    assert_eq!(message["headers"]["count"], json!(7), "{message}");
}

#[test]
fn what_is_published_over_http_comes_over_amqp() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut http = Http::new(&server);
    run(async {
        let (_connection, channel) = connect(&server).await.unwrap();
        declare(&channel, "q", "classic").await;
        let message = json!({
            "id": "m-1", "content_type": "application/json", "correlation_id": "c-1", "reply_to": "answers", "priority": 3,
            "ttl_ms": HOUR_MS, "headers": {"region": "eu", "count": 7}, "body": {"a": 1}, "subject": "orders.made"
        });
        let body = json!({"messages": [message]}).to_string();
        http.call("POST", "/v1/default/queues/q/messages", crate::http::BATCH, body.as_bytes()).unwrap().ok();
        let delivery = take(&channel, "q").await;
        check_amqp(&delivery);
        assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("", "orders.made"));
    });
}

#[test]
fn what_is_published_over_amqp_comes_over_http() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut http = Http::new(&server);
    run(async {
        let (_connection, channel) = connect_confirming(&server).await.unwrap();
        declare(&channel, "q", "classic").await;
        publish(&channel, "q", br#"{"a":1}"#, amqp_properties()).await;
        let message = receive(&mut http, "q");
        check_json(&message);
        assert_eq!(message["subject"], json!("q"));
        // What lives for a moment only is gone over the other protocol too.
        let short = BasicProperties::default().with_expiration("1".into());
        publish(&channel, "q", b"x", short).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        publish(&channel, "q", b"behind", BasicProperties::default()).await;
        assert_eq!(receive(&mut http, "q")["text"], json!("behind"));
    });
}

#[test]
fn messages_pass_between_amqp_and_grpc() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    run(async {
        let (_connection, channel) = connect_confirming(&server).await.unwrap();
        declare(&channel, "q", "quorum").await;
        let grpc = kill_grpc::connect(&server).await.unwrap();
        let to = Some(g::Target { to: Some(g::target::To::Queue("q".to_owned())) });
        let mut message = types::Message::new("orders.made", r#"{"a":1}"#);
        message.id = Some(types::MessageId::Text("m-1".into()));
        message.content_type = Some("application/json".into());
        message.correlation_id = Some("c-1".into());
        message.reply_to = Some("answers".into());
        message.priority = Some(3);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        message.expires_at = Some(Timestamp(now + HOUR_MS as i64));
        message.headers = vec![("region".into(), "eu".into()), ("count".into(), types::Value::int(7))];
        let request = g::PublishRequest { to, messages: vec![message.into()], ..Default::default() };
        PublisherClient::new(grpc.clone()).publish(request).await.unwrap();
        check_amqp(&take(&channel, "q").await);

        publish(&channel, "q", br#"{"a":1}"#, amqp_properties()).await;
        let request = g::ReceiveRequest { queue: "q".to_owned(), max: Some(1), auto_ack: true, ..Default::default() };
        let answer = ConsumerClient::new(grpc).receive(request).await.unwrap().into_inner();
        let message = answer.deliveries[0].message.clone().unwrap().into_message(Timestamp(0)).unwrap();
        assert_eq!(message.id, Some(types::MessageId::Text("m-1".into())));
        assert_eq!(message.content_type.as_deref(), Some("application/json"));
        assert_eq!(message.correlation_id.as_deref(), Some("c-1"));
        assert_eq!(message.reply_to.as_deref(), Some("answers"));
        assert_eq!(message.priority, Some(3));
        assert!(message.expires_at.unwrap().0 > now + 3_000_000);
        assert!(message.headers.contains(&("region".into(), "eu".into())));
        assert!(message.headers.contains(&("count".into(), types::Value::int(7))));
        assert_eq!(message.body.as_deref(), Some(&br#"{"a":1}"#[..]));
    });
}

#[test]
fn a_request_over_amqp_with_direct_reply_to_is_answered_over_http() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut http = Http::new(&server);
    run(async {
        let (_connection, channel) = connect_confirming(&server).await.unwrap();
        declare(&channel, "prices", "classic").await;
        let mut answers = replies(&channel).await;
        let asked = BasicProperties::default().with_reply_to(REPLY_TO.into()).with_correlation_id("c-9".into());
        publish(&channel, "prices", b"how much?", asked).await;
        let request = receive(&mut http, "prices");
        let (to, correlation) = (request["reply_to"].as_str().unwrap(), request["correlation_id"].as_str().unwrap());
        let path = format!("/v1/default/reply/{to}?correlation_id={correlation}");
        http.call("POST", &path, "text/plain", b"12.50").unwrap().ok();
        let answer = timeout(PATIENCE, answers.next()).await.expect("an answer").unwrap().unwrap();
        assert_eq!(answer.data, b"12.50");
        assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "c-9");
        assert_eq!(answer.properties.content_type().as_ref().unwrap().as_str(), "text/plain");
    });
}

#[test]
fn a_request_over_http_is_answered_over_amqp() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    run(async {
        let (_connection, channel) = connect_confirming(&server).await.unwrap();
        declare(&channel, "prices", "classic").await;
        let bound = json!({"topic": "asked", "target": {"queue": "prices"}});
        let mut http = Http::new(&server);
        http.put("/v1/default/topics/asked", &json!({}));
        http.post("/v1/default/bindings", &bound);
        let asker = std::thread::spawn(move || {
            let path = "/v1/default/request/asked.eu?timeout_ms=20000";
            http.call("POST", path, "text/plain", b"how much?").unwrap()
        });
        let tag = "answerer".into();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let mut requests = channel.basic_consume("prices".into(), tag, options, FieldTable::default()).await.unwrap();
        let request = timeout(PATIENCE, requests.next()).await.expect("a request").unwrap().unwrap();
        assert_eq!(request.data, b"how much?");
        let mut properties = BasicProperties::default().with_content_type("text/plain".into());
        if let Some(correlation) = request.properties.correlation_id() {
            properties = properties.with_correlation_id(correlation.clone());
        }
        let to = request.properties.reply_to().clone().expect("where to answer");
        publish(&channel, to.as_str(), b"12.50", properties).await;
        let answer = tokio::task::spawn_blocking(|| asker.join().unwrap()).await.unwrap();
        let answer = answer.ok();
        assert_eq!((&answer["text"], &answer["content_type"]), (&json!("12.50"), &json!("text/plain")), "{answer}");
    });
}

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

async fn replies(channel: &Channel) -> lapin::Consumer {
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    channel.basic_consume(REPLY_TO.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

/// One of each type that lapin writes.
fn every_type() -> Vec<(&'static str, AMQPValue)> {
    let mut table = FieldTable::default();
    table.insert("in".into(), AMQPValue::ShortShortInt(-1));
    let mut outer = FieldTable::default();
    outer.insert("table".into(), AMQPValue::FieldTable(table.clone()));
    let array = vec![AMQPValue::Boolean(true), AMQPValue::FieldTable(table), AMQPValue::Void];
    vec![
        ("boolean", AMQPValue::Boolean(false)),
        ("i8", AMQPValue::ShortShortInt(-8)),
        ("u8", AMQPValue::ShortShortUInt(200)),
        ("i16", AMQPValue::ShortInt(-300)),
        ("u16", AMQPValue::ShortUInt(65_000)),
        ("i32", AMQPValue::LongInt(-70_000)),
        ("u32", AMQPValue::LongUInt(4_000_000_000)),
        ("i64", AMQPValue::LongLongInt(i64::MIN)),
        ("f32", AMQPValue::Float(1.5)),
        ("f64", AMQPValue::Double(-2.25)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 12_345 })),
        ("text", AMQPValue::LongString("grün".into())),
        ("array", AMQPValue::FieldArray(FieldArray::from(array))),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
        ("table", AMQPValue::FieldTable(outer)),
        ("bytes", AMQPValue::ByteArray(vec![0xff, 0].into())),
        ("void", AMQPValue::Void),
    ]
}

#[test]
fn properties_of_every_type_survive_from_amqp_to_amqp_and_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut headers = FieldTable::default();
    for (name, value) in every_type() {
        headers.insert(name.into(), value);
    }
    let sent = amqp_properties()
        .with_headers(headers)
        .with_content_encoding("gzip".into())
        .with_timestamp(1_700_000_001)
        .with_type("order.made".into())
        .with_user_id("guest".into())
        .with_app_id("shop".into())
        .with_cluster_id("c".into());
    let server = start(data.path());
    run(async {
        let (connection, channel) = connect_confirming(&server).await.unwrap();
        declare(&channel, "q", "classic").await;
        for _ in 0..2 {
            publish(&channel, "q", b"x", sent.clone()).await;
        }
        publish(&channel, "q", b"bare", BasicProperties::default().with_delivery_mode(2)).await;
        assert_eq!(take(&channel, "q").await.properties, sent);
        // Answered behind the acknowledgement, which is on the disk then.
        connection.close(200, "".into()).await.unwrap();
    });
    server.signal("KILL");
    server.wait();
    let server = start(data.path());
    run(async {
        let (_connection, channel) = connect(&server).await.unwrap();
        assert_eq!(take(&channel, "q").await.properties, sent);
        // What had none gets none.
        assert_eq!(take(&channel, "q").await.properties, BasicProperties::default().with_delivery_mode(2));
    });
}

#[test]
fn a_topic_of_the_broker_is_an_exchange_and_an_exchange_is_a_topic() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut http = Http::new(&server);
    run(async {
        let (_connection, channel) = connect_confirming(&server).await.unwrap();
        declare(&channel, "q", "classic").await;
        let bind = channel.queue_bind(
            "q".into(),
            "amq.topic".into(),
            "orders.*".into(),
            lapin::options::QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.unwrap();
        http.call("POST", "/v1/default/topics/amq.topic/messages?subject=orders.made", "text/plain", b"over http")
            .unwrap()
            .ok();
        let delivery = take(&channel, "q").await;
        assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("amq.topic", "orders.made"));
        assert_eq!(delivery.data, b"over http");
        let sent = channel.basic_publish(
            "amq.topic".into(),
            "orders.sent".into(),
            BasicPublishOptions::default(),
            b"over amqp",
            BasicProperties::default(),
        );
        assert!(sent.await.unwrap().await.unwrap().is_ack());
        let message = receive(&mut http, "q");
        assert_eq!((&message["text"], &message["subject"]), (&json!("over amqp"), &json!("orders.sent")), "{message}");
    });
}
