//! How many long-lived connections and channels there are, a namespace and a user, and the bounds on that.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use types::EntityId;

use crate::errors::QuotaError;
use crate::session::Session;
use crate::shared::Shared;

/// What is held now, of all namespaces.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    inner: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Connections, by namespace.
    namespaces: HashMap<EntityId, u64>,
    users: HashMap<Arc<str>, Use>,
}

/// What one user holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) connections: u64,
    pub(crate) channels: u64,
}

impl Connections {
    /// Connections in a namespace.
    pub(crate) fn of_namespace(&self, id: EntityId) -> u64 {
        self.inner.lock().namespaces.get(&id).copied().unwrap_or_default()
    }

    /// What a user holds.
    pub(crate) fn of_user(&self, name: &str) -> Use {
        self.inner.lock().users.get(name).copied().unwrap_or_default()
    }
}

/// One more, if the bound allows it.
fn take(held: u64, limit: &'static str, bound: Option<u64>) -> Result<u64, QuotaError> {
    match bound {
        Some(value) if held >= value => Err(QuotaError::Reached { limit, value }),
        _ => Ok(held + 1),
    }
}

/// A place among the connections of a namespace and of a user. Dropping it gives the place back.
#[must_use = "the place is given back when this is dropped"]
pub struct ConnectionGuard {
    shared: Arc<Shared>,
    namespace: EntityId,
    user: Option<Arc<str>>,
}

/// A place among a user's channels. Dropping it gives the place back.
#[must_use = "the place is given back when this is dropped"]
pub struct ChannelGuard {
    shared: Arc<Shared>,
    user: Option<Arc<str>>,
}

impl Session {
    /// Takes a place among the connections of the namespace and of the user, for a protocol whose connections are long-lived. Sessions
    /// without one work all the same: those of single requests.
    ///
    /// # Errors
    /// See [`QuotaError`].
    pub fn connection_guard(&self) -> Result<ConnectionGuard, QuotaError> {
        self.may_enter()?;
        let (shared, user) = (Arc::clone(self.shared()), self.counted_user());
        let bound = self.space.config().quota.max_connections;
        let limits = user.as_deref().map(|name| shared.users.limits(name)).unwrap_or_default();
        {
            let mut held = shared.connections.inner.lock();
            let there = held.namespaces.get(&self.space.id).copied().unwrap_or_default();
            let there = take(there, "max_connections of the namespace", bound)?;
            if let Some(name) = &user {
                let mut place = held.users.get(name).copied().unwrap_or_default();
                place.connections = take(place.connections, "max_connections of the user", limits.max_connections)?;
                held.users.insert(Arc::clone(name), place);
            }
            held.namespaces.insert(self.space.id, there);
        }
        Ok(ConnectionGuard { namespace: self.space.id, shared, user })
    }
}

impl ConnectionGuard {
    /// Takes a place among the user's channels, for a protocol whose connections carry several.
    ///
    /// # Errors
    /// See [`QuotaError`].
    pub fn channel(&self) -> Result<ChannelGuard, QuotaError> {
        if let Some(name) = &self.user {
            let limit = self.shared.users.limits(name).max_channels;
            let mut held = self.shared.connections.inner.lock();
            let mut place = held.users.get(name).copied().unwrap_or_default();
            place.channels = take(place.channels, "max_channels of the user", limit)?;
            held.users.insert(Arc::clone(name), place);
        }
        Ok(ChannelGuard { shared: Arc::clone(&self.shared), user: self.user.clone() })
    }
}

impl Held {
    /// Changes what a user holds, and forgets one who holds nothing.
    fn give_back(&mut self, user: Option<&Arc<str>>, change: impl Fn(&mut Use)) {
        if let Some(name) = user
            && let Some(place) = self.users.get_mut(name)
        {
            change(place);
            if *place == Use::default() {
                self.users.remove(name);
            }
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut held = self.shared.connections.inner.lock();
        held.give_back(self.user.as_ref(), |place| place.connections = place.connections.saturating_sub(1));
        if let Some(count) = held.namespaces.get_mut(&self.namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                held.namespaces.remove(&self.namespace);
            }
        }
    }
}

impl Drop for ChannelGuard {
    fn drop(&mut self) {
        let mut held = self.shared.connections.inner.lock();
        held.give_back(self.user.as_ref(), |place| place.channels = place.channels.saturating_sub(1));
    }
}

impl fmt::Debug for ConnectionGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionGuard").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for ChannelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelGuard").field("user", &self.user).finish_non_exhaustive()
    }
}
