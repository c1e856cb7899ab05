//! Filters of bindings: the notation of subject patterns, and the JSON form.
//!
//! The first byte of the input says which of the two the rest is.

use api::Filter as Json;
use bytes::Bytes;
use types::{Filter, Message, SubjectPattern, Value};

use crate::memory::bounded;

/// What a parser may hold whatever it reads, and for each byte of it.
const BASE_BYTES: usize = 64 * 1024;
const TIMES: usize = 512;

/// A filter is refused, or it comes back the same from how it is printed, and means the same when it is simplified.
///
/// # Panics
/// If one of that does not hold.
pub fn check(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    if kind & 1 == 0 { pattern(text) } else { json(text) }
}

fn pattern(text: &str) {
    let parsed = bounded(text.len(), BASE_BYTES, TIMES, || SubjectPattern::parse(text));
    let Ok(pattern) = parsed else { return };
    assert_eq!(SubjectPattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "printed as {pattern}");
    let rebuilt = SubjectPattern::from_words(pattern.words().to_vec());
    assert_eq!(rebuilt.as_ref(), Ok(&pattern), "of its own words");
    if let Some(subject) = pattern.as_literal() {
        assert!(pattern.matches(&subject), "{pattern} does not select its own subject");
        assert!(pattern.is_literal());
    }
    let plain = SubjectPattern::from_words(pattern.plain_words());
    for subject in SUBJECTS {
        let selects = pattern.matches(subject.as_bytes());
        assert!(selects || !pattern.is_everything(), "{pattern} does not select {subject:?}");
        // Its plain words may be over the limit, where the pattern itself is not.
        if let Ok(plain) = &plain {
            assert_eq!(plain.matches(subject.as_bytes()), selects, "{pattern} in plain words, {subject:?}");
        }
        // A single empty word counts as a subject for `overlaps`, which is said there.
        let one = SubjectPattern::literal(&Bytes::from_static(subject.as_bytes())).expect("it is short");
        assert!(!selects || pattern.overlaps(&one), "{pattern} selects {subject:?} and does not overlap with it");
    }
    same_meaning(&Filter::Subject(pattern));
}

const SUBJECTS: &[&str] = &["", "a", "a.b", "a..b", ".", "*", "orders.eu.created", "#.>", "ü.\u{10ffff}"];

fn json(text: &str) {
    let Ok(json) = bounded(text.len(), BASE_BYTES, TIMES, || serde_json::from_str::<Json>(text)) else { return };
    let printed = serde_json::to_string(&json).expect("what was read can be written");
    assert_eq!(serde_json::from_str::<Json>(&printed).expect("our own JSON"), json, "{printed}");
    let Ok(filter) = bounded(text.len(), BASE_BYTES, TIMES, || json.into_filter()) else { return };
    if filter.validate().is_err() {
        return;
    }
    let printed = serde_json::to_string(&Json::from(&filter)).expect("a filter can be written");
    let read: Json = serde_json::from_str(&printed).expect("our own JSON");
    assert_eq!(read.into_filter().as_ref(), Ok(&filter), "printed as {printed}");
    same_meaning(&filter);
}

/// A filter that is simplified is valid, lets the same through, and is as simple as it gets.
fn same_meaning(filter: &Filter) {
    let simple = filter.clone().simplify();
    assert_eq!(simple.clone().simplify(), simple, "of {filter:?}");
    if filter.validate().is_ok() {
        assert_eq!(simple.validate(), Ok(()), "of {filter:?}");
    }
    for message in messages() {
        assert_eq!(simple.matches(&message), filter.matches(&message), "{filter:?}, {message:?}");
    }
}

fn messages() -> Vec<Message> {
    let headers = [
        ("a", Value::int(1)),
        ("a", Value::Text("x".into())),
        ("b", Value::Null),
        ("price", Value::Double(99.5)),
        ("list", Value::List(vec![Value::int(7), Value::Bool(true)])),
        ("ip", Value::Text("10.0.0.7".into())),
    ];
    let with = Message {
        key: Some(Bytes::from_static(b"k")),
        headers: headers.map(|(name, value)| (name.into(), value)).into(),
        ..Message::default()
    };
    let subjects = SUBJECTS.iter().map(|subject| Bytes::from_static(subject.as_bytes()));
    let mut messages: Vec<Message> = subjects.map(|subject| Message { subject, ..Message::default() }).collect();
    messages.push(with);
    messages
}
