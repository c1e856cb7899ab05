//! The stored form of a filter. It is written into definitions and read by later versions: names are only ever added.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{
    AttributeTest, Field, Filter, FilterError, HeaderMatch, Number, PatternError, SubjectPattern, Text, Timestamp,
    Value, Word,
};

/// A [`Filter`] in a form that serde writes and reads without loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterRecord {
    /// [`Filter::All`].
    All,
    /// [`Filter::SubjectExact`].
    SubjectExact(BytesRecord),
    /// [`Filter::Subject`], word by word.
    Subject(Vec<WordRecord>),
    /// [`Filter::Headers`] of which all must match.
    AllHeaders(Vec<(String, Option<ValueRecord>)>),
    /// [`Filter::Headers`] of which one must match.
    AnyHeader(Vec<(String, Option<ValueRecord>)>),
    /// [`Filter::Attribute`].
    Attribute {
        /// Where to look.
        field: FieldRecord,
        /// One of these passes.
        any_of: Vec<TestRecord>,
    },
    /// [`Filter::And`].
    And(Vec<FilterRecord>),
    /// [`Filter::Or`].
    Or(Vec<FilterRecord>),
    /// [`Filter::Not`].
    Not(Box<FilterRecord>),
}

/// Why a stored filter cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Bytes are stored as base64.
    #[error("the stored filter holds bad base64")]
    Base64,
    /// Floating-point numbers are stored as text.
    #[error("the stored filter holds `{text}` where a number should be")]
    Number {
        /// What was found.
        text: String,
    },
    /// Its pattern is none.
    #[error("the stored filter holds a bad pattern: {0}")]
    Pattern(#[from] PatternError),
    /// It is beyond the limits.
    #[error("the stored filter is refused: {0}")]
    Filter(#[from] FilterError),
}

/// Bytes: as text where they are UTF-8, which is nearly always and can be read in a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BytesRecord {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Base64(String),
}

/// [`Word`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WordRecord {
    /// [`Word::Literal`].
    Literal(BytesRecord),
    /// [`Word::One`].
    One,
    /// [`Word::Any`].
    Any,
    /// [`Word::Rest`].
    Rest,
}

/// [`Field`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldRecord {
    /// [`Field::Subject`].
    Subject,
    /// [`Field::Key`].
    Key,
    /// [`Field::Header`].
    Header(String),
    /// [`Field::Body`].
    Body(Vec<String>),
}

/// [`AttributeTest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the attribute test of its name")]
pub enum TestRecord {
    Equals(ValueRecord),
    EqualsIgnoreCase(String),
    Prefix(String),
    Suffix(String),
    Wildcard(String),
    AnythingBut(Vec<TestRecord>),
    Range { from: Option<BoundRecord>, to: Option<BoundRecord> },
    Exists(bool),
    Cidr(String),
}

/// A bound of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundRecord {
    /// The number, as the shortest text that reads back to it: JSON's own numbers need not.
    pub number: String,
    /// Whether it is within the range.
    pub included: bool,
}

/// [`Value`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the value kind of its name; floating-point numbers are text")]
pub enum ValueRecord {
    Null,
    Bool(bool),
    Int { value: i64, width_bytes: u8 },
    Uint { value: u64, width_bytes: u8 },
    Float(String),
    Double(String),
    Decimal { scale: u8, unscaled: i64 },
    Text(String),
    Bytes(String),
    Timestamp(i64),
    List(Vec<ValueRecord>),
    Map(Vec<(String, ValueRecord)>),
}

impl From<&Filter> for FilterRecord {
    fn from(filter: &Filter) -> Self {
        let all = |filters: &[Filter]| filters.iter().map(Self::from).collect();
        match filter {
            Filter::All => Self::All,
            Filter::SubjectExact(subject) => Self::SubjectExact(subject.into()),
            Filter::Subject(pattern) => Self::Subject(pattern.words().iter().map(WordRecord::from).collect()),
            Filter::Headers { matching, wanted } => {
                let wanted =
                    wanted.iter().map(|(name, value)| (name.to_string(), value.as_ref().map(ValueRecord::from)));
                match matching {
                    HeaderMatch::All => Self::AllHeaders(wanted.collect()),
                    HeaderMatch::Any => Self::AnyHeader(wanted.collect()),
                }
            }
            Filter::Attribute { field, any_of } => {
                Self::Attribute { field: field.into(), any_of: any_of.iter().map(TestRecord::from).collect() }
            }
            Filter::And(filters) => Self::And(all(filters)),
            Filter::Or(filters) => Self::Or(all(filters)),
            Filter::Not(filter) => Self::Not(Box::new(Self::from(&**filter))),
        }
    }
}

