//! Reading requests: paths, queries and bodies within their limits, and problems that say what is wrong with them.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::limits::{BODY_IDLE, BODY_TOTAL, MAX_JSON_BYTES};
use crate::problem::Failure;

/// The variables of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|error| Failure::new(400, "bad-path", error.body_text()))
    }
}

/// The query.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Bad percent-encoding would be read as the replacement character, and end up in names and keys.
        let query = parts.uri.query().unwrap_or_default();
        if percent_encoding::percent_decode_str(query).decode_utf8().is_err() {
            return Err(Failure::new(400, "bad-query", "the query is not UTF-8"));
        }
        let read = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        read.map(|query| Self(query.0)).map_err(|error| {
            let text = error.body_text();
            let why = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            let (path, why) = why.split_once(": ").unwrap_or(("", why));
            bad_json("bad-query", if path.contains(' ') { "" } else { path }, &text_after(path, why))
        })
    }
}

/// Puts back what was taken for a path and was none.
fn text_after(path: &str, why: &str) -> String {
    if path.contains(' ') { format!("{path}: {why}") } else { why.to_owned() }
}

/// A JSON body.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &App) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        wants_json(&parts.headers)?;
        let body = read_body(&parts.headers, body, MAX_JSON_BYTES, "MAX_JSON_BYTES").await?;
        from_json(&body).map(Self)
    }
}

/// A JSON body that may as well be missing.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<App> for OptionalJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &App) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let body = read_body(&parts.headers, body, MAX_JSON_BYTES, "MAX_JSON_BYTES").await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        wants_json(&parts.headers)?;
        from_json(&body).map(Self)
    }
}

/// A JSON body that may be as large as a batch of messages.
pub(crate) struct LargeJson<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<App> for LargeJson<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        wants_json(&parts.headers)?;
        let body = read_body(&parts.headers, body, app.options.max_batch_bytes, "max_batch_bytes").await?;
        from_json(&body).map(Self)
    }
}

/// The body's MIME type without its parameters, in lower case; empty if there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> Result<String, Failure> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(String::new()) };
    let value = std::str::from_utf8(value.as_bytes());
    let value =
        value.map_err(|_| Failure::new(400, "bad-header", "Content-Type is not UTF-8").field("Content-Type"))?;
    Ok(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn wants_json(headers: &HeaderMap) -> Result<(), Failure> {
    let found = media_type(headers)?;
    if api::is_json(&found) {
        return Ok(());
    }
    let found = if found.is_empty() { "none".to_owned() } else { format!("{found:?}") };
    Err(unsupported(format!("this wants a body with Content-Type application/json; the request has {found}")))
}

pub(crate) fn unsupported(detail: impl Into<String>) -> Failure {
    Failure::new(415, "unsupported-media-type", detail).field("Content-Type")
}

/// Reads a whole body. It may neither be longer than `limit` bytes nor arrive too slowly.
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    limit_name: &str,
) -> Result<Bytes, Failure> {
    let too_large = || Failure::too_large(format!("the body is larger than {limit} bytes ({limit_name})"), limit_name);
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|declared| declared > limit) {
        return Err(too_large());
    }
    let slow = |_| Failure::new(408, "body-too-slow", "the body did not arrive in time");
    let reading = async {
        let mut stream = body.into_data_stream();
        let mut first: Option<Bytes> = None;
        let mut whole = BytesMut::new();
        while let Some(piece) = tokio::time::timeout(BODY_IDLE, stream.next()).await.map_err(slow)? {
            let piece = piece.map_err(|error| Failure::new(400, "bad-body", format!("the body broke off: {error}")))?;
            let have = first.as_ref().map_or(0, Bytes::len) + whole.len();
            if have + piece.len() > limit {
                return Err(too_large());
            }
            // A body that arrives in one piece, as most do, is not copied.
            match first.take() {
                None if whole.is_empty() => first = Some(piece),
                None => whole.extend_from_slice(&piece),
                Some(before) => {
                    whole.reserve(declared.unwrap_or(0).max(before.len() + piece.len()));
                    whole.extend_from_slice(&before);
                    whole.extend_from_slice(&piece);
                }
            }
        }
        Ok(first.unwrap_or_else(|| whole.freeze()))
    };
    tokio::time::timeout(BODY_TOTAL, reading).await.map_err(slow)?
}

