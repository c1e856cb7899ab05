//! Whether a message passes a filter.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;

use super::{AttributeTest, Field, Filter, HeaderMatch};
use crate::limits::MAX_VALUE_DEPTH;
use crate::{Message, MessageId, Text, Timestamp, Value};

/// What a filter may look at in a message.
pub trait Fields {
    /// The subject.
    fn subject(&self) -> &[u8];

    /// Subjects that it is routed by besides. A router asks a filter once for each of them; a filter itself looks at
    /// [`subject`](Self::subject) alone.
    fn also(&self) -> &[Bytes] {
        &[]
    }

    /// The key, if there is one.
    fn key(&self) -> Option<&[u8]>;

    /// The message's id, if it has one.
    fn id(&self) -> Option<&MessageId> {
        None
    }

    /// The correlation id, if there is one.
    fn correlation_id(&self) -> Option<&Text> {
        None
    }

    /// When the producer says that it was made, if it does.
    fn timestamp(&self) -> Option<Timestamp> {
        None
    }

    /// Shows `visit` the value of each header of this name, in order, until it answers `true`; answers what it answered last.
    fn for_header(&self, name: &str, visit: &mut dyn FnMut(&Value) -> bool) -> bool;

    /// Shows `visit` each value at this path of a JSON body, until it answers `true`; answers what it answered last. Lists on
    /// the way are entered; an object at the end of the path is no value.
    fn for_body(&self, path: &[Text], visit: &mut dyn FnMut(&Value) -> bool) -> bool;
}

/// A message without a look into its body.
impl Fields for Message {
    fn subject(&self) -> &[u8] {
        &self.subject
    }

    fn also(&self) -> &[Bytes] {
        &self.also
    }

    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn id(&self) -> Option<&MessageId> {
        self.id.as_ref()
    }

    fn correlation_id(&self) -> Option<&Text> {
        self.correlation_id.as_ref()
    }

    fn timestamp(&self) -> Option<Timestamp> {
        self.timestamp
    }

    fn for_header(&self, name: &str, visit: &mut dyn FnMut(&Value) -> bool) -> bool {
        self.headers.iter().any(|(have, value)| *have == *name && visit(value))
    }

    fn for_body(&self, _: &[Text], _: &mut dyn FnMut(&Value) -> bool) -> bool {
        false
    }
}

impl Filter {
    /// Whether the message passes.
    #[must_use]
    pub fn matches(&self, fields: &dyn Fields) -> bool {
        match self {
            Self::All => true,
            Self::SubjectExact(subject) => fields.subject() == subject,
            Self::Subject(pattern) => pattern.matches(fields.subject()),
            Self::Headers { matching, wanted } => {
                let has = |(name, value): &(Text, Option<Value>)| has_header(fields, name, value.as_ref());
                match matching {
                    HeaderMatch::All => wanted.iter().all(has),
                    HeaderMatch::Any => wanted.iter().any(has),
                }
            }
            Self::Attribute { field, any_of } => any_of.iter().any(|test| field_passes(fields, field, test)),
            Self::And(filters) => filters.iter().all(|filter| filter.matches(fields)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(fields)),
            Self::Not(filter) => !filter.matches(fields),
        }
    }
}

fn has_header(fields: &dyn Fields, name: &str, wanted: Option<&Value>) -> bool {
    fields.for_header(name, &mut |have| match wanted {
        None => true,
        Some(wanted) => {
            same(have, wanted, MAX_VALUE_DEPTH) || each_value(have, &mut |one| same(one, wanted, MAX_VALUE_DEPTH))
        }
    })
}

fn field_passes(fields: &dyn Fields, field: &Field, test: &AttributeTest) -> bool {
    if let AttributeTest::Exists(false) = test {
        return !field_passes(fields, field, &AttributeTest::Exists(true));
    }
    let visit = &mut |value: &Value| each_value(value, &mut |one| passes(one, test));
    match field {
        Field::Subject => visit(&text_or_bytes(fields.subject())),
        Field::Key => fields.key().is_some_and(|key| visit(&text_or_bytes(key))),
        Field::Header(name) => fields.for_header(name, visit),
        Field::Body(path) => fields.for_body(path, visit),
    }
}

fn text_or_bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => Value::Bytes(Bytes::copy_from_slice(bytes)),
    }
}

/// Visits the value, or the elements of a list, lists in lists too, until `visit` answers `true`.
fn each_value(value: &Value, visit: &mut dyn FnMut(&Value) -> bool) -> bool {
    fn walk(value: &Value, depth: usize, visit: &mut dyn FnMut(&Value) -> bool) -> bool {
        match value {
            Value::List(values) => depth > 0 && values.iter().any(|value| walk(value, depth - 1, visit)),
            value => visit(value),
        }
    }
    walk(value, MAX_VALUE_DEPTH, visit)
}

