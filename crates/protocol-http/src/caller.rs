//! Who is asking, and in which namespace.

use api::{Permissions, TokenInfo};
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use broker::{Credentials, Principal, Session};
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
        let authorization = parts.headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let client_cn = parts.extensions.get::<PeerInfo>().and_then(|peer| peer.client_cn.as_deref());
        let credentials = Credentials::of_request(authorization, client_cn)?;
        Ok(Self(app.broker.login(credentials).await?))
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