impl From<Filter> for FilterRecord {
    fn from(filter: Filter) -> Self {
        Self::from(&filter)
    }
}

/// Checked against the limits, as whoever wrote the record may have had others.
impl TryFrom<FilterRecord> for Filter {
    type Error = RecordError;

    fn try_from(record: FilterRecord) -> Result<Self, RecordError> {
        let filter = read_filter(record)?;
        filter.validate()?;
        Ok(filter)
    }
}

fn read_filter(record: FilterRecord) -> Result<Filter, RecordError> {
    let all = |records: Vec<FilterRecord>| records.into_iter().map(read_filter).collect::<Result<_, _>>();
    let headers = |matching, wanted: Vec<(String, Option<ValueRecord>)>| {
        let wanted = wanted.into_iter().map(|(name, value)| Ok((Text::from(name), value.map(read_value).transpose()?)));
        Ok(Filter::Headers { matching, wanted: wanted.collect::<Result<_, RecordError>>()? })
    };
    match record {
        FilterRecord::All => Ok(Filter::All),
        FilterRecord::SubjectExact(subject) => Ok(Filter::SubjectExact(read_bytes(subject)?)),
        FilterRecord::Subject(words) => {
            let words = words.into_iter().map(read_word).collect::<Result<_, _>>()?;
            Ok(Filter::Subject(SubjectPattern::from_words(words)?))
        }
        FilterRecord::AllHeaders(wanted) => headers(HeaderMatch::All, wanted),
        FilterRecord::AnyHeader(wanted) => headers(HeaderMatch::Any, wanted),
        FilterRecord::Attribute { field, any_of } => {
            let any_of = any_of.into_iter().map(read_test).collect::<Result<_, _>>()?;
            Ok(Filter::Attribute { field: read_field(field), any_of })
        }
        FilterRecord::And(records) => Ok(Filter::And(all(records)?)),
        FilterRecord::Or(records) => Ok(Filter::Or(all(records)?)),
        FilterRecord::Not(record) => Ok(Filter::Not(Box::new(read_filter(*record)?))),
    }
}

