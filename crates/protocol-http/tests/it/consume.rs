//! Publish, receive, settle.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use crate::harness::App;

async fn with_queue() -> App {
    let app = App::new();
    app.put("/v1/default/topics/orders", json!({})).await.ok();
    app.put("/v1/default/queues/q", json!({"retry": {"max_attempts": 2, "initial_ms": 1, "jitter": false}})).await.ok();
    let binding = json!({"topic": "orders", "target": {"queue": "q"}, "filter": {"subject": "orders.#"}});
    app.post("/v1/default/bindings", binding).await.ok();
    app
}

#[tokio::test]
async fn a_raw_body_arrives_with_its_fields_headers_and_trace() {
    let app = with_queue().await;
    let request = Request::post(
        "/v1/default/topics/orders/messages?subject=orders.created&key=k%20%C3%BC&correlation_id=c&priority=3",
    )
    .header("content-type", "text/plain; charset=utf-8")
    .header("posthouse-header-region", "eu")
    .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    .header("tracestate", "a=b")
    .body(Body::from("hello"))
    .unwrap();
    let published = app.send(request).await.ok().json();
    assert_eq!(published["published"][0]["queues"], 1);
    let message = app.receive("q").await.message;
    assert_eq!(message.id.as_deref(), published["published"][0]["id"].as_str());
    assert_eq!(message.subject.as_deref(), Some("orders.created"));
    assert_eq!(message.key.as_deref(), Some("k ü"));
    assert_eq!(message.text.as_deref(), Some("hello"));
    assert_eq!(message.content_type.as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!((message.correlation_id.as_deref(), message.priority), (Some("c"), Some(3)));
    let headers = serde_json::to_value(&message.headers).unwrap();
    assert_eq!(headers["region"], "eu");
    assert_eq!(headers["traceparent"], "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(headers["tracestate"], "a=b");
}

#[tokio::test]
async fn envelopes_batches_and_lines_are_read() {
    let app = with_queue().await;
    let path = "/v1/default/queues/q/messages";
    app.call("POST", path, api::MESSAGE_TYPE, r#"{"body":{"n": 1},"headers":{"h":{"type":"int8","value":1}}}"#)
        .await
        .ok();
    app.call("POST", path, api::BATCH_TYPE, r#"{"messages":[{"text":"2"},{"base64":"/w=="}]}"#).await.ok();
    app.call("POST", path, api::NDJSON_TYPE, "{\"text\":\"4\"}\n\n{\"tombstone\":true}\n").await.ok();
    let answer = app.post("/v1/default/queues/q/receive", json!({"max": 10, "wait_ms": 1000})).await.ok().text();
    assert!(answer.contains(r#""headers":{"h":{"type":"int8","value":1}}"#), "{answer}");
    assert!(answer.contains(r#""body":{"n": 1}"#), "{answer}");
    for part in [r#""text":"2""#, r#""base64":"/w==""#, r#""text":"4""#, r#""tombstone":true"#] {
        assert!(answer.contains(part), "{part} in {answer}");
    }
    let bad = app.call("POST", path, api::NDJSON_TYPE, "{\"text\":\"4\"}\n{\"txt\":1}").await;
    assert!(bad.text().contains("line 2"), "{}", bad.text());
    assert_eq!(bad.problem(), (400, "unknown-field".into(), Some("txt".into())));
}

#[tokio::test]
async fn deliveries_are_settled_one_by_one_and_together() {
    let app = with_queue().await;
    for n in 0..6 {
        app.call("POST", "/v1/default/queues/q/messages", "", n.to_string()).await.ok();
    }
    let receipts: Vec<String> = {
        let answer = app.post("/v1/default/queues/q/receive", json!({"max": 6})).await.ok().json();
        let deliveries = answer["deliveries"].as_array().unwrap().clone();
        deliveries.iter().map(|delivery| delivery["receipt"].as_str().unwrap().to_owned()).collect()
    };
    let at = |action: &str| format!("/v1/default/queues/q/{action}");
    app.post(&at("ack"), json!({"receipt": receipts[0]})).await.ok();
    assert_eq!(app.post(&at("ack"), json!({"receipt": receipts[0]})).await.problem().0, 410);
    app.post(&at("extend"), json!({"receipt": receipts[1], "by_ms": 60000})).await.ok();
    app.post(&at("reject"), json!({"receipt": receipts[1], "error": "broken"})).await.ok();
    app.post(&at("release"), json!({"receipt": receipts[2]})).await.ok();
    app.post(&at("nack"), json!({"receipt": receipts[3], "after_ms": 0, "error": "later"})).await.ok();
    let settlements = json!({"settlements": [
        {"receipt": receipts[4], "action": "ack"},
        {"receipt": "nonsense", "action": "ack"},
        {"receipt": receipts[5], "action": "extend", "by_ms": 1000},
        {"receipt": receipts[5], "action": "ack", "error": "stray"},
        {"receipt": receipts[5], "action": "ack"},
    ]});
    let results = app.post(&at("settle"), settlements).await.ok().json();
    let ok: Vec<_> =
        results["results"].as_array().unwrap().iter().map(|result| result["ok"].as_bool().unwrap()).collect();
    assert_eq!(ok, [true, false, true, false, true]);
    assert_eq!(results["results"][1]["problem"]["type"], "urn:posthouse:problem:bad-receipt");
    let queue = app.get("/v1/default/queues/q").await.ok().json();
    assert_eq!((&queue["depth"]["in_flight"], &queue["counters"]["acked"]), (&json!(0), &json!(3)));
    // Nacked, released: both come again, the released one without an attempt counted.
    let again: Vec<_> = [app.receive("q").await, app.receive("q").await].map(|d| (d.message.text, d.attempt)).into();
    assert!(again.contains(&(Some("2".into()), 1)) && again.contains(&(Some("3".into()), 2)), "{again:?}");
}

#[tokio::test]
async fn a_dead_letter_is_browsed_and_redriven() {
    let app = with_queue().await;
    app.call("POST", "/v1/default/queues/q/messages", "", "x").await.ok();
    let delivery = app.receive("q").await;
    app.post("/v1/default/queues/q/reject", json!({"receipt": delivery.receipt, "error": "no such card"})).await.ok();
    let dead = app.get("/v1/default/queues/q").await.ok().json()["effective"]["dead_letter"]["queue"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut browsed = json!({});
    for _ in 0..200 {
        browsed = app.get(&format!("/v1/default/queues/{dead}/messages")).await.ok().json();
        if browsed["messages"][0]["message"]["text"] == "x" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(browsed.to_string().contains("no such card"), "{browsed}");
    app.post(&format!("/v1/default/queues/{dead}/redrive"), json!({})).await.ok();
    assert_eq!(app.receive("q").await.message.text.as_deref(), Some("x"));
    app.get(&format!("/v1/default/queues/{dead}/redrive")).await.ok();
}

#[tokio::test]
async fn an_ack_and_what_it_led_to_happen_together() {
    let app = with_queue().await;
    app.put("/v1/default/queues/next", json!({})).await.ok();
    app.call("POST", "/v1/default/queues/q/messages", "", "x").await.ok();
    let receipt = app.receive("q").await.receipt;
    let both = json!({"receipt": receipt, "publishes": [{"to": {"queue": "next"}, "messages": [{"text": "y"}]}]});
    app.post("/v1/default/queues/q/ack-and-publish", both.clone()).await.ok();
    assert_eq!(app.receive("next").await.message.text.as_deref(), Some("y"));
    assert_eq!(app.post("/v1/default/queues/q/ack-and-publish", both).await.problem().0, 410);
}

#[tokio::test]
async fn a_drain_ends_a_long_poll_at_once() {
    let app = with_queue().await;
    let long = app.post("/v1/default/queues/q/receive", json!({"wait_ms": 60_000}));
    let begin = async {
        tokio::task::yield_now().await;
        app.drain.begin();
    };
    let (answer, ()) = tokio::join!(long, begin);
    assert_eq!(answer.ok().json(), json!({"deliveries": []}));
    assert_eq!(app.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn waiting_requests_are_bounded() {
    let app = App::with(|options| options.max_waits = 0);
    app.put("/v1/default/queues/q", json!({})).await.ok();
    let answer = app.post("/v1/default/queues/q/receive", json!({"wait_ms": 1})).await;
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.problem().1, "too-many-waiting");
    app.post("/v1/default/queues/q/receive", json!({})).await.ok();
}

#[tokio::test]
async fn purge_counts_what_it_removes() {
    let app = with_queue().await;
    app.call("POST", "/v1/default/queues/q/messages", api::NDJSON_TYPE, "{\"text\":\"1\"}\n{\"text\":\"2\"}")
        .await
        .ok();
    assert_eq!(app.call("DELETE", "/v1/default/queues/q/messages", "", "").await.ok().json(), json!({"messages": 2}));
}
