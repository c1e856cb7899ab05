//! One webhook's definition, made ready to send to.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use broker::definitions::{WebhookConfig, WebhookFormat};
use broker::webhook_target::check_url;
use url::Url;

use super::limits::{CONCURRENCY, TIMEOUT};
use super::sign::SigningKey;

/// Headers that the request itself decides, or that belong to one connection only. Definitions are checked for them as they are
/// made; looked at again here, for one that was made by an older version.
const RESERVED: &[&str] = &[
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
/// Beginnings of such headers.
const RESERVED_PREFIXES: &[&str] = &["posthouse-", "ce-", "proxy-", "webhook-"];

/// An endpoint.
pub(super) struct Endpoint {
    /// Where to, or why nothing may be sent there.
    pub(super) target: Result<Url, String>,
    /// Scheme, host and port: all of the URL that may be logged, for many services hand out URLs whose path is the password.
    pub(super) origin: String,
    pub(super) key: Option<SigningKey>,
    /// The definition's own headers.
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) concurrency: usize,
    pub(super) format: WebhookFormat,
}

impl Endpoint {
    pub(super) fn new(config: &WebhookConfig, allow_private: bool) -> Self {
        let url = Url::parse(&config.url);
        let origin = url.as_ref().map_or_else(|_| "?".to_owned(), |url| url.origin().ascii_serialization());
        let key = config.secret.as_deref().map(SigningKey::new);
        let target = match (url, &key) {
            // A message that should be signed is not sent unsigned.
            (_, Some(None)) => Err("refused: the secret is not base64 behind `whsec_`".to_owned()),
            (Ok(url), _) => check_url(&url, allow_private).map(|()| url),
            (Err(error), _) => Err(format!("refused: the URL cannot be read: {error}")),
        };
        Self {
            target,
            origin,
            key: key.flatten(),
            headers: own_headers(config),
            timeout: config.timeout_ms.map_or(TIMEOUT, Duration::from_millis),
            concurrency: config
                .concurrency
                .map_or(CONCURRENCY, |most| usize::try_from(most).unwrap_or(CONCURRENCY))
                .max(1),
            format: config.format.unwrap_or(WebhookFormat::Native),
        }
    }
}

fn own_headers(config: &WebhookConfig) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &config.headers {
        let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else { continue };
        let reserved = RESERVED.contains(&name.as_str())
            || RESERVED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix));
        if !reserved {
            value.set_sensitive(true);
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, allow_private: bool) -> Endpoint {
        let headers = [("X-Team", "a"), ("Host", "b"), ("Webhook-Id", "c"), ("posthouse-id", "d"), ("Connection", "e")];
        let config = WebhookConfig {
            url: url.to_owned(),
            secret: None,
            concurrency: None,
            timeout_ms: None,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            format: None,
        };
        Endpoint::new(&config, allow_private)
    }

    #[test]
    fn hosts_that_are_forbidden_addresses_are_refused_however_they_are_written() {
        for url in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://017700000001/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
            "https://10.1.2.3:8443/",
            "http://0/",
        ] {
            let refused = endpoint(url, false).target.expect_err(url);
            assert!(refused.starts_with("refused: ") && refused.contains("webhooks may not reach"), "{refused}");
            assert!(endpoint(url, true).target.is_ok(), "{url}");
        }
        assert!(endpoint("https://1.1.1.1/", false).target.is_ok());
        assert!(endpoint("https://hooks.example/", false).target.is_ok(), "a name is judged when it is resolved");
    }

    #[test]
    fn what_is_no_plain_web_address_is_refused() {
        for url in [
            "ftp://1.1.1.1/",
            "file:///etc/passwd",
            "http://user:pass@hooks.example/",
            "http://user@hooks.example/",
            "x",
        ] {
            assert!(endpoint(url, true).target.is_err(), "{url}");
        }
    }

    #[test]
    fn the_request_s_own_headers_cannot_be_set() {
        let headers = endpoint("https://hooks.example/", false).headers;
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-team"]);
    }

    #[test]
    fn of_the_url_only_the_origin_may_be_shown() {
        assert_eq!(endpoint("https://hooks.example:444/T0/secret?token=x", false).origin, "https://hooks.example:444");
    }
}
