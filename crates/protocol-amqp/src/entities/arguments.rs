//! Arguments of declarations: how they are kept, shown and compared.
//!
//! They are kept as JSON with the entity. What JSON has a kind of its own for is written as that; the rest as an object of one name
//! that begins with `$`.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json, json};
use types::limits::RESERVED_HEADER_PREFIX;
use types::{Headers, Timestamp, Value};

use crate::fault::Fault;

/// Arguments as an entity keeps them.
pub(crate) type Kept = BTreeMap<String, Json>;

/// The value of the first argument of this name.
pub(crate) fn get<'a>(arguments: &'a Headers, name: &str) -> Option<&'a Value> {
    arguments.iter().find(|(have, _)| *have == *name).map(|(_, value)| value)
}

/// The arguments, to be kept. Of several with one name the first counts.
///
/// # Errors
/// 406 for a name that is the broker's own.
pub(crate) fn keep(arguments: &Headers) -> Result<Kept, Fault> {
    let mut kept = Kept::new();
    for (name, value) in arguments {
        if name.starts_with(RESERVED_HEADER_PREFIX) {
            let why =
                format!("argument '{name}': names that begin with '{RESERVED_HEADER_PREFIX}' are the broker's own");
            return Err(Fault::precondition_failed(why));
        }
        kept.entry(name.to_string()).or_insert_with(|| to_json(value));
    }
    Ok(kept)
}

/// Kept arguments, without those that the broker added.
pub(crate) fn shown(kept: &Kept) -> Headers {
    client(kept).map(|(name, value)| (name.as_str().into(), from_json(value))).collect()
}

/// Kept arguments as the management API shows them: as plain JSON.
pub(crate) fn plain(kept: &Kept) -> Map<String, Json> {
    client(kept).map(|(name, value)| (name.clone(), to_plain(&from_json(value)))).collect()
}

/// A table as the management API shows it.
pub(crate) fn plain_table(table: &Headers) -> Map<String, Json> {
    table.iter().map(|(name, value)| (name.to_string(), to_plain(value))).collect()
}

fn client(kept: &Kept) -> impl Iterator<Item = (&String, &Json)> {
    kept.iter().filter(|(name, _)| !name.starts_with(RESERVED_HEADER_PREFIX))
}

/// A value as plain JSON, which does not tell apart what it has no kind for.
pub(crate) fn to_plain(value: &Value) -> Json {
    match value {
        Value::Timestamp(at) => json!(at.0 / 1000),
        Value::Bytes(bytes) => Json::String(String::from_utf8_lossy(bytes).into_owned()),
        Value::Float(_) | Value::Decimal { .. } => json!(value.as_f64()),
        Value::List(values) => values.iter().map(to_plain).collect(),
        Value::Map(fields) => {
            Json::Object(fields.iter().map(|(name, value)| (name.to_string(), to_plain(value))).collect())
        }
        value => to_json(value),
    }
}

/// A value as JSON that [`from_json`] reads back; but the width of an integer is not kept.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int { value, .. } => json!(value),
        Value::Uint { value, .. } => json!(value),
        Value::Double(value) => {
            Number::from_f64(*value).map_or_else(|| json!({"$double": value.to_string()}), Json::Number)
        }
        Value::Float(value) => json!({"$float": value.to_string()}),
        Value::Decimal { scale, unscaled } => json!({"$decimal": [scale, unscaled]}),
        Value::Text(text) => json!(&**text),
        Value::Bytes(bytes) => json!({"$bytes": &**bytes}),
        Value::Timestamp(at) => json!({"$timestamp": at.0}),
        Value::List(values) => values.iter().map(to_json).collect(),
        Value::Map(fields) => {
            let mut map = Map::new();
            for (name, value) in fields {
                map.entry(&**name).or_insert_with(|| to_json(value));
            }
            match map.keys().next() {
                Some(name) if map.len() == 1 && name.starts_with('$') => json!({"$map": map}),
                _ => Json::Object(map),
            }
        }
    }
}

/// What JSON stands for: what [`to_json`] wrote, or what a client of the management API wrote.
pub(crate) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::int(value),
            (None, Some(value)) => Value::Uint { value, width_bytes: 8 },
            (None, None) => Value::Double(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(values) => Value::List(values.iter().map(from_json).collect()),
        Json::Object(map) => {
            let tagged = (map.len() == 1).then(|| map.iter().next()).flatten();
            tagged.and_then(|(tag, value)| from_tagged(tag, value)).unwrap_or_else(|| from_object(map))
        }
    }
}

fn from_object(map: &Map<String, Json>) -> Value {
    Value::Map(map.iter().map(|(name, value)| (name.as_str().into(), from_json(value))).collect())
}

fn from_tagged(tag: &str, value: &Json) -> Option<Value> {
    Some(match tag {
        "$double" => Value::Double(value.as_str()?.parse().ok()?),
        "$float" => Value::Float(value.as_str()?.parse().ok()?),
        "$decimal" => {
            let scale = value.get(0)?.as_u64()?.try_into().ok()?;
            Value::Decimal { scale, unscaled: value.get(1)?.as_i64()? }
        }
        "$bytes" => {
            let byte = |byte: &Json| byte.as_u64()?.try_into().ok();
            Value::Bytes(value.as_array()?.iter().map(byte).collect::<Option<Vec<u8>>>()?.into())
        }
        "$timestamp" => Value::Timestamp(Timestamp(value.as_i64()?)),
        "$map" => from_object(value.as_object()?),
        _ => return None,
    })
}

