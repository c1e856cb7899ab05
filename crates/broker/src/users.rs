//! Users and tokens: what administrators do with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use types::check_name;

use crate::access::{Principal, new_token};
use crate::broker::{Broker, DEFAULT_NAMESPACE};
use crate::definitions::{CredentialRecord, Permissions, UserConfig, UserLimits};
use crate::errors::{AccessError, DeclareError};
use crate::meta::MetaRecord;
use crate::session::{Change, to_the_end};
use crate::validate::validate_user;
use crate::views::Declared;

/// A user as shown: no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct UserInfo {
    /// Name.
    pub name: String,
    /// Whether it may do everything.
    pub admin: bool,
    /// Whether it has a password.
    pub has_password: bool,
    /// Its tokens: id, description, end (milliseconds since 1970).
    pub tokens: Vec<(String, String, Option<i64>)>,
    /// By namespace.
    pub permissions: BTreeMap<String, Permissions>,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether it may log in from a loopback address only.
    pub loopback_only: bool,
    /// Bounds on what it may hold at a time.
    pub limits: UserLimits,
    /// Long-lived connections that it holds now.
    pub connections: u64,
    /// Channels that it holds now.
    pub channels: u64,
}

/// A change of what is kept of a user's password, where the password itself is not known.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredPassword {
    /// This record, which is a password's: from an export, or from another system.
    Record(CredentialRecord),
    /// None: no password lets the user in any more.
    None,
}

/// A change of a user; what is `None` stays.
#[derive(Clone, Default, PartialEq)]
pub struct UserChange {
    /// A new password.
    pub password: Option<String>,
    /// In place of `password`, where that is not known.
    pub stored_password: Option<StoredPassword>,
    /// May do everything.
    pub admin: Option<bool>,
    /// Permissions, by namespace; `None` inside removes them.
    pub permissions: Vec<(String, Option<Permissions>)>,
    /// Tags.
    pub tags: Option<Vec<String>>,
    /// May log in from a loopback address only.
    pub loopback_only: Option<bool>,
    /// Bounds on what it may hold at a time, all of them.
    pub limits: Option<UserLimits>,
}

impl fmt::Debug for UserChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserChange")
            .field("password", &self.password.as_ref().map(|_| "..."))
            .field("stored_password", &self.stored_password)
            .field("admin", &self.admin)
            .field("permissions", &self.permissions)
            .field("tags", &self.tags)
            .field("loopback_only", &self.loopback_only)
            .field("limits", &self.limits)
            .finish()
    }
}

impl Broker {
    /// Makes or changes a user; what is `None` stays as it is. The password is hashed here (tens of milliseconds of CPU).
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn put_user(&self, by: &Principal, name: &str, change: UserChange) -> Result<Declared, DeclareError> {
        check_name(name)?;
        self.require_admin(by, "users")?;
        let password = match (change.password.clone(), change.stored_password.clone()) {
            (Some(_), Some(_)) => {
                return Err(invalid("stored_password", "give a password or what is stored of one, not both"));
            }
            (Some(password), None) => Some(StoredPassword::Record(self.hash(password).await?)),
            (None, Some(StoredPassword::Record(record))) if !record.is_password() => {
                return Err(invalid("stored_password", "this is no password's record"));
            }
            (None, stored) => stored,
        };
        let (broker, name) = (self.clone(), name.to_owned());
        to_the_end(async move { broker.put_user_now(&name, change, password).await }).await
    }

    /// As [`put_user`](Self::put_user), with nobody's leave: for who holds the data directory itself. `may_exist` says whether one of the name
    /// may be there.
    ///
    /// # Errors
    /// See [`DeclareError`]; [`DeclareError::Conflict`] if it may not and is.
    pub async fn put_user_offline(
        &self,
        name: &str,
        change: UserChange,
        may_exist: bool,
    ) -> Result<Declared, DeclareError> {
        if !may_exist && self.shared().users.get(name).is_some() {
            let (entity, difference) = (format!("user {name:?}"), "it exists".to_owned());
            return Err(DeclareError::Conflict { entity, difference });
        }
        self.put_user(&Principal::internal(), name, change).await
    }

