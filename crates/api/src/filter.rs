//! What a binding lets through, in JSON.
//!
//! A filter is `"all"` or an object of one member, named by its kind: `{"subject": "orders.*.created"}`,
//! `{"headers": {"match": "all", "wanted": [{"name": "region", "value": "eu"}]}}`,
//! `{"attribute": {"field": {"header": "price"}, "any_of": [{"range": {"gte": 100}}]}}`, `{"and": [..]}`, `{"or": [..]}`, `{"not": ..}`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{PatternError, SubjectPattern, Text};
use utoipa::ToSchema;

use crate::value::HeaderValue;

/// A condition on a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(no_recursion)]
pub enum Filter {
    /// Everything passes.
    #[default]
    All,
    /// The subject fits the pattern: `*` is one word, `#` any number of words, `>` the rest.
    Subject(String),
    /// A pattern that the notation of `subject` cannot write, word by word.
    SubjectWords(Vec<Word>),
    /// The subject is this text.
    SubjectExact(String),
    /// The subject is these bytes, in base64.
    SubjectExactBase64(String),
    /// Headers have these values.
    Headers {
        /// Whether all must match or one suffices.
        #[serde(rename = "match")]
        matching: MatchKind,
        /// The wanted headers.
        wanted: Vec<WantedHeader>,
    },
    /// One field passes any of the tests.
    Attribute {
        /// Where to look.
        field: Field,
        /// Alternatives: one that passes is enough.
        any_of: Vec<AttributeTest>,
    },
    /// All of these pass. Of none: passes.
    And(Vec<Filter>),
    /// At least one of these passes. Of none: does not pass.
    Or(Vec<Filter>),
    /// This one does not pass.
    Not(Box<Filter>),
}

/// A word of a subject pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Exactly this word.
    Literal(String),
    /// Exactly these bytes, in base64.
    LiteralBase64(String),
    /// Any one word.
    One,
    /// Any number of words.
    Any,
    /// The rest, at least one word.
    Rest,
}

/// How many of the wanted headers must match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MatchKind {
    /// All of them.
    #[default]
    All,
    /// At least one.
    Any,
}

/// A header that is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WantedHeader {
    /// Its name.
    pub name: String,
    /// Its value; missing asks only that the header is there.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schema(value_type = serde_json::Value, required = false)]
    pub value: Option<HeaderValue>,
}

/// `null` is a value too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<HeaderValue>, D::Error> {
    HeaderValue::deserialize(deserializer).map(Some)
}

/// A part of a message that a test looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// The subject.
    Subject,
    /// The key.
    Key,
    /// The header of this name.
    Header(String),
    /// The value at this path of a JSON body.
    Body(Vec<String>),
}

/// A test of one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(no_recursion)]
pub enum AttributeTest {
    /// Equal; numbers by value.
    Equals(HeaderValue),
    /// Equal but for ASCII case.
    EqualsIgnoreCase(String),
    /// Text that starts so.
    Prefix(String),
    /// Text that ends so.
    Suffix(String),
    /// Text that fits a pattern in which `*` stands for any run of characters.
    Wildcard(String),
    /// The field is there, and no value of it passes any of these.
    AnythingBut(Vec<AttributeTest>),
    /// A number within bounds.
    Range(Bound),
    /// The field is there (`true`) or not (`false`).
    Exists(bool),
    /// An IP address within this network, such as `10.0.0.0/24`.
    Cidr(String),
}

/// Bounds of a number. At most one of `gt` and `gte`, and of `lt` and `lte`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bound {
    /// Above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gt: Option<f64>,
    /// At or above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gte: Option<f64>,
    /// Below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lt: Option<f64>,
    /// At or below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lte: Option<f64>,
}

/// Why a JSON filter is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// See [`PatternError`].
    #[error("subject pattern: {0}")]
    Pattern(#[from] PatternError),
    /// Not base64.
    #[error("a subject is not base64")]
    Base64,
    /// Two lower or two upper bounds.
    #[error("a range has one of `gt` and `gte`, and one of `lt` and `lte`, at most")]
    Range,
}

