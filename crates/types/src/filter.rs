//! What a binding lets through: one [`Filter`] to which every protocol's words map.

use bytes::Bytes;

use crate::{SubjectPattern, Text, Value};

mod check;
mod matching;

pub use check::FilterError;
pub use matching::Fields;

/// A condition on a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Everything passes.
    All,
    /// The subject is these bytes. (AMQP's direct exchange.)
    SubjectExact(Bytes),
    /// The subject fits the pattern. (AMQP's topic exchange, NATS subjects.)
    Subject(SubjectPattern),
    /// Headers have these values. (AMQP's headers exchange.)
    Headers {
        /// Whether all must match or one suffices.
        matching: HeaderMatch,
        /// The wanted headers; `None` asks only that the header is there.
        wanted: Vec<(Text, Option<Value>)>,
    },
    /// One field passes any of the tests. (SNS filter policies, EventBridge patterns.)
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

/// How many of the wanted headers must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// All of them.
    All,
    /// At least one.
    Any,
}

/// A part of a message that an attribute test looks at. A field with several values (a header given twice, a list, a JSON
/// array) passes a test if one of the values does; an empty list is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The subject.
    Subject,
    /// The key.
    Key,
    /// The header of this name.
    Header(Text),
    /// The value at this path of a JSON body. A body that is not JSON has no fields.
    Body(Vec<Text>),
}

/// A test of one value.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeTest {
    /// Equal; numbers by value, whatever their width.
    Equals(Value),
    /// Equal but for ASCII case.
    EqualsIgnoreCase(Text),
    /// Text that starts so.
    Prefix(Text),
    /// Text that ends so.
    Suffix(Text),
    /// Text that fits a pattern in which `*` stands for any run of characters, `\*` for itself and `\\` for a backslash.
    Wildcard(Text),
    /// The field has a value that passes none of these. (As SNS and EventBridge have it, a list passes if one of its values does;
    /// that no value passes is `Exists(true)` and [`Filter::Not`].)
    AnythingBut(Vec<AttributeTest>),
    /// A number within both bounds; `None` is no bound, `true` includes the bound itself.
    Range {
        /// Lower bound.
        from: Option<(Number, bool)>,
        /// Upper bound.
        to: Option<(Number, bool)>,
    },
    /// The field is there (`true`) or not (`false`).
    Exists(bool),
    /// An IP address within this network, such as `10.0.0.0/24`.
    Cidr(Text),
}

/// A finite number that a range is bounded by.
pub type Number = f64;

#[cfg(test)]
mod tests;