    async fn put_user_now(
        &self,
        name: &str,
        change: UserChange,
        password: Option<StoredPassword>,
    ) -> Result<Declared, DeclareError> {
        let held = Change::begin(self.shared()).await;
        let before = self.shared().users.get(name);
        let mut config = before.clone().unwrap_or_default();
        if let Some(password) = password {
            config.credentials.retain(|credential| !credential.is_password());
            if let StoredPassword::Record(record) = password {
                config.credentials.push(record);
            }
        }
        config.admin = change.admin.unwrap_or(config.admin);
        config.tags = change.tags.unwrap_or(config.tags);
        config.loopback_only = change.loopback_only.unwrap_or(config.loopback_only);
        config.limits = change.limits.unwrap_or(config.limits);
        for (namespace, permissions) in change.permissions {
            match permissions {
                Some(permissions) => config.permissions.insert(namespace, permissions),
                None => config.permissions.remove(&namespace),
            };
        }
        if before.is_none() && !self.has_users() {
            check_first_user(&config)?;
        }
        if before.as_ref().is_some_and(|before| before.admin) && !config.admin {
            self.check_not_last_admin(name)?;
        }
        validate_user(&config)?;
        if before.as_ref() == Some(&config) {
            return Ok(Declared::Unchanged);
        }
        self.store_user(held, name, config).await?;
        Ok(if before.is_some() { Declared::Updated } else { Declared::Created })
    }

    /// Makes an administrator while there are no users, with nobody's leave: for a start that is configured with a password.
    ///
    /// # Errors
    /// See [`DeclareError`]; [`DeclareError::InUse`] if there is a user.
    pub async fn create_first_admin(&self, name: &str, password: String) -> Result<(), DeclareError> {
        check_name(name)?;
        let password = self.hash(password).await?;
        let change = Change::begin(self.shared()).await;
        if self.has_users() {
            return Err(DeclareError::InUse { entity: "the broker".to_owned(), by: "it has users".to_owned() });
        }
        let config = UserConfig { credentials: vec![password], admin: true, ..UserConfig::default() };
        self.store_user(change, name, config).await
    }

    async fn hash(&self, password: String) -> Result<CredentialRecord, DeclareError> {
        let shared = Arc::clone(self.shared());
        let hashed = tokio::task::spawn_blocking(move || shared.users.hash_password(&password)).await;
        let invalid = |why: String| DeclareError::Invalid { field: "password".to_owned(), why };
        hashed.map_err(|error| invalid(error.to_string()))?.map_err(|error| invalid(error.to_string()))
    }

    /// Nobody could make users any more.
    fn check_not_last_admin(&self, name: &str) -> Result<(), DeclareError> {
        let others = self.shared().users.list().into_iter().any(|(other, config)| other != name && config.admin);
        if others {
            return Ok(());
        }
        let by = "it is the only administrator; make another one first".to_owned();
        Err(DeclareError::InUse { entity: format!("user {name:?}"), by })
    }

    async fn store_user(&self, mut change: Change, name: &str, config: UserConfig) -> Result<(), DeclareError> {
        change.record(MetaRecord::PutUser { name: name.to_owned(), config: config.clone() });
        let _held = change.commit(self.shared()).await?;
        self.shared().users.put(name, config);
        Ok(())
    }

