//! Field tables, as ordered headers.
//!
//! Types are those that RabbitMQ and its clients write, which are not those of the specification's table: `l` is a signed number of 8
//! bytes, `s` a signed one of 2, `x` bytes. What is read comes out again with the same type.

use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::{Buf, BufMut, Bytes};
use types::limits::{MAX_HEADERS, MAX_VALUE_DEPTH};
use types::{Headers, Text, Timestamp, Value};

/// Why a table cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableError {
    #[error("a table ends in the middle of a field")]
    Short,
    #[error("a table nests deeper than {MAX_VALUE_DEPTH} levels (MAX_VALUE_DEPTH)")]
    Deep,
    #[error("a table has more than {MAX_HEADERS} fields (MAX_HEADERS)")]
    Many,
    #[error("a field's name is not UTF-8")]
    Name,
    #[error("a field has the type {0:?}, which nobody knows")]
    Type(char),
}

/// Reads a table with its length in front.
///
/// # Errors
/// See [`TableError`].
pub(crate) fn read_table(input: &mut Bytes) -> Result<Headers, TableError> {
    let mut left = MAX_HEADERS;
    table(input, MAX_VALUE_DEPTH, &mut left)
}

fn part(input: &mut Bytes, len: usize) -> Result<Bytes, TableError> {
    if input.len() < len { Err(TableError::Short) } else { Ok(input.split_to(len)) }
}

fn long(input: &mut Bytes) -> Result<Bytes, TableError> {
    let len = input.try_get_u32().map_err(|_| TableError::Short)?;
    part(input, usize::try_from(len).map_err(|_| TableError::Short)?)
}

fn table(input: &mut Bytes, depth: usize, left: &mut usize) -> Result<Headers, TableError> {
    let mut fields = long(input)?;
    let depth = depth.checked_sub(1).ok_or(TableError::Deep)?;
    let mut headers = Vec::new();
    while !fields.is_empty() {
        *left = left.checked_sub(1).ok_or(TableError::Many)?;
        let len = fields.try_get_u8().map_err(|_| TableError::Short)?;
        let name = Text::from_utf8(part(&mut fields, usize::from(len))?).map_err(|_| TableError::Name)?;
        headers.push((name, value(&mut fields, depth, left)?));
    }
    Ok(headers)
}

fn value(input: &mut Bytes, depth: usize, left: &mut usize) -> Result<Value, TableError> {
    let short = |_| TableError::Short;
    let int = |value: i64, width_bytes| Value::Int { value, width_bytes };
    let uint = |value: u64, width_bytes| Value::Uint { value, width_bytes };
    Ok(match input.try_get_u8().map_err(short)? {
        b't' => Value::Bool(input.try_get_u8().map_err(short)? != 0),
        b'b' => int(input.try_get_i8().map_err(short)?.into(), 1),
        b'B' => uint(input.try_get_u8().map_err(short)?.into(), 1),
        b's' | b'U' => int(input.try_get_i16().map_err(short)?.into(), 2),
        b'u' => uint(input.try_get_u16().map_err(short)?.into(), 2),
        b'I' => int(input.try_get_i32().map_err(short)?.into(), 4),
        b'i' => uint(input.try_get_u32().map_err(short)?.into(), 4),
        b'l' | b'L' => int(input.try_get_i64().map_err(short)?, 8),
        b'f' => Value::Float(input.try_get_f32().map_err(short)?),
        b'd' => Value::Double(input.try_get_f64().map_err(short)?),
        b'D' => {
            let scale = input.try_get_u8().map_err(short)?;
            Value::Decimal { scale, unscaled: input.try_get_u32().map_err(short)?.into() }
        }
        b'S' => text_or_bytes(long(input)?),
        b'x' => Value::Bytes(long(input)?),
        b'T' => Value::Timestamp(seconds(input.try_get_u64().map_err(short)?)),
        b'F' => Value::Map(table(input, depth, left)?),
        b'A' => {
            let mut items = long(input)?;
            let depth = depth.checked_sub(1).ok_or(TableError::Deep)?;
            let mut values = Vec::new();
            while !items.is_empty() {
                *left = left.checked_sub(1).ok_or(TableError::Many)?;
                values.push(value(&mut items, depth, left)?);
            }
            Value::List(values)
        }
        b'V' => Value::Null,
        other => return Err(TableError::Type(char::from(other))),
    })
}

