//! Push consumers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use types::limits::{
    MAX_NAME_BYTES, MAX_URL_BYTES, MAX_WEBHOOK_CONCURRENCY, MAX_WEBHOOK_HEADER_BYTES, MAX_WEBHOOK_HEADERS,
    MAX_WEBHOOK_SECRET_BYTES, MAX_WEBHOOK_TIMEOUT_MS,
};
use url::Url;

use super::{Checked, at_most_bytes, at_most_items, in_range, invalid};
use crate::definitions::WebhookConfig;

/// Begins a secret that is the base64 of its key, as Standard Webhooks writes it.
const SECRET_PREFIX: &str = "whsec_";
/// Headers that the request itself decides.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Beginnings of headers that say what the message is.
const RESERVED_HEADER_PREFIXES: &[&str] = &["posthouse-", "ce-", "proxy-", "webhook-"];

/// Checks a push consumer. Neither its secret nor a header's value is repeated in an error. Whether its address may be reached is
/// found out when it is, for names resolve differently from one day to the next.
///
/// # Errors
/// [`DeclareError::Invalid`](crate::DeclareError::Invalid).
pub fn validate_webhook(config: &WebhookConfig) -> Checked {
    url("url", &config.url)?;
    if let Some(secret) = &config.secret {
        if secret.is_empty() {
            return Err(invalid("secret", "it is empty; leave it out to send unsigned requests"));
        }
        at_most_bytes("secret", secret, MAX_WEBHOOK_SECRET_BYTES)?;
        if let Some(encoded) = secret.strip_prefix(SECRET_PREFIX)
            && BASE64.decode(encoded).map_or(true, |key| key.is_empty())
        {
            return Err(invalid("secret", "behind `whsec_` it is not base64; receivers could not read it"));
        }
    }
    in_range("concurrency", config.concurrency, 1..=MAX_WEBHOOK_CONCURRENCY, "")?;
    in_range("timeout_ms", config.timeout_ms, 1..=MAX_WEBHOOK_TIMEOUT_MS, "")?;
    at_most_items("headers", config.headers.len(), MAX_WEBHOOK_HEADERS)?;
    config.headers.iter().try_for_each(|(name, value)| header(name, value))
}

fn url(field: &str, text: &str) -> Checked {
    at_most_bytes(field, text, MAX_URL_BYTES)?;
    let url =
        Url::parse(text).map_err(|error| invalid(field, format!("{error}; use http://HOST/PATH or https://..")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(field, format!("{:?} is no scheme to push to; use http or https", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid(field, "it names no host; use http://HOST/PATH or https://.."));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(field, "it holds a user or password; send them in an `authorization` header instead"));
    }
    if url.fragment().is_some() {
        return Err(invalid(field, "it holds a fragment, which is never sent; leave out `#` and what follows"));
    }
    Ok(())
}

/// A header's name is a token of RFC 9110, section 5.6.2; its value is visible text, with spaces and tabs inside.
fn header(name: &str, value: &str) -> Checked {
    at_most_bytes("headers", name, MAX_NAME_BYTES)?;
    let field = || format!("headers.{}", name.escape_debug());
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(invalid(field(), "this is no header name; use letters, digits and hyphens"));
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED_HEADERS.contains(&lower.as_str())
        || RESERVED_HEADER_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
    {
        return Err(invalid(field(), "the request sets this header itself; use another name"));
    }
    if !value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        return Err(invalid(field(), "its value holds a line break or a character that is not ASCII; encode it"));
    }
    at_most_bytes(&field(), value, MAX_WEBHOOK_HEADER_BYTES)
}
