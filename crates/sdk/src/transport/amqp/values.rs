//! Header values, as AMQP's tables have them and as messages do.

use bytes::Bytes;
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, LongString, ShortString};
use types::{Text, Timestamp, Value};

use crate::transport::PublishError;

/// Deepest nesting of lists and maps. RabbitMQ takes more; who writes more has made a mistake.
const MAX_DEPTH: usize = 16;
/// Milliseconds of a second, which AMQP's times have no part of.
const SECOND_MS: i64 = 1000;

/// A name for a table.
///
/// # Errors
/// If it is too long.
pub(super) fn name(name: &str) -> Result<ShortString, PublishError> {
    short("a header's name", name)
}

/// A short string.
///
/// # Errors
/// If it is too long.
pub(super) fn short(what: &str, text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text)
        .map_err(|_| PublishError::Refused(format!("{what} is {} bytes long, and AMQP takes 255", text.len())))
}

/// A value for a table. A number without a sign that has no place in AMQP becomes text, a time with a part of a second a number of
/// milliseconds: the value is kept, and its type is not.
///
/// # Errors
/// If it is nested too deep, or a map has a name twice.
pub(super) fn encode(value: &Value) -> Result<AMQPValue, PublishError> {
    encode_at(value, 0)
}

fn encode_at(value: &Value, depth: usize) -> Result<AMQPValue, PublishError> {
    if depth > MAX_DEPTH {
        return Err(PublishError::Refused(format!("a header is nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Int { value, width_bytes } => int(*value, *width_bytes),
        Value::Uint { value, width_bytes } => uint(*value, *width_bytes),
        Value::Float(value) => AMQPValue::Float(*value),
        Value::Double(value) => AMQPValue::Double(*value),
        Value::Decimal { scale, unscaled } => decimal(*scale, *unscaled),
        Value::Text(text) => AMQPValue::LongString(LongString::from(text.bytes().to_vec())),
        Value::Bytes(bytes) => AMQPValue::ByteArray(bytes.to_vec().into()),
        Value::Timestamp(time) => match u64::try_from(time.0 / SECOND_MS) {
            Ok(seconds) if time.0 >= 0 && time.0 % SECOND_MS == 0 => AMQPValue::Timestamp(seconds),
            _ => AMQPValue::LongLongInt(time.0),
        },
        Value::List(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(|value| encode_at(value, depth + 1)).collect();
            AMQPValue::FieldArray(FieldArray::from(values?))
        }
        Value::Map(entries) => {
            let mut table = FieldTable::default();
            for (key, value) in entries {
                if table.contains_key(key) {
                    return Err(PublishError::Refused(format!("a map in a header has the name {key:?} twice")));
                }
                table.insert(name(key)?, encode_at(value, depth + 1)?);
            }
            AMQPValue::FieldTable(table)
        }
    })
}

fn int(value: i64, width_bytes: u8) -> AMQPValue {
    let narrow = match width_bytes {
        1 => i8::try_from(value).ok().map(AMQPValue::ShortShortInt),
        2 => i16::try_from(value).ok().map(AMQPValue::ShortInt),
        4 => i32::try_from(value).ok().map(AMQPValue::LongInt),
        _ => None,
    };
    narrow.unwrap_or(AMQPValue::LongLongInt(value))
}

fn uint(value: u64, width_bytes: u8) -> AMQPValue {
    let narrow = match width_bytes {
        1 => u8::try_from(value).ok().map(AMQPValue::ShortShortUInt),
        2 => u16::try_from(value).ok().map(AMQPValue::ShortUInt),
        4 => u32::try_from(value).ok().map(AMQPValue::LongUInt),
        _ => None,
    };
    narrow.or_else(|| i64::try_from(value).ok().map(AMQPValue::LongLongInt)).unwrap_or_else(|| digits(value))
}

fn digits(value: impl ToString) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value.to_string().into_bytes()))
}

fn decimal(scale: u8, unscaled: i64) -> AMQPValue {
    // Lapin has the number without a sign, the specification with one: the bits are the same.
    match i32::try_from(unscaled) {
        Ok(value) => AMQPValue::DecimalValue(DecimalValue { scale, value: u32::from_ne_bytes(value.to_ne_bytes()) }),
        Err(_) => digits(format_args!("{unscaled}e-{scale}")),
    }
}

