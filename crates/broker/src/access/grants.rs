//! What a caller may do in one namespace.

use std::sync::Arc;

use super::glob::NamePattern;
use crate::definitions::Permissions;
use crate::errors::AccessError;

/// What a caller wants to do with something that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Create, change, delete.
    Configure,
    /// Publish.
    Write,
    /// Consume, read, bind from.
    Read,
}

impl Action {
    /// The word for it, as in [`AccessError::Forbidden`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// One user's permissions in one namespace, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Permits {
    configure: Vec<NamePattern>,
    write: Vec<NamePattern>,
    read: Vec<NamePattern>,
}

impl Permits {
    /// Reads the patterns. One that cannot be read permits nothing; definitions are checked before they are stored, so that
    /// takes a damaged record.
    pub(super) fn of(permissions: &Permissions) -> Self {
        let read = |patterns: &[String]| patterns.iter().filter_map(|text| NamePattern::new(text).ok()).collect();
        Self { configure: read(&permissions.configure), write: read(&permissions.write), read: read(&permissions.read) }
    }

    fn of_action(&self, action: Action) -> &[NamePattern] {
        match action {
            Action::Configure => &self.configure,
            Action::Write => &self.write,
            Action::Read => &self.read,
        }
    }
}

/// What a caller may do in one namespace, as it was when [`Users::grants`](super::Users::grants) was asked. Keep it as long as
/// [`Users::generation`](super::Users::generation) stays the same, and ask again when it moved. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Grants {
    user: Option<Arc<str>>,
    namespace: Arc<str>,
    extent: Extent,
}

#[derive(Clone, Debug)]
enum Extent {
    Everything,
    Some(Arc<Permits>),
    Nothing,
}

impl Grants {
    pub(super) fn everything(user: Option<Arc<str>>, namespace: &str) -> Self {
        Self { user, namespace: namespace.into(), extent: Extent::Everything }
    }

    pub(super) fn some(user: Arc<str>, namespace: &str, permits: Option<Arc<Permits>>) -> Self {
        let extent = permits.map_or(Extent::Nothing, Extent::Some);
        Self { user: Some(user), namespace: namespace.into(), extent }
    }

    /// Whether the caller may do this to what has this name.
    #[must_use]
    pub fn allows(&self, action: Action, name: &str) -> bool {
        match &self.extent {
            Extent::Everything => true,
            Extent::Some(permits) => permits.of_action(action).iter().any(|pattern| pattern.matches(name)),
            Extent::Nothing => false,
        }
    }

    /// Whether the caller is an administrator: users, namespaces and policies are theirs alone.
    #[must_use]
    pub fn administers(&self) -> bool {
        matches!(self.extent, Extent::Everything)
    }

    /// Whether anything at all is permitted in the namespace. To a caller without it, the namespace does not exist.
    #[must_use]
    pub fn sees_namespace(&self) -> bool {
        !matches!(self.extent, Extent::Nothing)
    }

    /// As [`allows`](Self::allows), with the error to answer. `kind` is the word before the name in it, such as `queue`.
    ///
    /// # Errors
    /// [`AccessError::Forbidden`].
    pub fn require(&self, action: Action, kind: &str, name: &str) -> Result<(), AccessError> {
        if self.allows(action, name) {
            return Ok(());
        }
        Err(self.forbidden(action.as_str(), format!("{kind} {name:?}")))
    }

    /// As [`administers`](Self::administers), with the error to answer. `what` is what would be administered, such as `users`.
    ///
    /// # Errors
    /// [`AccessError::Forbidden`].
    pub fn require_admin(&self, what: &str) -> Result<(), AccessError> {
        if self.administers() {
            return Ok(());
        }
        Err(self.forbidden("administer", what.to_owned()))
    }

    fn forbidden(&self, action: &'static str, entity: String) -> AccessError {
        let user = self.user.as_deref().unwrap_or_default().to_owned();
        AccessError::Forbidden { user, action, entity, namespace: self.namespace.to_string() }
    }
}