/// Checks that a yes or no of a declaration is what it was before.
///
/// # Errors
/// 406 with RabbitMQ's text. `entity` is such as `queue 'orders' in vhost '/'`.
pub(crate) fn same_flag(entity: &str, name: &str, current: bool, received: bool) -> Result<(), Fault> {
    same_word(entity, name, if current { "true" } else { "false" }, if received { "true" } else { "false" })
}

/// As [`same_flag`], for words.
///
/// # Errors
/// See [`same_flag`].
pub(crate) fn same_word(entity: &str, name: &str, current: &str, received: &str) -> Result<(), Fault> {
    if current == received {
        return Ok(());
    }
    Err(inequivalent(entity, name, &format!("'{received}'"), &format!("'{current}'")))
}

/// Checks that an argument of a declaration is what it was before. Numbers compare by value.
///
/// # Errors
/// See [`same_flag`].
pub(crate) fn same_argument(entity: &str, name: &str, current: &Kept, received: &Headers) -> Result<(), Fault> {
    let (current, received) = (current.get(name), get(received, name).map(to_json));
    match (current, received.as_ref()) {
        (current, received) if current == received => Ok(()),
        (Some(current), Some(received)) => {
            let (received, current) = (format!("'{}'", bare(received)), format!("'{}'", bare(current)));
            Err(inequivalent(entity, name, &received, &current))
        }
        (current, received) => Err(inequivalent(entity, name, &typed(received), &typed(current))),
    }
}

fn inequivalent(entity: &str, name: &str, received: &str, current: &str) -> Fault {
    let text = format!("inequivalent arg '{name}' for {entity}: received {received} but current is {current}");
    Fault::precondition_failed(text)
}

fn typed(value: Option<&Json>) -> String {
    value.map_or_else(
        || "none".to_owned(),
        |value| format!("the value '{}' of type '{}'", bare(value), type_name(&from_json(value))),
    )
}

fn bare(value: &Json) -> String {
    value.as_str().map_or_else(|| to_plain(&from_json(value)).to_string(), str::to_owned)
}

/// A value's type, as RabbitMQ calls it.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "void",
        Value::Bool(_) => "bool",
        Value::Int { width_bytes: 1, .. } => "byte",
        Value::Int { width_bytes: 2, .. } => "short",
        Value::Int { width_bytes: 4, .. } => "signedint",
        // The width of a kept one is not known: this is how clients write a number that fits.
        Value::Int { value, .. } if i32::try_from(*value).is_ok() => "signedint",
        Value::Int { .. } => "long",
        Value::Uint { width_bytes: 1, .. } => "unsignedbyte",
        Value::Uint { width_bytes: 2, .. } => "unsignedshort",
        Value::Uint { .. } => "unsignedint",
        Value::Float(_) => "float",
        Value::Double(_) => "double",
        Value::Decimal { .. } => "decimal",
        Value::Text(_) => "longstr",
        Value::Bytes(_) => "binary",
        Value::Timestamp(_) => "timestamp",
        Value::List(_) => "array",
        Value::Map(_) => "table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_values_come_back_as_they_were() {
        let values = vec![
            Value::Null,
            Value::Bool(true),
            Value::int(-5),
            Value::Uint { value: u64::MAX, width_bytes: 8 },
            Value::Double(1.0),
            Value::Double(f64::INFINITY),
            Value::Float(0.1),
            Value::Decimal { scale: 2, unscaled: -123 },
            Value::from("text"),
            Value::Bytes(vec![0, 255].into()),
            Value::Timestamp(Timestamp(1_700_000_000_000)),
            Value::Map(vec![("$bytes".into(), Value::from("no bytes"))]),
            Value::Map(vec![("a".into(), Value::List(vec![Value::int(1)])), ("b".into(), Value::Null)]),
        ];
        let written = serde_json::to_string(&to_json(&Value::List(values.clone()))).unwrap();
        assert_eq!(from_json(&serde_json::from_str(&written).unwrap()), Value::List(values));
    }

    #[test]
    fn of_two_arguments_with_one_name_the_first_is_kept_and_the_brokers_own_are_refused() {
        let arguments = vec![("x".into(), Value::int(1)), ("x".into(), Value::int(2))];
        assert_eq!(shown(&keep(&arguments).unwrap()), vec![("x".into(), Value::int(1))]);
        assert_eq!(keep(&vec![("ph-x".into(), Value::Null)]).unwrap_err().code, 406);
    }

    #[test]
    fn numbers_compare_by_value_whatever_their_width() {
        let kept = keep(&vec![("x".into(), Value::Int { value: 5, width_bytes: 4 })]).unwrap();
        let check = |value: Option<Value>| {
            let received = value.into_iter().map(|value| ("x".into(), value)).collect();
            same_argument("queue 'q' in vhost '/'", "x", &kept, &received).map_err(|fault| fault.text)
        };
        check(Some(Value::int(5))).unwrap();
        let text =
            |rest: &str| Err(format!("PRECONDITION_FAILED - inequivalent arg 'x' for queue 'q' in vhost '/': {rest}"));
        assert_eq!(check(Some(Value::from("6"))), text("received '6' but current is '5'"));
        assert_eq!(check(None), text("received none but current is the value '5' of type 'signedint'"));
    }
}
