//! JSON bodies.

use bytes::Bytes;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::essence;
use super::{Codec, DecodeError, EncodeError, Schema};

/// JSON, by serde, with a JSON Schema by schemars. The codec of `#[derive(Message)]` unless it says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl<M: Serialize + DeserializeOwned + JsonSchema> Codec<M> for Json {
    const CONTENT_TYPE: &'static str = "application/json";

    fn encode(message: &M) -> Result<Bytes, EncodeError> {
        serde_json::to_vec(message).map(Bytes::from).map_err(|error| EncodeError {
            name: std::any::type_name::<M>(),
            content_type: <Self as Codec<M>>::CONTENT_TYPE,
            why: error.to_string(),
        })
    }

    fn decode(body: &[u8]) -> Result<M, DecodeError> {
        serde_json::from_slice(body)
            .map_err(|error| DecodeError::Body { name: short_name::<M>(), why: error.to_string() })
    }

    fn reads(content_type: &str) -> bool {
        let essence = essence(content_type);
        essence.eq_ignore_ascii_case("application/json") || essence.to_ascii_lowercase().ends_with("+json")
    }

    fn schema() -> Option<Schema> {
        let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<M>();
        Some(Schema { format: "application/schema+json;version=draft-2020-12", schema: schema.into() })
    }
}

/// The type's name without its path.
pub(super) fn short_name<M>() -> &'static str {
    let name = std::any::type_name::<M>();
    name.rsplit("::").next().unwrap_or(name)
}