impl Filter {
    /// The filter that this says.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn into_filter(self) -> Result<types::Filter, FilterError> {
        let all = |filters: Vec<Self>| filters.into_iter().map(Self::into_filter).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Self::All => types::Filter::All,
            Self::Subject(pattern) => types::Filter::Subject(SubjectPattern::parse(&pattern)?),
            Self::SubjectWords(words) => {
                let words = words.into_iter().map(Word::into_word).collect::<Result<_, _>>()?;
                types::Filter::Subject(SubjectPattern::from_words(words)?)
            }
            Self::SubjectExact(text) => types::Filter::SubjectExact(Bytes::from(text)),
            Self::SubjectExactBase64(text) => types::Filter::SubjectExact(decode(&text)?),
            Self::Headers { matching, wanted } => types::Filter::Headers {
                matching: match matching {
                    MatchKind::All => types::HeaderMatch::All,
                    MatchKind::Any => types::HeaderMatch::Any,
                },
                wanted: wanted.into_iter().map(|want| (want.name.into(), want.value.map(|value| value.0))).collect(),
            },
            Self::Attribute { field, any_of } => types::Filter::Attribute {
                field: match field {
                    Field::Subject => types::Field::Subject,
                    Field::Key => types::Field::Key,
                    Field::Header(name) => types::Field::Header(name.into()),
                    Field::Body(path) => types::Field::Body(path.into_iter().map(Text::from).collect()),
                },
                any_of: any_of.into_iter().map(AttributeTest::into_test).collect::<Result<_, _>>()?,
            },
            Self::And(filters) => types::Filter::And(all(filters)?),
            Self::Or(filters) => types::Filter::Or(all(filters)?),
            Self::Not(filter) => types::Filter::Not(Box::new(filter.into_filter()?)),
        })
    }
}

fn decode(text: &str) -> Result<Bytes, FilterError> {
    BASE64.decode(text).map(Bytes::from).map_err(|_| FilterError::Base64)
}

impl Word {
    fn into_word(self) -> Result<types::Word, FilterError> {
        Ok(match self {
            Self::Literal(text) => types::Word::Literal(Bytes::from(text)),
            Self::LiteralBase64(text) => types::Word::Literal(decode(&text)?),
            Self::One => types::Word::One,
            Self::Any => types::Word::Any,
            Self::Rest => types::Word::Rest,
        })
    }
}

impl AttributeTest {
    fn into_test(self) -> Result<types::AttributeTest, FilterError> {
        Ok(match self {
            Self::Equals(value) => types::AttributeTest::Equals(value.0),
            Self::EqualsIgnoreCase(text) => types::AttributeTest::EqualsIgnoreCase(text.into()),
            Self::Prefix(text) => types::AttributeTest::Prefix(text.into()),
            Self::Suffix(text) => types::AttributeTest::Suffix(text.into()),
            Self::Wildcard(text) => types::AttributeTest::Wildcard(text.into()),
            Self::AnythingBut(tests) => {
                types::AttributeTest::AnythingBut(tests.into_iter().map(Self::into_test).collect::<Result<_, _>>()?)
            }
            Self::Range(bound) => types::AttributeTest::Range {
                from: one_bound(bound.gt, bound.gte)?,
                to: one_bound(bound.lt, bound.lte)?,
            },
            Self::Exists(there) => types::AttributeTest::Exists(there),
            Self::Cidr(network) => types::AttributeTest::Cidr(network.into()),
        })
    }
}

fn one_bound(open: Option<f64>, closed: Option<f64>) -> Result<Option<(f64, bool)>, FilterError> {
    match (open, closed) {
        (Some(_), Some(_)) => Err(FilterError::Range),
        (Some(bound), None) => Ok(Some((bound, false))),
        (None, Some(bound)) => Ok(Some((bound, true))),
        (None, None) => Ok(None),
    }
}

impl From<&types::Filter> for Filter {
    fn from(filter: &types::Filter) -> Self {
        match filter {
            types::Filter::All => Self::All,
            types::Filter::SubjectExact(subject) => match std::str::from_utf8(subject) {
                Ok(text) => Self::SubjectExact(text.to_owned()),
                Err(_) => Self::SubjectExactBase64(BASE64.encode(subject)),
            },
            types::Filter::Subject(pattern) => pattern_text(pattern)
                .map_or_else(|| Self::SubjectWords(pattern.words().iter().map(Word::from).collect()), Self::Subject),
            types::Filter::Headers { matching, wanted } => Self::Headers {
                matching: match matching {
                    types::HeaderMatch::All => MatchKind::All,
                    types::HeaderMatch::Any => MatchKind::Any,
                },
                wanted: wanted
                    .iter()
                    .map(|(name, value)| WantedHeader {
                        name: name.as_str().to_owned(),
                        value: value.clone().map(HeaderValue),
                    })
                    .collect(),
            },
            types::Filter::Attribute { field, any_of } => Self::Attribute {
                field: match field {
                    types::Field::Subject => Field::Subject,
                    types::Field::Key => Field::Key,
                    types::Field::Header(name) => Field::Header(name.as_str().to_owned()),
                    types::Field::Body(path) => Field::Body(path.iter().map(|part| part.as_str().to_owned()).collect()),
                },
                any_of: any_of.iter().map(AttributeTest::from).collect(),
            },
            types::Filter::And(filters) => Self::And(filters.iter().map(Self::from).collect()),
            types::Filter::Or(filters) => Self::Or(filters.iter().map(Self::from).collect()),
            types::Filter::Not(filter) => Self::Not(Box::new(Self::from(&**filter))),
        }
    }
}

