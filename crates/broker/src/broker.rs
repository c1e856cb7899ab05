//! The broker: what every session shares.

use std::sync::Arc;
use std::time::Duration;

use log::{EngineState, Log};
use types::Clock;

use crate::access::{Credentials, Principal};
use crate::definitions::{NamespaceConfig, Permissions};
use crate::errors::{AccessError, DeclareError, StorageError};
use crate::session::Session;
use crate::views::{Declared, NamespaceInfo};

/// The broker. A cheap handle of what all sessions share.
#[derive(Clone)]
pub struct Broker {}

/// How the broker runs.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerOptions {
    /// Bytes of messages in flight through the broker (being published, or buffered for consumers) above which publishers are held back.
    pub memory_high_bytes: u64,
    /// Whether unauthenticated sessions may do everything while there are no users.
    pub anonymous: bool,
    /// How long a successful password check is remembered.
    pub auth_cache: Duration,
}

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
    pub permissions: std::collections::BTreeMap<String, Permissions>,
    /// Tags.
    pub tags: Vec<String>,
}

/// Broker-wide counters and gauges, readable in O(queues) at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokerMetrics {
    /// Messages published and confirmed.
    pub published: u64,
    /// Bytes of them.
    pub published_bytes: u64,
    /// Publishes refused.
    pub publish_errors: u64,
    /// Handed to consumers of queues.
    pub delivered: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Failed attempts.
    pub failed: u64,
    /// Moved to dead-letter targets.
    pub dead_lettered: u64,
    /// Dropped for want of a target.
    pub dropped: u64,
    /// Messages to live subscriptions.
    pub live_delivered: u64,
    /// Messages that live subscriptions were too slow for.
    pub live_lost: u64,
    /// Live subscriptions.
    pub live_subscriptions: u64,
    /// Requests that nobody answered.
    pub no_responders: u64,
    /// Bytes of messages in flight through the broker.
    pub memory_bytes: u64,
    /// Whether publishers are held back.
    pub memory_high: bool,
}

impl Broker {
    /// Starts a broker on a log: replays what it holds.
    ///
    /// # Errors
    /// If the log cannot be opened or the definitions in it cannot be read.
    pub fn open(log: Arc<dyn Log>, clock: Arc<dyn Clock>, options: BrokerOptions) -> Result<Self, StorageError> {
        todo!()
    }
    /// Does what is due, and says how long until something is due again (at most a second). The server calls it in a loop.
    pub fn tick(&self) -> Duration {
        todo!()
    }
    /// Ends sessions' waits, finishes what is under way, and closes the log. New operations are refused.
    pub async fn close(&self) {
        todo!()
    }

    /// Checks credentials. A password that was not checked lately costs tens of milliseconds of CPU: call it off the runtime's workers.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`].
    pub fn authenticate(&self, credentials: &Credentials) -> Result<Principal, AccessError> {
        todo!()
    }
    /// Whether there is any user. Without one, and with `anonymous` allowed, everybody may do everything.
    #[must_use]
    pub fn has_users(&self) -> bool {
        todo!()
    }
    /// A session of this caller in this namespace. The default namespace is called `default` and always exists.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn session(&self, principal: &Principal, namespace: &str) -> Result<Session, AccessError> {
        todo!()
    }

    /// Makes or changes a namespace. Administrators only, as all below.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn put_namespace(
        &self,
        by: &Principal,
        name: &str,
        config: NamespaceConfig,
    ) -> Result<(Declared, NamespaceInfo), DeclareError> {
        todo!()
    }
    /// Deletes a namespace and all it holds. `default` cannot be deleted.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_namespace(&self, by: &Principal, name: &str) -> Result<(), DeclareError> {
        todo!()
    }
    /// The namespaces that the caller may see.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn namespaces(&self, by: &Principal) -> Result<Vec<NamespaceInfo>, DeclareError> {
        todo!()
    }
    /// Makes or changes a user; what is `None` stays as it is. The password is hashed here (tens of milliseconds of CPU).
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn put_user(&self, by: &Principal, name: &str, change: UserChange) -> Result<Declared, DeclareError> {
        todo!()
    }
    /// Deletes a user; its sessions end at their next operation.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn delete_user(&self, by: &Principal, name: &str) -> Result<(), DeclareError> {
        todo!()
    }
    /// All users, by name.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn users(&self, by: &Principal) -> Result<Vec<UserInfo>, DeclareError> {
        todo!()
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
        todo!()
    }
    /// Revokes a token by its id.
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub async fn revoke_token(&self, by: &Principal, id: &str) -> Result<(), DeclareError> {
        todo!()
    }

    /// The log's health and counters.
    #[must_use]
    pub fn engine_state(&self) -> EngineState {
        todo!()
    }
    /// Why the broker is not ready to take publishes, if it is not.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        todo!()
    }
    /// Broker-wide counters.
    #[must_use]
    pub fn metrics(&self) -> BrokerMetrics {
        todo!()
    }
    /// Every queue of every namespace, for metrics: `(namespace, info)`.
    #[must_use]
    pub fn all_queues(&self) -> Vec<(String, crate::views::QueueInfo)> {
        todo!()
    }
    /// Every topic of every namespace, for metrics: `(namespace, info)`.
    #[must_use]
    pub fn all_topics(&self) -> Vec<(String, crate::views::TopicInfo)> {
        todo!()
    }
    /// Waits until a definition changes after `seen`; gives the new number. For what follows definitions, such as push consumers.
    pub async fn definitions_changed(&self, seen: u64) -> u64 {
        todo!()
    }
}

/// A change of a user; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserChange {
    /// A new password.
    pub password: Option<String>,
    /// May do everything.
    pub admin: Option<bool>,
    /// Permissions, by namespace; `None` inside removes them.
    pub permissions: Vec<(String, Option<Permissions>)>,
    /// Tags.
    pub tags: Option<Vec<String>>,
}
