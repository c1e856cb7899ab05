//! The registry of users.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use types::Now;
use types::limits::{MAX_AUTH_CACHE_ENTRIES, MAX_HASHES_AT_ONCE, MAX_HASHES_WAITING};

use super::cache::Cache;
use super::gate::Gate;
use super::grants::{Grants, Permits};
use super::secrets::{HashCost, PasswordVerifier, SecretError, TokenVerifier, check_password, random, split_token};
use super::{Credentials, Principal};
use crate::definitions::{CredentialRecord, UserConfig, UserLimits};
use crate::errors::AccessError;

/// How logins are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersOptions {
    /// Whether callers without credentials may do everything while there are no users.
    pub anonymous: bool,
    /// How long a successful password check is remembered; zero checks every time.
    pub cache: Duration,
    /// Most checks remembered; the oldest is forgotten for a new one.
    pub cache_entries: usize,
    /// What a login of a user who does not exist costs. It should be what passwords are hashed at.
    pub cost: HashCost,
    /// Password hashes computed at a time.
    pub hashes_at_once: usize,
    /// Logins that may wait for one; further ones get [`AccessError::Busy`].
    pub hashes_waiting: usize,
}

impl Default for UsersOptions {
    fn default() -> Self {
        Self {
            anonymous: false,
            cache: crate::defaults::AUTH_CACHE,
            cache_entries: MAX_AUTH_CACHE_ENTRIES,
            cost: HashCost::default(),
            hashes_at_once: MAX_HASHES_AT_ONCE,
            hashes_waiting: MAX_HASHES_WAITING,
        }
    }
}

/// All users, in memory. What makes them last is the owner's business: it stores the records and puts them here.
pub struct Users {
    anonymous: bool,
    registry: RwLock<Registry>,
    /// Grows with each change. Written under the registry's lock, read without it.
    generation: AtomicU64,
    cache: Cache,
    gate: Gate,
    cost: HashCost,
    dummy_password: PasswordVerifier,
    dummy_token: TokenVerifier,
    hashes: AtomicU64,
}

#[derive(Default)]
struct Registry {
    users: BTreeMap<Arc<str>, Arc<User>>,
    /// Whose token an id is.
    tokens: HashMap<Arc<str>, Arc<User>>,
}

/// A user's record, read once.
struct User {
    name: Arc<str>,
    /// The generation at which a user of this name came to be.
    id: u64,
    /// The generation at which this record was put.
    revision: u64,
    config: UserConfig,
    passwords: Vec<PasswordVerifier>,
    tokens: HashMap<Arc<str>, TokenVerifier>,
    permits: HashMap<String, Arc<Permits>>,
}

impl User {
    /// Reads a record. A credential that cannot be read lets nobody in; definitions are checked before they are stored.
    fn read(name: Arc<str>, id: u64, revision: u64, config: UserConfig) -> Self {
        let mut passwords = Vec::new();
        let mut tokens = HashMap::new();
        for credential in &config.credentials {
            passwords.extend(PasswordVerifier::of(credential).and_then(Result::ok));
            if let CredentialRecord::Token { id, sha256, expires_at, .. } = credential {
                tokens.extend(TokenVerifier::read(sha256, *expires_at).map(|token| (Arc::from(id.as_str()), token)));
            }
        }
        let permits = config.permissions.iter();
        let permits = permits
            .map(|(namespace, permissions)| (namespace.clone(), Arc::new(Permits::of(permissions, &name, namespace))));
        let permits = permits.collect();
        Self { name, id, revision, passwords, tokens, permits, config }
    }

    fn principal(&self) -> Principal {
        Principal { user: Some(Arc::clone(&self.name)), user_id: self.id, token: None, expires: None }
    }
}

impl Users {
    /// A registry without users.
    ///
    /// # Errors
    /// [`SecretError::NoRandom`] and [`SecretError::Cost`].
    pub fn new(options: UsersOptions) -> Result<Self, SecretError> {
        Ok(Self {
            anonymous: options.anonymous,
            registry: RwLock::default(),
            generation: AtomicU64::new(0),
            cache: Cache::new(options.cache, options.cache_entries, random()?),
            gate: Gate::new(options.hashes_at_once, options.hashes_waiting),
            cost: options.cost,
            dummy_password: PasswordVerifier::dummy(options.cost)?,
            dummy_token: TokenVerifier::dummy()?,
            hashes: AtomicU64::new(0),
        })
    }

