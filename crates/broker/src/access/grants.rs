//! What a caller may do in one namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::glob::NamePattern;
use super::subjects::{Subjects, TopicSubjects, Variables, speak_of_client};
use crate::definitions::{Permissions, SubjectPermissions};
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
    subjects: Arc<Subjects>,
    /// What `subjects` was read from, if a session's client id changes it.
    per_client: Option<BTreeMap<String, SubjectPermissions>>,
}

impl Permits {
    /// Reads the patterns. One that cannot be read permits nothing; definitions are checked before they are stored, so that
    /// takes a damaged record.
    pub(super) fn of(permissions: &Permissions, username: &str, namespace: &str) -> Self {
        let read = |patterns: &[String]| patterns.iter().filter_map(|text| NamePattern::new(text).ok()).collect();
        let variables = Variables { username, namespace, client_id: None };
        Self {
            configure: read(&permissions.configure),
            write: read(&permissions.write),
            read: read(&permissions.read),
            subjects: Arc::new(Subjects::of(&permissions.subjects, variables)),
            per_client: speak_of_client(&permissions.subjects).then(|| permissions.subjects.clone()),
        }
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
    Some(Arc<Permits>, Arc<Subjects>),
    Nothing,
}

impl Grants {
    pub(super) fn everything(user: Option<Arc<str>>, namespace: &str) -> Self {
        Self { user, namespace: namespace.into(), extent: Extent::Everything }
    }

    pub(super) fn some(user: Arc<str>, namespace: &str, permits: Option<Arc<Permits>>) -> Self {
        let extent = permits.map_or(Extent::Nothing, |permits| {
            let subjects = Arc::clone(&permits.subjects);
            Extent::Some(permits, subjects)
        });
        Self { user: Some(user), namespace: namespace.into(), extent }
    }

    /// As it is for a session that has told its client's id, which patterns of subjects may speak of.
    #[must_use]
    pub fn for_client(mut self, client_id: &str) -> Self {
        if let Extent::Some(permits, subjects) = &mut self.extent
            && let Some(given) = &permits.per_client
        {
            let username = self.user.as_deref().unwrap_or_default();
            let variables = Variables { username, namespace: &self.namespace, client_id: Some(client_id) };
            *subjects = Arc::new(Subjects::of(given, variables));
        }
        self
    }

    /// The restriction on the subjects of a topic, if the caller has one there. It stands beside what [`allows`](Self::allows) says of
    /// the topic.
    #[must_use]
    pub fn subjects_of(&self, topic: &str) -> Option<SubjectGrants<'_>> {
        match &self.extent {
            Extent::Some(_, subjects) => {
                let (name, subjects) = subjects.of_topic(topic)?;
                Some(SubjectGrants { grants: self, topic: name, subjects })
            }
            Extent::Everything | Extent::Nothing => None,
        }
    }

    /// Whether the caller may do this to what has this name.
    #[must_use]
    pub fn allows(&self, action: Action, name: &str) -> bool {
        match &self.extent {
            Extent::Everything => true,
            Extent::Some(permits, _) => permits.of_action(action).iter().any(|pattern| pattern.matches(name)),
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

/// Which subjects of one topic a caller may publish to and bind with.
#[derive(Clone, Copy, Debug)]
pub struct SubjectGrants<'a> {
    grants: &'a Grants,
    topic: &'a str,
    subjects: &'a TopicSubjects,
}

impl SubjectGrants<'_> {
    /// Whether the caller may do this to messages of this subject, or with this subject pattern as it is written.
    ///
    /// # Errors
    /// [`AccessError::Forbidden`].
    pub fn require(&self, action: Action, subject: &[u8]) -> Result<(), AccessError> {
        if self.subjects.allows(action, subject) {
            return Ok(());
        }
        let entity = format!("subject {:?} of topic {:?}", String::from_utf8_lossy(subject), self.topic);
        Err(self.grants.forbidden(action.as_str(), entity))
    }
}
