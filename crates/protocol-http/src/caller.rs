//! Who is asking, and in which namespace.

use api::{Permissions, TokenInfo};
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use broker::{AccessError, Credentials, Principal, Session};
use net::PeerInfo;

use crate::app::App;
use crate::problem::Failure;

/// An authenticated caller in the namespace that the path names.
pub(crate) struct Caller(pub(crate) Session);

/// An authenticated caller, for what belongs to no namespace.
pub(crate) struct Known(pub(crate) Principal);

impl FromRequestParts<App> for Known {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let credentials = credentials(parts)?;
        if !matches!(credentials, Credentials::Password { .. }) {
            return Ok(Self(app.broker.authenticate(&credentials)?));
        }
        // A password that was not checked lately costs tens of milliseconds of hashing, which must not hold up other requests.
        let broker = app.broker.clone();
        let checked = tokio::task::spawn_blocking(move || broker.authenticate(&credentials)).await;
        checked
            .map_err(|_| Failure::new(500, "internal", "the credentials could not be checked"))?
            .map(Self)
            .map_err(Into::into)
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let Known(principal) = Known::from_request_parts(parts, app).await?;
        let path = RawPathParams::from_request_parts(parts, app).await;
        let path = path.map_err(|error| Failure::new(400, "bad-path", error.body_text()))?;
        let namespace = path.iter().find(|(name, _)| *name == "ns").map_or("default", |(_, value)| value);
        Ok(Self(app.broker.session(&principal, namespace)?))
    }
}

/// The credentials of a request: what it says itself goes before the client's certificate.
fn credentials(parts: &Parts) -> Result<Credentials, Failure> {
    let Some(header) = parts.headers.get(AUTHORIZATION) else {
        let name = parts.extensions.get::<PeerInfo>().and_then(|peer| peer.client_cn.as_deref());
        return Ok(
            name.map_or(Credentials::Anonymous, |name| Credentials::Certificate { common_name: name.to_owned() })
        );
    };
    let wrong = || Failure::from(AccessError::Unauthenticated);
    let (scheme, rest) = header.to_str().map_err(|_| wrong())?.split_once(' ').ok_or_else(wrong)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credentials::Token(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(wrong());
    }
    let decoded = BASE64.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
    Ok(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
}

/// A user as the API shows it.
pub(crate) fn user(info: broker::UserInfo) -> api::User {
    api::User {
        name: info.name,
        admin: info.admin,
        has_password: info.has_password,
        tokens: info
            .tokens
            .into_iter()
            .map(|(id, description, expires_at_ms)| TokenInfo { id, description, expires_at_ms })
            .collect(),
        permissions: info.permissions.into_iter().map(|(namespace, given)| (namespace, permissions(given))).collect(),
        tags: info.tags,
    }
}

fn permissions(given: broker::definitions::Permissions) -> Permissions {
    Permissions { configure: given.configure, write: given.write, read: given.read }
}

/// A change of a user as the broker takes it.
pub(crate) fn user_change(change: api::UserChange) -> broker::UserChange {
    let permissions = |given: Permissions| broker::definitions::Permissions {
        configure: given.configure,
        write: given.write,
        read: given.read,
    };
    broker::UserChange {
        password: change.password,
        admin: change.admin,
        permissions: change
            .permissions
            .into_iter()
            .map(|(namespace, given)| (namespace, given.map(permissions)))
            .collect(),
        tags: change.tags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    fn of(authorization: Option<&str>) -> Result<Credentials, Failure> {
        let mut request = Request::builder();
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        credentials(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn schemes_are_understood() {
        assert!(matches!(of(None), Ok(Credentials::Anonymous)));
        assert!(matches!(of(Some("bearer ph_a_b")), Ok(Credentials::Token(token)) if token == "ph_a_b"));
        let basic = of(Some("Basic YTpiOmM="));
        assert!(matches!(basic, Ok(Credentials::Password { user, password }) if user == "a" && password == "b:c"));
        for bad in ["Basic", "Basic !", "Basic YQ==", "Digest x"] {
            assert_eq!(of(Some(bad)).unwrap_err().0.status, 401, "{bad}");
        }
    }
}