    /// Inserts a user, or replaces the record of the one who has that name. Gives the record that was there.
    pub fn put(&self, name: &str, config: UserConfig) -> Option<UserConfig> {
        let mut registry = self.registry.write();
        let revision = self.generation.load(Ordering::Acquire) + 1;
        let old = registry.users.get(name).cloned();
        let (name, id) = match &old {
            Some(old) => (Arc::clone(&old.name), old.id),
            None => (Arc::from(name), revision),
        };
        if let Some(old) = &old {
            self.drop_traces(&mut registry, old);
        }
        let user = Arc::new(User::read(Arc::clone(&name), id, revision, config));
        for token in user.tokens.keys() {
            registry.tokens.insert(Arc::clone(token), Arc::clone(&user));
        }
        registry.users.insert(name, user);
        self.generation.store(revision, Ordering::Release);
        old.map(|old| old.config.clone())
    }

    /// Removes a user. Gives the record that was there.
    pub fn remove(&self, name: &str) -> Option<UserConfig> {
        let mut registry = self.registry.write();
        let old = registry.users.remove(name)?;
        self.drop_traces(&mut registry, &old);
        self.generation.fetch_add(1, Ordering::Release);
        Some(old.config.clone())
    }

    /// Forgets what was kept of a record besides the record: its tokens' ids and the passwords checked against it.
    fn drop_traces(&self, registry: &mut Registry, old: &User) {
        registry.tokens.retain(|_, owner| owner.revision != old.revision);
        self.cache.forget(old.revision);
    }

