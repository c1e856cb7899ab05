//! Who may ask, and what the broker says of itself.

use serde_json::json;

use super::{Api, names};

#[tokio::test]
async fn guest_is_let_in_from_this_machine_only_and_only_while_there_are_no_users() {
    let api = Api::new();
    assert_eq!(api.get("/whoami").await.of(200)["tags"], json!(["administrator"]));
    api.from([192, 0, 2, 1]).get("/whoami").await.refused(401, "not_authorized");
    api.nobody().get("/overview").await.refused(401, "not_authorized");
    api.as_user("guest", "other").get("/whoami").await.refused(401, "not_authorized");
    api.put("/users/ada", json!({"password": "s3cret s3cret", "tags": "administrator"})).await.of(201);
    api.get("/whoami").await.refused(401, "not_authorized");
    let ada = api.as_user("ada", "s3cret s3cret");
    assert_eq!(ada.get("/whoami").await.of(200)["name"], "ada");
}

#[tokio::test]
async fn the_overview_counts_what_there_is() {
    let api = Api::new();
    api.put("/queues/%2F/q", json!({"durable": true})).await.of(201);
    let publish = json!({"routing_key": "q", "payload": "hello", "payload_encoding": "string", "properties": {}});
    api.post("/exchanges/%2F/amq.default/publish", publish).await.of(200);
    let overview = api.get("/overview").await.of(200);
    assert_eq!(overview["queue_totals"]["messages"], 1);
    assert_eq!(overview["message_stats"]["publish"], 1);
    let objects = json!({"queues": 1, "exchanges": 7, "connections": 0, "channels": 0, "consumers": 0});
    assert_eq!(overview["object_totals"], objects);
    assert_eq!(names(&overview["listeners"], "protocol"), ["amqp", "http"]);
    let nodes = api.get("/nodes").await.of(200);
    assert_eq!(nodes[0]["running"], true);
    let node = nodes[0]["name"].as_str().unwrap().to_owned();
    api.get(&format!("/nodes/{node}")).await.of(200);
    api.get("/nodes/other").await.refused(404, "Object Not Found");
}

#[tokio::test]
async fn health_checks_tell_what_listens_and_that_nothing_is_wrong() {
    let api = Api::new();
    let well = [
        "/aliveness-test/%2F",
        "/health/checks/alarms",
        "/health/checks/local-alarms",
        "/health/checks/virtual-hosts",
        "/health/checks/port-listener/5672",
        "/health/checks/protocol-listener/amqp091",
        "/health/checks/protocol-listener/amqp,http",
        "/health/checks/node-is-quorum-critical",
    ];
    for path in well {
        assert_eq!(api.get(path).await.of(200)["status"], "ok", "{path}");
    }
    let missing = api.get("/health/checks/port-listener/1").await.of(503);
    assert_eq!((&missing["status"], &missing["missing"]), (&json!("failed"), &json!(1)));
    assert_eq!(api.get("/health/checks/protocol-listener/mqtt").await.of(503)["missing"], json!(["mqtt"]));
    api.get("/aliveness-test/none").await.refused(404, "Object Not Found");
}

#[tokio::test]
async fn what_is_not_there_or_makes_no_sense_is_refused() {
    let api = Api::new();
    api.get("/nothing").await.refused(404, "Object Not Found");
    api.delete("/overview").await.refused(405, "method_not_allowed");
    assert_eq!(api.call("PUT", "/queues/%2F/q", "[").await.refused(400, "bad_request"), "not_json");
    api.put("/queues/%2F/q", json!({"durable": "perhaps"})).await.refused(400, "bad_request");
    api.put("/queues/none/q", json!({})).await.refused(404, "Object Not Found");
    api.put("/vhosts/v", json!({"tracing": true})).await.refused(400, "not_supported");
    api.put("/vhosts/default", json!({})).await.refused(400, "bad_request");
    api.get("/queues?page=0").await.refused(400, "invalid_pagination_parameters");
    api.get("/queues?page=9").await.refused(400, "page_out_of_range");
}