/// A value out of a table.
pub(super) fn decode(value: AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => Value::Bool(value),
        AMQPValue::ShortShortInt(value) => Value::Int { value: value.into(), width_bytes: 1 },
        AMQPValue::ShortInt(value) => Value::Int { value: value.into(), width_bytes: 2 },
        AMQPValue::LongInt(value) => Value::Int { value: value.into(), width_bytes: 4 },
        AMQPValue::LongLongInt(value) => Value::Int { value, width_bytes: 8 },
        AMQPValue::ShortShortUInt(value) => Value::Uint { value: value.into(), width_bytes: 1 },
        AMQPValue::ShortUInt(value) => Value::Uint { value: value.into(), width_bytes: 2 },
        AMQPValue::LongUInt(value) => Value::Uint { value: value.into(), width_bytes: 4 },
        AMQPValue::Float(value) => Value::Float(value),
        AMQPValue::Double(value) => Value::Double(value),
        AMQPValue::DecimalValue(value) => {
            Value::Decimal { scale: value.scale, unscaled: i64::from(i32::from_ne_bytes(value.value.to_ne_bytes())) }
        }
        AMQPValue::ShortString(text) => Value::Text(text_of(text)),
        AMQPValue::LongString(text) => text_or_bytes(Bytes::copy_from_slice(text.as_bytes())),
        AMQPValue::FieldArray(values) => Value::List(values.as_slice().iter().cloned().map(decode).collect()),
        AMQPValue::Timestamp(seconds) => {
            Value::Timestamp(Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(SECOND_MS)))
        }
        AMQPValue::FieldTable(table) => Value::Map(
            table.into_iter().map(|(name, value)| (Text::from(name.as_str()), decode(value.clone()))).collect(),
        ),
        AMQPValue::ByteArray(bytes) => Value::Bytes(Bytes::copy_from_slice(bytes.as_slice())),
        AMQPValue::Void => Value::Null,
    }
}

/// A short string as text.
pub(super) fn text_of(text: ShortString) -> Text {
    Text::from(String::from(text))
}

/// A long string is text where it can be.
fn text_or_bytes(bytes: Bytes) -> Value {
    match Text::from_utf8(bytes.clone()) {
        Ok(text) => Value::Text(text),
        Err(_) => Value::Bytes(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        for value in [
            Value::Null,
            Value::Bool(true),
            Value::Int { value: -3, width_bytes: 1 },
            Value::Int { value: -300, width_bytes: 2 },
            Value::Int { value: 70_000, width_bytes: 4 },
            Value::int(i64::MIN),
            Value::Uint { value: 200, width_bytes: 1 },
            Value::Uint { value: u64::from(u32::MAX), width_bytes: 4 },
            Value::Float(1.5),
            Value::Double(-0.1),
            Value::Decimal { scale: 2, unscaled: -1999 },
            Value::from("größe"),
            Value::Bytes(Bytes::from_static(&[0xff, 0])),
            Value::Timestamp(Timestamp(1_700_000_000_000)),
            Value::List(vec![Value::from("a"), Value::List(vec![])]),
            Value::Map(vec![("a".into(), Value::Bool(false)), ("b".into(), Value::Null)]),
        ] {
            assert_eq!(decode(encode(&value).unwrap()), value);
        }
    }

    #[test]
    fn what_has_no_place_keeps_its_value() {
        let after = |value: Value| decode(encode(&value).unwrap());
        assert_eq!(after(Value::Uint { value: u64::MAX, width_bytes: 8 }), Value::from("18446744073709551615"));
        assert_eq!(after(Value::Uint { value: 7, width_bytes: 8 }), Value::int(7));
        assert_eq!(after(Value::Timestamp(Timestamp(1_001))), Value::int(1_001));
        assert_eq!(after(Value::Decimal { scale: 1, unscaled: 1 << 40 }), Value::from("1099511627776e-1"));
    }

    #[test]
    fn nonsense_is_refused() {
        let twice = Value::Map(vec![("a".into(), Value::Null), ("a".into(), Value::Null)]);
        assert!(matches!(encode(&twice), Err(PublishError::Refused(_))));
        let deep = (0..40).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        assert!(matches!(encode(&deep), Err(PublishError::Refused(_))));
        assert!(matches!(name(&"n".repeat(256)), Err(PublishError::Refused(_))));
    }
}