    /// A user's record.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<UserConfig> {
        self.registry.read().users.get(name).map(|user| user.config.clone())
    }

    /// All users, by name.
    #[must_use]
    pub fn list(&self) -> Vec<(String, UserConfig)> {
        self.registry.read().users.iter().map(|(name, user)| (name.to_string(), user.config.clone())).collect()
    }

    /// Whose token this is, by the token's public part.
    #[must_use]
    pub fn token_owner(&self, token_id: &str) -> Option<String> {
        self.registry.read().tokens.get(token_id).map(|user| user.name.to_string())
    }

    /// How many users there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registry.read().users.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that grows with each change of any user. What was asked at the same number still holds.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Password hashes computed for logins so far: what logins cost, for metrics.
    #[must_use]
    pub fn hashes(&self) -> u64 {
        self.hashes.load(Ordering::Relaxed)
    }

    /// Hashes a password for a new record, at the cost of these users and within the bound on hashes at a time. Blocks the
    /// thread for tens of milliseconds.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn hash_password(&self, password: &str) -> Result<CredentialRecord, SecretError> {
        check_password(password)?;
        let _permit = self.gate.enter().map_err(|_| SecretError::Busy)?;
        super::hash_password_at(password, self.cost)
    }

    /// Finds out who shows these credentials. A password that was not checked lately blocks the thread for tens of
    /// milliseconds, and for longer if others wait: call it off the runtime's workers.
    ///
    /// # Errors
    /// [`AccessError::Unauthenticated`], whatever was wrong, after the same work whether or not there is such a user.
    /// [`AccessError::Busy`] if too many logins wait.
    pub fn authenticate(&self, credentials: &Credentials, now: Now) -> Result<Principal, AccessError> {
        self.authenticate_from(credentials, None, now)
    }

    /// As [`authenticate`](Self::authenticate), for a caller at this address. One who may log in from a loopback address only is not let
    /// in from another, nor from one that is not known.
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate); a wrong address is answered like a wrong password, and the reason is in the log.
    pub fn authenticate_from(
        &self,
        credentials: &Credentials,
        peer: Option<IpAddr>,
        now: Now,
    ) -> Result<Principal, AccessError> {
        let principal = self.identify(credentials, now)?;
        // After the check of the secret: who does not know it learns nothing about the user.
        if let Some(name) = &principal.user {
            let user = self.find(name).ok_or(AccessError::Unauthenticated)?;
            if user.config.loopback_only && !peer.is_some_and(|address| address.to_canonical().is_loopback()) {
                tracing::warn!(user = %name, ?peer, "a login was refused: this user may log in from a loopback address only");
                return Err(AccessError::Unauthenticated);
            }
        }
        Ok(principal)
    }

    fn identify(&self, credentials: &Credentials, now: Now) -> Result<Principal, AccessError> {
        match credentials {
            Credentials::Password { user, password } => self.check_login(user, password, now),
            Credentials::Token(text) => self.check_token(text, now),
            Credentials::Certificate { common_name } => {
                self.find(common_name).map(|user| user.principal()).ok_or(AccessError::Unauthenticated)
            }
            Credentials::Anonymous if self.is_open() => Ok(Principal::ANONYMOUS),
            Credentials::Anonymous => Err(AccessError::Unauthenticated),
        }
    }

    fn check_login(&self, name: &str, password: &str, now: Now) -> Result<Principal, AccessError> {
        // A password that breaks the rule is no user's. It is not hashed, for it may be as long as a frame, but costs the same.
        let Ok(()) = check_password(password) else {
            let _permit = self.gate.enter().map_err(|_| AccessError::Busy)?;
            self.matches(None, "");
            return Err(AccessError::Unauthenticated);
        };
        let key = self.cache.key(name, password);
        if let Some(user) = self.find(name)
            && self.cache.holds(&key, user.revision, now)
        {
            return Ok(user.principal());
        }
        let _permit = self.gate.enter().map_err(|_| AccessError::Busy)?;
        // Both may have changed in the wait: the user, and what is remembered, when a service's many connections come at once.
        let user = self.find(name);
        if let Some(user) = &user
            && self.cache.holds(&key, user.revision, now)
        {
            return Ok(user.principal());
        }
        match user {
            Some(user) if self.matches(Some(&user), password) => {
                self.cache.remember(key, user.revision, now);
                Ok(user.principal())
            }
            Some(_) => Err(AccessError::Unauthenticated),
            None => {
                self.matches(None, password);
                Err(AccessError::Unauthenticated)
            }
        }
    }

    /// Whether this is a password of the user. Costs a hash in any case, so that the time does not say who exists.
    fn matches(&self, user: Option<&User>, password: &str) -> bool {
        let verifiers = user.map(|user| user.passwords.as_slice()).unwrap_or_default();
        let verify = |verifier: &PasswordVerifier| {
            self.hashes.fetch_add(1, Ordering::Relaxed);
            verifier.verify(password)
        };
        if verifiers.is_empty() {
            // For its cost only: the dummy takes nothing, and a user without a password has none that is right.
            verify(&self.dummy_password);
            return false;
        }
        let right = verifiers.iter().any(verify);
        // A hash from elsewhere is quick to check. It must neither show by that, nor be quick to guess at.
        if !verifiers.iter().any(PasswordVerifier::is_slow) {
            verify(&self.dummy_password);
        }
        right
    }

    fn check_token(&self, text: &str, now: Now) -> Result<Principal, AccessError> {
        let (id, secret) = split_token(text).ok_or(AccessError::Unauthenticated)?;
        let owner = self.registry.read().tokens.get(id).cloned();
        let Some((user, (id, token))) = owner.as_ref().and_then(|user| Some((user, user.tokens.get_key_value(id)?)))
        else {
            self.dummy_token.verify(secret, now.wall);
            return Err(AccessError::Unauthenticated);
        };
        if !token.verify(secret, now.wall) {
            return Err(AccessError::Unauthenticated);
        }
        Ok(Principal { token: Some(Arc::clone(id)), expires: token.expires(), ..user.principal() })
    }

    /// What a caller may do in a namespace; `None` if the caller is nobody any more: the user was removed, the token was revoked,
    /// or the first user was made and the caller is anonymous. (A token that ran out is not seen here; see
    /// [`Principal::expires`].)
    #[must_use]
    pub fn grants(&self, principal: &Principal, namespace: &str) -> Option<Grants> {
        if principal.is_internal() {
            return Some(Grants::everything(principal.user.clone(), namespace));
        }
        let Some(name) = &principal.user else {
            return self.is_open().then(|| Grants::everything(None, namespace));
        };
        let user = self.find(name).filter(|user| user.id == principal.user_id)?;
        if principal.token.as_ref().is_some_and(|token| !user.tokens.contains_key(token)) {
            return None;
        }
        let name = Arc::clone(&user.name);
        if user.config.admin {
            return Some(Grants::everything(Some(name), namespace));
        }
        Some(Grants::some(name, namespace, user.permits.get(namespace).cloned()))
    }

    /// The bounds on what a user may hold at a time; none on one who is not there.
    #[must_use]
    pub fn limits(&self, name: &str) -> UserLimits {
        self.find(name).map(|user| user.config.limits.clone()).unwrap_or_default()
    }

    /// Whether callers without credentials may do everything while there are no users.
    #[must_use]
    pub fn allows_anonymous(&self) -> bool {
        self.anonymous
    }

    /// Whether callers without credentials may do everything.
    fn is_open(&self) -> bool {
        self.anonymous && self.is_empty()
    }

    /// Runs `within` while one place at the gate is taken, as by a slow hash.
    #[cfg(test)]
    pub(super) fn while_hashing<T>(&self, within: impl FnOnce() -> T) -> T {
        let _permit = self.gate.enter();
        within()
    }

    /// How many logins wait at the gate.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.gate.waiting()
    }

    fn find(&self, name: &str) -> Option<Arc<User>> {
        self.registry.read().users.get(name).cloned()
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users")
            .field("len", &self.len())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
