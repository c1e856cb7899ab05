//! CloudEvents through the router: in by all three modes, out by all three.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::harness::{Answer, App};

async fn receive(app: &App, path: &str, accept: &str) -> Answer {
    let request = Request::post(format!("/v1/default/queues/q/{path}")).header("accept", accept);
    app.send(request.body(Body::empty()).unwrap()).await.ok()
}

fn without_extras(mut event: Value) -> Value {
    let event = event.as_object_mut().unwrap();
    assert!(event.remove("phreceipt").is_some_and(|receipt| receipt.as_str().unwrap().starts_with("r1-")));
    assert_eq!(event.remove("phattempt"), Some(json!(1)));
    Value::Object(event.clone())
}

#[tokio::test]
async fn events_go_in_and_out_in_every_mode() {
    let app = App::new();
    app.put("/v1/default/queues/q", json!({})).await.ok();
    let event = json!({
        "specversion": "1.0", "id": "a", "source": "/s", "type": "t", "subject": "x", "time": "2020-01-01T00:00:00.5Z",
        "ext": 7, "datacontenttype": "application/json", "data": {"n": 1},
    });
    let publish = "/v1/default/queues/q/messages";
    app.call("POST", publish, "application/cloudevents+json; charset=utf-8", event.to_string()).await.ok();
    app.call("POST", publish, "application/cloudevents-batch+json", json!([event, event]).to_string()).await.ok();
    let binary = Request::post(publish)
        .header("ce-specversion", "1.0")
        .header("ce-id", "b")
        .header("ce-source", "/s")
        .header("ce-type", "t%20%C3%BC")
        .header("content-type", "text/plain")
        .body(Body::from("hello"))
        .unwrap();
    app.send(binary).await.ok();

    let one = receive(&app, "receive-event", "application/cloudevents+json").await;
    assert_eq!(one.headers["content-type"], "application/cloudevents+json");
    assert_eq!(without_extras(one.json()), event);
    let one = receive(&app, "receive-event", "*/*").await;
    assert_eq!(
        (&one.headers["ce-subject"], &one.headers["ce-ext"], one.text().as_str()),
        (&"x".parse().unwrap(), &"7".parse().unwrap(), "{\"n\":1}")
    );
    let one = receive(&app, "receive", "application/cloudevents-batch+json").await;
    assert_eq!(without_extras(one.json()[0].clone()), event);
    let last = receive(&app, "receive-event", "*/*").await;
    assert_eq!((&last.headers["ce-type"], last.text().as_str()), (&"t%20%C3%BC".parse().unwrap(), "hello"));
    assert_eq!(receive(&app, "receive-event", "*/*").await.status, 204);
}

#[tokio::test]
async fn what_is_no_event_is_refused() {
    let app = App::new();
    app.put("/v1/default/queues/q", json!({})).await.ok();
    let publish = "/v1/default/queues/q/messages";
    let answer =
        app.call("POST", publish, "application/cloudevents+json", r#"{"specversion":"1.0","id":"a","type":"t"}"#).await;
    assert_eq!(answer.problem(), (400, "bad-cloudevent".into(), Some("source".into())));
    let answer = app.call("POST", publish, "application/cloudevents+avro", "").await;
    assert_eq!(answer.problem().0, 415);
}
