//! Declaring, listing, showing, deleting; users; what operators' tools ask.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::harness::App;

#[tokio::test]
async fn entities_are_declared_listed_shown_and_deleted() {
    let app = App::new();
    for (path, config, changed) in [
        ("/admin/v1/namespaces/team", json!({}), json!({"description": "x"})),
        (
            "/v1/default/topics/t",
            json!({"retention": {}, "partitions": 2}),
            json!({"retention": {}, "partitions": 2, "description": "x"}),
        ),
        ("/v1/default/queues/q", json!({"lease_ms": 1000}), json!({"lease_ms": 2000})),
        ("/v1/default/groups/g", json!({"topic": "t"}), json!({"topic": "t", "session_ms": 20000})),
        (
            "/v1/default/policies/p",
            json!({"pattern": "*", "applies_to": "all"}),
            json!({"pattern": "x*", "applies_to": "all"}),
        ),
    ] {
        let made = app.put(path, config.clone()).await.ok();
        assert_eq!((made.status.as_u16(), &made.json()["outcome"]), (201, &json!("created")), "{path}");
        let same = app.put(path, config.clone()).await.ok();
        assert_eq!((same.status.as_u16(), &same.json()["outcome"]), (200, &json!("unchanged")), "{path}");
        assert_eq!(app.put(path, changed).await.ok().json()["outcome"], "updated", "{path}");
        let shown = app.get(path).await.ok().json();
        let (list, name) = path.rsplit_once('/').unwrap();
        assert_eq!(shown["name"], name);
        let listed = app.get(&format!("{list}?prefix={name}")).await.ok().json();
        assert_eq!(listed["items"][0]["name"], name);
    }
    let refused = app.put("/v1/default/queues/q?update=false", json!({"lease_ms": 3000})).await;
    assert_eq!(refused.problem().1, "definition-conflict");
    for path in [
        "/v1/default/policies/p",
        "/v1/default/groups/g",
        "/v1/default/queues/q",
        "/v1/default/topics/t",
        "/admin/v1/namespaces/team",
    ] {
        app.call("DELETE", path, "", "").await.ok();
        assert_eq!(app.get(path).await.problem().1, "not-found", "{path}");
    }
}

#[tokio::test]
async fn bindings_are_found_by_what_they_join() {
    let app = App::new();
    app.put("/v1/default/topics/t", json!({})).await.ok();
    app.put("/v1/default/queues/q", json!({})).await.ok();
    let binding = json!({"topic": "t", "target": {"queue": "q"}, "filter": {"headers": {"match": "all", "wanted": [{"name": "region", "value": "eu"}]}}});
    let made = app.post("/v1/default/bindings", binding.clone()).await.ok();
    assert_eq!(made.status, 201);
    let id = made.json()["item"]["id"].clone();
    assert_eq!(app.post("/v1/default/bindings", binding.clone()).await.ok().json()["item"]["id"], id);
    for query in ["", "?topic=t", "?to_queue=q"] {
        let listed = app.get(&format!("/v1/default/bindings{query}")).await.ok().json();
        assert_eq!(listed["items"][0], json!({"id": id, "config": binding}), "{query}");
    }
    app.get(&format!("/v1/default/bindings/{id}")).await.ok();
    app.call("DELETE", &format!("/v1/default/bindings/{id}"), "", "").await.ok();
    assert_eq!(app.get("/v1/default/bindings").await.ok().json(), json!({"items": []}));
}

#[tokio::test]
async fn a_webhooks_secret_is_hidden_and_kept() {
    let app = App::new();
    let config = json!({"webhook": {"url": "https://example.com/hook", "secret": "s3cret"}});
    app.put("/v1/default/queues/q", config).await.ok();
    let shown = app.get("/v1/default/queues/q").await.ok();
    assert!(!shown.text().contains("s3cret"));
    let again = app.put("/v1/default/queues/q", shown.json()["config"].clone()).await.ok();
    assert_eq!(again.json()["outcome"], "unchanged");
    let other = json!({"webhook": {"url": "https://example.com/hook", "secret": "***"}});
    assert_eq!(app.put("/v1/default/queues/new", other).await.problem().2.as_deref(), Some("webhook.secret"));
}

