//! Queues, exchanges, bindings and messages.

use serde_json::{Value as Json, json};

use super::{Api, names};

#[tokio::test]
async fn queues_are_made_shown_and_deleted() {
    let api = Api::new();
    let queue = json!({"durable": true, "arguments": {"x-message-ttl": 60000, "x-queue-type": "quorum"}});
    api.put("/queues/%2F/jobs", queue.clone()).await.of(201);
    api.put("/queues/%2F/jobs", queue).await.of(204);
    let reason = api.put("/queues/%2F/jobs", json!({"durable": true})).await.refused(400, "bad_request");
    assert!(reason.starts_with("inequivalent arg 'x-queue-type' for queue 'jobs' in vhost '/'"), "{reason}");
    let shown = api.get("/queues/%2F/jobs").await.of(200);
    let arguments = json!({"x-message-ttl": 60000, "x-queue-type": "quorum"});
    assert_eq!(
        (&shown["arguments"], &shown["type"], &shown["state"]),
        (&arguments, &json!("quorum"), &json!("running"))
    );
    assert_eq!(
        (&shown["vhost"], &shown["durable"], &shown["consumer_details"]),
        (&json!("/"), &json!(true), &json!([]))
    );
    api.get("/queues/%2F/none").await.refused(404, "Object Not Found");
    api.delete("/queues/%2F/jobs?if-empty=true").await.of(204);
    api.delete("/queues/%2F/jobs").await.refused(404, "Object Not Found");
}

/// What KEDA's scaler asks, with a name and with a regular expression.
#[tokio::test]
async fn an_autoscaler_reads_depth_and_rate() {
    let api = Api::new();
    for name in ["jobs-1", "jobs-2", "other"] {
        api.put(&format!("/queues/%2F/{name}"), json!({"durable": true})).await.of(201);
    }
    publish(&api, "amq.default", "jobs-1", "x").await;
    let queue = api.get("/queues/%2F/jobs-1").await.of(200);
    assert_eq!((&queue["messages"], &queue["messages_unacknowledged"]), (&json!(1), &json!(0)));
    assert!(queue["message_stats"]["publish_details"]["rate"].is_number(), "{queue}");
    let path = "/queues/%2F?page=1&name=jobs&pagination=false&page_size=100";
    let page = api.get(path).await.of(200);
    assert_eq!(names(&page["items"], "name"), ["jobs-1", "jobs-2"]);
    assert_eq!((&page["page_count"], &page["total_count"]), (&json!(1), &json!(3)));
}

#[tokio::test]
async fn exchanges_are_made_shown_and_deleted() {
    let api = Api::new();
    let all = api.get("/exchanges/%2F").await.of(200);
    let predeclared = ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic"];
    assert_eq!(names(&all, "name"), predeclared);
    api.put("/exchanges/%2F/orders", json!({"type": "topic", "durable": "true"})).await.of(201);
    let shown = api.get("/exchanges/%2F/orders").await.of(200);
    assert_eq!((&shown["type"], &shown["durable"], &shown["internal"]), (&json!("topic"), &json!(true), &json!(false)));
    api.put("/exchanges/%2F/amq.mine", json!({"type": "topic"})).await.refused(401, "not_authorized");
    api.delete("/exchanges/%2F/orders").await.of(204);
    api.delete("/exchanges/%2F/orders").await.refused(404, "Object Not Found");
}

#[tokio::test]
async fn a_binding_is_made_found_by_its_key_and_removed() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({"durable": true})).await.of(201);
    let body = json!({"routing_key": "", "arguments": {"x-match": "all", "kind": "a"}});
    let answer = api.post("/bindings/%2F/e/amq.headers/q/q", body).await;
    let location = answer.location.clone().unwrap();
    answer.of(201);
    let path = format!("/bindings/%2F/e/amq.headers/q/{location}");
    let shown = api.get(&path).await.of(200);
    assert_eq!((&shown["source"], &shown["destination"]), (&json!("amq.headers"), &json!("q")));
    api.post("/bindings/%2F/e/amq.topic/q/q", json!({"routing_key": "a.#"})).await.of(201);
    let all = api.get("/queues/%2F/q/bindings").await.of(200);
    assert_eq!(names(&all, "source"), ["", "amq.headers", "amq.topic"]);
    assert_eq!(all[2]["properties_key"], "a.%23");
    api.delete(&path).await.of(204);
    api.delete("/bindings/%2F/e/amq.topic/q/q/a.%2523").await.of(204);
    assert_eq!(names(&api.get("/bindings").await.of(200), "source"), [""]);
    api.post("/bindings/%2F/e/amq.topic/q/none", json!({"routing_key": ""})).await.refused(404, "not_found");
}

