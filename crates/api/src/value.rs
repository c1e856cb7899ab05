//! Header values in JSON, without loss.
//!
//! Text, booleans, null, 8-byte integers and floating-point numbers, lists and maps are what JSON calls them. The other kinds are an
//! object of exactly two members, `type` and `value`: `int8` `int16` `int32` `uint8` `uint16` `uint32` `uint64` (a number), `float`
//! (a number, or `"NaN"`, `"Infinity"`, `"-Infinity"`), `double` (only for those three), `decimal` (`"12.50"`), `bytes` (base64),
//! `timestamp` (milliseconds since 1970) and `map` (a list of pairs: for a map with a name twice, or one that would itself look
//! like such an object).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::{Text, Timestamp, Value};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Object, RefOr};

/// A typed header value.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderValue(pub Value);

/// A message's headers: an object, or a list of `[name, value]` pairs where a name stands more than once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers(pub types::Headers);

impl Headers {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

struct Tagged<T: Serialize>(&'static str, T);

impl<T: Serialize> Serialize for Tagged<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("type", self.0)?;
        map.serialize_entry("value", &self.1)?;
        map.end()
    }
}

struct Ref<'a>(&'a Value);
struct Pairs<'a>(&'a [(Text, Value)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (name, value) in self.0 {
            list.serialize_element(&(name.as_str(), Ref(value)))?;
        }
        list.end()
    }
}

fn write_object<S: Serializer>(entries: &[(Text, Value)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (name, value) in entries {
        map.serialize_entry(name.as_str(), &Ref(value))?;
    }
    map.end()
}

fn has_duplicates(entries: &[(Text, Value)]) -> bool {
    let mut names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair.first() == pair.last())
}

/// Whether a map, written plainly, would be read back as a tagged value.
fn looks_tagged(entries: &[(Text, Value)]) -> bool {
    entries.len() == 2 && ["type", "value"].iter().all(|name| entries.iter().any(|(have, _)| have == *name))
}

impl Serialize for Ref<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int { value, width_bytes: 1 } => Tagged("int8", value).serialize(serializer),
            Value::Int { value, width_bytes: 2 } => Tagged("int16", value).serialize(serializer),
            Value::Int { value, width_bytes: 4 } => Tagged("int32", value).serialize(serializer),
            Value::Int { value, .. } => serializer.serialize_i64(*value),
            Value::Uint { value, width_bytes: 1 } => Tagged("uint8", value).serialize(serializer),
            Value::Uint { value, width_bytes: 2 } => Tagged("uint16", value).serialize(serializer),
            Value::Uint { value, width_bytes: 4 } => Tagged("uint32", value).serialize(serializer),
            Value::Uint { value, .. } => Tagged("uint64", value).serialize(serializer),
            Value::Float(value) if value.is_finite() => Tagged("float", value).serialize(serializer),
            Value::Float(value) => Tagged("float", not_finite(f64::from(*value))).serialize(serializer),
            Value::Double(value) if value.is_finite() => serializer.serialize_f64(*value),
            Value::Double(value) => Tagged("double", not_finite(*value)).serialize(serializer),
            Value::Decimal { scale, unscaled } => {
                Tagged("decimal", write_decimal(*scale, *unscaled)).serialize(serializer)
            }
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => Tagged("bytes", BASE64.encode(bytes)).serialize(serializer),
            Value::Timestamp(at) => Tagged("timestamp", at.0).serialize(serializer),
            Value::List(values) => serializer.collect_seq(values.iter().map(Ref)),
            Value::Map(entries) if looks_tagged(entries) || has_duplicates(entries) => {
                Tagged("map", Pairs(entries)).serialize(serializer)
            }
            Value::Map(entries) => write_object(entries, serializer),
        }
    }
}

fn not_finite(value: f64) -> &'static str {
    match value {
        _ if value.is_nan() => "NaN",
        _ if value > 0.0 => "Infinity",
        _ => "-Infinity",
    }
}

fn write_decimal(scale: u8, unscaled: i64) -> String {
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if unscaled < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

fn read_decimal(text: &str) -> Option<Value> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let scale = u8::try_from(fraction.len()).ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) || (text.contains('.') && fraction.is_empty()) {
        return None;
    }
    Some(Value::Decimal { scale, unscaled: format!("{whole}{fraction}").parse().ok()? })
}

