use bytes::Bytes;
use expect_test::expect;
use types::limits::MAX_FILTER_BODY_BYTES;
use types::{AttributeTest, Field, Fields, Filter, HeaderMatch, Message, SubjectPattern, Text, Timestamp, Value, Word};

use super::{FilterRecord, MessageFields, RecordError};

fn every_kind() -> Filter {
    let pattern =
        vec![Word::Literal(Bytes::from_static(b"\xff")), Word::Literal("#".into()), Word::One, Word::Any, Word::Rest];
    let values = vec![
        Value::Null,
        Value::Bool(true),
        Value::Int { value: -1, width_bytes: 2 },
        Value::Uint { value: u64::MAX, width_bytes: 8 },
        Value::Float(0.1),
        Value::Double(5e-324),
        Value::Decimal { scale: 2, unscaled: 199 },
        Value::Bytes(Bytes::from_static(b"text or not")),
        Value::Timestamp(Timestamp(-5)),
        Value::Map(vec![("a".into(), Value::from("x")), ("a".into(), Value::List(vec![]))]),
    ];
    let tests = vec![
        AttributeTest::Equals(Value::List(values)),
        AttributeTest::EqualsIgnoreCase("e".into()),
        AttributeTest::Prefix("p".into()),
        AttributeTest::Suffix("s".into()),
        AttributeTest::Wildcard("w*".into()),
        AttributeTest::AnythingBut(vec![AttributeTest::Prefix("p".into())]),
        AttributeTest::Range { from: Some((0.1 + 0.2, true)), to: None },
        AttributeTest::Exists(false),
        AttributeTest::Cidr("::/0".into()),
    ];
    let fields = [Field::Subject, Field::Key, Field::Header("h".into()), Field::Body(vec!["a".into(), "b".into()])];
    let headers =
        |matching| Filter::Headers { matching, wanted: vec![("h".into(), None), ("i".into(), Some(Value::int(1)))] };
    Filter::And(vec![
        Filter::All,
        Filter::SubjectExact(Bytes::from_static(b"\x80")),
        Filter::SubjectExact("text".into()),
        Filter::Subject(SubjectPattern::from_words(pattern).unwrap()),
        headers(HeaderMatch::All),
        headers(HeaderMatch::Any),
        Filter::Or(fields.into_iter().map(|field| Filter::Attribute { field, any_of: tests.clone() }).collect()),
        Filter::Not(Box::new(Filter::All)),
    ])
}

#[test]
fn a_stored_filter_is_read_back_without_loss() {
    let filter = every_kind();
    let json = serde_json::to_string(&FilterRecord::from(&filter)).unwrap();
    let record: FilterRecord = serde_json::from_str(&json).unwrap();
    assert_eq!(Filter::try_from(record), Ok(filter));
}

#[test]
fn the_stored_form_stays_what_it_is() {
    let filter = Filter::And(vec![
        Filter::Subject(SubjectPattern::parse("orders.*.>").unwrap()),
        Filter::Attribute {
            field: Field::Body(vec!["total".into()]),
            any_of: vec![AttributeTest::Range { from: Some((10.5, true)), to: None }],
        },
    ]);
    let json = serde_json::to_string(&FilterRecord::from(&filter)).unwrap();
    expect![[
        r#"{"and":[{"subject":[{"literal":{"text":"orders"}},"one","rest"]},{"attribute":{"field":{"body":["total"]},"any_of":[{"range":{"from":{"number":"10.5","included":true},"to":null}}]}}]}"#
    ]]
    .assert_eq(&json);
}

#[test]
fn damaged_records_are_refused() {
    let read = |json: &str| Filter::try_from(serde_json::from_str::<FilterRecord>(json).unwrap());
    assert_eq!(read(r#"{"subject_exact":{"base64":"!"}}"#), Err(RecordError::Base64));
    assert!(matches!(read(r#"{"subject":["rest","one"]}"#), Err(RecordError::Pattern(_))));
    assert!(matches!(read(r#"{"attribute":{"field":"key","any_of":[{"cidr":"x"}]}}"#), Err(RecordError::Filter(_))));
    let number =
        r#"{"attribute":{"field":"key","any_of":[{"range":{"from":{"number":"x","included":true},"to":null}}]}}"#;
    assert_eq!(read(number), Err(RecordError::Number { text: "x".into() }));
}

fn values_at(body: &str, path: &[&str]) -> Vec<Value> {
    let message = Message::new("s", body.to_owned());
    let path: Vec<Text> = path.iter().copied().map(Text::from).collect();
    let mut values = Vec::new();
    MessageFields::new(&message).for_body(&path, &mut |value| {
        values.push(value.clone());
        false
    });
    values
}

#[test]
fn json_bodies_have_fields() {
    let body = r#"{"a":{"b":[1,{"c":"x"},[2.5,18446744073709551615]]},"n":null,"l":[{"k":1},{"k":true}],"e":[]}"#;
    let check = |path: &[&str], want: &[Value]| assert_eq!(values_at(body, path), want, "{path:?}");
    check(&["a", "b"], &[Value::int(1), Value::Double(2.5), Value::Uint { value: u64::MAX, width_bytes: 8 }]);
    check(&["a", "b", "c"], &[Value::from("x")]);
    check(&["n"], &[Value::Null]);
    check(&["l", "k"], &[Value::int(1), Value::Bool(true)]);
    check(&["a"], &[]);
    check(&["e"], &[]);
    check(&["n", "x"], &[]);
    check(&[], &[]);
    assert_eq!(values_at("7", &[]), [Value::int(7)]);
}

#[test]
fn bodies_that_are_not_json_or_too_large_have_no_fields() {
    assert_eq!(values_at("{\"a\":1", &["a"]), []);
    assert_eq!(values_at(&"[".repeat(100_000), &["a"]), []);
    let padded = |len: usize| format!("{{\"a\":1{}}}", " ".repeat(len - 7));
    assert_eq!(values_at(&padded(MAX_FILTER_BODY_BYTES), &["a"]).len(), 1);
    assert_eq!(values_at(&padded(MAX_FILTER_BODY_BYTES + 1), &["a"]), []);
    let message = Message { body: None, ..Message::default() };
    assert!(!MessageFields::new(&message).for_body(&["a".into()], &mut |_| true));
}
