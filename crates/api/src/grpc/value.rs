//! Header values in protobuf, read and written by hand: texts and bytes are slices of the frame that they came in.

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType, skip_field};
use types::{Text, Timestamp};

use super::generated::{Decimal, NarrowInt, NarrowUint, ValueList, ValueMap};

/// A header value as `posthouse.v1.Value` writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Value(pub types::Value);

impl Default for Value {
    fn default() -> Self {
        Self(types::Value::Null)
    }
}

/// A header of a message as `posthouse.v1.Header` writes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Header {
    /// Its name.
    pub name: Text,
    /// Its value.
    pub value: Value,
}

/// Reads a length-delimited field without copying it.
pub(super) fn read_bytes(wire_type: WireType, buffer: &mut impl Buf) -> Result<Bytes, DecodeError> {
    let mut bytes = Bytes::new();
    encoding::bytes::merge(wire_type, &mut bytes, buffer, DecodeContext::default())?;
    Ok(bytes)
}

/// Reads a `string` field without copying it.
pub(super) fn read_text(wire_type: WireType, buffer: &mut impl Buf) -> Result<Text, DecodeError> {
    Text::from_utf8(read_bytes(wire_type, buffer)?).map_err(|_| not("UTF-8"))
}

/// An error of a field that is not what it should be.
pub(super) fn not(what: &'static str) -> DecodeError {
    #[allow(deprecated, reason = "the crate offers types that are read by hand no other way to refuse a value")]
    DecodeError::new(format!("a field is not {what}"))
}

pub(super) fn write_bytes(tag: u32, bytes: &[u8], buffer: &mut impl BufMut) {
    encoding::encode_key(tag, WireType::LengthDelimited, buffer);
    encoding::encode_varint(bytes.len() as u64, buffer);
    buffer.put_slice(bytes);
}

pub(super) fn bytes_len(tag: u32, bytes: &[u8]) -> usize {
    encoding::key_len(tag) + encoding::encoded_len_varint(bytes.len() as u64) + bytes.len()
}

fn is_narrow(width_bytes: u8) -> bool {
    width_bytes != 8
}

/// The length of a field that holds so many bytes.
fn field_len(tag: u32, len: usize) -> usize {
    encoding::key_len(tag) + encoding::encoded_len_varint(len as u64) + len
}

fn value_len(value: &types::Value) -> usize {
    use types::Value as V;
    match value {
        V::Null => 0,
        V::Bool(value) => encoding::bool::encoded_len(1, value),
        V::Int { value, width_bytes } if is_narrow(*width_bytes) => {
            encoding::message::encoded_len(12, &narrow_int(*value, *width_bytes))
        }
        V::Int { value, .. } => encoding::sint64::encoded_len(2, value),
        V::Uint { value, width_bytes } if is_narrow(*width_bytes) => {
            encoding::message::encoded_len(13, &narrow_uint(*value, *width_bytes))
        }
        V::Uint { value, .. } => encoding::uint64::encoded_len(3, value),
        V::Float(value) => encoding::float::encoded_len(4, value),
        V::Double(value) => encoding::double::encoded_len(5, value),
        V::Text(text) => bytes_len(6, text.bytes()),
        V::Bytes(bytes) => bytes_len(7, bytes),
        V::Timestamp(at) => encoding::sint64::encoded_len(8, &at.0),
        V::List(values) => field_len(9, list_len(values)),
        V::Map(entries) => field_len(10, map_len(entries)),
        V::Decimal { scale, unscaled } => encoding::message::encoded_len(11, &decimal(*scale, *unscaled)),
    }
}

fn list_len(values: &[types::Value]) -> usize {
    values.iter().map(|value| field_len(1, value_len(value))).sum()
}

fn map_len(entries: &[(Text, types::Value)]) -> usize {
    entries.iter().map(|(name, value)| header_len(1, name, value)).sum()
}

/// The length of a header as a field.
pub(super) fn header_len(tag: u32, name: &Text, value: &types::Value) -> usize {
    field_len(tag, bytes_len(1, name.bytes()) + field_len(2, value_len(value)))
}

fn write_key(tag: u32, len: usize, buffer: &mut impl BufMut) {
    encoding::encode_key(tag, WireType::LengthDelimited, buffer);
    encoding::encode_varint(len as u64, buffer);
}

fn write_value(value: &types::Value, buffer: &mut impl BufMut) {
    use types::Value as V;
    match value {
        V::Null => {}
        V::Bool(value) => encoding::bool::encode(1, value, buffer),
        V::Int { value, width_bytes } if is_narrow(*width_bytes) => {
            encoding::message::encode(12, &narrow_int(*value, *width_bytes), buffer);
        }
        V::Int { value, .. } => encoding::sint64::encode(2, value, buffer),
        V::Uint { value, width_bytes } if is_narrow(*width_bytes) => {
            encoding::message::encode(13, &narrow_uint(*value, *width_bytes), buffer);
        }
        V::Uint { value, .. } => encoding::uint64::encode(3, value, buffer),
        V::Float(value) => encoding::float::encode(4, value, buffer),
        V::Double(value) => encoding::double::encode(5, value, buffer),
        V::Text(text) => write_bytes(6, text.bytes(), buffer),
        V::Bytes(bytes) => write_bytes(7, bytes, buffer),
        V::Timestamp(at) => encoding::sint64::encode(8, &at.0, buffer),
        V::List(values) => {
            write_key(9, list_len(values), buffer);
            for value in values {
                write_key(1, value_len(value), buffer);
                write_value(value, buffer);
            }
        }
        V::Map(entries) => {
            write_key(10, map_len(entries), buffer);
            for (name, value) in entries {
                write_header(1, name, value, buffer);
            }
        }
        V::Decimal { scale, unscaled } => encoding::message::encode(11, &decimal(*scale, *unscaled), buffer),
    }
}

