//! CloudEvents 1.0.2, and how they map to messages: the event model, the JSON format and the HTTP protocol binding.
//!
//! What each attribute becomes is a table in docs/protocols/http.md.

use api::{RawJson, rfc3339};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::ser::{Serialize, SerializeMap, Serializer};
use types::{Message, Text, Timestamp, Value};

use crate::problem::Failure;

/// Content type of one event in the JSON format.
pub(crate) const STRUCTURED_TYPE: &str = "application/cloudevents+json";
/// Content type of a list of events in the JSON format.
pub(crate) const BATCH_TYPE: &str = "application/cloudevents-batch+json";
/// Begins the name of a message header that holds an attribute.
const PREFIX: &str = "ce-";
/// What an attribute's value may not hold in an HTTP header (HTTP binding, section 3.1.3.2). All above ASCII is encoded anyway.
const IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// What a name may not hold as a segment of a path.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'/')
    .add(b'?')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'[')
    .add(b']')
    .add(b'\\')
    .add(b'^')
    .add(b'|');

/// An event: its context attributes, without `specversion` and `datacontenttype`, and its data.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Event {
    /// Names and values; a value is text, a boolean or a 4-byte integer.
    pub(crate) attributes: Vec<(String, Value)>,
    pub(crate) content_type: Option<String>,
    pub(crate) data: Option<Bytes>,
}

fn bad(detail: impl Into<String>) -> Failure {
    Failure::new(400, "bad-cloudevent", detail)
}

