//! Export and import.

use serde_json::{Value as Json, json};

use super::{Api, names};

/// What a team brings along: a file as RabbitMQ writes it. The hash is that of `hello` with the salt `a0 0a 0a 0a`, by SHA-256.
fn file() -> Json {
    json!({
        "rabbit_version": "3.13.7",
        "users": [
            {"name": "guest", "password_hash": hash(), "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["administrator"], "limits": {}},
            {"name": "shop", "password_hash": hash(), "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["management"], "limits": {"max-channels": 10}},
        ],
        "vhosts": [{"name": "/"}, {"name": "shop", "metadata": {"description": "a shop", "tags": ["x"]}, "default_queue_type": "quorum"}],
        "permissions": [{"user": "shop", "vhost": "shop", "configure": "^mine", "write": ".*", "read": "^mine"}],
        "topic_permissions": [{"user": "shop", "vhost": "shop", "exchange": "amq.topic", "write": "^{username}\\.", "read": ".*"}],
        "parameters": [
            {"component": "operator_policy", "vhost": "shop", "name": "cap", "value": {"pattern": ".*", "apply-to": "queues", "priority": 0, "definition": {"max-length": 100}}},
            {"component": "vhost-limits", "vhost": "shop", "name": "limits", "value": {"max-queues": 50}},
            {"component": "shovel", "vhost": "shop", "name": "s", "value": {"src-uri": "amqp://"}},
        ],
        "global_parameters": [{"name": "internal_cluster_id", "value": "rabbitmq-cluster-id-1"}],
        "policies": [{"vhost": "shop", "name": "ttl", "pattern": "^jobs", "apply-to": "queues", "priority": 1, "definition": {"message-ttl": 60000, "ha-mode": "all"}}],
        "queues": [
            {"name": "jobs", "vhost": "shop", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 5}},
            {"name": "log", "vhost": "shop", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "stream"}},
        ],
        "exchanges": [{"name": "orders", "vhost": "shop", "type": "topic", "durable": true, "auto_delete": false, "internal": false, "arguments": {}}],
        "bindings": [
            {"source": "orders", "vhost": "shop", "destination": "jobs", "destination_type": "queue", "routing_key": "a.#", "arguments": {}},
            {"source": "amq.topic", "vhost": "shop", "destination": "orders", "destination_type": "exchange", "routing_key": "#", "arguments": {}},
        ],
    })
}

fn hash() -> String {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let mut bytes = vec![0xa0, 0x0a, 0x0a, 0x0a];
    let digest = Sha256::digest([&bytes[..], b"hello"].concat());
    bytes.extend(digest);
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn moved() -> (Api, Json) {
    let api = Api::new();
    let report = api.post("/definitions", file()).await.of(200);
    (api.as_user("guest", "hello"), report)
}

#[tokio::test]
async fn a_rabbitmqs_definitions_are_taken_over_and_what_has_no_meaning_is_told() {
    let (api, report) = moved().await;
    let left: Vec<(&str, &str)> = report["not_imported"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["kind"].as_str().unwrap(), one["name"].as_str().unwrap()))
        .collect();
    assert_eq!(left, [("vhosts", "shop"), ("parameters", "s")], "{report}");
    assert_eq!((&report["imported"]["queues"], &report["imported"]["users"]), (&json!(2), &json!(2)));
    assert_eq!(names(&api.get("/queues/shop").await.of(200), "name"), ["jobs", "log"]);
    let jobs = api.get("/queues/shop/jobs").await.of(200);
    assert_eq!((&jobs["policy"], &jobs["operator_policy"]), (&json!("ttl"), &json!("cap")));
    assert_eq!(names(&api.get("/exchanges/shop/orders/bindings/source").await.of(200), "routing_key"), ["a.#"]);
    assert_eq!(api.get("/vhost-limits/shop").await.of(200)[0]["value"], json!({"max-queues": 50}));
    // Passwords are what they were.
    let shop = api.as_user("shop", "hello");
    assert_eq!(names(&shop.get("/vhosts").await.of(200), "name"), ["shop"]);
    shop.put("/queues/shop/mine", json!({"durable": true})).await.of(201);
    shop.put("/queues/shop/theirs", json!({"durable": true})).await.refused(401, "not_authorized");
    shop.get("/users").await.refused(401, "not_authorized");
    api.as_user("shop", "other").get("/whoami").await.refused(401, "not_authorized");
}

#[tokio::test]
async fn an_export_is_taken_in_again_as_it_is() {
    let (api, _) = moved().await;
    let export = api.get("/definitions").await.of(200);
    for (kind, count) in
        [("users", 2), ("permissions", 3), ("queues", 2), ("bindings", 2), ("policies", 1), ("parameters", 2)]
    {
        assert_eq!(export[kind].as_array().unwrap().len(), count, "{kind}: {}", export[kind]);
    }
    let other = Api::new();
    other.post("/definitions", export.clone()).await.of(204);
    let again = other.as_user("guest", "hello").get("/definitions").await.of(200);
    for (kind, items) in export.as_object().unwrap() {
        assert_eq!(&again[kind], items, "{kind}");
    }
}

#[tokio::test]
async fn one_vhosts_definitions_go_into_another() {
    let (api, _) = moved().await;
    let export = api.get("/definitions/shop").await.of(200);
    assert_eq!(export["queues"][0]["vhost"], Json::Null);
    api.put("/vhosts/copy", json!({})).await.of(201);
    api.post("/definitions/copy", export).await.of(204);
    assert_eq!(names(&api.get("/queues/copy").await.of(200), "name"), ["jobs", "log"]);
    api.post("/definitions/none", json!({})).await.refused(404, "Object Not Found");
}

#[tokio::test]
async fn what_cannot_be_taken_in_does_not_keep_the_rest_out() {
    let api = Api::new();
    let body = json!({"queues": [
        {"name": "bad", "vhost": "/", "durable": true, "arguments": {"x-max-length": -1}},
        {"name": "good", "vhost": "/", "durable": true, "arguments": {}},
    ]});
    let answer = api.post("/definitions", body).await.of(400);
    assert!(answer["reason"].as_str().unwrap().contains("queues bad: invalid arg 'x-max-length'"), "{answer}");
    assert_eq!(names(&api.get("/queues").await.of(200), "name"), ["good"]);
}
