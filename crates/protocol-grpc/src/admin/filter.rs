//! Filters of bindings: from the API's words to ours and back.

use api::grpc as g;
use types::{AttributeTest, Field, Filter, HeaderMatch, SubjectPattern, Text, Word};

use crate::failure::Failure;
use crate::input::known;

fn wrong(why: impl Into<String>) -> Failure {
    Failure::invalid("filter", why)
}

/// # Errors
/// If the filter makes no sense. How deep and how large it may be, the broker says.
pub(super) fn filter_to(filter: g::Filter) -> Result<Filter, Failure> {
    use g::filter::Kind;
    let all = |filters: g::Filters| filters.filters.into_iter().map(filter_to).collect::<Result<Vec<_>, _>>();
    Ok(match filter.kind {
        None => Filter::All,
        Some(Kind::Subject(pattern)) => {
            Filter::Subject(SubjectPattern::parse(&pattern).map_err(|error| wrong(error.to_string()))?)
        }
        Some(Kind::SubjectWords(words)) => {
            let words = words.words.into_iter().map(word_to).collect::<Result<Vec<_>, _>>()?;
            Filter::Subject(SubjectPattern::from_words(words).map_err(|error| wrong(error.to_string()))?)
        }
        Some(Kind::SubjectExact(subject)) => Filter::SubjectExact(subject),
        Some(Kind::Headers(headers)) => Filter::Headers {
            matching: if headers.any { HeaderMatch::Any } else { HeaderMatch::All },
            wanted: headers
                .wanted
                .into_iter()
                .map(|want| (Text::from(want.name), want.value.map(|value| value.0)))
                .collect(),
        },
        Some(Kind::Attribute(attribute)) => Filter::Attribute {
            field: field_to(attribute.field)?,
            any_of: attribute.any_of.into_iter().map(test_to).collect::<Result<_, _>>()?,
        },
        Some(Kind::AllOf(filters)) => Filter::And(all(filters)?),
        Some(Kind::AnyOf(filters)) => Filter::Or(all(filters)?),
        Some(Kind::Not(filter)) => Filter::Not(Box::new(filter_to(*filter)?)),
    })
}

fn word_to(word: g::SubjectWord) -> Result<Word, Failure> {
    use g::subject_word::{Wildcard, Word as W};
    match word.word {
        Some(W::Literal(literal)) => Ok(Word::Literal(literal)),
        Some(W::Wildcard(number)) => match known("filter.subject_words.wildcard", number)? {
            Wildcard::One => Ok(Word::One),
            Wildcard::Any => Ok(Word::Any),
            Wildcard::Rest => Ok(Word::Rest),
            Wildcard::Unspecified => Err(wrong("a word is a literal or a wildcard")),
        },
        None => Err(wrong("a word is a literal or a wildcard")),
    }
}

fn field_to(field: Option<g::attribute_filter::Field>) -> Result<Field, Failure> {
    use g::attribute_filter::Field as F;
    Ok(match field {
        Some(F::Subject(g::WholeField {})) => Field::Subject,
        Some(F::Key(g::WholeField {})) => Field::Key,
        Some(F::Header(name)) => Field::Header(name.into()),
        Some(F::Body(path)) => Field::Body(path.names.into_iter().map(Text::from).collect()),
        None => return Err(wrong("an attribute filter says which field it looks at")),
    })
}

fn test_to(test: g::AttributeTest) -> Result<AttributeTest, Failure> {
    use g::attribute_test::Test;
    Ok(match test.test {
        Some(Test::Equals(value)) => AttributeTest::Equals(value.0),
        Some(Test::EqualsIgnoreCase(text)) => AttributeTest::EqualsIgnoreCase(text.into()),
        Some(Test::Prefix(text)) => AttributeTest::Prefix(text.into()),
        Some(Test::Suffix(text)) => AttributeTest::Suffix(text.into()),
        Some(Test::Wildcard(text)) => AttributeTest::Wildcard(text.into()),
        Some(Test::AnythingBut(tests)) => {
            AttributeTest::AnythingBut(tests.tests.into_iter().map(test_to).collect::<Result<_, _>>()?)
        }
        Some(Test::Range(range)) => {
            AttributeTest::Range { from: one_bound(range.gt, range.gte)?, to: one_bound(range.lt, range.lte)? }
        }
        Some(Test::Exists(there)) => AttributeTest::Exists(there),
        Some(Test::Cidr(network)) => AttributeTest::Cidr(network.into()),
        None => return Err(wrong("an attribute test says what it tests")),
    })
}

fn one_bound(open: Option<f64>, closed: Option<f64>) -> Result<Option<(f64, bool)>, Failure> {
    match (open, closed) {
        (Some(_), Some(_)) => Err(wrong("a range has one of `gt` and `gte`, and one of `lt` and `lte`, at most")),
        (Some(bound), None) => Ok(Some((bound, false))),
        (None, Some(bound)) => Ok(Some((bound, true))),
        (None, None) => Ok(None),
    }
}