impl Event {
    fn text(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(have, _)| have == name).and_then(|(_, value)| value.as_text())
    }

    /// Checks what the specification says of attributes (sections "Context Attributes" and "Attribute Naming Convention").
    fn check(&self) -> Result<(), Failure> {
        for name in ["id", "source", "type"] {
            match self.text(name) {
                None => return Err(bad(format!("the event has no `{name}`")).field(name)),
                Some("") => return Err(bad(format!("`{name}` is empty")).field(name)),
                Some(_) => {}
            }
        }
        for (name, value) in &self.attributes {
            check_name(name)?;
            let is_uri = matches!(name.as_str(), "source" | "dataschema");
            match value.as_text() {
                Some("") if matches!(name.as_str(), "subject" | "dataschema") => {
                    return Err(bad(format!("`{name}` is empty")).field(name));
                }
                Some(text) if is_uri && text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
                    return Err(bad(format!("`{name}` is no URI")).field(name));
                }
                Some(text) if name == "dataschema" && !is_absolute_uri(text) => {
                    return Err(bad("`dataschema` is no absolute URI").field(name));
                }
                Some(text) if name == "time" && rfc3339::parse(text).is_none() => {
                    return Err(bad("`time` is no RFC 3339 time").field(name));
                }
                None if ["subject", "dataschema", "time"].contains(&name.as_str()) => {
                    return Err(bad(format!("`{name}` is not text")).field(name));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The message that carries the event. Its subject is the event's type, which is what bindings want to filter on, unless the
    /// publish itself names one.
    pub(crate) fn into_message(self) -> Result<Message, Failure> {
        self.check()?;
        let mut message = Message {
            subject: Bytes::from(self.text("type").unwrap_or_default().to_owned()),
            key: self.text("partitionkey").map(|key| Bytes::from(key.to_owned())),
            timestamp: self.text("time").and_then(rfc3339::parse).map(Timestamp),
            content_type: self.content_type.map(Text::from),
            body: Some(self.data.clone().unwrap_or_default()),
            ..Message::default()
        };
        if self.data.is_none() {
            message.headers.push((format!("{PREFIX}nodata").into(), Value::Bool(true)));
        }
        message.headers.push((format!("{PREFIX}specversion").into(), Value::from("1.0")));
        for (name, value) in self.attributes {
            match (name.as_str(), value) {
                ("id", value) => message.id = value.as_text().map(|id| api::id_from_text(id.to_owned())),
                ("traceparent" | "tracestate", value) => message.headers.push((name.into(), value)),
                (_, value) => message.headers.push((format!("{PREFIX}{name}").into(), value)),
            }
        }
        Ok(message)
    }

    /// The event that a message is, whether it was published as one or not. `source` is for one that was not; `extras` go along as
    /// extension attributes.
    pub(crate) fn of(message: &Message, source: &str, extras: Vec<(&str, Value)>) -> Self {
        let mut event =
            Self { content_type: message.content_type.as_ref().map(|text| text.to_string()), ..Self::default() };
        let id = message.id.as_ref().map(ToString::to_string).unwrap_or_default();
        event.attributes.push(("id".to_owned(), Value::Text(id.into())));
        let (mut data, mut is_event) = (true, false);
        for (header, value) in &message.headers {
            let name = match header.strip_prefix(PREFIX) {
                Some("specversion") => {
                    is_event = true;
                    continue;
                }
                Some("nodata") => {
                    data = false;
                    continue;
                }
                Some(name) => name,
                None => header,
            };
            if !event.attributes.iter().any(|(have, _)| have == name) && check_name(name).is_ok() {
                event.attributes.extend(attribute_value(value).map(|value| (name.to_owned(), value)));
            }
        }
        let subject = std::str::from_utf8(&message.subject).unwrap_or_default();
        let kind = if subject.is_empty() { "posthouse.message" } else { subject };
        let time = message.timestamp.map(|at| rfc3339::format(at.0));
        let key = message.key.as_ref().filter(|_| !is_event).and_then(|key| std::str::from_utf8(key).ok());
        let defaults =
            [("source", Some(source)), ("type", Some(kind)), ("time", time.as_deref()), ("partitionkey", key)];
        for (name, value) in defaults {
            if event.text(name).is_none() {
                event.attributes.retain(|(have, _)| have != name);
                event.attributes.extend(value.map(|value| (name.to_owned(), Value::from(value))));
            }
        }
        for (name, value) in extras {
            event.attributes.retain(|(have, _)| have != name);
            event.attributes.push((name.to_owned(), value));
        }
        event.data = message.body.clone().filter(|_| data);
        event
    }

    /// Reads the binary mode: attributes in `ce-` headers, the data as the body.
    pub(crate) fn from_binary(headers: &HeaderMap, body: Bytes) -> Result<Self, Failure> {
        let mut event = Self::default();
        let mut version = None;
        for (header, value) in headers {
            let Some(name) = header.as_str().strip_prefix(PREFIX) else { continue };
            let value = decode_header(value.as_bytes())
                .ok_or_else(|| bad(format!("{header} is not UTF-8")).field(header.as_str()))?;
            match name {
                "specversion" => version = Some(value),
                "datacontenttype" | "data" | "data_base64" => {
                    return Err(bad(format!("{header} does not belong in the binary mode")).field(header.as_str()));
                }
                _ if event.attributes.iter().any(|(have, _)| have == name) => {
                    return Err(bad(format!("{header} stands twice")).field(header.as_str()));
                }
                _ => event.attributes.push((name.to_owned(), Value::Text(value.into()))),
            }
        }
        check_version(version.as_deref())?;
        if let Some(kind) = headers.get(header::CONTENT_TYPE) {
            let kind = std::str::from_utf8(kind.as_bytes());
            event.content_type =
                Some(kind.map_err(|_| bad("Content-Type is not UTF-8").field("Content-Type"))?.to_owned());
        }
        event.data = Some(body).filter(|body| !body.is_empty());
        Ok(event)
    }

    /// Reads the structured mode: an object of the JSON format.
    pub(crate) fn from_json(members: Vec<(String, RawJson)>) -> Result<Self, Failure> {
        let mut event = Self::default();
        let (mut version, mut data, mut base64) = (None, None, None);
        for (name, json) in members {
            if json.get() == "null" && name != "data" {
                continue;
            }
            match name.as_str() {
                "data" => data = Some(json),
                "data_base64" => base64 = Some(json_text(&name, &json)?),
                "specversion" => version = Some(json_text(&name, &json)?),
                "datacontenttype" => event.content_type = Some(json_text(&name, &json)?),
                _ if event.attributes.iter().any(|(have, _)| *have == name) => {
                    return Err(bad(format!("`{name}` stands twice")).field(&name));
                }
                _ => {
                    let value = json_value(&name, &json)?;
                    event.attributes.push((name, value));
                }
            }
        }
        check_version(version.as_deref())?;
        event.data = match (data, base64) {
            (Some(_), Some(_)) => return Err(bad("an event has either `data` or `data_base64`").field("data")),
            (None, Some(base64)) => {
                let bytes =
                    BASE64.decode(base64).map_err(|_| bad("`data_base64` is not base64").field("data_base64"))?;
                Some(Bytes::from(bytes))
            }
            (Some(data), None) => {
                // Without a type the data is JSON (JSON format, section 3.1.1), and says so from here on.
                let kind = event.content_type.get_or_insert_with(|| "application/json".to_owned());
                let text = if api::is_json(kind) { None } else { serde_json::from_str::<String>(data.get()).ok() };
                Some(Bytes::from(text.unwrap_or_else(|| data.get().to_owned())))
            }
            (None, None) => None,
        };
        Ok(event)
    }

    /// Writes the binary mode.
    pub(crate) fn into_binary(self) -> (HeaderMap, Bytes) {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("ce-specversion"), HeaderValue::from_static("1.0"));
        for (name, value) in &self.attributes {
            let text = match value {
                Value::Text(text) => utf8_percent_encode(text, IN_HEADER).to_string(),
                Value::Bool(value) => value.to_string(),
                Value::Int { value, .. } => value.to_string(),
                _ => continue,
            };
            if let (Ok(name), Ok(text)) = (HeaderName::try_from(format!("{PREFIX}{name}")), HeaderValue::try_from(text))
            {
                headers.insert(name, text);
            }
        }
        if let Some(kind) = self.content_type.and_then(|kind| HeaderValue::try_from(kind).ok()) {
            headers.insert(header::CONTENT_TYPE, kind);
        }
        (headers, self.data.unwrap_or_default())
    }
}

/// Writes an event in the JSON format. A body that the format would change goes as `data_base64`.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        for (name, value) in &self.attributes {
            match value {
                Value::Text(text) => map.serialize_entry(name, text.as_str())?,
                Value::Bool(value) => map.serialize_entry(name, value)?,
                Value::Int { value, .. } => map.serialize_entry(name, value)?,
                _ => {}
            }
        }
        let Some(data) = &self.data else {
            if let Some(kind) = &self.content_type {
                map.serialize_entry("datacontenttype", kind)?;
            }
            return map.end();
        };
        // Bytes of no known type are not JSON, which a missing `datacontenttype` would make of them.
        let kind = self.content_type.as_deref().unwrap_or("application/octet-stream");
        map.serialize_entry("datacontenttype", kind)?;
        let text = std::str::from_utf8(data).ok().filter(|_| self.content_type.is_some());
        match (text, api::is_json(kind)) {
            (Some(text), true) => match RawJson::parse(text) {
                Ok(json) if json.get().len() == text.len() => map.serialize_entry("data", &json)?,
                _ => map.serialize_entry("data_base64", &BASE64.encode(data))?,
            },
            (Some(text), false) => map.serialize_entry("data", text)?,
            (None, _) => map.serialize_entry("data_base64", &BASE64.encode(data))?,
        }
        map.end()
    }
}

