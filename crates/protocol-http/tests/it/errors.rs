//! Bad input gets a problem that names what is wrong.

use axum::http::header;
use serde_json::json;

use crate::harness::App;

#[tokio::test]
async fn bad_requests_are_problems() {
    let app = App::with(|options| options.max_body_bytes = 8);
    app.put("/v1/default/queues/q", json!({})).await.ok();
    let publish = "/v1/default/queues/q/messages";
    let check = async |method: &str, path: &str, kind: &str, body: &'static str, want: (u16, &str, Option<&str>)| {
        let (status, slug, field) = app.call(method, path, kind, body).await.problem();
        assert_eq!((status, slug.as_str(), field.as_deref()), want, "{method} {path} {body}");
    };
    check("GET", "/nowhere", "", "", (404, "no-such-route", None)).await;
    check("PATCH", "/v1/default/queues", "", "", (405, "method-not-allowed", None)).await;
    check("GET", "/v1/nowhere/queues", "", "", (404, "no-such-namespace", None)).await;
    check("GET", "/v1/default/queues/missing", "", "", (404, "not-found", None)).await;
    check("GET", "/v1/default/queues?limt=1", "", "", (400, "unknown-field", Some("limt"))).await;
    check("GET", "/v1/default/queues?limit=x", "", "", (400, "bad-query", Some("limit"))).await;
    check("GET", "/v1/default/queues?prefix=%FF", "", "", (400, "bad-query", None)).await;
    check("GET", "/v1/default/queues/%FF", "", "", (400, "bad-path", None)).await;
    check("PUT", "/v1/default/queues/x", "text/plain", "{}", (415, "unsupported-media-type", Some("Content-Type")))
        .await;
    check("PUT", "/v1/default/queues/x", "application/json", "{", (400, "bad-json", None)).await;
    check(
        "PUT",
        "/v1/default/queues/x",
        "application/json",
        r#"{"lese_ms":1}"#,
        (400, "unknown-field", Some("lese_ms")),
    )
    .await;
    check("POST", publish, "", "123456789", (413, "too-large", None)).await;
    check("POST", publish, api::MESSAGE_TYPE, "{}", (400, "invalid-value", Some("body"))).await;
    check(
        "POST",
        publish,
        api::BATCH_TYPE,
        r#"{"messages":[{"text":""},{}]}"#,
        (400, "invalid-value", Some("messages[1].body")),
    )
    .await;
    check(
        "POST",
        "/v1/default/queues/q/ack",
        "application/json",
        r#"{"receipt":"x"}"#,
        (400, "bad-receipt", Some("receipt")),
    )
    .await;
    check(
        "POST",
        "/v1/default/queues/q/receive",
        "application/json",
        r#"{"max":0}"#,
        (400, "invalid-value", Some("max")),
    )
    .await;
    check("POST", "/v1/default/request/nobody?timeout_ms=1", "", "", (404, "no-responders", None)).await;
    check("GET", "/v1/default/ws", "", "", (426, "upgrade-required", None)).await;
    let long = format!("/v1/default/queues/{}", "n".repeat(256));
    check("PUT", &long, "", "", (400, "bad-name", Some("name"))).await;
}

#[tokio::test]
async fn a_body_that_is_not_utf8_says_where() {
    let app = App::new();
    let answer = app.call("PUT", "/v1/default/queues/x", "application/json", b"{\"a\xff".to_vec()).await;
    assert!(answer.text().contains("byte 3"), "{}", answer.text());
    assert_eq!(answer.problem().1, "bad-utf8");
}

#[tokio::test]
async fn a_method_that_is_not_taken_lists_those_that_are() {
    let answer = App::new().call("PATCH", "/v1/default/queues", "", "").await;
    assert!(answer.headers[header::ALLOW].to_str().unwrap().contains("GET"), "{:?}", answer.headers);
}

#[tokio::test]
async fn wrong_credentials_are_refused() {
    let app = App::new();
    let request = axum::http::Request::get("/v1/default/queues").header("authorization", "Bearer ph_x_y");
    let answer = app.send(request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(answer.headers.get_all(header::WWW_AUTHENTICATE).iter().count(), 2);
    assert_eq!(answer.problem().1, "unauthenticated");
}
