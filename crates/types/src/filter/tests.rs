use bytes::Bytes;

use super::{AttributeTest, Field, Filter, FilterError, HeaderMatch};
use crate::limits::{MAX_FILTER_DEPTH, MAX_FILTER_NODES, MAX_FILTER_PATH, MAX_FILTER_VALUE_BYTES};
use crate::seeds::for_seeds;
use crate::{Message, SubjectPattern, Text, Value};

fn with_header(value: Value) -> Message {
    Message { headers: vec![("h".into(), value)], ..Message::default() }
}

fn header_test(test: AttributeTest) -> Filter {
    Filter::Attribute { field: Field::Header("h".into()), any_of: vec![test] }
}

/// Holds one test against header values that pass and that don't.
fn check(test: &AttributeTest, yes: &[Value], no: &[Value]) {
    let filter = header_test(test.clone());
    assert_eq!(filter.validate(), Ok(()));
    for value in yes {
        assert!(filter.matches(&with_header(value.clone())), "{test:?} should pass {value:?}");
    }
    for value in no {
        assert!(!filter.matches(&with_header(value.clone())), "{test:?} should not pass {value:?}");
    }
}

fn text(text: &str) -> Value {
    Value::from(text)
}

fn list(values: &[Value]) -> Value {
    Value::List(values.to_vec())
}

#[test]
fn numbers_are_equal_by_value_and_never_equal_to_text() {
    check(
        &AttributeTest::Equals(Value::int(5)),
        &[
            Value::Uint { value: 5, width_bytes: 1 },
            Value::Double(5.0),
            Value::Float(5.0),
            Value::Decimal { scale: 1, unscaled: 50 },
            list(&[text("x"), Value::int(5)]),
            list(&[list(&[Value::int(5)])]),
        ],
        &[text("5"), Value::int(6), Value::Bool(true), Value::Null, Value::Double(f64::NAN), list(&[])],
    );
    // A float cannot tell these two apart.
    check(&AttributeTest::Equals(Value::int(i64::MAX)), &[Value::int(i64::MAX)], &[Value::int(i64::MAX - 1)]);
    check(&AttributeTest::Equals(text("5")), &[text("5"), Value::Bytes(Bytes::from_static(b"5"))], &[Value::int(5)]);
    check(&AttributeTest::Equals(Value::Null), &[Value::Null], &[text(""), Value::Bool(false)]);
    check(&AttributeTest::Equals(Value::Bool(true)), &[Value::Bool(true)], &[Value::Bool(false), Value::int(1)]);
}

#[test]
fn text_tests() {
    check(&AttributeTest::EqualsIgnoreCase("AbC".into()), &[text("abc"), text("ABC")], &[text("abcd"), text("ab")]);
    check(&AttributeTest::Prefix("ab".into()), &[text("ab"), text("abc")], &[text("a"), text("xab"), Value::int(1)]);
    check(&AttributeTest::Suffix("bc".into()), &[text("bc"), text("abc")], &[text("c"), text("bcx")]);
}

#[test]
fn wildcards_take_any_run_and_know_escapes() {
    let check = |pattern: &str, yes: &[&str], no: &[&str]| {
        let values = |texts: &[&str]| texts.iter().copied().map(text).collect::<Vec<_>>();
        check(&AttributeTest::Wildcard(pattern.into()), &values(yes), &values(no));
    };
    check("a*c", &["ac", "abc", "abbc", "acc"], &["a", "c", "abcd", "xac"]);
    check("*", &["", "a", "ä"], &[]);
    check("a", &["a"], &["", "aa"]);
    check("*.log", &[".log", "a.log", "a.log.log"], &["a.log1"]);
    check("a*b*a", &["aba", "axbxa"], &["ab", "aa", "ba"]);
    check("a*a", &["aa", "aaa"], &["a"]);
    check("a\\*b", &["a*b"], &["axb", "a\\b"]);
    check("a\\\\*", &["a\\", "a\\x"], &["a", "a*"]);
    check("**a**", &["a", "xax"], &["x"]);
}

