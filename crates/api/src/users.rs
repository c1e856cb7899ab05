//! Users and tokens.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Makes or changes a user; what is missing stays as it is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserChange {
    /// A new password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// May do everything everywhere, users and namespaces included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
    /// What it may do, by namespace; `null` takes a namespace's permissions away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub permissions: BTreeMap<String, Option<Permissions>>,
    /// Tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// May log in from a loopback address only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loopback_only: Option<bool>,
    /// Bounds on what it may hold at a time; all of them, as given here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<UserLimits>,
}

/// Bounds on what a user may hold at a time, in all namespaces together. A missing one is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserLimits {
    /// Long-lived connections: WebSockets, and those of protocols that have no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Channels, where a protocol's connections carry several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_channels: Option<u64>,
}

impl std::fmt::Debug for UserChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserChange")
            .field("password", &self.password.as_ref().map(|_| ".."))
            .field("admin", &self.admin)
            .field("permissions", &self.permissions)
            .field("tags", &self.tags)
            .field("loopback_only", &self.loopback_only)
            .field("limits", &self.limits)
            .finish()
    }
}

/// Name patterns (`*` stands for any run of characters; `regex:` begins a regular expression, which fits any part) of what may be configured, written and read. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Permissions {
    /// Create, change, delete.
    pub configure: Vec<String>,
    /// Publish.
    pub write: Vec<String>,
    /// Consume, read, bind from.
    pub read: Vec<String>,
    /// By topic that filters by subject patterns: which of its subjects, where not all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<String, SubjectPermissions>,
}

/// Which subjects of a topic, as name patterns in which `{username}`, `{namespace}` and `{client_id}` stand for those of the session.
/// Nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SubjectPermissions {
    /// Subjects to publish to.
    pub write: Vec<String>,
    /// Subject patterns to bind with, as they are written.
    pub read: Vec<String>,
}

/// A user, without any secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Name.
    pub name: String,
    /// Whether it may do everything.
    pub admin: bool,
    /// Whether it has a password.
    pub has_password: bool,
    /// Its tokens.
    pub tokens: Vec<TokenInfo>,
    /// What it may do, by namespace.
    pub permissions: BTreeMap<String, Permissions>,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether it may log in from a loopback address only.
    #[serde(default)]
    pub loopback_only: bool,
    /// Bounds on what it may hold at a time.
    #[serde(default)]
    pub limits: UserLimits,
    /// Long-lived connections that it holds now.
    #[serde(default)]
    pub connections: u64,
    /// Channels that it holds now.
    #[serde(default)]
    pub channels: u64,
}

/// An API token, without its secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenInfo {
    /// By which it is revoked.
    pub id: String,
    /// For people.
    pub description: String,
    /// When it ends, in milliseconds since 1970; never if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
}

/// Makes an API token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenRequest {
    /// For people.
    pub description: String,
    /// When it ends, in milliseconds since 1970; never if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<i64>,
}

/// A new API token. It is shown only here.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// The whole token, for `Authorization: Bearer`.
    pub token: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewToken(..)")
    }
}