impl Serialize for HeaderValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Ref(&self.0).serialize(serializer)
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if has_duplicates(&self.0) { Pairs(&self.0).serialize(serializer) } else { write_object(&self.0, serializer) }
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = HeaderValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a header value: text, a number, true, false, null, a list, an object, or {\"type\":..,\"value\":..}",
        )
    }
    fn visit_unit<E: Error>(self) -> Result<HeaderValue, E> {
        Ok(HeaderValue(Value::Null))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<HeaderValue, E> {
        Ok(HeaderValue(Value::Bool(value)))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<HeaderValue, E> {
        Ok(HeaderValue(Value::int(value)))
    }
    fn visit_u64<E: Error>(self, value: u64) -> Result<HeaderValue, E> {
        Ok(HeaderValue(match i64::try_from(value) {
            Ok(value) => Value::int(value),
            Err(_) => Value::Uint { value, width_bytes: 8 },
        }))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<HeaderValue, E> {
        Ok(HeaderValue(Value::Double(value)))
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<HeaderValue, E> {
        Ok(HeaderValue(Value::Text(value.into())))
    }
    fn visit_string<E: Error>(self, value: String) -> Result<HeaderValue, E> {
        Ok(HeaderValue(Value::Text(value.into())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HeaderValue, A::Error> {
        let mut values = Vec::new();
        while let Some(HeaderValue(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(HeaderValue(Value::List(values)))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HeaderValue, A::Error> {
        let entries = read_entries(map)?;
        if !looks_tagged(&entries) {
            return Ok(HeaderValue(Value::Map(entries)));
        }
        let (mut kind, mut value) = (Value::Null, Value::Null);
        for (name, found) in entries {
            *if name == *"type" { &mut kind } else { &mut value } = found;
        }
        let Some(kind) = kind.as_text() else {
            return Err(A::Error::custom("an object of `type` and `value` is a typed value: its `type` must be text"));
        };
        untag(kind, value).map(HeaderValue).map_err(A::Error::custom)
    }
}

fn read_entries<'de, A: MapAccess<'de>>(mut map: A) -> Result<Vec<(Text, Value)>, A::Error> {
    let mut entries = Vec::new();
    while let Some((name, HeaderValue(value))) = map.next_entry::<String, HeaderValue>()? {
        entries.push((Text::from(name), value));
    }
    Ok(entries)
}

fn untag(kind: &str, value: Value) -> Result<Value, String> {
    let wrong = |wants: &str| format!("a header value of type {kind:?} wants {wants}");
    let integer = |width_bytes: u8, min: i64, max: i64| match value {
        Value::Int { value, .. } if (min..=max).contains(&value) => Ok(Value::Int { value, width_bytes }),
        _ => Err(wrong(&format!("a whole number from {min} to {max}"))),
    };
    let unsigned = |width_bytes: u8, max: u64| match value {
        Value::Int { value, .. } if u64::try_from(value).is_ok_and(|value| value <= max) => {
            Ok(Value::Uint { value: value.unsigned_abs(), width_bytes })
        }
        Value::Uint { value, .. } if value <= max => Ok(Value::Uint { value, width_bytes }),
        _ => Err(wrong(&format!("a whole number from 0 to {max}"))),
    };
    match kind {
        "int8" => integer(1, i8::MIN.into(), i8::MAX.into()),
        "int16" => integer(2, i16::MIN.into(), i16::MAX.into()),
        "int32" => integer(4, i32::MIN.into(), i32::MAX.into()),
        "int64" => integer(8, i64::MIN, i64::MAX),
        "uint8" => unsigned(1, u8::MAX.into()),
        "uint16" => unsigned(2, u16::MAX.into()),
        "uint32" => unsigned(4, u32::MAX.into()),
        "uint64" => unsigned(8, u64::MAX),
        "float" | "double" => {
            let number = match value.as_text() {
                Some("NaN") => Some(f64::NAN),
                Some("Infinity") => Some(f64::INFINITY),
                Some("-Infinity") => Some(f64::NEG_INFINITY),
                Some(_) => None,
                None => value.as_f64(),
            };
            let number = number.ok_or_else(|| wrong("a number, \"NaN\", \"Infinity\" or \"-Infinity\""))?;
            #[allow(clippy::cast_possible_truncation, reason = "a 4-byte number was asked for")]
            Ok(if kind == "float" { Value::Float(number as f32) } else { Value::Double(number) })
        }
        "decimal" => value.as_text().and_then(read_decimal).ok_or_else(|| wrong("text such as \"12.50\"")),
        "bytes" => match value.as_text().map(|text| BASE64.decode(text)) {
            Some(Ok(bytes)) => Ok(Value::Bytes(Bytes::from(bytes))),
            _ => Err(wrong("base64 text")),
        },
        "timestamp" => match value {
            Value::Int { value, .. } => Ok(Value::Timestamp(Timestamp(value))),
            _ => Err(wrong("milliseconds since 1970")),
        },
        "map" => as_pairs(value).map(Value::Map).ok_or_else(|| wrong("a list of [name, value] pairs")),
        _ => Err(format!(
            "there is no header type {kind:?}; there are int8, int16, int32, int64, uint8, uint16, uint32, uint64, float, double, \
             decimal, bytes, timestamp and map"
        )),
    }
}

fn as_pairs(value: Value) -> Option<Vec<(Text, Value)>> {
    let Value::List(pairs) = value else { return None };
    let pair = |pair| match pair {
        Value::List(parts) => match <[Value; 2]>::try_from(parts) {
            Ok([Value::Text(name), value]) => Some((name, value)),
            _ => None,
        },
        _ => None,
    };
    pairs.into_iter().map(pair).collect()
}

impl<'de> Deserialize<'de> for HeaderValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadersVisitor;
        impl<'de> Visitor<'de> for HeadersVisitor {
            type Value = Headers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers, or a list of [name, value] pairs")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Headers, A::Error> {
                read_entries(map).map(Headers)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Headers, A::Error> {
                let mut headers = Vec::new();
                while let Some((name, HeaderValue(value))) = seq.next_element::<(String, HeaderValue)>()? {
                    headers.push((Text::from(name), value));
                }
                Ok(Headers(headers))
            }
        }
        deserializer.deserialize_any(HeadersVisitor)
    }
}

impl utoipa::PartialSchema for HeaderValue {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .description(Some("A header value; kinds that JSON has not are {\"type\":..,\"value\":..}."))
            .examples([serde_json::json!("eu")]);
        object.build().into()
    }
}
impl utoipa::ToSchema for HeaderValue {}

impl utoipa::PartialSchema for Headers {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new()
            .schema_type(Type::Object)
            .additional_properties(Some(Schema::Object(Object::with_type(SchemaType::AnyValue))));
        let pairs = ArrayBuilder::new().items(
            ArrayBuilder::new().items(Object::with_type(SchemaType::AnyValue)).min_items(Some(2)).max_items(Some(2)),
        );
        let one_of = OneOfBuilder::new().item(object).item(pairs).description(Some(
            "Headers: an object, or a list of [name, value] pairs where a name stands more than once.",
        ));
        Schema::OneOf(one_of.build()).into()
    }
}
impl utoipa::ToSchema for Headers {}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: Value, json: &str) {
        assert_eq!(serde_json::to_string(&Ref(&value)).unwrap(), json);
        assert_eq!(serde_json::from_str::<HeaderValue>(json).unwrap().0, value);
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let text = |text: &str| Value::Text(text.into());
        check(Value::Null, "null");
        check(Value::Bool(true), "true");
        check(Value::int(-5), "-5");
        check(Value::Int { value: -128, width_bytes: 1 }, r#"{"type":"int8","value":-128}"#);
        check(Value::Int { value: 7, width_bytes: 4 }, r#"{"type":"int32","value":7}"#);
        check(Value::Uint { value: 7, width_bytes: 2 }, r#"{"type":"uint16","value":7}"#);
        check(Value::Uint { value: u64::MAX, width_bytes: 8 }, r#"{"type":"uint64","value":18446744073709551615}"#);
        check(Value::Float(1.5), r#"{"type":"float","value":1.5}"#);
        check(Value::Float(f32::INFINITY), r#"{"type":"float","value":"Infinity"}"#);
        check(Value::Double(2.0), "2.0");
        check(Value::Double(f64::NEG_INFINITY), r#"{"type":"double","value":"-Infinity"}"#);
        check(Value::Decimal { scale: 2, unscaled: -5 }, r#"{"type":"decimal","value":"-0.05"}"#);
        check(Value::Decimal { scale: 0, unscaled: 12 }, r#"{"type":"decimal","value":"12"}"#);
        check(Value::Decimal { scale: 2, unscaled: i64::MIN }, r#"{"type":"decimal","value":"-92233720368547758.08"}"#);
        check(text("ü"), "\"ü\"");
        check(Value::Bytes(Bytes::from_static(&[0, 255])), r#"{"type":"bytes","value":"AP8="}"#);
        check(Value::Timestamp(Timestamp(-1)), r#"{"type":"timestamp","value":-1}"#);
        check(Value::List(vec![Value::Null, Value::int(1)]), "[null,1]");
        check(Value::Map(vec![("b".into(), Value::int(1)), ("a".into(), Value::Null)]), r#"{"b":1,"a":null}"#);
        let twice = vec![("a".into(), Value::int(1)), ("a".into(), Value::int(2))];
        check(Value::Map(twice), r#"{"type":"map","value":[["a",1],["a",2]]}"#);
        let tagged = vec![("type".into(), text("int8")), ("value".into(), text("x"))];
        check(Value::Map(tagged), r#"{"type":"map","value":[["type","int8"],["value","x"]]}"#);
    }

    #[test]
    fn headers_keep_order_and_duplicates() {
        let plain: Headers = serde_json::from_str(r#"{"z":1,"a":"x"}"#).unwrap();
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"z":1,"a":"x"}"#);
        let twice: Headers = serde_json::from_str(r#"[["z",1],["z",2]]"#).unwrap();
        assert_eq!(serde_json::to_string(&twice).unwrap(), r#"[["z",1],["z",2]]"#);
    }

    #[test]
    fn wrong_typed_values_say_what_is_wanted() {
        for (json, part) in [
            (r#"{"type":"int8","value":128}"#, "from -128 to 127"),
            (r#"{"type":"int9","value":1}"#, "there is no header type"),
            (r#"{"type":1,"value":1}"#, "must be text"),
            (r#"{"type":"bytes","value":"!"}"#, "base64"),
            (r#"{"type":"decimal","value":"1."}"#, "12.50"),
            (r#"{"type":"map","value":[["a"]]}"#, "pairs"),
        ] {
            let error = serde_json::from_str::<HeaderValue>(json).unwrap_err().to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
