//! The properties key, by which the API tells apart the bindings between the same two: the routing key, and a hash of the arguments.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

/// What stays as it is in a key.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// Bytes of the hash, as many as RabbitMQ's.
const HASH_BYTES: usize = 4;

/// The properties key of a binding.
pub(super) fn properties_key(routing_key: &str, arguments: &Map<String, Json>) -> String {
    if routing_key.is_empty() && arguments.is_empty() {
        return "~".to_owned();
    }
    let key = utf8_percent_encode(routing_key, ESCAPED).to_string();
    if arguments.is_empty() {
        return key;
    }
    let text = Json::Object(arguments.clone()).to_string();
    let hash = Sha256::digest(text.as_bytes());
    format!("{key}~{}", URL_SAFE_NO_PAD.encode(hash.get(..HASH_BYTES).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_tells_routing_key_and_arguments() {
        let none = Map::new();
        assert_eq!(properties_key("", &none), "~");
        assert_eq!(properties_key("a.b-c", &none), "a.b-c");
        assert_eq!(properties_key("a~#", &none), "a%7E%23");
        let Json::Object(arguments) = json!({"x-match": "all"}) else { panic!("an object") };
        let key = properties_key("", &arguments);
        assert!(key.starts_with('~') && key.len() == 7, "{key}");
        assert_ne!(key, properties_key("", &json!({"x-match": "any"}).as_object().cloned().unwrap()));
    }
}
