//! Bodies of requests: JSON objects, read as leniently as RabbitMQ reads them.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use serde_json::{Map, Value as Json};
use types::Headers;

use super::refusal::Refusal;
use crate::entities::arguments::from_json;

/// A body that is a JSON object; an empty one is an empty object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Body(pub(super) Map<String, Json>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|_| Refusal::bad_request("Exceeded HTTP request body size limit"))?;
        Self::read(&bytes)
    }
}

/// The query, as names and values.
pub(super) struct Params(pub(super) HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::<HashMap<String, String>>::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|error| Refusal::bad_request(error.body_text()))
    }
}

impl Params {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

impl Body {
    /// # Errors
    /// 400 if it is no JSON object.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match serde_json::from_slice(bytes) {
            Ok(Json::Object(map)) => Ok(Self(map)),
            Ok(Json::Null) => Ok(Self::default()),
            _ => Err(Refusal::bad_request("not_json")),
        }
    }

    /// A field that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A yes or no, as such or as its word; no if it is not there.
    ///
    /// # Errors
    /// 400 for anything else.
    pub(super) fn bool(&self, name: &str) -> Result<bool, Refusal> {
        self.bool_or(name, false)
    }

    /// As [`bool`](Self::bool), with what holds if it is not there.
    ///
    /// # Errors
    /// See [`bool`](Self::bool).
    pub(super) fn bool_or(&self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(default),
            Some(Json::Bool(value)) => Ok(*value),
            Some(Json::String(word)) if word == "true" => Ok(true),
            Some(Json::String(word)) if word == "false" => Ok(false),
            Some(_) => Err(Refusal::bad_request(format!("{name}: true or false is expected"))),
        }
    }

    /// A text, if it is there.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::bad_request(format!("{name}: a string is expected"))),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// 400 if it is not.
    pub(super) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A whole number, as such or as its digits.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Json::Number(number)) => number.as_i64(),
            Some(Json::String(digits)) => digits.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| Refusal::bad_request(format!("{name}: a whole number is expected")))
    }

    /// A table of arguments.
    ///
    /// # Errors
    /// 400 if it is no object.
    pub(super) fn table(&self, name: &str) -> Result<Headers, Refusal> {
        match self.get(name) {
            None => Ok(Headers::new()),
            Some(Json::Object(map)) => {
                Ok(map.iter().map(|(name, value)| (name.as_str().into(), from_json(value))).collect())
            }
            // What languages without a kind for an empty table of its own write for it.
            Some(Json::Array(none)) if none.is_empty() => Ok(Headers::new()),
            Some(_) => Err(Refusal::bad_request(format!("{name}: an object is expected"))),
        }
    }
}

/// 400 for a field that must be there.
pub(super) fn missing(name: &str) -> Refusal {
    Refusal::bad_request(format!("key_missing: {name}"))
}