/// A long string is text if it can be. One that cannot comes out as bytes (`x`): the type says then what it is.
fn text_or_bytes(bytes: Bytes) -> Value {
    match Text::from_utf8(bytes.clone()) {
        Ok(text) => Value::Text(text),
        Err(_) => Value::Bytes(bytes),
    }
}

/// AMQP counts seconds, we count milliseconds.
pub(crate) fn seconds(seconds: u64) -> Timestamp {
    Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000))
}

/// Whole seconds of a time; what lies before 1970 is 1970.
pub(crate) fn to_seconds(time: Timestamp) -> u64 {
    u64::try_from(time.0.div_euclid(1000)).unwrap_or(0)
}

/// Writes a table with its length in front. Names longer than a short string are cut.
pub(crate) fn write_table<'a>(headers: impl IntoIterator<Item = &'a (Text, Value)>, out: &mut Vec<u8>) {
    with_length(out, |out| {
        for (name, value) in headers {
            write_field(name, value, out);
        }
    });
}

/// Writes one field of a table.
pub(crate) fn write_field(name: &str, value: &Value, out: &mut Vec<u8>) {
    write_short(name.as_bytes(), out);
    write_value(value, out);
}

/// Writes what `write` writes behind its length, in 4 bytes.
pub(crate) fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    write(out);
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

/// Writes a short string; what does not fit is cut.
pub(crate) fn write_short(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.put_u8(len);
    out.extend_from_slice(bytes.get(..usize::from(len)).unwrap_or(bytes));
}

fn write_long(bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}

#[allow(clippy::cast_possible_truncation, reason = "the width was read with the number")]
fn write_value(value: &Value, out: &mut Vec<u8>) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        out.put_u8(tag);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Null => tagged(b'V', &[]),
        Value::Bool(value) => tagged(b't', &[u8::from(*value)]),
        Value::Int { value, width_bytes: 1 } => tagged(b'b', &(*value as i8).to_be_bytes()),
        Value::Int { value, width_bytes: 2 } => tagged(b's', &(*value as i16).to_be_bytes()),
        Value::Int { value, width_bytes: 4 } => tagged(b'I', &(*value as i32).to_be_bytes()),
        Value::Int { value, .. } => tagged(b'l', &value.to_be_bytes()),
        Value::Uint { value, width_bytes: 1 } => tagged(b'B', &(*value as u8).to_be_bytes()),
        Value::Uint { value, width_bytes: 2 } => tagged(b'u', &(*value as u16).to_be_bytes()),
        Value::Uint { value, width_bytes: 4 } => tagged(b'i', &(*value as u32).to_be_bytes()),
        Value::Uint { value, .. } => match i64::try_from(*value) {
            Ok(value) => tagged(b'l', &value.to_be_bytes()),
            // There is no unsigned number of 8 bytes that clients know: the digits are kept.
            Err(_) => {
                tagged(b'S', &[]);
                write_long(value.to_string().as_bytes(), out);
            }
        },
        Value::Float(value) => tagged(b'f', &value.to_be_bytes()),
        Value::Double(value) => tagged(b'd', &value.to_be_bytes()),
        Value::Decimal { scale, unscaled } => match u32::try_from(*unscaled) {
            Ok(unscaled) => {
                tagged(b'D', &[*scale]);
                out.put_u32(unscaled);
            }
            // A decimal of AMQP is unsigned and has 4 bytes.
            Err(_) => {
                let text = format!("{unscaled}e-{scale}");
                tagged(b'S', &[]);
                write_long(text.as_bytes(), out);
            }
        },
        Value::Text(text) => {
            tagged(b'S', &[]);
            write_long(text.bytes(), out);
        }
        Value::Bytes(bytes) => {
            tagged(b'x', &[]);
            write_long(bytes, out);
        }
        Value::Timestamp(time) => tagged(b'T', &to_seconds(*time).to_be_bytes()),
        Value::List(values) => {
            tagged(b'A', &[]);
            with_length(out, |out| values.iter().for_each(|value| write_value(value, out)));
        }
        Value::Map(fields) => {
            tagged(b'F', &[]);
            write_table(fields, out);
        }
    }
}

/// A table of the protocol crate's as ordered headers.
pub(crate) fn headers_of(table: &FieldTable) -> Headers {
    table.inner().iter().map(|(name, value)| (Text::from(name.as_str()), value_of(value))).collect()
}