#[test]
fn wildcards_agree_with_their_definition() {
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], _) => text.is_empty(),
            ([b'*', rest @ ..], _) => {
                naive(rest, text) || text.split_first().is_some_and(|(_, text)| naive(pattern, text))
            }
            ([b'\\', c @ (b'*' | b'\\'), rest @ ..], [have, text @ ..]) if c == have => naive(rest, text),
            ([b'\\', b'*' | b'\\', ..], _) => false,
            ([c, rest @ ..], [have, text @ ..]) => c == have && naive(rest, text),
            _ => false,
        }
    }
    for_seeds(5000, |rng| {
        let pieces = ["a", "b", "*", "\\*", "\\\\"];
        let pattern: String = (0..rng.usize(0..8)).map(|_| pieces[rng.usize(0..pieces.len())]).collect();
        let have: String = (0..rng.usize(0..8)).map(|_| ["a", "b", "*", "\\"][rng.usize(0..4)]).collect();
        let passes = header_test(AttributeTest::Wildcard(pattern.as_str().into())).matches(&with_header(text(&have)));
        assert_eq!(passes, naive(pattern.as_bytes(), have.as_bytes()), "{pattern} on {have}");
    });
}

#[test]
fn anything_but_passes_if_one_value_is_another() {
    let but = AttributeTest::AnythingBut(vec![
        AttributeTest::Equals(text("rugby")),
        AttributeTest::Prefix("ten".into()),
        AttributeTest::Equals(Value::int(7)),
    ]);
    let both = list(&[text("rugby"), text("baseball")]);
    check(
        &but,
        &[text("baseball"), both, Value::int(8)],
        &[text("rugby"), text("tennis"), Value::Double(7.0), list(&[]), list(&[text("rugby"), text("ten")])],
    );
    assert!(!header_test(but).matches(&Message::default()), "a field that is not there has no other value");
}

#[test]
fn ranges_include_what_they_say() {
    let range = |from, to| AttributeTest::Range { from, to };
    let double = Value::Double;
    check(
        &range(Some((1.0, true)), Some((2.0, false))),
        &[Value::int(1), double(1.99)],
        &[double(0.99), Value::int(2), text("1"), double(f64::NAN)],
    );
    check(&range(Some((1.0, false)), None), &[double(1.01)], &[Value::int(1), double(f64::INFINITY)]);
    check(&range(None, Some((0.0, true))), &[Value::int(0), Value::int(-5)], &[double(0.1)]);
}

#[test]
fn networks_contain_addresses() {
    let cidr = |network: &str| AttributeTest::Cidr(network.into());
    check(&cidr("10.0.0.0/24"), &[text("10.0.0.255"), text("10.0.0.0")], &[text("10.0.1.0"), text("x"), text("::1")]);
    check(&cidr("10.0.0.7/0"), &[text("255.1.1.1")], &[text("::1")]);
    check(&cidr("10.0.0.7/32"), &[text("10.0.0.7")], &[text("10.0.0.6")]);
    check(&cidr("2001:db8::/32"), &[text("2001:db8:1::1")], &[text("2001:db9::1"), text("1.2.3.4")]);
    check(&cidr("::/0"), &[text("::1")], &[text("1.2.3.4")]);
    check(&cidr("::1/128"), &[text("::1")], &[text("::2")]);
}

#[test]
fn existence_is_asked_of_the_field() {
    let exists = |wanted| header_test(AttributeTest::Exists(wanted));
    for (message, there) in [
        (Message::default(), false),
        (with_header(Value::Null), true),
        (with_header(list(&[])), false),
        (with_header(text("")), true),
    ] {
        assert_eq!(exists(true).matches(&message), there);
        assert_eq!(exists(false).matches(&message), !there);
    }
}