/// Reads JSON, and says where it is wrong.
pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Failure::new(400, "bad-utf8", format!("the body is not UTF-8 (from byte {} on)", error.valid_up_to()))
    })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        // The path of an error in the syntax is `?` from the place on where it is not known.
        bad_json("bad-json", path.trim_end_matches(['?', '.']), &error.inner().to_string())
    })?;
    reader.end().map_err(|error| bad_json("bad-json", "", &error.to_string()))?;
    Ok(value)
}

/// A problem of what serde says; the nearest right name is added to an unknown one.
fn bad_json(slug: &str, path: &str, why: &str) -> Failure {
    let mut names = why.split('`').skip(1).step_by(2);
    let unknown = why.starts_with("unknown field") || why.starts_with("unknown variant");
    let Some(wrong) = names.next().filter(|_| unknown) else {
        let failure = Failure::new(400, slug, if path.is_empty() { why.to_owned() } else { format!("{path}: {why}") });
        return if path.is_empty() { failure } else { failure.field(path) };
    };
    let nearest = names
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len().max(wrong.len()) / 3)
        .map(|(_, name)| name.to_owned());
    let slug = if why.starts_with("unknown field") { "unknown-field" } else { slug };
    let hint = nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
    let mut failure = Failure::new(400, slug, format!("{why}{hint}"));
    let ends_so = path == wrong || path.ends_with(&format!(".{wrong}"));
    let field = if path.is_empty() || ends_so || why.starts_with("unknown variant") {
        if path.is_empty() { wrong } else { path }.to_owned()
    } else {
        format!("{path}.{wrong}")
    };
    failure.0.field = Some(field);
    failure.0.did_you_mean = nearest;
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, slug: &str, field: Option<&str>, near: Option<&str>) {
        let problem = *from_json::<api::QueueConfig>(json.as_bytes()).unwrap_err().0;
        assert_eq!(problem.slug(), slug, "{problem:?}");
        assert_eq!(problem.field.as_deref(), field, "{problem:?}");
        assert_eq!(problem.did_you_mean.as_deref(), near, "{problem:?}");
    }

    #[test]
    fn json_problems_name_the_field_and_the_nearest_right_one() {
        check(r#"{"leese_ms":1}"#, "unknown-field", Some("leese_ms"), Some("lease_ms"));
        check(r#"{"retry":{"max_atempts":1}}"#, "unknown-field", Some("retry.max_atempts"), Some("max_attempts"));
        check(r#"{"xyzzy":1}"#, "unknown-field", Some("xyzzy"), None);
        check(r#"{"overflow":"drop-oldst"}"#, "bad-json", Some("overflow"), Some("drop-oldest"));
        check(r#"{"lease_ms":-1}"#, "bad-json", Some("lease_ms"), None);
        check("{", "bad-json", None, None);
        check("{} {}", "bad-json", None, None);
    }

    #[test]
    fn a_body_of_json_keeps_its_text() {
        let batch: api::Batch = from_json(br#"{"messages":[{"body":{"a": 1.50}}]}"#).unwrap();
        let body = batch.messages.first().and_then(|message| message.body.as_ref()).map(|body| body.get().to_owned());
        assert_eq!(body.as_deref(), Some(r#"{"a": 1.50}"#));
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_refused_by_name() {
        let body =
            || Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(vec![0u8; 8]), Ok(vec![1u8; 8])]));
        assert_eq!(read_body(&HeaderMap::new(), body(), 16, "x").await.unwrap().len(), 16);
        let problem = *read_body(&HeaderMap::new(), body(), 15, "the_limit").await.unwrap_err().0;
        assert_eq!((problem.status, problem.limit.as_deref()), (413, Some("the_limit")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_is_given_up() {
        let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let problem = *read_body(&HeaderMap::new(), body, 16, "x").await.unwrap_err().0;
        assert_eq!((problem.status, problem.slug()), (408, "body-too-slow"));
    }
}
