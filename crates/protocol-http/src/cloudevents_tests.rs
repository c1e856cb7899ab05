//! The mapping of CloudEvents, both ways.

use super::*;

fn event(json: &str) -> Result<Event, Failure> {
    Event::from_json(crate::input::from_json::<Members>(json.as_bytes())?.0)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())).collect()
}

/// Through a message and back.
#[track_caller]
fn round_trip(json: &str) {
    let message = event(json).unwrap().into_message().unwrap();
    assert_eq!(serde_json::to_string(&Event::of(&message, "/unused", Vec::new())).unwrap(), json);
}

#[track_caller]
fn refused(json: &str, field: &str) {
    let problem = event(json).and_then(Event::into_message).unwrap_err().0;
    assert_eq!(
        (problem.slug(), problem.field.as_deref()),
        ("bad-cloudevent", Some(field)),
        "{json}: {}",
        problem.detail
    );
}

const LEAST: &str = r#""specversion":"1.0","id":"1","source":"/s","type":"t""#;

#[test]
fn structured_events_come_back_as_they_were() {
    round_trip(&format!("{{{LEAST}}}"));
    round_trip(&format!(r#"{{{LEAST},"datacontenttype":"application/json","data":{{"a": 1.50}}}}"#));
    round_trip(&format!(r#"{{{LEAST},"datacontenttype":"application/json","data":null}}"#));
    round_trip(&format!(r#"{{{LEAST},"datacontenttype":"text/plain","data":"ü"}}"#));
    round_trip(&format!(r#"{{{LEAST},"datacontenttype":"image/png","data_base64":"/w=="}}"#));
    round_trip(&format!(
        r#"{{{LEAST},"subject":"x","time":"2018-04-05T17:31:00.123456+01:00","dataschema":"https://x/y","partitionkey":"k","traceparent":"00-a-b-01","flag":true,"count":-7}}"#
    ));
}

#[test]
fn an_events_attributes_become_a_messages_fields() {
    let json =
        format!(r#"{{{LEAST},"time":"1970-01-01T00:00:01Z","partitionkey":"k","ext":1,"subject":null,"data":[1]}}"#);
    let message = event(&json).unwrap().into_message().unwrap();
    assert_eq!(message.id, Some(types::MessageId::Text("1".into())));
    assert_eq!(message.subject, "t");
    assert_eq!(message.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(message.timestamp, Some(Timestamp(1000)));
    assert_eq!(message.content_type, Some("application/json".into()));
    assert_eq!(message.body.as_deref(), Some(&b"[1]"[..]));
    assert_eq!(message.header("ce-source"), Some(&Value::from("/s")));
    assert_eq!(message.header("ce-ext"), Some(&Value::Int { value: 1, width_bytes: 4 }));
    assert_eq!(message.header("ce-subject"), None);
}

#[test]
fn what_is_no_event_is_refused() {
    refused(r#"{"specversion":"1.0","source":"/s","type":"t"}"#, "id");
    refused(r#"{"specversion":"1.0","id":"","source":"/s","type":"t"}"#, "id");
    refused(r#"{"specversion":"0.3","id":"1","source":"/s","type":"t"}"#, "specversion");
    refused(r#"{"id":"1","source":"/s","type":"t"}"#, "specversion");
    refused(&format!(r#"{{{LEAST},"time":"yesterday"}}"#), "time");
    refused(&format!(r#"{{{LEAST},"dataschema":"relative"}}"#), "dataschema");
    refused(&format!(r#"{{{LEAST},"subject":""}}"#), "subject");
    refused(&format!(r#"{{{LEAST},"big":2147483648}}"#), "big");
    refused(&format!(r#"{{{LEAST},"list":[]}}"#), "list");
    refused(&format!(r#"{{{LEAST},"Upper":"x"}}"#), "Upper");
    refused(&format!(r#"{{{LEAST},"data":1,"data_base64":""}}"#), "data");
    refused(&format!(r#"{{{LEAST},"data_base64":"!"}}"#), "data_base64");
    refused(&format!(r#"{{{LEAST},"a":"1","a":"2"}}"#), "a");
}

#[test]
fn binary_headers_are_percent_encoded() {
    let sent = [
        ("ce-specversion", "1.0"),
        ("ce-id", "\"a%20\\\"b\""),
        ("ce-source", "/s"),
        ("ce-type", "t"),
        ("ce-word", "Euro%20%E2%82%AC%20%F0%9F%98%80%25"),
        ("content-type", "text/plain"),
        ("x-other", "ignored"),
    ];
    let event = Event::from_binary(&headers(&sent), Bytes::from_static(b"hi")).unwrap();
    assert_eq!(event.text("id"), Some("a \"b"));
    assert_eq!(event.text("word"), Some("Euro € 😀%"));
    let message = event.into_message().unwrap();
    let (written, body) = Event::of(&message, "/unused", Vec::new()).into_binary();
    assert_eq!(written["ce-id"], "a%20%22b");
    assert_eq!(written["ce-word"], "Euro%20%E2%82%AC%20%F0%9F%98%80%25");
    assert_eq!(written["ce-specversion"], "1.0");
    assert_eq!(written["content-type"], "text/plain");
    assert_eq!(body, "hi");
    let bad = Event::from_binary(&headers(&[("ce-specversion", "1.0"), ("ce-id", "%FF")]), Bytes::new());
    assert_eq!(bad.unwrap_err().0.field.as_deref(), Some("ce-id"));
}

#[test]
fn a_message_that_was_no_event_becomes_one() {
    let mut message = Message::new("orders.created", "\x00\u{ff}");
    message.id = Some(types::MessageId::Text("7".into()));
    message.key = Some(Bytes::from_static(b"k"));
    message.timestamp = Some(Timestamp(0));
    message.headers = vec![
        ("region".into(), Value::from("eu")),
        ("Not-An-Attribute".into(), Value::from("x")),
        ("list".into(), Value::List(Vec::new())),
    ];
    let event = Event::of(&message, &source("default", "queues", "a b/c"), vec![("phattempt", Value::int(2))]);
    assert_eq!(
        serde_json::to_string(&event).unwrap(),
        r#"{"specversion":"1.0","id":"7","region":"eu","source":"/v1/default/queues/a%20b%2Fc","type":"orders.created","time":"1970-01-01T00:00:00Z","partitionkey":"k","phattempt":2,"datacontenttype":"application/octet-stream","data_base64":"AMO/"}"#
    );
}
