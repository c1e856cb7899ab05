//! Whether a filter is within the limits, and what it comes down to.

use super::matching::Network;
use super::{AttributeTest, Field, Filter, HeaderMatch};
use crate::limits::{
    MAX_FILTER_DEPTH, MAX_FILTER_NODES, MAX_FILTER_PATH, MAX_FILTER_VALUE_BYTES, MAX_SUBJECT_BYTES, MAX_VALUE_DEPTH,
};
use crate::{Number, Text, Value};

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// See [`MAX_FILTER_NODES`].
    #[error("a filter has at most {MAX_FILTER_NODES} conditions")]
    TooManyNodes,
    /// See [`MAX_FILTER_DEPTH`].
    #[error("a filter is nested at most {MAX_FILTER_DEPTH} deep")]
    TooDeep,
    /// See [`MAX_SUBJECT_BYTES`].
    #[error("a subject has at most {MAX_SUBJECT_BYTES} bytes; the filter's has {len_bytes}")]
    SubjectTooLong {
        /// The length found.
        len_bytes: usize,
    },
    /// See [`MAX_FILTER_VALUE_BYTES`].
    #[error("a text or value in a filter has at most {MAX_FILTER_VALUE_BYTES} bytes; this one has {len_bytes}")]
    ValueTooLong {
        /// The length found.
        len_bytes: usize,
    },
    /// See [`MAX_VALUE_DEPTH`].
    #[error("a value is nested at most {MAX_VALUE_DEPTH} deep")]
    ValueTooDeep,
    /// A header filter names its headers.
    #[error("a header filter names its headers; this name is empty")]
    EmptyHeaderName,
    /// A path into a body has at least one name.
    #[error("the path into the body is empty")]
    EmptyPath,
    /// See [`MAX_FILTER_PATH`].
    #[error("a path into the body has at most {MAX_FILTER_PATH} names")]
    PathTooLong,
    /// Infinities and not-a-number compare with nothing.
    #[error("a number in a filter must be finite")]
    NotFinite,
    /// No number is in the range.
    #[error("the range is empty: its lower bound is above its upper one")]
    EmptyRange,
    /// A range has at least one bound.
    #[error("the range has no bound")]
    UnboundedRange,
    /// An `anything-but` without alternatives excludes nothing.
    #[error("`anything-but` lists at least one test")]
    EmptyAnythingBut,
    /// `Exists` asks about the field as a whole, so it cannot stand within `AnythingBut`.
    #[error("`exists` cannot stand within `anything-but`")]
    ExistsWithin,
    /// After a backslash only `*` and another backslash have a meaning.
    #[error("in a wildcard a backslash must be followed by `*` or another backslash")]
    BadEscape,
    /// Such as `10.0.0.0/24` or `2001:db8::/32`.
    #[error("`{text}` is no network: write an address, a slash and the number of bits")]
    BadNetwork {
        /// What was found.
        text: Text,
    },
}

impl Filter {
    /// Checks the filter against the limits and for what could never be meant.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn validate(&self) -> Result<(), FilterError> {
        check_filter(self, &mut 0, MAX_FILTER_DEPTH)
    }

    /// The same filter in fewer words: combinators flattened, conditions that always or never hold taken out, patterns that
    /// select one subject or all told so. `Or` of none stands for what never passes.
    #[must_use]
    pub fn simplify(self) -> Self {
        match self {
            Self::Subject(pattern) => match pattern.as_literal() {
                _ if pattern.is_everything() => Self::All,
                Some(subject) => Self::SubjectExact(subject),
                None => Self::Subject(pattern),
            },
            Self::Headers { matching, wanted } if wanted.is_empty() => match matching {
                HeaderMatch::All => Self::All,
                HeaderMatch::Any => Self::Or(Vec::new()),
            },
            Self::Attribute { any_of, .. } if any_of.is_empty() => Self::Or(Vec::new()),
            Self::And(filters) => {
                let mut parts = Vec::with_capacity(filters.len());
                for filter in filters {
                    match filter.simplify() {
                        Self::All => {}
                        Self::And(inner) => parts.extend(inner),
                        Self::Or(none) if none.is_empty() => return Self::Or(none),
                        part => parts.push(part),
                    }
                }
                single(parts, Self::And, Self::All)
            }
            Self::Or(filters) => {
                let mut parts = Vec::with_capacity(filters.len());
                for filter in filters {
                    match filter.simplify() {
                        Self::All => return Self::All,
                        Self::Or(inner) => parts.extend(inner),
                        part => parts.push(part),
                    }
                }
                single(parts, Self::Or, Self::Or(Vec::new()))
            }
            Self::Not(filter) => match filter.simplify() {
                Self::All => Self::Or(Vec::new()),
                Self::Or(none) if none.is_empty() => Self::All,
                Self::Not(inner) => *inner,
                filter => Self::Not(Box::new(filter)),
            },
            other => other,
        }
    }
}

fn single(mut parts: Vec<Filter>, many: fn(Vec<Filter>) -> Filter, none: Filter) -> Filter {
    match parts.len() {
        0 => none,
        1 => parts.pop().unwrap_or(none),
        _ => many(parts),
    }
}

fn count(nodes: &mut usize) -> Result<(), FilterError> {
    *nodes += 1;
    if *nodes > MAX_FILTER_NODES { Err(FilterError::TooManyNodes) } else { Ok(()) }
}

