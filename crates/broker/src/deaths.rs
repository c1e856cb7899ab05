//! How often, where and why a message was given up: the history that a dead letter carries in one header.

use bytes::Bytes;
use types::{Headers, Message, Text, Timestamp, Value};

use crate::queue::LeaveReason;

/// The header that keeps the history.
pub const DEATHS_HEADER: &str = "ph-deaths";
/// Most deaths that are kept; the one that happened least lately goes first.
pub const MAX_DEATHS: usize = 64;
/// Most bytes of a death's subjects that are kept; the first of them is kept whatever it takes.
pub const MAX_DEATH_SUBJECTS_BYTES: usize = 8 * 1024;

/// The history of a message that was given up at least once.
#[derive(Clone, Debug, PartialEq)]
pub struct Deaths {
    /// The first time ever.
    pub first: DeathMark,
    /// The last time.
    pub last: DeathMark,
    /// Of each queue and reason one, the latest first; at most [`MAX_DEATHS`].
    pub list: Vec<Death>,
}

/// Where and why a message was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeathMark {
    /// By which queue.
    pub queue: Text,
    /// Why.
    pub reason: LeaveReason,
    /// The topic that it had been published to.
    pub topic: Option<Text>,
}

/// What one queue gave a message up for, perhaps several times. But for the count and `last` it tells of the first time.
#[derive(Clone, Debug, PartialEq)]
pub struct Death {
    /// Where and why.
    pub mark: DeathMark,
    /// How often.
    pub count: u64,
    /// When at first.
    pub first: Timestamp,
    /// When at last.
    pub last: Timestamp,
    /// The message's subject then, and those that it was routed by besides, up to [`MAX_DEATH_SUBJECTS_BYTES`].
    pub subjects: Vec<Bytes>,
    /// How long the message itself had been meant to live from its arrival on, in milliseconds. A dead letter does not expire by itself, so
    /// this is where it is known from.
    pub ttl_ms: Option<u64>,
}

impl Deaths {
    /// The history of a message; `None` if it was never given up, or what the header holds is not one.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        let whole = message.header(DEATHS_HEADER)?;
        let Some(Value::List(list)) = entry(whole, "list") else { return None };
        let list = list.iter().take(MAX_DEATHS).map(read_death).collect::<Option<_>>()?;
        Some(Self { first: read_mark(entry(whole, "first")?)?, last: read_mark(entry(whole, "last")?)?, list })
    }

    /// The history with one more death of the message, which is as it was before. `arrived`: when it came into the queue.
    pub(crate) fn with(
        message: &Message,
        arrived: Timestamp,
        queue: &str,
        reason: &LeaveReason,
        now: Timestamp,
    ) -> Self {
        let mark = DeathMark { queue: queue.into(), reason: reason.clone(), topic: message.topic.clone() };
        let mut deaths = Self::of(message).unwrap_or_else(|| Self {
            first: mark.clone(),
            last: mark.clone(),
            list: Vec::with_capacity(1),
        });
        let known =
            deaths.list.iter().position(|death| death.mark.queue == mark.queue && death.mark.reason == mark.reason);
        deaths.last = mark.clone();
        let death = match known {
            Some(at) => {
                let death = deaths.list.remove(at);
                Death { count: death.count.saturating_add(1), last: now, ..death }
            }
            None => Death {
                mark,
                count: 1,
                first: now,
                last: now,
                subjects: subjects_of(message),
                ttl_ms: message.expires_at.map(|at| u64::try_from(at.0.saturating_sub(arrived.0)).unwrap_or(0)),
            },
        };
        deaths.list.insert(0, death);
        deaths.list.truncate(MAX_DEATHS);
        deaths
    }

    /// Puts the history into a message's headers, in place of what is there.
    pub(crate) fn write(&self, headers: &mut Headers) {
        headers.retain(|(name, _)| *name != DEATHS_HEADER);
        let whole = vec![
            (Text::from_static("first"), Value::Map(mark(&self.first))),
            (Text::from_static("last"), Value::Map(mark(&self.last))),
            (Text::from_static("list"), Value::List(self.list.iter().map(death).collect())),
        ];
        headers.push((Text::from_static(DEATHS_HEADER), Value::Map(whole)));
    }
}

fn subjects_of(message: &Message) -> Vec<Bytes> {
    let mut bytes = message.subject.len();
    let fits = |subject: &&Bytes| {
        bytes += subject.len();
        bytes <= MAX_DEATH_SUBJECTS_BYTES
    };
    let also = message.also.iter().take_while(fits);
    std::iter::once(&message.subject).chain(also).cloned().collect()
}