fn value_of(value: &AMQPValue) -> Value {
    let int = |value: i64, width_bytes| Value::Int { value, width_bytes };
    let uint = |value: u64, width_bytes| Value::Uint { value, width_bytes };
    match value {
        AMQPValue::Boolean(value) => Value::Bool(*value),
        AMQPValue::ShortShortInt(value) => int((*value).into(), 1),
        AMQPValue::ShortShortUInt(value) => uint((*value).into(), 1),
        AMQPValue::ShortInt(value) => int((*value).into(), 2),
        AMQPValue::ShortUInt(value) => uint((*value).into(), 2),
        AMQPValue::LongInt(value) => int((*value).into(), 4),
        AMQPValue::LongUInt(value) => uint((*value).into(), 4),
        AMQPValue::LongLongInt(value) => int(*value, 8),
        AMQPValue::Float(value) => Value::Float(*value),
        AMQPValue::Double(value) => Value::Double(*value),
        AMQPValue::DecimalValue(value) => Value::Decimal { scale: value.scale, unscaled: value.value.into() },
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::LongString(text) => text_or_bytes(Bytes::copy_from_slice(text.as_bytes())),
        AMQPValue::FieldArray(values) => Value::List(values.as_slice().iter().map(value_of).collect()),
        AMQPValue::Timestamp(time) => Value::Timestamp(seconds(*time)),
        AMQPValue::FieldTable(table) => Value::Map(headers_of(table)),
        AMQPValue::ByteArray(bytes) => Value::Bytes(Bytes::copy_from_slice(bytes.as_slice())),
        AMQPValue::Void => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Headers {
        let int = |value, width_bytes| Value::Int { value, width_bytes };
        let values = vec![
            Value::Null,
            Value::Bool(true),
            int(-5, 1),
            int(-300, 2),
            int(-70_000, 4),
            int(i64::MIN, 8),
            Value::Uint { value: 250, width_bytes: 1 },
            Value::Uint { value: 65_000, width_bytes: 2 },
            Value::Uint { value: 4_000_000_000, width_bytes: 4 },
            Value::Float(1.5),
            Value::Double(-2.25),
            Value::Decimal { scale: 2, unscaled: 12_345 },
            Value::from("text"),
            Value::Bytes(Bytes::from_static(&[0xff, 0])),
            Value::Timestamp(Timestamp(1_700_000_000_000)),
        ];
        let mut headers: Headers = vec![("list".into(), Value::List(values.clone()))];
        headers.extend(values.into_iter().enumerate().map(|(at, value)| (Text::from(format!("k{at}")), value)));
        headers.push(("map".into(), Value::Map(headers.clone())));
        headers
    }

    #[test]
    fn every_type_comes_out_as_it_went_in_and_the_protocol_crate_reads_the_same() {
        let headers = every_kind();
        let mut out = Vec::new();
        write_table(&headers, &mut out);
        assert_eq!(read_table(&mut Bytes::from(out.clone())), Ok(headers.clone()));
        let (rest, theirs) = amq_protocol::types::parsing::parse_field_table(out.as_slice()).unwrap();
        assert!(rest.is_empty());
        let sorted = |mut headers: Headers| {
            headers.sort_by(|a, b| a.0.cmp(&b.0));
            headers
        };
        let mut theirs = headers_of(&theirs);
        for (name, value) in &mut theirs {
            if *name == *"map"
                && let Value::Map(fields) = value
            {
                *fields = sorted(std::mem::take(fields));
            }
        }
        let mut ours = headers;
        if let Some((_, Value::Map(fields))) = ours.last_mut() {
            *fields = sorted(std::mem::take(fields));
        }
        assert_eq!(theirs, sorted(ours));
    }

    #[test]
    fn a_table_that_nests_without_end_or_ends_too_early_is_refused() {
        let mut deep = Vec::new();
        for _ in 0..10_000 {
            let mut outer = vec![b'A'];
            outer.extend(u32::try_from(deep.len()).unwrap().to_be_bytes());
            outer.extend(&deep);
            deep = outer;
            if deep.len() > 60_000 {
                break;
            }
        }
        let mut out = Vec::new();
        with_length(&mut out, |out| {
            write_short(b"a", out);
            out.extend(&deep);
        });
        assert_eq!(read_table(&mut Bytes::from(out)), Err(TableError::Deep));
        let mut whole = Vec::new();
        write_table(&every_kind(), &mut whole);
        for len in 0..whole.len() {
            assert!(read_table(&mut Bytes::copy_from_slice(&whole[..len])).is_err(), "cut at {len}");
        }
        assert_eq!(read_table(&mut Bytes::from_static(b"\0\0\0\x03\x01aZ")), Err(TableError::Type('Z')));
    }
}
