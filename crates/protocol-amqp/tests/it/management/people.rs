//! Vhosts, users and permissions.

use serde_json::json;

use super::{Api, names};

#[tokio::test]
async fn vhosts_keep_entities_apart() {
    let api = Api::new();
    api.put("/vhosts/shop", json!({"description": "a shop"})).await.of(201);
    api.put("/vhosts/shop", json!({})).await.of(204);
    assert_eq!(names(&api.get("/vhosts").await.of(200), "name"), ["/", "shop"]);
    assert_eq!(api.get("/vhosts/shop").await.of(200)["description"], "a shop");
    api.put("/queues/shop/q", json!({"durable": true})).await.of(201);
    assert_eq!(api.get("/queues/%2F").await.of(200), json!([]));
    assert_eq!(names(&api.get("/queues").await.of(200), "vhost"), ["shop"]);
    api.delete("/vhosts/shop").await.of(204);
    api.get("/vhosts/shop").await.refused(404, "Object Not Found");
}

#[tokio::test]
async fn tags_say_what_of_the_api_is_open() {
    let api = Api::new();
    let password = "s3cret s3cret";
    api.put("/users/root", json!({"password": password, "tags": "administrator"})).await.of(201);
    let root = api.as_user("root", password);
    for (name, tags) in [("mon", "monitoring"), ("pol", "policymaker"), ("man", "management"), ("none", "")] {
        root.put(&format!("/users/{name}"), json!({"password": password, "tags": tags})).await.of(201);
    }
    root.put("/queues/%2F/q", json!({"durable": true})).await.of(201);
    let permissions = json!({"configure": "^mine", "write": "", "read": "^mine"});
    root.put("/permissions/%2F/pol", permissions.clone()).await.of(201);
    root.put("/permissions/%2F/pol", permissions).await.of(204);
    let policy = json!({"pattern": "^mine", "definition": {"max-length": 5}, "apply-to": "queues"});
    let mon = root.as_user("mon", password);
    assert_eq!(names(&mon.get("/queues").await.of(200), "name"), ["q"]);
    mon.get("/nodes").await.of(200);
    mon.put("/queues/%2F/x", json!({"durable": true})).await.refused(401, "not_authorized");
    mon.put("/policies/%2F/p", policy.clone()).await.refused(401, "not_authorized");
    let pol = root.as_user("pol", password);
    pol.get("/nodes").await.refused(401, "not_authorized");
    pol.put("/policies/%2F/p", policy.clone()).await.of(201);
    pol.put("/operator-policies/%2F/p", policy).await.refused(401, "not_authorized");
    pol.put("/queues/%2F/mine", json!({"durable": true})).await.of(201);
    let queue = pol.get("/queues/%2F/mine").await.of(200);
    assert_eq!(queue["policy"], "p");
    let man = root.as_user("man", password);
    assert_eq!(man.get("/vhosts").await.of(200), json!([]));
    man.get("/queues/%2F").await.refused(401, "not_authorized");
    root.as_user("none", password).get("/whoami").await.refused(401, "not_authorized");
    assert_eq!(root.get("/permissions/%2F/pol").await.of(200)["write"], "^$");
    root.delete("/permissions/%2F/pol").await.of(204);
    pol.get("/queues/%2F").await.refused(401, "not_authorized");
    root.delete("/users/pol").await.of(204);
    root.get("/users/pol").await.refused(404, "Object Not Found");
}

#[tokio::test]
async fn a_policy_says_what_it_was_given_and_refuses_what_is_not_known() {
    let api = Api::new();
    let policy = json!({"pattern": "^a", "definition": {"max-length": 5, "overflow": "reject-publish"}, "priority": 2});
    api.put("/policies/%2F/p", policy).await.of(201);
    let shown = api.get("/policies/%2F/p").await.of(200);
    let definition = json!({"max-length": 5, "overflow": "reject-publish"});
    assert_eq!(
        (&shown["pattern"], &shown["definition"], &shown["apply-to"]),
        (&json!("^a"), &definition, &json!("all"))
    );
    let bad = json!({"pattern": "^a", "definition": {"max-lenght": 5}});
    api.put("/policies/%2F/p", bad).await.refused(400, "bad_request");
    api.delete("/policies/%2F/p").await.of(204);
    api.delete("/policies/%2F/p").await.refused(404, "Object Not Found");
}

#[tokio::test]
async fn a_policy_for_streams_reaches_them_by_their_own_names() {
    let api = Api::new();
    for name in ["events", "other-events"] {
        let stream = json!({"durable": true, "arguments": {"x-queue-type": "stream"}});
        api.put(&format!("/queues/%2F/{name}"), stream).await.of(201);
    }
    let policy = json!({"pattern": "^events", "apply-to": "streams", "definition": {"max-age": "7D"}});
    api.put("/policies/%2F/week", policy).await.of(201);
    assert_eq!(api.get("/policies/%2F/week").await.of(200)["pattern"], "^events");
    assert_eq!(api.get("/queues/%2F/events").await.of(200)["policy"], "week");
    assert_eq!(api.get("/queues/%2F/other-events").await.of(200)["policy"], json!(null));
}

#[tokio::test]
async fn lengths_are_the_lowest_of_what_arguments_and_policies_say() {
    let api = Api::new();
    let queue = json!({"durable": true, "arguments": {"x-max-length": 3}});
    api.put("/queues/%2F/q", queue).await.of(201);
    let policy = |most: u64| json!({"pattern": "^q$", "definition": {"max-length": most}, "apply-to": "queues"});
    api.put("/policies/%2F/most", policy(5)).await.of(201);
    let message = json!({"routing_key": "q", "payload": "x", "payload_encoding": "string", "properties": {}});
    for _ in 0..6 {
        api.post("/exchanges/%2F/amq.default/publish", message.clone()).await.of(200);
    }
    assert_eq!(api.get("/queues/%2F/q").await.of(200)["messages"], 3);
    api.put("/operator-policies/%2F/cap", policy(2)).await.of(201);
    api.post("/exchanges/%2F/amq.default/publish", message).await.of(200);
    assert_eq!(api.get("/queues/%2F/q").await.of(200)["messages"], 2);
}
