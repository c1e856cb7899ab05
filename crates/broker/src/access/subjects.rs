//! Which subjects of a topic a user may publish to and bind with.

use std::collections::{BTreeMap, HashMap};

use regex::bytes::Regex;

use super::glob::{NamePattern, NamePatternError};
use super::grants::Action;
use super::regexes::{REGEX_PREFIX, over_bytes};
use crate::definitions::SubjectPermissions;

/// What a pattern's variables stand for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variables<'a> {
    pub(super) username: &'a str,
    pub(super) namespace: &'a str,
    /// `None` while a session has not told it.
    pub(super) client_id: Option<&'a str>,
}

const USERNAME: &str = "{username}";
const NAMESPACE: &str = "{namespace}";
const CLIENT_ID: &str = "{client_id}";

/// One user's restrictions on subjects in one namespace, by topic, ready to be asked.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    topics: HashMap<Box<str>, TopicSubjects>,
}

/// Those of one topic.
#[derive(Debug, Default)]
pub(super) struct TopicSubjects {
    write: Vec<Regex>,
    read: Vec<Regex>,
}

impl Subjects {
    /// Reads the patterns. One that cannot be read permits nothing, and so does one that speaks of a client's id where there is none.
    pub(super) fn of(given: &BTreeMap<String, SubjectPermissions>, variables: Variables<'_>) -> Self {
        let read = |patterns: &[String]| {
            patterns.iter().filter_map(|pattern| compile(pattern, variables).ok().flatten()).collect()
        };
        let topic = |(name, given): (&String, &SubjectPermissions)| {
            let subjects = TopicSubjects { write: read(&given.write), read: read(&given.read) };
            (name.as_str().into(), subjects)
        };
        Self { topics: given.iter().map(topic).collect() }
    }

    /// The restriction on a topic's subjects, if there is one.
    pub(super) fn of_topic(&self, topic: &str) -> Option<(&str, &TopicSubjects)> {
        if self.topics.is_empty() {
            return None;
        }
        self.topics.get_key_value(topic).map(|(name, subjects)| (&**name, subjects))
    }
}

impl TopicSubjects {
    pub(super) fn allows(&self, action: Action, subject: &[u8]) -> bool {
        let patterns = match action {
            Action::Write => &self.write,
            Action::Read => &self.read,
            // There is nothing to configure about a subject.
            Action::Configure => return true,
        };
        patterns.iter().any(|pattern| pattern.is_match(subject))
    }
}

/// Whether any of the patterns speaks of a client's id, so that each session has its own.
pub(super) fn speak_of_client(given: &BTreeMap<String, SubjectPermissions>) -> bool {
    given.values().flat_map(|one| one.write.iter().chain(&one.read)).any(|pattern| pattern.contains(CLIENT_ID))
}

/// Checks a pattern over subjects.
pub(crate) fn check_subject_pattern(pattern: &str) -> Result<(), NamePatternError> {
    compile(pattern, Variables { username: "u", namespace: "n", client_id: Some("c") }).map(drop)
}

/// Compiles a pattern with its variables put in, of which no character has a meaning of its own: a user who is called `.*` may not
/// speak for all. `None` if it needs a client's id and there is none.
fn compile(pattern: &str, variables: Variables<'_>) -> Result<Option<Regex>, NamePatternError> {
    if variables.client_id.is_none() && pattern.contains(CLIENT_ID) {
        return Ok(None);
    }
    let expression = match pattern.strip_prefix(REGEX_PREFIX) {
        Some(expression) => fill(expression, variables),
        None => {
            NamePattern::new(pattern)?;
            let pieces: Vec<String> = pattern.split('*').map(|piece| fill(&escaped(piece), variables)).collect();
            // Of any bytes, line ends included.
            format!("^{}$", pieces.join("(?s-u:.)*"))
        }
    };
    over_bytes(&expression).map(Some)
}

/// Escapes all but the variables.
fn escaped(piece: &str) -> String {
    let mut text = regex::escape(piece);
    for variable in [USERNAME, NAMESPACE, CLIENT_ID] {
        text = text.replace(&regex::escape(variable), variable);
    }
    text
}

/// Puts values in for variables, in one pass: a value that looks like a variable is none.
fn fill(expression: &str, variables: Variables<'_>) -> String {
    let values = [
        (USERNAME, Some(variables.username)),
        (NAMESPACE, Some(variables.namespace)),
        (CLIENT_ID, variables.client_id),
    ];
    let (mut filled, mut rest) = (String::with_capacity(expression.len()), expression);
    while let Some((before, from)) = rest.find('{').and_then(|at| rest.split_at_checked(at)) {
        filled.push_str(before);
        let known = values.iter().find_map(|(name, value)| Some((from.strip_prefix(name)?, (*value)?)));
        match known {
            Some((after, value)) => {
                filled.push_str(&regex::escape(value));
                rest = after;
            }
            None => {
                filled.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    filled.push_str(rest);
    filled
}
