//! A message with a look into its JSON body.

use std::cell::OnceCell;

use bytes::Bytes;
use serde_json::Value as Json;
use types::limits::MAX_FILTER_BODY_BYTES;
use types::{Fields, Message, MessageId, Text, Timestamp, Value};

/// A message as filters see it. Its body is read as JSON when the first filter asks, and once; a body that is larger than
/// [`MAX_FILTER_BODY_BYTES`] or is not JSON has no fields.
#[derive(Debug)]
pub struct MessageFields<'a> {
    message: &'a Message,
    body: OnceCell<Option<Json>>,
}

impl<'a> MessageFields<'a> {
    /// Looks at this message.
    #[must_use]
    pub fn new(message: &'a Message) -> Self {
        Self { message, body: OnceCell::new() }
    }

    fn body(&self) -> Option<&Json> {
        let read = || {
            let body = self.message.body.as_ref().filter(|body| body.len() <= MAX_FILTER_BODY_BYTES)?;
            serde_json::from_slice(body).ok()
        };
        self.body.get_or_init(read).as_ref()
    }
}

impl Fields for MessageFields<'_> {
    fn subject(&self) -> &[u8] {
        self.message.subject()
    }

    fn also(&self) -> &[Bytes] {
        self.message.also()
    }

    fn key(&self) -> Option<&[u8]> {
        self.message.key()
    }

    fn id(&self) -> Option<&MessageId> {
        self.message.id.as_ref()
    }

    fn correlation_id(&self) -> Option<&Text> {
        self.message.correlation_id.as_ref()
    }

    fn timestamp(&self) -> Option<Timestamp> {
        self.message.timestamp
    }

    fn for_header(&self, name: &str, visit: &mut dyn FnMut(&Value) -> bool) -> bool {
        self.message.for_header(name, visit)
    }

    fn for_body(&self, path: &[Text], visit: &mut dyn FnMut(&Value) -> bool) -> bool {
        self.body().is_some_and(|body| walk(body, path, visit))
    }
}

/// Follows the path; lists on the way and at its end are entered. The reader bounds how deep a body nests (128), so this recursion
/// is bounded too.
fn walk(json: &Json, path: &[Text], visit: &mut dyn FnMut(&Value) -> bool) -> bool {
    match (json, path.split_first()) {
        (Json::Array(items), _) => items.iter().any(|item| walk(item, path, visit)),
        (Json::Object(entries), Some((name, rest))) => {
            entries.get(name.as_str()).is_some_and(|value| walk(value, rest, visit))
        }
        (leaf, None) => leaf_value(leaf).is_some_and(|value| visit(&value)),
        (_, Some(_)) => false,
    }
}

fn leaf_value(json: &Json) -> Option<Value> {
    match json {
        Json::Null => Some(Value::Null),
        Json::Bool(value) => Some(Value::Bool(*value)),
        Json::String(text) => Some(Value::from(text.as_str())),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Some(Value::int(value)),
            (None, Some(value)) => Some(Value::Uint { value, width_bytes: 8 }),
            (None, None) => number.as_f64().map(Value::Double),
        },
        Json::Array(_) | Json::Object(_) => None,
    }
}