#[test]
fn subject_and_key_are_fields_and_bodies_are_not_looked_into() {
    let field = |field, test| Filter::Attribute { field, any_of: vec![test] };
    let message = Message { key: Some(Bytes::from_static(b"\xffk")), ..Message::new("orders.eu", "{\"a\":1}") };
    assert!(field(Field::Subject, AttributeTest::Suffix(".eu".into())).matches(&message));
    assert!(field(Field::Key, AttributeTest::Suffix("k".into())).matches(&message));
    assert!(field(Field::Key, AttributeTest::Equals(Value::Bytes(Bytes::from_static(b"\xffk")))).matches(&message));
    assert!(!field(Field::Body(vec!["a".into()]), AttributeTest::Exists(true)).matches(&message));
}

#[test]
fn header_filters_match_any_or_all() {
    let wanted: Vec<(Text, Option<Value>)> = vec![("a".into(), Some(Value::int(1))), ("b".into(), None)];
    let filter = |matching| Filter::Headers { matching, wanted: wanted.clone() };
    let message = |headers: &[(&str, Value)]| Message {
        headers: headers.iter().map(|(name, value)| (Text::from(*name), value.clone())).collect(),
        ..Message::default()
    };
    let both = message(&[("b", Value::Null), ("a", Value::int(2)), ("a", Value::int(1))]);
    let one = message(&[("a", Value::int(1))]);
    let neither = message(&[("a", text("1"))]);
    for (message, all, any) in [(&both, true, true), (&one, false, true), (&neither, false, false)] {
        assert_eq!(filter(HeaderMatch::All).matches(message), all);
        assert_eq!(filter(HeaderMatch::Any).matches(message), any);
    }
    let whole = list(&[Value::int(1), Value::int(2)]);
    let wants_list = Filter::Headers { matching: HeaderMatch::All, wanted: vec![("h".into(), Some(whole.clone()))] };
    assert!(wants_list.matches(&with_header(whole)) && !wants_list.matches(&with_header(Value::int(1))));
}

#[test]
fn filters_beyond_the_limits_are_refused() {
    let check = |filter: Filter, want: Result<(), FilterError>| assert_eq!(filter.validate(), want);
    let nested = |depth: usize| (0..depth).fold(Filter::All, |inner, _| Filter::Not(Box::new(inner)));
    check(nested(MAX_FILTER_DEPTH), Ok(()));
    check(nested(MAX_FILTER_DEPTH + 1), Err(FilterError::TooDeep));
    check(Filter::Or(vec![Filter::All; MAX_FILTER_NODES - 1]), Ok(()));
    check(Filter::Or(vec![Filter::All; MAX_FILTER_NODES]), Err(FilterError::TooManyNodes));
    let long = "x".repeat(MAX_FILTER_VALUE_BYTES + 1);
    let len_bytes = long.len();
    check(header_test(AttributeTest::Prefix(long.as_str().into())), Err(FilterError::ValueTooLong { len_bytes }));
    check(header_test(AttributeTest::Equals(text(&long))), Err(FilterError::ValueTooLong { len_bytes }));
    check(Filter::SubjectExact(Bytes::from(vec![b'x'; 4097])), Err(FilterError::SubjectTooLong { len_bytes: 4097 }));
    check(header_test(AttributeTest::Equals(Value::Double(f64::NAN))), Err(FilterError::NotFinite));
    check(header_test(AttributeTest::Wildcard("a\\b".into())), Err(FilterError::BadEscape));
    check(header_test(AttributeTest::Wildcard("a\\".into())), Err(FilterError::BadEscape));
    for network in ["10.0.0.0", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8"] {
        check(header_test(AttributeTest::Cidr(network.into())), Err(FilterError::BadNetwork { text: network.into() }));
    }
    let range = |from, to| header_test(AttributeTest::Range { from, to });
    check(range(None, None), Err(FilterError::UnboundedRange));
    check(range(Some((2.0, true)), Some((1.0, true))), Err(FilterError::EmptyRange));
    check(range(Some((2.0, true)), Some((2.0, false))), Err(FilterError::EmptyRange));
    check(range(Some((2.0, true)), Some((2.0, true))), Ok(()));
    check(range(Some((f64::INFINITY, true)), None), Err(FilterError::NotFinite));
    check(header_test(AttributeTest::AnythingBut(vec![])), Err(FilterError::EmptyAnythingBut));
    check(header_test(AttributeTest::AnythingBut(vec![AttributeTest::Exists(true)])), Err(FilterError::ExistsWithin));
    let body = |path| Filter::Attribute { field: Field::Body(path), any_of: vec![AttributeTest::Exists(true)] };
    check(body(vec![]), Err(FilterError::EmptyPath));
    check(body(vec!["a".into(); MAX_FILTER_PATH + 1]), Err(FilterError::PathTooLong));
    let deep = (0..20).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    check(header_test(AttributeTest::Equals(deep)), Err(FilterError::ValueTooDeep));
    let unnamed = Filter::Headers { matching: HeaderMatch::All, wanted: vec![(Text::default(), None)] };
    check(unnamed, Err(FilterError::EmptyHeaderName));
}

