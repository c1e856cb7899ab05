//! Header values as bytes. Numbers, booleans and times are written as text that any Kafka client can read; a tag beside them says what
//! they were. Lists and maps are binary.

use bytes::Bytes;
use types::limits::MAX_VALUE_DEPTH;
use types::{Text, Timestamp, Value};

const TEXT: u8 = b't';
const NULL: u8 = b'n';
const BOOL: u8 = b'b';
const FLOAT: u8 = b'f';
const DOUBLE: u8 = b'd';
const DECIMAL: u8 = b'D';
const BYTES: u8 = b'x';
const TIMESTAMP: u8 = b'T';
const LIST: u8 = b'[';
const MAP: u8 = b'{';
const INTS: [(u8, u8); 4] = [(b'1', 1), (b'2', 2), (b'4', 4), (b'8', 8)];
const UINTS: [(u8, u8); 4] = [(b'p', 1), (b'q', 2), (b'r', 4), (b's', 8)];

/// The tag of a value's kind.
pub(crate) fn tag(value: &Value) -> u8 {
    let of = |table: &[(u8, u8); 4], width| {
        table.iter().find(|(_, bytes)| *bytes == width).map_or(table[3].0, |(tag, _)| *tag) // tidy-allow: four entries
    };
    match value {
        Value::Null => NULL,
        Value::Bool(_) => BOOL,
        Value::Int { width_bytes, .. } => of(&INTS, *width_bytes),
        Value::Uint { width_bytes, .. } => of(&UINTS, *width_bytes),
        Value::Float(_) => FLOAT,
        Value::Double(_) => DOUBLE,
        Value::Decimal { .. } => DECIMAL,
        Value::Text(_) => TEXT,
        Value::Bytes(_) => BYTES,
        Value::Timestamp(_) => TIMESTAMP,
        Value::List(_) => LIST,
        Value::Map(_) => MAP,
    }
}

/// Writes a header's value without its tag.
pub(crate) fn encode_plain(value: &Value, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // Writing to a Vec cannot fail.
    let _ = match value {
        Value::Null => Ok(()),
        Value::Bool(value) => write!(out, "{value}"),
        Value::Int { value, .. } => write!(out, "{value}"),
        Value::Uint { value, .. } => write!(out, "{value}"),
        Value::Float(value) => write!(out, "{value:?}"),
        Value::Double(value) => write!(out, "{value:?}"),
        Value::Decimal { scale, unscaled } => write!(out, "{unscaled}e-{scale}"),
        Value::Timestamp(time) => write!(out, "{}", time.0),
        Value::Text(text) => out.write_all(text.bytes()),
        Value::Bytes(bytes) => out.write_all(bytes),
        Value::List(values) => {
            for value in values {
                nested(value, out);
            }
            Ok(())
        }
        Value::Map(entries) => {
            for (name, value) in entries {
                sized(name.bytes(), out);
                nested(value, out);
            }
            Ok(())
        }
    };
}

/// A value within a list or map: tag, length, bytes.
fn nested(value: &Value, out: &mut Vec<u8>) {
    out.push(tag(value));
    let mut bytes = Vec::new();
    encode_plain(value, &mut bytes);
    sized(&bytes, out);
}

fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    // A message is smaller than 4 GiB by its limits.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads a header's value. Without a tag, or with one that does not fit, UTF-8 is text and all else bytes.
pub(crate) fn decode_plain(tag: Option<u8>, value: Option<Bytes>) -> Value {
    let Some(value) = value else { return Value::Null };
    match tag.and_then(|tag| typed(tag, &value, 0)) {
        Some(value) => value,
        None => match Text::from_utf8(value.clone()) {
            Ok(text) => Value::Text(text),
            Err(_) => Value::Bytes(value),
        },
    }
}

fn typed(tag: u8, value: &Bytes, depth: usize) -> Option<Value> {
    if depth > MAX_VALUE_DEPTH {
        return None;
    }
    let text = || std::str::from_utf8(value).ok();
    if let Some((_, width_bytes)) = INTS.iter().find(|(have, _)| *have == tag) {
        return Some(Value::Int { value: text()?.parse().ok()?, width_bytes: *width_bytes });
    }
    if let Some((_, width_bytes)) = UINTS.iter().find(|(have, _)| *have == tag) {
        return Some(Value::Uint { value: text()?.parse().ok()?, width_bytes: *width_bytes });
    }
    Some(match tag {
        NULL => Value::Null,
        BOOL => Value::Bool(text()?.parse().ok()?),
        FLOAT => Value::Float(text()?.parse().ok()?),
        DOUBLE => Value::Double(text()?.parse().ok()?),
        DECIMAL => {
            let (unscaled, scale) = text()?.split_once("e-")?;
            Value::Decimal { scale: scale.parse().ok()?, unscaled: unscaled.parse().ok()? }
        }
        TIMESTAMP => Value::Timestamp(Timestamp(text()?.parse().ok()?)),
        TEXT => Value::Text(Text::from_utf8(value.clone()).ok()?),
        BYTES => Value::Bytes(value.clone()),
        LIST => {
            let (mut rest, mut values) = (value.clone(), Vec::new());
            while !rest.is_empty() {
                values.push(take_nested(&mut rest, depth)?);
            }
            Value::List(values)
        }
        MAP => {
            let (mut rest, mut entries) = (value.clone(), Vec::new());
            while !rest.is_empty() {
                let name = Text::from_utf8(take_sized(&mut rest)?).ok()?;
                entries.push((name, take_nested(&mut rest, depth)?));
            }
            Value::Map(entries)
        }
        _ => return None,
    })
}

fn take_nested(rest: &mut Bytes, depth: usize) -> Option<Value> {
    let tag = *rest.first()?;
    let _ = rest.split_to(1);
    let value = take_sized(rest)?;
    typed(tag, &value, depth + 1)
}

fn take_sized(rest: &mut Bytes) -> Option<Bytes> {
    let len = u32::from_be_bytes(rest.first_chunk::<4>().copied()?) as usize;
    if rest.len() - 4 < len {
        return None;
    }
    let _ = rest.split_to(4);
    Some(rest.split_to(len))
}