/// Whether one value passes. Bytes that are UTF-8 count as text: some protocols' headers know no other kind.
fn passes(value: &Value, test: &AttributeTest) -> bool {
    let text = || bytes_of(value).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match test {
        AttributeTest::Equals(wanted) => same(value, wanted, MAX_VALUE_DEPTH),
        AttributeTest::EqualsIgnoreCase(wanted) => {
            bytes_of(value).is_some_and(|have| have.eq_ignore_ascii_case(wanted.bytes()))
        }
        AttributeTest::Prefix(prefix) => bytes_of(value).is_some_and(|have| have.starts_with(prefix.bytes())),
        AttributeTest::Suffix(suffix) => bytes_of(value).is_some_and(|have| have.ends_with(suffix.bytes())),
        AttributeTest::Wildcard(pattern) => text().is_some_and(|have| wildcard(pattern, have)),
        AttributeTest::AnythingBut(tests) => !tests.iter().any(|test| passes(value, test)),
        AttributeTest::Range { from, to } => value.as_f64().is_some_and(|have| {
            from.is_none_or(|(bound, included)| have > bound || (included && have == bound))
                && to.is_none_or(|(bound, included)| have < bound || (included && have == bound))
                && have.is_finite()
        }),
        AttributeTest::Exists(wanted) => *wanted,
        AttributeTest::Cidr(network) => match (Network::parse(network), text().map(str::parse::<IpAddr>)) {
            (Some(network), Some(Ok(address))) => network.contains(address),
            _ => false,
        },
    }
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Text(text) => Some(text.bytes()),
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// Equality as filters see it: numbers by value whatever their kind, text and bytes by their bytes, the rest within its kind.
/// Beyond `depth` lists and maps are not equal.
fn same(left: &Value, right: &Value, depth: usize) -> bool {
    if let (Some(left), Some(right)) = (bytes_of(left), bytes_of(right)) {
        return left == right;
    }
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        return left == right;
    }
    #[allow(clippy::float_cmp, reason = "equality by value is what is asked for")]
    if let (Some(left), Some(right)) = (left.as_f64(), right.as_f64()) {
        return left == right;
    }
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Timestamp(left), Value::Timestamp(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            depth > 0
                && left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| same(left, right, depth - 1))
        }
        (Value::Map(left), Value::Map(right)) => {
            let pair =
                |((a, left), (b, right)): (&(Text, Value), &(Text, Value))| a == b && same(left, right, depth - 1);
            depth > 0 && left.len() == right.len() && left.iter().zip(right).all(pair)
        }
        _ => false,
    }
}

/// Integers are compared exactly; a float would make neighbours of large ones equal.
fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int { value, .. } => Some(i128::from(*value)),
        Value::Uint { value, .. } => Some(i128::from(*value)),
        _ => None,
    }
}

/// Whether the text fits the wildcard pattern. The pieces between the stars are searched from left to right, each at its first
/// place: no later place could leave more for the rest, so nothing is tried twice.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (first, mut rest) = piece(pattern);
    let Some(mut text) = text.strip_prefix(first.as_ref()) else { return false };
    let Some(mut after) = rest else { return text.is_empty() };
    loop {
        let (next, following) = piece(after);
        rest = following;
        match rest {
            None => return text.ends_with(next.as_ref()),
            Some(following) => after = following,
        }
        match text.find(next.as_ref()) {
            Some(at) => text = text.get(at + next.len()..).unwrap_or_default(),
            None => return false,
        }
    }
}

/// The literal text before the pattern's first star, escapes resolved, and what follows the star if there is one.
fn piece(pattern: &str) -> (Cow<'_, str>, Option<&str>) {
    let mut escaped = false;
    let star = pattern.bytes().position(|byte| {
        let found = byte == b'*' && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    });
    let (head, rest) = match star {
        Some(at) => (pattern.get(..at).unwrap_or_default(), pattern.get(at + 1..)),
        None => (pattern, None),
    };
    if !head.contains('\\') {
        return (Cow::Borrowed(head), rest);
    }
    let mut plain = String::with_capacity(head.len());
    let mut chars = head.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some(next @ ('*' | '\\'))) => {
                plain.push(next);
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    (Cow::Owned(plain), rest)
}

/// An IP network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Reads `address/bits`; bits after the prefix are ignored.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let prefix_bits: u32 = bits.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (prefix_bits <= most).then_some(Self { address, prefix_bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let other_bits = 32 - self.prefix_bits;
                (u32::from(network) ^ u32::from(address)).checked_shr(other_bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let other_bits = 128 - self.prefix_bits;
                (u128::from(network) ^ u128::from(address)).checked_shr(other_bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}