async fn publish(api: &Api, exchange: &str, key: &str, payload: &str) -> bool {
    let body = json!({
        "routing_key": key, "payload": payload, "payload_encoding": "string",
        "properties": {"delivery_mode": 2, "content_type": "text/plain", "headers": {"n": 1}},
    });
    let answer = api.post(&format!("/exchanges/%2F/{exchange}/publish"), body).await.of(200);
    answer["routed"].as_bool().unwrap()
}

async fn get(api: &Api, ackmode: &str) -> Vec<Json> {
    let body = json!({"count": 10, "ackmode": ackmode, "encoding": "auto", "truncate": 3});
    api.post("/queues/%2F/q/get", body).await.of(200).as_array().cloned().unwrap()
}

#[tokio::test]
async fn messages_are_published_looked_at_and_taken() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({"durable": true})).await.of(201);
    assert!(publish(&api, "amq.default", "q", "hello").await);
    assert!(publish(&api, "amq.default", "q", "world").await);
    assert!(!publish(&api, "amq.default", "none", "x").await);
    assert!(!publish(&api, "amq.direct", "q", "x").await);
    for ackmode in ["ack_requeue_true", "reject_requeue_true"] {
        let found = get(&api, ackmode).await;
        assert_eq!(found.len(), 2, "{ackmode}");
        assert_eq!((&found[0]["payload"], &found[0]["payload_bytes"]), (&json!("hel"), &json!(5)));
        let properties = json!({"delivery_mode": 2, "content_type": "text/plain", "headers": {"n": 1}});
        assert_eq!((&found[0]["properties"], &found[0]["message_count"]), (&properties, &json!(1)));
    }
    let taken = get(&api, "ack_requeue_false").await;
    assert_eq!((taken.len(), &taken[0]["redelivered"], &taken[1]["payload"]), (2, &json!(true), &json!("wor")));
    assert_eq!(get(&api, "ack_requeue_false").await.len(), 0);
    let body = json!({"count": 1, "ackmode": "keep", "encoding": "auto"});
    api.post("/queues/%2F/q/get", body).await.refused(400, "bad_request");
    let bytes = json!({"routing_key": "q", "payload": "/w==", "payload_encoding": "base64", "properties": {}});
    api.post("/exchanges/%2F/amq.default/publish", bytes).await.of(200);
    let found = get(&api, "reject_requeue_false").await;
    assert_eq!((&found[0]["payload"], &found[0]["payload_encoding"]), (&json!("/w=="), &json!("base64")));
    let stolen =
        json!({"routing_key": "q", "payload": "", "payload_encoding": "string", "properties": {"user_id": "eve"}});
    api.post("/exchanges/%2F/amq.default/publish", stolen).await.refused(400, "bad_request");
}

#[tokio::test]
async fn purging_leaves_the_queue() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({"durable": true})).await.of(201);
    publish(&api, "amq.default", "q", "x").await;
    api.delete("/queues/%2F/q?if-empty=true").await.refused(400, "bad_request");
    api.delete("/queues/%2F/q/contents").await.of(204);
    assert_eq!(api.get("/queues/%2F/q").await.of(200)["messages"], 0);
}

#[tokio::test]
async fn a_stream_is_listed_with_the_queues() {
    let api = Api::new();
    api.put("/queues/%2F/log", json!({"durable": true, "arguments": {"x-queue-type": "stream"}})).await.of(201);
    api.post("/bindings/%2F/e/amq.fanout/q/log", json!({})).await.of(201);
    assert!(publish(&api, "amq.fanout", "", "x").await);
    let queue = &api.get("/queues").await.of(200)[0];
    assert_eq!((&queue["name"], &queue["type"], &queue["messages"]), (&json!("log"), &json!("stream"), &json!(1)));
    let bindings = api.get("/queues/%2F/log/bindings").await.of(200);
    assert_eq!(names(&bindings, "source"), ["", "amq.fanout"]);
    assert!(!names(&api.get("/exchanges").await.of(200), "name").contains(&"stream.log"));
}