#[tokio::test]
async fn once_there_are_users_credentials_decide() {
    let app = App::new();
    app.put("/v1/default/queues/q", json!({})).await.ok();
    app.put("/admin/v1/users/root", json!({"password": "correct horse", "admin": true})).await.ok();
    assert_eq!(app.get("/v1/default/queues").await.problem().1, "unauthenticated");
    assert_eq!(app.get("/metrics").await.problem().1, "unauthenticated");
    let with = |method: &str, path: &str, authorization: &str, body: &str| {
        let request = Request::builder().method(method).uri(path).header("authorization", authorization);
        request.header("content-type", "application/json").body(Body::from(body.to_owned())).unwrap()
    };
    // "root:correct horse"
    let root = "Basic cm9vdDpjb3JyZWN0IGhvcnNl";
    app.send(with("GET", "/v1/default/queues", root, "")).await.ok();
    let reader = r#"{"permissions":{"default":{"read":["*"]}}}"#;
    app.send(with("PUT", "/admin/v1/users/reader", root, reader)).await.ok();
    let made = app.send(with("POST", "/admin/v1/users/reader/tokens", root, r#"{"description":"ci"}"#)).await.ok();
    let bearer = format!("Bearer {}", made.json()["token"].as_str().unwrap());
    app.send(with("POST", "/v1/default/queues/q/receive", &bearer, "{}")).await.ok();
    assert_eq!(app.send(with("POST", "/v1/default/queues/q/messages", &bearer, "x")).await.problem().1, "forbidden");
    let shown = app.send(with("GET", "/admin/v1/users/reader", root, "")).await.ok().json();
    let token = shown["tokens"][0]["id"].as_str().unwrap();
    app.send(with("DELETE", &format!("/admin/v1/tokens/{token}"), root, "")).await.ok();
    assert_eq!(app.send(with("GET", "/v1/default/queues", &bearer, "")).await.problem().1, "unauthenticated");
}

#[tokio::test]
async fn policies_of_two_layers_may_share_a_name_and_both_are_shown_where_they_apply() {
    let app = App::new();
    let users =
        json!({"pattern": "regex:^w", "applies_to": "queues", "defaults": {"ttl_ms": 9}, "arguments": {"x": [1]}});
    let operators = json!({"pattern": "*", "applies_to": "queues", "layer": "operator", "bounds": {"max_messages": 7}});
    app.put("/v1/default/policies/p", users).await.ok();
    app.put("/v1/default/policies/p", operators).await.ok();
    let queue = app.put("/v1/default/queues/work", json!({"max_messages": 100})).await.ok().json()["item"].clone();
    assert_eq!((&queue["policy"], &queue["operator_policy"]), (&json!("p"), &json!("p")));
    assert_eq!((&queue["effective"]["max_messages"], &queue["effective"]["ttl_ms"]), (&json!(7), &json!(9)));
    let shown = app.get("/v1/default/policies/p").await.ok().json();
    assert_eq!((&shown["config"]["pattern"], &shown["config"]["arguments"]), (&json!("regex:^w"), &json!({"x": [1]})));
    let shown = app.get("/v1/default/policies?layer=operator").await.ok().json();
    assert_eq!(
        (shown["items"].as_array().unwrap().len(), &shown["items"][0]["config"]["layer"]),
        (1, &json!("operator"))
    );
    app.send(Request::delete("/v1/default/policies/p?layer=operator").body(Body::empty()).unwrap()).await.ok();
    assert_eq!(app.get("/v1/default/policies/p?layer=operator").await.problem().0, 404);
    app.get("/v1/default/policies/p").await.ok();
    let queue = app.get("/v1/default/queues/work").await.ok().json();
    assert_eq!((&queue["operator_policy"], &queue["effective"]["max_messages"]), (&Value::Null, &json!(100)));
    let wrong = json!({"pattern": "regex:(?=a)", "applies_to": "all"});
    assert_eq!(app.put("/v1/default/policies/p", wrong).await.problem().2.as_deref(), Some("pattern"));
}

#[tokio::test]
async fn users_are_shown_as_they_were_set() {
    let app = App::new();
    let root = json!({"password": "correct horse", "admin": true});
    app.put("/admin/v1/users/root", root).await.ok();
    let root = "Basic cm9vdDpjb3JyZWN0IGhvcnNl";
    let with = |method: &str, path: &str, body: Value| {
        let request = Request::builder().method(method).uri(path).header("authorization", root);
        request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
    };
    let permissions = json!({"default": {
        "configure": [], "write": ["regex:^a"], "read": ["*"],
        "subjects": {"a": {"write": ["{username}.*"], "read": []}},
    }});
    let user = json!({"permissions": permissions, "loopback_only": true, "limits": {"max_connections": 3}});
    app.send(with("PUT", "/admin/v1/users/ada", user)).await.ok();
    app.send(with("PUT", "/admin/v1/users/ada", json!({"tags": ["management"]}))).await.ok();
    let shown = app.send(with("GET", "/admin/v1/users/ada", Value::Null)).await.ok().json();
    assert_eq!((&shown["permissions"], &shown["tags"]), (&permissions, &json!(["management"])));
    assert_eq!((&shown["loopback_only"], &shown["limits"]), (&json!(true), &json!({"max_connections": 3})));
    assert_eq!((&shown["connections"], &shown["channels"]), (&json!(0), &json!(0)));
    let made = app.send(with("POST", "/admin/v1/users/ada/tokens", json!({}))).await.ok().json();
    let request = |peer: Option<&str>| {
        let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
        let mut request = Request::get("/v1/default/queues").header("authorization", bearer);
        if let Some(address) = peer {
            let addr = address.parse().unwrap();
            request = request.extension(net::PeerInfo { addr, tls: false, client_cn: None });
        }
        request.body(Body::empty()).unwrap()
    };
    app.send(request(Some("127.0.0.1:5"))).await.ok();
    for peer in [Some("192.0.2.1:5"), None] {
        assert_eq!(app.send(request(peer)).await.problem().1, "unauthenticated", "{peer:?}");
    }
}

#[tokio::test]
async fn operators_tools_are_answered() {
    let app = App::new();
    assert_eq!(app.get("/livez").await.ok().text(), "ok\n");
    assert_eq!(app.get("/readyz").await.ok().text(), "ok\n");
    assert_eq!(app.get("/metrics").await.ok().text(), "metrics\n");
    assert_eq!(app.get("/admin/v1/status").await.ok().json()["ready"], true);
    assert!(app.get("/docs").await.ok().text().contains("/openapi.json"));
}

/// What the document says of every operation that a client must be able to rely on.
#[tokio::test]
async fn the_document_names_every_operations_parameters_and_problems() {
    let document = App::new().get("/openapi.json").await.ok().json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{name}");
            assert!(operation["summary"].is_string(), "{name}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{name}");
            let problem = &answers["400"]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{name}");
            for variable in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(
                    parameters.iter().any(|one| one["name"] == variable && one["in"] == "path"),
                    "{name}: {variable}"
                );
            }
        }
    }
    // All references lead somewhere.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document["components"]["schemas"][reference].is_object(), "{reference}");
    }
}

#[tokio::test]
async fn a_backup_is_for_administrators_and_of_what_is_on_a_disk() {
    let app = App::new();
    // This broker is in memory.
    let refused = app.get("/admin/v1/backup").await.problem();
    assert_eq!((refused.0, refused.1.as_str()), (409, "no-backups"));
    app.put("/admin/v1/users/root", json!({"password": "correct horse", "admin": true})).await.ok();
    assert_eq!(app.get("/admin/v1/backup").await.problem().1, "unauthenticated");
    let document = app.get("/openapi.json").await.ok().json();
    let answer = &document["paths"]["/admin/v1/backup"]["get"]["responses"]["200"];
    assert!(answer["content"]["application/x-tar"].is_object(), "{answer}");
}