fn mark(mark: &DeathMark) -> Headers {
    let mut entries = vec![
        (Text::from_static("queue"), Value::Text(mark.queue.clone())),
        (Text::from_static("reason"), Value::from(mark.reason.name())),
    ];
    entries.extend(mark.topic.clone().map(|topic| (Text::from_static("topic"), Value::Text(topic))));
    entries
}

fn death(of: &Death) -> Value {
    let int = |number: u64| Value::int(i64::try_from(number).unwrap_or(i64::MAX));
    let subject = |subject: &Bytes| match Text::from_utf8(subject.clone()) {
        Ok(text) => Value::Text(text),
        Err(_) => Value::Bytes(subject.clone()),
    };
    let mut entries = mark(&of.mark);
    entries.extend([
        (Text::from_static("count"), int(of.count)),
        (Text::from_static("first"), Value::Timestamp(of.first)),
        (Text::from_static("last"), Value::Timestamp(of.last)),
        (Text::from_static("subjects"), Value::List(of.subjects.iter().map(subject).collect())),
    ]);
    entries.extend(of.ttl_ms.map(|ttl_ms| (Text::from_static("ttl_ms"), int(ttl_ms))));
    Value::Map(entries)
}

fn entry<'a>(map: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Map(entries) = map else { return None };
    entries.iter().find(|(have, _)| *have == *name).map(|(_, value)| value)
}

fn text(map: &Value, name: &str) -> Option<Text> {
    match entry(map, name)? {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn read_mark(map: &Value) -> Option<DeathMark> {
    let reason = LeaveReason::from_name(&text(map, "reason")?)?;
    Some(DeathMark { queue: text(map, "queue")?, reason, topic: text(map, "topic") })
}

fn read_death(map: &Value) -> Option<Death> {
    let int = |name| match entry(map, name) {
        Some(Value::Int { value, .. }) => u64::try_from(*value).ok(),
        _ => None,
    };
    let time = |name| match entry(map, name) {
        Some(Value::Timestamp(at)) => Some(*at),
        _ => None,
    };
    let subject = |value: &Value| match value {
        Value::Text(text) => Some(text.bytes().clone()),
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    };
    let Some(Value::List(subjects)) = entry(map, "subjects") else { return None };
    Some(Death {
        mark: read_mark(map)?,
        count: int("count")?,
        first: time("first")?,
        last: time("last")?,
        subjects: subjects.iter().map(subject).collect::<Option<_>>()?,
        ttl_ms: int("ttl_ms"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_bounded_and_keeps_its_first_death() {
        let mut message =
            Message { topic: Some("t".into()), expires_at: Some(Timestamp(150)), ..Message::new("s", "") };
        message.also = vec![vec![0xff; 4096].into(), vec![b'a'; 4095].into(), "x".into()];
        for number in 0..MAX_DEATHS + 6 {
            let at = Timestamp(1_000 + number as i64);
            Deaths::with(&message, Timestamp(100), &format!("q{number}"), &LeaveReason::Expired, at)
                .write(&mut message.headers);
        }
        let deaths = Deaths::of(&message).unwrap();
        assert_eq!(deaths.list.len(), MAX_DEATHS);
        let newest = &deaths.list[0];
        assert_eq!((&*deaths.first.queue, &*deaths.last.queue, &*newest.mark.queue), ("q0", "q69", "q69"));
        assert_eq!((newest.count, newest.ttl_ms, newest.mark.topic.as_deref()), (1, Some(50), Some("t")));
        assert_eq!(newest.subjects, [&b"s"[..], &[0xff; 4096], &[b'a'; 4095]], "8192 bytes fit");
        Deaths::with(&message, Timestamp(100), "q60", &LeaveReason::Expired, Timestamp(5_000))
            .write(&mut message.headers);
        let deaths = Deaths::of(&message).unwrap();
        assert_eq!(message.headers.len(), 1);
        assert_eq!((&*deaths.list[0].mark.queue, deaths.list[0].count, deaths.list.len()), ("q60", 2, MAX_DEATHS));
        assert_eq!((deaths.list[0].first, deaths.list[0].last), (Timestamp(1_060), Timestamp(5_000)));
        message.headers = vec![(DEATHS_HEADER.into(), Value::from("no history"))];
        assert_eq!(Deaths::of(&message), None);
    }
}
