//! The history of a dead letter, as RabbitMQ tells it in headers (its guide "Dead Letter Exchanges", section "Effects").

use broker::queue::LeaveReason;
use broker::{Death, DeathMark, Deaths};
use bytes::Bytes;
use types::{Headers, Text, Timestamp, Value};

const DEATH: &str = "x-death";
const FIRST: [&str; 3] = ["x-first-death-queue", "x-first-death-reason", "x-first-death-exchange"];
const LAST: [&str; 3] = ["x-last-death-queue", "x-last-death-reason", "x-last-death-exchange"];

/// Adds the history to the headers that a client is shown, in place of what stands there under these names.
pub(crate) fn show(deaths: &Deaths, expiration: Option<&Bytes>, headers: &mut Headers) {
    headers.retain(|(name, _)| {
        let name = name.as_str();
        name != DEATH && !FIRST.contains(&name) && !LAST.contains(&name)
    });
    let list = deaths.list.iter().map(|death| entry(death, expiration)).collect();
    headers.push((Text::from_static(DEATH), Value::List(list)));
    for (names, mark) in [(FIRST, &deaths.first), (LAST, &deaths.last)] {
        let values = [Value::Text(mark.queue.clone()), Value::from(reason(&mark.reason)), exchange(mark)];
        headers.extend(names.into_iter().map(Text::from_static).zip(values));
    }
}

fn entry(death: &Death, expiration: Option<&Bytes>) -> Value {
    let key = |key: &Bytes| match Text::from_utf8(key.clone()) {
        Ok(text) => Value::Text(text),
        Err(_) => Value::Bytes(key.clone()),
    };
    let mut fields = vec![
        (Text::from_static("count"), Value::int(i64::try_from(death.count).unwrap_or(i64::MAX))),
        (Text::from_static("exchange"), exchange(&death.mark)),
        (Text::from_static("queue"), Value::Text(death.mark.queue.clone())),
        (Text::from_static("reason"), Value::from(reason(&death.mark.reason))),
        (Text::from_static("routing-keys"), Value::List(death.subjects.iter().map(key).collect())),
        (Text::from_static("time"), Value::Timestamp(whole_seconds(death.first))),
    ];
    if let Some(ttl_ms) = death.ttl_ms {
        // As it was said, if AMQP said it: what the broker knows of it is a time of the clock.
        let said = expiration.and_then(|text| Text::from_utf8(text.clone()).ok());
        let said = said.unwrap_or_else(|| Text::from(ttl_ms.to_string()));
        fields.push((Text::from_static("original-expiration"), Value::Text(said)));
    }
    Value::Map(fields)
}

fn exchange(mark: &DeathMark) -> Value {
    mark.topic.clone().map_or_else(|| Value::from(""), Value::Text)
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp(time.0 - time.0.rem_euclid(1000))
}

/// RabbitMQ's word for it.
fn reason(reason: &LeaveReason) -> &'static str {
    match reason {
        LeaveReason::Rejected | LeaveReason::NonRetryable => "rejected",
        LeaveReason::Expired => "expired",
        LeaveReason::Overflow => "maxlen",
        LeaveReason::MaxAttempts => "delivery_limit",
    }
}
