//! Reading topics' logs: by offset, time and key, by groups, and as event streams.

use axum::body::Body;
use axum::http::Request;
use futures_util::StreamExt;
use serde_json::json;
use tower::ServiceExt;

use crate::harness::App;

async fn with_topic() -> App {
    let app = App::new();
    app.put("/v1/default/topics/t", json!({"retention": {}, "key_index": true})).await.ok();
    for n in 0..3 {
        app.call("POST", &format!("/v1/default/topics/t/messages?key=k{}", n % 2), "text/plain", n.to_string())
            .await
            .ok();
    }
    app
}

#[tokio::test]
async fn a_log_is_read_from_anywhere() {
    let app = with_topic().await;
    let path = "/v1/default/topics/t/messages";
    let texts = |answer: &serde_json::Value| {
        let records = answer["records"].as_array().unwrap().clone();
        records.iter().map(|record| record["message"]["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = app.get(path).await.ok().json();
    assert_eq!(
        (texts(&all), &all["next"], &all["end"]),
        (vec!["0".into(), "1".into(), "2".into()], &json!(3), &json!(3))
    );
    assert_eq!(texts(&app.get(&format!("{path}?from=2")).await.ok().json()), ["2"]);
    assert_eq!(texts(&app.get(&format!("{path}?from=latest")).await.ok().json()).len(), 0);
    assert_eq!(texts(&app.get(&format!("{path}?from=1970-01-01T00:00:00Z&max=1")).await.ok().json()), ["0"]);
    assert_eq!(app.get(&format!("{path}?from=never")).await.problem().1, "bad-query");
    assert_eq!(app.get("/v1/default/topics/t/keys/k0").await.ok().json()["message"]["text"], "2");
    assert_eq!(texts(&app.get("/v1/default/topics/t/keys/azA/messages?base64=true").await.ok().json()), ["0", "2"]);
    assert_eq!(texts(&app.get("/v1/default/topics/t/keys/k0/messages?from=1").await.ok().json()), ["2"]);
    assert_eq!(app.get("/v1/default/topics/t/keys/k0?from=1").await.problem().1, "invalid-value");
    assert_eq!(app.get("/v1/default/topics/t/keys/none").await.problem().1, "not-found");
}

#[tokio::test]
async fn a_version_that_is_not_the_expected_one_is_told() {
    let app = with_topic().await;
    let at = |version: &str| format!("/v1/default/topics/t/messages?key=k0&expect_key_version={version}");
    let answer = app.call("POST", &at("0"), "", "x").await;
    assert_eq!(answer.json()["actual_version"], 2);
    assert_eq!(answer.problem().1, "wrong-version");
    app.call("POST", &at("2"), "", "x").await.ok();
}

#[tokio::test]
async fn a_group_reads_commits_and_seeks() {
    let app = with_topic().await;
    app.put("/v1/default/groups/g", json!({"topic": "t"})).await.ok();
    let at = |action: &str| format!("/v1/default/groups/g/{action}");
    let joined = app.post(&at("join"), json!({"member": "m"})).await.ok().json();
    assert_eq!(joined["partitions"], json!([0]));
    let generation = &joined["generation"];
    let fetch = json!({"member": "m", "generation": generation});
    assert_eq!(app.post(&at("fetch"), fetch.clone()).await.ok().json()["records"].as_array().unwrap().len(), 3);
    let commit = json!({"member": "m", "generation": generation, "offsets": [{"partition": 0, "offset": 2}]});
    app.post(&at("commit"), commit).await.ok();
    assert_eq!(app.post(&at("fetch"), fetch).await.ok().json()["records"].as_array().unwrap().len(), 1);
    assert_eq!(app.get("/v1/default/groups/g").await.ok().json()["partitions"][0]["lag"], 1);
    let moved = app.post(&at("seek"), json!({"to": "earliest"})).await.ok().json();
    assert_eq!(moved["partitions"][0]["committed"], 0);
    app.post(&at("leave"), json!({"member": "m"})).await.ok();
}

#[tokio::test]
async fn a_tail_resumes_where_the_last_event_was() {
    let app = with_topic().await;
    let request = Request::get("/v1/default/topics/t/tail").header("last-event-id", "0:1").body(Body::empty()).unwrap();
    let response = app.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut text = String::new();
    while text.matches("event: record").count() < 2 {
        text.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(text.contains("id: 0:2") && text.contains("id: 0:3") && text.contains(r#""text":"2""#), "{text}");
    assert!(!text.contains(r#""text":"0""#), "{text}");
}

#[tokio::test]
async fn a_live_subscription_streams_what_is_published() {
    let app = App::new();
    let mut request = Request::get("/v1/default/live?subject=news.%3E").body(Body::empty()).unwrap();
    request.extensions_mut().insert(app.drain.clone());
    let response = app.router.clone().oneshot(request).await.unwrap();
    let mut stream = response.into_body().into_data_stream();
    let published = app.call("POST", "/v1/default/subjects/news.today/messages", "text/plain", "hi").await.ok().json();
    assert_eq!(published["published"][0]["live"], 1);
    let first = stream.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: message\n"), "{first:?}");
    app.drain.begin();
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_request_is_answered_over_http() {
    let app = App::new();
    let response =
        app.router.clone().oneshot(Request::get("/v1/default/live?subject=ask").body(Body::empty()).unwrap()).await;
    let mut stream = response.unwrap().into_body().into_data_stream();
    let ask = app.call("POST", "/v1/default/request/ask?timeout_ms=5000", "application/json", "{\"n\":1}");
    let answer = async {
        let event = stream.next().await.unwrap().unwrap();
        let event = std::str::from_utf8(&event).unwrap().to_owned();
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
        let message: api::Message = serde_json::from_str(&data).unwrap();
        assert_eq!(message.body.as_ref().map(api::RawJson::get), Some("{\"n\":1}"));
        let correlation = message.correlation_id.map(|id| format!("?correlation_id={id}")).unwrap_or_default();
        let path = format!("/v1/default/reply/{}{correlation}", message.reply_to.unwrap());
        app.call("POST", &path, "text/plain", "yes").await.ok();
    };
    let (asked, ()) = tokio::join!(ask, answer);
    assert_eq!(asked.ok().json()["text"], "yes");
}