impl From<&Bytes> for BytesRecord {
    fn from(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

fn read_bytes(record: BytesRecord) -> Result<Bytes, RecordError> {
    match record {
        BytesRecord::Text(text) => Ok(Bytes::from(text)),
        BytesRecord::Base64(text) => STANDARD.decode(text).map(Bytes::from).map_err(|_| RecordError::Base64),
    }
}

impl From<&Word> for WordRecord {
    fn from(word: &Word) -> Self {
        match word {
            Word::Literal(word) => Self::Literal(word.into()),
            Word::One => Self::One,
            Word::Any => Self::Any,
            Word::Rest => Self::Rest,
        }
    }
}

fn read_word(record: WordRecord) -> Result<Word, RecordError> {
    match record {
        WordRecord::Literal(word) => Ok(Word::Literal(read_bytes(word)?)),
        WordRecord::One => Ok(Word::One),
        WordRecord::Any => Ok(Word::Any),
        WordRecord::Rest => Ok(Word::Rest),
    }
}

impl From<&Field> for FieldRecord {
    fn from(field: &Field) -> Self {
        match field {
            Field::Subject => Self::Subject,
            Field::Key => Self::Key,
            Field::Header(name) => Self::Header(name.to_string()),
            Field::Body(path) => Self::Body(path.iter().map(ToString::to_string).collect()),
        }
    }
}

fn read_field(record: FieldRecord) -> Field {
    match record {
        FieldRecord::Subject => Field::Subject,
        FieldRecord::Key => Field::Key,
        FieldRecord::Header(name) => Field::Header(name.into()),
        FieldRecord::Body(path) => Field::Body(path.into_iter().map(Text::from).collect()),
    }
}

impl From<&AttributeTest> for TestRecord {
    fn from(test: &AttributeTest) -> Self {
        let bound = |bound: &Option<(Number, bool)>| {
            bound.map(|(number, included)| BoundRecord { number: number.to_string(), included })
        };
        match test {
            AttributeTest::Equals(value) => Self::Equals(value.into()),
            AttributeTest::EqualsIgnoreCase(text) => Self::EqualsIgnoreCase(text.to_string()),
            AttributeTest::Prefix(text) => Self::Prefix(text.to_string()),
            AttributeTest::Suffix(text) => Self::Suffix(text.to_string()),
            AttributeTest::Wildcard(text) => Self::Wildcard(text.to_string()),
            AttributeTest::AnythingBut(tests) => Self::AnythingBut(tests.iter().map(Self::from).collect()),
            AttributeTest::Range { from, to } => Self::Range { from: bound(from), to: bound(to) },
            AttributeTest::Exists(wanted) => Self::Exists(*wanted),
            AttributeTest::Cidr(text) => Self::Cidr(text.to_string()),
        }
    }
}

fn read_test(record: TestRecord) -> Result<AttributeTest, RecordError> {
    let bound = |bound: Option<BoundRecord>| {
        bound.map(|bound| Ok::<_, RecordError>((read_number(bound.number)?, bound.included))).transpose()
    };
    Ok(match record {
        TestRecord::Equals(value) => AttributeTest::Equals(read_value(value)?),
        TestRecord::EqualsIgnoreCase(text) => AttributeTest::EqualsIgnoreCase(text.into()),
        TestRecord::Prefix(text) => AttributeTest::Prefix(text.into()),
        TestRecord::Suffix(text) => AttributeTest::Suffix(text.into()),
        TestRecord::Wildcard(text) => AttributeTest::Wildcard(text.into()),
        TestRecord::AnythingBut(tests) => {
            AttributeTest::AnythingBut(tests.into_iter().map(read_test).collect::<Result<_, _>>()?)
        }
        TestRecord::Range { from, to } => AttributeTest::Range { from: bound(from)?, to: bound(to)? },
        TestRecord::Exists(wanted) => AttributeTest::Exists(wanted),
        TestRecord::Cidr(text) => AttributeTest::Cidr(text.into()),
    })
}

impl From<&Value> for ValueRecord {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int { value, width_bytes } => Self::Int { value: *value, width_bytes: *width_bytes },
            Value::Uint { value, width_bytes } => Self::Uint { value: *value, width_bytes: *width_bytes },
            Value::Float(value) => Self::Float(value.to_string()),
            Value::Double(value) => Self::Double(value.to_string()),
            Value::Decimal { scale, unscaled } => Self::Decimal { scale: *scale, unscaled: *unscaled },
            Value::Text(text) => Self::Text(text.to_string()),
            Value::Bytes(bytes) => Self::Bytes(STANDARD.encode(bytes)),
            Value::Timestamp(at) => Self::Timestamp(at.0),
            Value::List(values) => Self::List(values.iter().map(Self::from).collect()),
            Value::Map(entries) => {
                Self::Map(entries.iter().map(|(name, value)| (name.to_string(), Self::from(value))).collect())
            }
        }
    }
}

fn read_value(record: ValueRecord) -> Result<Value, RecordError> {
    Ok(match record {
        ValueRecord::Null => Value::Null,
        ValueRecord::Bool(value) => Value::Bool(value),
        ValueRecord::Int { value, width_bytes } => Value::Int { value, width_bytes },
        ValueRecord::Uint { value, width_bytes } => Value::Uint { value, width_bytes },
        ValueRecord::Float(text) => Value::Float(read_number(text)?),
        ValueRecord::Double(text) => Value::Double(read_number(text)?),
        ValueRecord::Decimal { scale, unscaled } => Value::Decimal { scale, unscaled },
        ValueRecord::Text(text) => Value::Text(text.into()),
        ValueRecord::Bytes(text) => Value::Bytes(STANDARD.decode(text).map_err(|_| RecordError::Base64)?.into()),
        ValueRecord::Timestamp(at) => Value::Timestamp(Timestamp(at)),
        ValueRecord::List(values) => Value::List(values.into_iter().map(read_value).collect::<Result<_, _>>()?),
        ValueRecord::Map(entries) => {
            let entries = entries.into_iter().map(|(name, value)| Ok((Text::from(name), read_value(value)?)));
            Value::Map(entries.collect::<Result<_, RecordError>>()?)
        }
    })
}

fn read_number<N: std::str::FromStr>(text: String) -> Result<N, RecordError> {
    text.parse().map_err(|_| RecordError::Number { text })
}