pub(super) fn filter_from(filter: Filter) -> g::Filter {
    use g::filter::Kind;
    let all = |filters: Vec<Filter>| g::Filters { filters: filters.into_iter().map(filter_from).collect() };
    let kind = match filter {
        Filter::All => None,
        Filter::SubjectExact(subject) => Some(Kind::SubjectExact(subject)),
        Filter::Subject(pattern) => Some(pattern_from(&pattern)),
        Filter::Headers { matching, wanted } => Some(Kind::Headers(g::HeadersFilter {
            any: matching == HeaderMatch::Any,
            wanted: wanted
                .into_iter()
                .map(|(name, value)| g::WantedHeader { name: name.as_str().to_owned(), value: value.map(g::Value) })
                .collect(),
        })),
        Filter::Attribute { field, any_of } => Some(Kind::Attribute(g::AttributeFilter {
            field: Some(field_from(field)),
            any_of: any_of.into_iter().map(test_from).collect(),
        })),
        Filter::And(filters) => Some(Kind::AllOf(all(filters))),
        Filter::Or(filters) => Some(Kind::AnyOf(all(filters))),
        Filter::Not(filter) => Some(Kind::Not(Box::new(filter_from(*filter)))),
    };
    g::Filter { kind }
}

/// The native notation, if reading it back gives the same pattern; its words otherwise.
fn pattern_from(pattern: &SubjectPattern) -> g::filter::Kind {
    let text = pattern.to_string();
    if SubjectPattern::parse(&text).as_ref() == Ok(pattern) {
        return g::filter::Kind::Subject(text);
    }
    use g::subject_word::{Wildcard, Word as W};
    let word = |word: &Word| {
        let word = match word {
            Word::Literal(bytes) => W::Literal(bytes.clone()),
            Word::One => W::Wildcard(Wildcard::One.into()),
            Word::Any => W::Wildcard(Wildcard::Any.into()),
            Word::Rest => W::Wildcard(Wildcard::Rest.into()),
        };
        g::SubjectWord { word: Some(word) }
    };
    g::filter::Kind::SubjectWords(g::SubjectWords { words: pattern.words().iter().map(word).collect() })
}

fn field_from(field: Field) -> g::attribute_filter::Field {
    use g::attribute_filter::Field as F;
    let text = |text: Text| text.as_str().to_owned();
    match field {
        Field::Subject => F::Subject(g::WholeField {}),
        Field::Key => F::Key(g::WholeField {}),
        Field::Header(name) => F::Header(text(name)),
        Field::Body(path) => F::Body(g::BodyPath { names: path.into_iter().map(text).collect() }),
    }
}

fn test_from(test: AttributeTest) -> g::AttributeTest {
    use g::attribute_test::Test;
    let text = |text: Text| text.as_str().to_owned();
    let test = match test {
        AttributeTest::Equals(value) => Test::Equals(g::Value(value)),
        AttributeTest::EqualsIgnoreCase(value) => Test::EqualsIgnoreCase(text(value)),
        AttributeTest::Prefix(value) => Test::Prefix(text(value)),
        AttributeTest::Suffix(value) => Test::Suffix(text(value)),
        AttributeTest::Wildcard(value) => Test::Wildcard(text(value)),
        AttributeTest::AnythingBut(tests) => {
            Test::AnythingBut(g::AttributeTests { tests: tests.into_iter().map(test_from).collect() })
        }
        AttributeTest::Range { from, to } => {
            let part = |bound: Option<(f64, bool)>, closed: bool| {
                bound.filter(|(_, is_closed)| *is_closed == closed).map(|(bound, _)| bound)
            };
            let (gt, gte, lt, lte) = (part(from, false), part(from, true), part(to, false), part(to, true));
            Test::Range(g::NumberRange { gt, gte, lt, lte })
        }
        AttributeTest::Exists(there) => Test::Exists(there),
        AttributeTest::Cidr(network) => Test::Cidr(text(network)),
    };
    g::AttributeTest { test: Some(test) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Value;

    #[test]
    fn filters_come_back_as_they_were() {
        let tests = vec![
            AttributeTest::Equals(Value::int(1)),
            AttributeTest::EqualsIgnoreCase("a".into()),
            AttributeTest::AnythingBut(vec![AttributeTest::Prefix("p".into()), AttributeTest::Suffix("s".into())]),
            AttributeTest::Wildcard("w*".into()),
            AttributeTest::Range { from: Some((1.0, true)), to: Some((2.0, false)) },
            AttributeTest::Range { from: Some((1.0, false)), to: None },
            AttributeTest::Exists(false),
            AttributeTest::Cidr("10.0.0.0/8".into()),
        ];
        let attribute = |field| Filter::Attribute { field, any_of: tests.clone() };
        let words = vec![Word::Literal(vec![0xff].into()), Word::One, Word::Any];
        let wanted = vec![("a".into(), None), ("b".into(), Some(Value::Null))];
        let filter = Filter::And(vec![
            Filter::All,
            Filter::SubjectExact(vec![0xff].into()),
            Filter::Subject(SubjectPattern::parse("a.*.#").unwrap()),
            Filter::Subject(SubjectPattern::from_words(words).unwrap()),
            Filter::Or(vec![Filter::Headers { matching: HeaderMatch::Any, wanted }]),
            attribute(Field::Subject),
            attribute(Field::Key),
            attribute(Field::Header("h".into())),
            Filter::Not(Box::new(attribute(Field::Body(vec!["a".into(), "b".into()])))),
        ]);
        assert_eq!(filter_to(filter_from(filter.clone())).unwrap(), filter);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let of = |kind| filter_to(g::Filter { kind: Some(kind) }).unwrap_err().problem().field;
        assert_eq!(of(g::filter::Kind::Attribute(g::AttributeFilter::default())), "filter");
        assert_eq!(of(g::filter::Kind::Subject("a.>.b".to_owned())), "filter");
        let range = g::NumberRange { gt: Some(1.0), gte: Some(1.0), ..Default::default() };
        assert!(test_to(g::AttributeTest { test: Some(g::attribute_test::Test::Range(range)) }).is_err());
    }
}