fn check_filter(filter: &Filter, nodes: &mut usize, depth: usize) -> Result<(), FilterError> {
    count(nodes)?;
    let deeper = || depth.checked_sub(1).ok_or(FilterError::TooDeep);
    match filter {
        Filter::All => Ok(()),
        Filter::Subject(_) => Ok(()), // A pattern cannot be made beyond its limits.
        Filter::SubjectExact(subject) if subject.len() > MAX_SUBJECT_BYTES => {
            Err(FilterError::SubjectTooLong { len_bytes: subject.len() })
        }
        Filter::SubjectExact(_) => Ok(()),
        Filter::Headers { wanted, .. } => wanted.iter().try_for_each(|(name, value)| {
            count(nodes)?;
            check_header_name(name)?;
            value.as_ref().map_or(Ok(()), check_value)
        }),
        Filter::Attribute { field, any_of } => {
            check_field(field)?;
            any_of.iter().try_for_each(|test| check_test(test, nodes, depth, false))
        }
        Filter::And(filters) | Filter::Or(filters) => {
            let depth = deeper()?;
            filters.iter().try_for_each(|filter| check_filter(filter, nodes, depth))
        }
        Filter::Not(filter) => check_filter(filter, nodes, deeper()?),
    }
}

fn check_field(field: &Field) -> Result<(), FilterError> {
    match field {
        Field::Subject | Field::Key => Ok(()),
        Field::Header(name) => check_header_name(name),
        Field::Body(path) if path.is_empty() => Err(FilterError::EmptyPath),
        Field::Body(path) if path.len() > MAX_FILTER_PATH => Err(FilterError::PathTooLong),
        Field::Body(path) => path.iter().try_for_each(check_text),
    }
}

fn check_header_name(name: &Text) -> Result<(), FilterError> {
    if name.bytes().is_empty() { Err(FilterError::EmptyHeaderName) } else { check_text(name) }
}

fn check_text(text: &Text) -> Result<(), FilterError> {
    match text.bytes().len() {
        len_bytes if len_bytes > MAX_FILTER_VALUE_BYTES => Err(FilterError::ValueTooLong { len_bytes }),
        _ => Ok(()),
    }
}

fn check_test(test: &AttributeTest, nodes: &mut usize, depth: usize, within: bool) -> Result<(), FilterError> {
    count(nodes)?;
    match test {
        AttributeTest::Equals(value) => check_value(value),
        AttributeTest::EqualsIgnoreCase(text) | AttributeTest::Prefix(text) | AttributeTest::Suffix(text) => {
            check_text(text)
        }
        AttributeTest::Wildcard(pattern) => {
            check_text(pattern)?;
            let mut chars = pattern.chars();
            while let Some(c) = chars.next() {
                if c == '\\' && !matches!(chars.next(), Some('*' | '\\')) {
                    return Err(FilterError::BadEscape);
                }
            }
            Ok(())
        }
        AttributeTest::AnythingBut(tests) if tests.is_empty() => Err(FilterError::EmptyAnythingBut),
        AttributeTest::AnythingBut(tests) => {
            let depth = depth.checked_sub(1).ok_or(FilterError::TooDeep)?;
            tests.iter().try_for_each(|test| check_test(test, nodes, depth, true))
        }
        AttributeTest::Range { from, to } => check_range(from.as_ref(), to.as_ref()),
        AttributeTest::Exists(_) if within => Err(FilterError::ExistsWithin),
        AttributeTest::Exists(_) => Ok(()),
        AttributeTest::Cidr(text) => {
            check_text(text)?;
            Network::parse(text).map(|_| ()).ok_or_else(|| FilterError::BadNetwork { text: text.clone() })
        }
    }
}

fn check_range(from: Option<&(Number, bool)>, to: Option<&(Number, bool)>) -> Result<(), FilterError> {
    if from.into_iter().chain(to).any(|(bound, _)| !bound.is_finite()) {
        return Err(FilterError::NotFinite);
    }
    #[allow(clippy::float_cmp, reason = "a range of one number must include it from both sides")]
    match (from, to) {
        (None, None) => Err(FilterError::UnboundedRange),
        (Some((from, _)), Some((to, _))) if from > to => Err(FilterError::EmptyRange),
        (Some((from, low)), Some((to, high))) if from == to && !(*low && *high) => Err(FilterError::EmptyRange),
        _ => Ok(()),
    }
}

fn check_value(value: &Value) -> Result<(), FilterError> {
    fn walk(value: &Value, depth: usize) -> Result<(), FilterError> {
        let deeper = || depth.checked_sub(1).ok_or(FilterError::ValueTooDeep);
        match value {
            Value::Float(number) if !number.is_finite() => Err(FilterError::NotFinite),
            Value::Double(number) if !number.is_finite() => Err(FilterError::NotFinite),
            Value::List(values) => {
                let depth = deeper()?;
                values.iter().try_for_each(|value| walk(value, depth))
            }
            Value::Map(entries) => {
                let depth = deeper()?;
                entries.iter().try_for_each(|(_, value)| walk(value, depth))
            }
            _ => Ok(()),
        }
    }
    // The depth comes first: the weight is counted by recursion.
    walk(value, MAX_VALUE_DEPTH)?;
    match value.weight_bytes() {
        len_bytes if len_bytes > MAX_FILTER_VALUE_BYTES => Err(FilterError::ValueTooLong { len_bytes }),
        _ => Ok(()),
    }
}