/// The native notation, if reading it back gives the same pattern.
fn pattern_text(pattern: &SubjectPattern) -> Option<String> {
    let word = |word: &types::Word| match word {
        types::Word::Literal(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        types::Word::One => Some("*".to_owned()),
        types::Word::Any => Some("#".to_owned()),
        types::Word::Rest => Some(">".to_owned()),
    };
    let text = pattern.words().iter().map(word).collect::<Option<Vec<_>>>()?.join(".");
    (SubjectPattern::parse(&text).as_ref() == Ok(pattern)).then_some(text)
}

impl From<&types::Word> for Word {
    fn from(word: &types::Word) -> Self {
        match word {
            types::Word::Literal(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Self::Literal(text.to_owned()),
                Err(_) => Self::LiteralBase64(BASE64.encode(bytes)),
            },
            types::Word::One => Self::One,
            types::Word::Any => Self::Any,
            types::Word::Rest => Self::Rest,
        }
    }
}

impl From<&types::AttributeTest> for AttributeTest {
    fn from(test: &types::AttributeTest) -> Self {
        let text = |text: &Text| text.as_str().to_owned();
        match test {
            types::AttributeTest::Equals(value) => Self::Equals(HeaderValue(value.clone())),
            types::AttributeTest::EqualsIgnoreCase(value) => Self::EqualsIgnoreCase(text(value)),
            types::AttributeTest::Prefix(value) => Self::Prefix(text(value)),
            types::AttributeTest::Suffix(value) => Self::Suffix(text(value)),
            types::AttributeTest::Wildcard(value) => Self::Wildcard(text(value)),
            types::AttributeTest::AnythingBut(tests) => Self::AnythingBut(tests.iter().map(Self::from).collect()),
            types::AttributeTest::Range { from, to } => {
                let (lower, upper) =
                    (|include| move |(bound, inclusive): &(f64, bool)| (*inclusive == include).then_some(*bound), *to);
                Self::Range(Bound {
                    gt: from.as_ref().and_then(lower(false)),
                    gte: from.as_ref().and_then(lower(true)),
                    lt: upper.as_ref().and_then(lower(false)),
                    lte: upper.as_ref().and_then(lower(true)),
                })
            }
            types::AttributeTest::Exists(there) => Self::Exists(*there),
            types::AttributeTest::Cidr(network) => Self::Cidr(text(network)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip(json: &str) {
        let filter: Filter = serde_json::from_str(json).unwrap();
        let read = filter.into_filter().unwrap();
        assert_eq!(serde_json::to_string(&Filter::from(&read)).unwrap(), json);
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        round_trip(r#""all""#);
        round_trip(r#"{"subject":"orders.*.created.#"}"#);
        round_trip(r#"{"subject_words":[{"literal":"*"},"one",{"literal_base64":"/w=="},"rest"]}"#);
        round_trip(r#"{"subject_exact":"a.*"}"#);
        round_trip(r#"{"subject_exact_base64":"/w=="}"#);
        round_trip(r#"{"headers":{"match":"any","wanted":[{"name":"a","value":null},{"name":"b"}]}}"#);
        round_trip(
            r#"{"attribute":{"field":{"body":["a","b"]},"any_of":[{"equals":1},{"prefix":"x"},{"anything_but":[{"suffix":"y"}]},{"range":{"gt":1.0,"lte":2.0}},{"exists":false},{"cidr":"10.0.0.0/8"},{"wildcard":"a*"},{"equals_ignore_case":"z"}]}}"#,
        );
        round_trip(r#"{"and":[{"or":[]},{"not":"all"},{"attribute":{"field":"key","any_of":[]}}]}"#);
    }

    #[test]
    fn bad_filters_say_why() {
        for (json, part) in [
            (r#"{"subject":"a.>.b"}"#, "last word"),
            (r#"{"subject_exact_base64":"!"}"#, "base64"),
            (r#"{"attribute":{"field":"key","any_of":[{"range":{"gt":1,"gte":1}}]}}"#, "at most"),
        ] {
            let filter: Filter = serde_json::from_str(json).unwrap();
            let error = filter.into_filter().unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