#[test]
fn simple_filters_say_it_in_the_fewest_words() {
    let never = || Filter::Or(vec![]);
    let not = |filter| Filter::Not(Box::new(filter));
    let exact = || Filter::SubjectExact("a.b".into());
    let pattern = |text| Filter::Subject(SubjectPattern::parse(text).unwrap());
    for (filter, want) in [
        (pattern("a.b"), exact()),
        (pattern("#"), Filter::All),
        (pattern("#.#"), Filter::All),
        (pattern(""), Filter::SubjectExact(Bytes::new())),
        (Filter::And(vec![exact(), Filter::Headers { matching: HeaderMatch::Any, wanted: vec![] }]), never()),
        (Filter::And(vec![Filter::And(vec![exact()]), Filter::All]), exact()),
        (Filter::Or(vec![exact(), never(), Filter::Or(vec![exact()])]), Filter::Or(vec![exact(), exact()])),
        (Filter::Or(vec![exact(), not(never())]), Filter::All),
        (not(not(exact())), exact()),
        (not(Filter::And(vec![])), never()),
    ] {
        assert_eq!(filter.clone().simplify(), want, "{filter:?}");
    }
}

fn random_filter(rng: &mut fastrand::Rng, depth: u8) -> Filter {
    let many = |rng: &mut fastrand::Rng| (0..rng.usize(0..3)).map(|_| random_filter(rng, depth - 1)).collect();
    match rng.u8(0..if depth == 0 { 6 } else { 10 }) {
        0 => Filter::All,
        1 => Filter::SubjectExact(Bytes::from_static(if rng.bool() { b"a" } else { b"b" })),
        2 => {
            Filter::Subject(SubjectPattern::parse(["a", "#", "a.*", "*", ">", "a.#", "#.#"][rng.usize(0..7)]).unwrap())
        }
        3 | 4 => {
            let matching = if rng.bool() { HeaderMatch::All } else { HeaderMatch::Any };
            let wanted =
                (0..rng.usize(0..3)).map(|_| ("h".into(), rng.bool().then(|| Value::int(rng.i64(0..3))))).collect();
            Filter::Headers { matching, wanted }
        }
        5 => Filter::Attribute {
            field: if rng.bool() { Field::Header("h".into()) } else { Field::Subject },
            any_of: (0..rng.usize(0..3))
                .map(|_| match rng.u8(0..4) {
                    0 => AttributeTest::Exists(rng.bool()),
                    1 => AttributeTest::Prefix("a".into()),
                    2 => AttributeTest::Range { from: Some((1.0, rng.bool())), to: None },
                    _ => AttributeTest::AnythingBut(vec![AttributeTest::Equals(Value::int(1))]),
                })
                .collect(),
        },
        6 => Filter::And(many(rng)),
        7 => Filter::Or(many(rng)),
        _ => Filter::Not(Box::new(random_filter(rng, depth - 1))),
    }
}