    /// Deletes a user; its sessions end at their next operation. The last administrator stays, unless it is the only user and the
    /// broker is open to all without users.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_user(&self, by: &Principal, name: &str) -> Result<(), DeclareError> {
        self.require_admin(by, "users")?;
        let (broker, name) = (self.clone(), name.to_owned());
        to_the_end(async move { broker.delete_user_now(&name).await }).await
    }

    async fn delete_user_now(&self, name: &str) -> Result<(), DeclareError> {
        let mut change = Change::begin(self.shared()).await;
        let missing = || DeclareError::NotFound { entity: format!("user {name:?}") };
        let user = self.shared().users.get(name).ok_or_else(missing)?;
        if user.admin && (self.shared().users.len() > 1 || !self.shared().users.allows_anonymous()) {
            self.check_not_last_admin(name)?;
        }
        change.record(MetaRecord::DeleteUser { name: name.to_owned() });
        let _held = change.commit(self.shared()).await?;
        self.shared().users.remove(name);
        Ok(())
    }

    /// All users, by name.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn users(&self, by: &Principal) -> Result<Vec<UserInfo>, DeclareError> {
        self.require_admin(by, "users")?;
        Ok(self.shared().users.list().into_iter().map(|user| self.user_info(user)).collect())
    }

    /// The caller's own user: its permissions in each namespace, its tags, what it holds. `None` for an anonymous caller.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`] if the caller is nobody any more.
    pub fn own_user(&self, by: &Principal) -> Result<Option<UserInfo>, AccessError> {
        self.grants(by, DEFAULT_NAMESPACE)?;
        let config = by.name().and_then(|name| Some((name.to_owned(), self.shared().users.get(name)?)));
        Ok(config.map(|user| self.user_info(user)))
    }

    /// All users as they are defined, with what is kept of their secrets, by name: for an export that another broker, or this one, takes
    /// back. Administrators only.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn user_definitions(&self, by: &Principal) -> Result<Vec<(String, UserConfig)>, DeclareError> {
        self.require_admin(by, "users")?;
        Ok(self.shared().users.list())
    }

    fn user_info(&self, (name, config): (String, UserConfig)) -> UserInfo {
        let token = |credential: &CredentialRecord| match credential {
            CredentialRecord::Token { id, description, expires_at, .. } => {
                Some((id.clone(), description.clone(), *expires_at))
            }
            CredentialRecord::Argon2 { .. } | CredentialRecord::SaltedHash { .. } => None,
        };
        let held = self.shared().connections.of_user(&name);
        UserInfo {
            name,
            admin: config.admin,
            has_password: config.credentials.iter().any(CredentialRecord::is_password),
            tokens: config.credentials.iter().filter_map(token).collect(),
            permissions: config.permissions,
            tags: config.tags,
            loopback_only: config.loopback_only,
            limits: config.limits,
            connections: held.connections,
            channels: held.channels,
        }
    }

    /// Makes an API token; the whole token is shown only here. `expires_at` in milliseconds since 1970.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn create_token(
        &self,
        by: &Principal,
        user: &str,
        description: &str,
        expires_at: Option<i64>,
    ) -> Result<String, DeclareError> {
        self.require_admin(by, "users")?;
        let (broker, user, description) = (self.clone(), user.to_owned(), description.to_owned());
        to_the_end(async move { broker.create_token_now(&user, &description, expires_at).await }).await
    }

    async fn create_token_now(
        &self,
        user: &str,
        description: &str,
        expires_at: Option<i64>,
    ) -> Result<String, DeclareError> {
        let change = Change::begin(self.shared()).await;
        let missing = || DeclareError::NotFound { entity: format!("user {user:?}") };
        let mut config = self.shared().users.get(user).ok_or_else(missing)?;
        let invalid = |why: String| DeclareError::Invalid { field: "token".to_owned(), why };
        let (text, record) =
            new_token(description, expires_at.map(types::Timestamp)).map_err(|error| invalid(error.to_string()))?;
        config.credentials.push(record);
        validate_user(&config)?;
        self.store_user(change, user, config).await?;
        Ok(text)
    }

    /// Revokes a token by its id.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn revoke_token(&self, by: &Principal, id: &str) -> Result<(), DeclareError> {
        self.require_admin(by, "users")?;
        let (broker, id) = (self.clone(), id.to_owned());
        to_the_end(async move { broker.revoke_token_now(&id).await }).await
    }

    async fn revoke_token_now(&self, id: &str) -> Result<(), DeclareError> {
        let change = Change::begin(self.shared()).await;
        let missing = || DeclareError::NotFound { entity: format!("token {id:?}") };
        let user = self.shared().users.token_owner(id).ok_or_else(missing)?;
        let mut config = self.shared().users.get(&user).ok_or_else(missing)?;
        config
            .credentials
            .retain(|credential| !matches!(credential, CredentialRecord::Token { id: have, .. } if have == id));
        self.store_user(change, &user, config).await
    }
}

/// From the first user on nobody is let in who is not a user: it must be able to log in, and to make others.
fn check_first_user(config: &UserConfig) -> Result<(), DeclareError> {
    if !config.admin {
        return Err(invalid("admin", "the first user must be an administrator, or nobody could administer the broker"));
    }
    if config.credentials.is_empty() {
        return Err(invalid("password", "the first user needs a password, or nobody could log in any more"));
    }
    Ok(())
}

fn invalid(field: &str, why: &str) -> DeclareError {
    DeclareError::Invalid { field: field.to_owned(), why: why.to_owned() }
}