/// Writes a header as a field.
pub(super) fn write_header(tag: u32, name: &Text, value: &types::Value, buffer: &mut impl BufMut) {
    let len = value_len(value);
    write_key(tag, bytes_len(1, name.bytes()) + field_len(2, len), buffer);
    write_bytes(1, name.bytes(), buffer);
    write_key(2, len, buffer);
    write_value(value, buffer);
}

fn narrow_int(value: i64, width_bytes: u8) -> NarrowInt {
    NarrowInt { value, width_bytes: u32::from(width_bytes) }
}

fn narrow_uint(value: u64, width_bytes: u8) -> NarrowUint {
    NarrowUint { value, width_bytes: u32::from(width_bytes) }
}

fn decimal(scale: u8, unscaled: i64) -> Decimal {
    Decimal { scale: u32::from(scale), unscaled }
}

impl prost::Message for Value {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        write_value(&self.0, buffer);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        use types::Value as V;
        macro_rules! scalar {
            ($kind:ident, $type:ty) => {{
                let mut value = <$type>::default();
                encoding::$kind::merge(wire_type, &mut value, buffer, context)?;
                value
            }};
        }
        macro_rules! inner {
            ($before:expr) => {{
                let mut value = $before;
                encoding::message::merge(wire_type, &mut value, buffer, context)?;
                value
            }};
        }
        self.0 = match tag {
            1 => V::Bool(scalar!(bool, bool)),
            2 => V::int(scalar!(sint64, i64)),
            3 => V::Uint { value: scalar!(uint64, u64), width_bytes: 8 },
            4 => V::Float(scalar!(float, f32)),
            5 => V::Double(scalar!(double, f64)),
            6 => V::Text(read_text(wire_type, buffer)?),
            7 => V::Bytes(read_bytes(wire_type, buffer)?),
            8 => V::Timestamp(Timestamp(scalar!(sint64, i64))),
            // A part that comes again adds to what it said before, as any message within a message does.
            9 => {
                let more = inner!(ValueList::default()).values.into_iter().map(|value| value.0);
                let mut values =
                    if let V::List(values) = std::mem::replace(&mut self.0, V::Null) { values } else { Vec::new() };
                values.extend(more);
                V::List(values)
            }
            10 => {
                let more = inner!(ValueMap::default()).entries.into_iter().map(|entry| (entry.name, entry.value.0));
                let mut entries =
                    if let V::Map(entries) = std::mem::replace(&mut self.0, V::Null) { entries } else { Vec::new() };
                entries.extend(more);
                V::Map(entries)
            }
            11 => {
                let before = if let V::Decimal { scale, unscaled } = self.0 {
                    decimal(scale, unscaled)
                } else {
                    Decimal::default()
                };
                let Decimal { scale, unscaled } = inner!(before);
                V::Decimal { scale: u8::try_from(scale).map_err(|_| not("a scale of 0 to 255"))?, unscaled }
            }
            12 => {
                let before = match self.0 {
                    V::Int { value, width_bytes } if is_narrow(width_bytes) => narrow_int(value, width_bytes),
                    _ => NarrowInt::default(),
                };
                let NarrowInt { value, width_bytes } = inner!(before);
                let width_bytes = width(width_bytes)?;
                let unused_bits = 64 - u32::from(width_bytes) * 8;
                if (value << unused_bits) >> unused_bits != value {
                    return Err(not("an integer that fits its width_bytes"));
                }
                V::Int { value, width_bytes }
            }
            13 => {
                let before = match self.0 {
                    V::Uint { value, width_bytes } if is_narrow(width_bytes) => narrow_uint(value, width_bytes),
                    _ => NarrowUint::default(),
                };
                let NarrowUint { value, width_bytes } = inner!(before);
                let width_bytes = width(width_bytes)?;
                if value >> (u32::from(width_bytes) * 8) != 0 {
                    return Err(not("an integer that fits its width_bytes"));
                }
                V::Uint { value, width_bytes }
            }
            _ => return skip_field(wire_type, tag, buffer, context),
        };
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        value_len(&self.0)
    }

    fn clear(&mut self) {
        self.0 = types::Value::Null;
    }
}

fn width(width_bytes: u32) -> Result<u8, DecodeError> {
    match width_bytes {
        1 => Ok(1),
        2 => Ok(2),
        4 => Ok(4),
        _ => Err(not("a width_bytes of 1, 2 or 4")),
    }
}

impl prost::Message for Header {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        write_bytes(1, self.name.bytes(), buffer);
        encoding::message::encode(2, &self.value, buffer);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            1 => self.name = read_text(wire_type, buffer)?,
            2 => encoding::message::merge(wire_type, &mut self.value, buffer, context)?,
            _ => skip_field(wire_type, tag, buffer, context)?,
        }
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        bytes_len(1, self.name.bytes()) + encoding::message::encoded_len(2, &self.value)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