/// The members of a JSON object, in order.
pub(crate) struct Members(pub(crate) Vec<(String, RawJson)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a CloudEvent, which is an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn check_version(version: Option<&str>) -> Result<(), Failure> {
    match version {
        Some("1.0") => Ok(()),
        Some(other) => Err(bad(format!("specversion {other:?} is not supported; 1.0 is")).field("specversion")),
        None => Err(bad("the event has no `specversion`").field("specversion")),
    }
}

/// Lower-case ASCII letters and digits. (Section "Attribute Naming Convention".)
fn check_name(name: &str) -> Result<(), Failure> {
    let fits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if fits && name != "data" {
        return Ok(());
    }
    Err(bad(format!("{name:?} is no name of an attribute: only lower-case letters and digits are allowed")).field(name))
}

/// A scheme, a colon and something behind it. (RFC 3986, section 4.3.)
fn is_absolute_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty()
            && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    })
}

fn json_text(name: &str, json: &RawJson) -> Result<String, Failure> {
    serde_json::from_str(json.get()).map_err(|_| bad(format!("`{name}` is not text")).field(name))
}

fn json_value(name: &str, json: &RawJson) -> Result<Value, Failure> {
    let value = serde_json::from_str::<serde_json::Value>(json.get());
    match value {
        Ok(serde_json::Value::String(text)) => Ok(Value::Text(text.into())),
        Ok(serde_json::Value::Bool(value)) => Ok(Value::Bool(value)),
        Ok(serde_json::Value::Number(number)) => match number.as_i64().map(i32::try_from) {
            Some(Ok(value)) => Ok(Value::Int { value: value.into(), width_bytes: 4 }),
            _ => Err(bad(format!("`{name}` is no whole number of 32 bits")).field(name)),
        },
        _ => Err(bad(format!("`{name}` is neither text, a boolean nor a whole number")).field(name)),
    }
}

/// A header's value as an attribute's; `None` if attributes have nothing like it.
fn attribute_value(value: &Value) -> Option<Value> {
    match value {
        Value::Text(text) if !text.is_empty() => Some(value.clone()),
        Value::Bool(_) => Some(value.clone()),
        Value::Int { value: number, .. } => Some(match i32::try_from(*number) {
            Ok(_) => value.clone(),
            Err(_) => Value::Text(number.to_string().into()),
        }),
        Value::Uint { value, .. } => Some(match i32::try_from(*value) {
            Ok(value) => Value::Int { value: value.into(), width_bytes: 4 },
            Err(_) => Value::Text(value.to_string().into()),
        }),
        Value::Float(number) => Some(Value::Text(number.to_string().into())),
        Value::Double(number) => Some(Value::Text(number.to_string().into())),
        Value::Bytes(bytes) => Some(Value::Text(BASE64.encode(bytes).into())),
        Value::Timestamp(at) => Some(Value::Text(rfc3339::format(at.0).into())),
        _ => None,
    }
}

/// Undoes double quotes, then one round of percent-encoding. (HTTP binding, section 3.1.3.2.)
fn decode_header(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut plain = String::with_capacity(text.len());
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        None => plain.push_str(text),
        Some(quoted) => {
            let mut chars = quoted.chars();
            while let Some(c) = chars.next() {
                plain.push(if c == '\\' { chars.next()? } else { c });
            }
        }
    }
    percent_decode_str(&plain).decode_utf8().ok().map(|text| text.into_owned())
}

/// The `source` of what was not published as an event: the path of where it was read.
pub(crate) fn source(namespace: &str, kind: &str, name: &str) -> String {
    format!("/v1/{}/{kind}/{}", utf8_percent_encode(namespace, IN_PATH), utf8_percent_encode(name, IN_PATH))
}

#[cfg(test)]
#[path = "cloudevents_tests.rs"]
mod tests;
