//! Who is asking, and in which namespace.

use api::{Permissions, SubjectPermissions, TokenInfo, UserLimits};
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use broker::definitions as b;
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
        let peer = parts.extensions.get::<PeerInfo>();
        let credentials = Credentials::of_request(authorization, peer.and_then(|peer| peer.client_cn.as_deref()))?;
        let address = peer.map(|peer| peer.addr.ip());
        Ok(Self(app.broker.login(credentials, address).await?))
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
        loopback_only: info.loopback_only,
        limits: UserLimits { max_connections: info.limits.max_connections, max_channels: info.limits.max_channels },
        connections: info.connections,
        channels: info.channels,
    }
}

fn permissions(given: b::Permissions) -> Permissions {
    let subjects = |(topic, given): (String, b::SubjectPermissions)| {
        (topic, SubjectPermissions { write: given.write, read: given.read })
    };
    Permissions {
        configure: given.configure,
        write: given.write,
        read: given.read,
        subjects: given.subjects.into_iter().map(subjects).collect(),
    }
}

/// A change of a user as the broker takes it.
pub(crate) fn user_change(change: api::UserChange) -> broker::UserChange {
    let subjects = |(topic, given): (String, SubjectPermissions)| {
        (topic, b::SubjectPermissions { write: given.write, read: given.read })
    };
    let permissions = |given: Permissions| b::Permissions {
        configure: given.configure,
        write: given.write,
        read: given.read,
        subjects: given.subjects.into_iter().map(subjects).collect(),
    };
    let limits =
        |given: UserLimits| b::UserLimits { max_connections: given.max_connections, max_channels: given.max_channels };
    broker::UserChange {
        password: change.password,
        stored_password: None,
        admin: change.admin,
        permissions: change
            .permissions
            .into_iter()
            .map(|(namespace, given)| (namespace, given.map(permissions)))
            .collect(),
        tags: change.tags,
        loopback_only: change.loopback_only,
        limits: change.limits.map(limits),
    }
}