/// The filter's meaning over values collected first, test by test: slower and plainer than the real one.
fn naive(filter: &Filter, message: &Message) -> bool {
    let values = |name: &str| -> Vec<Value> {
        let of = message.headers.iter().filter(|(have, _)| *have == *name).map(|(_, value)| value);
        of.flat_map(|value| if let Value::List(values) = value { values.clone() } else { vec![value.clone()] })
            .collect()
    };
    let number = |value: &Value| value.as_f64();
    let test = |values: &[Value], test: &AttributeTest| match test {
        AttributeTest::Exists(wanted) => values.is_empty() != *wanted,
        AttributeTest::Prefix(prefix) => {
            values.iter().any(|value| value.as_text().is_some_and(|text| text.starts_with(&**prefix)))
        }
        AttributeTest::Range { from: Some((from, included)), .. } => {
            values.iter().filter_map(number).any(|have| if *included { have >= *from } else { have > *from })
        }
        AttributeTest::AnythingBut(_) => values.iter().any(|value| number(value) != Some(1.0)),
        other => panic!("the generator makes no {other:?}"),
    };
    match filter {
        Filter::All => true,
        Filter::SubjectExact(subject) => message.subject == subject,
        Filter::Subject(pattern) => pattern.matches(&message.subject),
        Filter::Headers { matching, wanted } => {
            let met = wanted
                .iter()
                .filter(|(name, wanted)| {
                    let there = message.header(name).is_some();
                    wanted
                        .as_ref()
                        .map_or(there, |wanted| values(name).iter().any(|have| number(have) == number(wanted)))
                })
                .count();
            if *matching == HeaderMatch::All { met == wanted.len() } else { met > 0 }
        }
        Filter::Attribute { field: Field::Header(name), any_of } => any_of.iter().any(|one| test(&values(name), one)),
        Filter::Attribute { any_of, .. } => {
            let subject = Value::from(std::str::from_utf8(&message.subject).unwrap());
            any_of.iter().any(|one| test(std::slice::from_ref(&subject), one))
        }
        Filter::And(filters) => filters.iter().filter(|filter| !naive(filter, message)).count() == 0,
        Filter::Or(filters) => filters.iter().filter(|filter| naive(filter, message)).count() > 0,
        Filter::Not(filter) => !naive(filter, message),
    }
}

#[test]
fn filters_agree_with_a_plain_reading_and_simplify_keeps_their_meaning() {
    for_seeds(3000, |rng| {
        let filter = random_filter(rng, 3);
        let simple = filter.clone().simplify();
        for _ in 0..10 {
            let value = |rng: &mut fastrand::Rng| if rng.u8(0..4) == 0 { text("a") } else { Value::int(rng.i64(0..3)) };
            let headers = (0..rng.usize(0..3))
                .map(|_| {
                    let value = if rng.bool() {
                        value(rng)
                    } else {
                        Value::List((0..rng.usize(0..3)).map(|_| value(rng)).collect())
                    };
                    (Text::from(if rng.u8(0..4) == 0 { "other" } else { "h" }), value)
                })
                .collect();
            let subject = Bytes::from(["", "a", "b", "a.b", "a.b.c"][rng.usize(0..5)]);
            let message = Message { subject, headers, ..Message::default() };
            let want = naive(&filter, &message);
            assert_eq!(filter.matches(&message), want, "{filter:?} on {message:?}");
            assert_eq!(simple.matches(&message), want, "{simple:?}, from {filter:?}, on {message:?}");
        }
        assert_eq!(simple.clone().simplify(), simple, "simplifying twice changes nothing more");
    });
}
