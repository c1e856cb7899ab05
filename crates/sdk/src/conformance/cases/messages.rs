//! What of a message comes out as it went in.

use bytes::Bytes;
use types::{Text, Timestamp, Value};

use super::{CORE, cases};
use crate::Envelope;
use crate::conformance::ground::{Ground, Proof, check, message, same, to_queue, to_topic};

cases! {
    CORE => a_message_comes_out_as_it_went_in,
    CORE => a_message_through_a_topic_comes_out_as_it_went_in,
    CORE => what_a_message_does_not_have_it_does_not_get,
    CORE => a_large_body_comes_out_whole,
    CORE => an_empty_body_comes_out_empty,
}

/// Larger bodies are the operator's business.
const LARGE_BODY_BYTES: usize = 1024 * 1024;

/// Headers of every kind that all transports carry. Points in time have whole seconds, since some protocols have no finer ones in headers.
fn headers() -> Vec<(Text, Value)> {
    let map = vec![
        (Text::from("nested"), Value::List(vec![Value::int(1), Value::from("two"), Value::Bool(false)])),
        (Text::from("plain"), Value::from("text")),
    ];
    [
        ("text", Value::from("Grüße, 世界")),
        ("empty", Value::from("")),
        ("true", Value::Bool(true)),
        ("least", Value::int(i64::MIN)),
        ("most", Value::int(i64::MAX)),
        ("double", Value::Double(-0.1)),
        ("bytes", Value::Bytes(Bytes::from_static(&[0, 159, 146, 150, 255]))),
        ("time", Value::Timestamp(Timestamp(1_700_000_000_000))),
        ("null", Value::Null),
        ("map", Value::Map(map)),
        ("traceparent", Value::from("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
    ]
    .into_iter()
    .map(|(name, value)| (Text::from(name), value))
    .collect()
}

fn full(subject: &str) -> Envelope {
    Envelope {
        key: Some(Bytes::from_static(b"customer-7")),
        headers: headers(),
        content_type: Some(Text::from("application/vnd.order+json")),
        timestamp: Some(Timestamp(1_700_000_000_123)),
        correlation_id: Some(Text::from("conversation-1")),
        reply_to: Some(Text::from("answers")),
        ..message(subject, Bytes::from_static(&[0, 1, 2, 0xff, b'{']))
    }
}

/// Field by field, so that a failure names the field. The transport may add headers of its own.
fn intact(came: &Envelope, sent: &Envelope) -> Proof {
    let id = |message: &Envelope| message.id.as_ref().map(ToString::to_string);
    same("id", id(came), id(sent))?;
    same("subject", &came.subject, &sent.subject)?;
    same("key", &came.key, &sent.key)?;
    same("body", &came.body, &sent.body)?;
    same("content type", &came.content_type, &sent.content_type)?;
    same("timestamp", came.timestamp, sent.timestamp)?;
    same("correlation id", &came.correlation_id, &sent.correlation_id)?;
    same("reply-to", &came.reply_to, &sent.reply_to)?;
    for (name, value) in &sent.headers {
        same(&format!("header {name}"), came.header(name), Some(value))?;
        let count = came.headers.iter().filter(|(have, _)| have == name).count();
        same(&format!("how often header {name} is there"), count, 1)?;
    }
    Ok(())
}

async fn a_message_comes_out_as_it_went_in(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let sent = full("orders.created");
    ground.publish(vec![to_queue(&queue, sent.clone())]).await?;
    let came = ground.consumer(&queue, 1).await?.one().await?;
    same("attempt", came.attempt, 1)?;
    intact(&came.message, &sent)
}

async fn a_message_through_a_topic_comes_out_as_it_went_in(ground: &Ground<'_>) -> Proof {
    let topic = ground.topic("t", |_| ()).await?;
    let queue = ground.queue("q", |_| ()).await?;
    ground.bind(&topic, &queue, "orders.#").await?;
    let sent = full("orders.created");
    ground.publish(vec![to_topic(&topic, sent.clone())]).await?;
    intact(&ground.consumer(&queue, 1).await?.one().await?.message, &sent)
}

async fn what_a_message_does_not_have_it_does_not_get(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let sent = message("orders.created", "body");
    ground.publish(vec![to_queue(&queue, sent.clone())]).await?;
    let came = ground.consumer(&queue, 1).await?.one().await?.message;
    // The broker may stamp the time.
    intact(&Envelope { timestamp: None, ..came.clone() }, &sent)?;
    same("expiry", came.expires_at, None)?;
    same("delay", came.not_before, None)
}

async fn a_large_body_comes_out_whole(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let length = ground.transport.capabilities().max_body_bytes.min(LARGE_BODY_BYTES);
    let body: Bytes = (0..length).map(|at| (at % 251).to_le_bytes()[0]).collect();
    ground.publish(vec![to_queue(&queue, message("", body.clone())), to_queue(&queue, message("", "small"))]).await?;
    let taken = ground.consumer(&queue, 2).await?.take(2).await?;
    let came: Vec<Option<&Bytes>> = taken.iter().map(|delivery| delivery.message.body.as_ref()).collect();
    check(came.first() == Some(&Some(&body)), || {
        let came = came.first().copied().flatten().map(Bytes::len);
        format!(
            "expected a body of {length} bytes as it was sent, and one of {came:?} bytes came, or with other content"
        )
    })
}

async fn an_empty_body_comes_out_empty(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.publish(vec![to_queue(&queue, message("", ""))]).await?;
    same("body", ground.consumer(&queue, 1).await?.one().await?.message.body, Some(Bytes::new()))
}
