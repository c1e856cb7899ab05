//! Who is told of a message at once, without ack and without keeping it.

use std::collections::HashMap;

use types::{SubjectPattern, Text};

use super::trie::SubjectTrie;

/// A live subscription; numbers are the owner's choice and not reused while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(pub u64);

/// The live subscriptions of a namespace. Of all members of a queue group that a message fits, whatever their patterns, one
/// gets it, as in NATS; every subscriber without a group gets it.
#[derive(Debug, Default)]
pub struct LiveSubscriptions {
    subscribers: HashMap<SubscriberId, (SubjectPattern, Option<Text>)>,
    trie: SubjectTrie<Entry>,
}

#[derive(Debug)]
enum Entry {
    One(SubscriberId),
    /// Never empty.
    Group {
        name: Text,
        members: Vec<SubscriberId>,
    },
}

impl Entry {
    fn is_group(&self, wanted: &Text) -> bool {
        matches!(self, Self::Group { name, .. } if name == wanted)
    }
}

impl LiveSubscriptions {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Adds a subscription, as a member of the queue group if one is named. One of the same id is replaced.
    pub fn subscribe(&mut self, id: SubscriberId, pattern: SubjectPattern, group: Option<Text>) {
        self.unsubscribe(id);
        match &group {
            None => self.trie.insert(&pattern, Entry::One(id)),
            Some(name) => match self.trie.get_mut(&pattern, |entry| entry.is_group(name)) {
                Some(Entry::Group { members, .. }) => members.push(id),
                _ => self.trie.insert(&pattern, Entry::Group { name: name.clone(), members: vec![id] }),
            },
        }
        self.subscribers.insert(id, (pattern, group));
    }

    /// Removes a subscription; whether there was one.
    pub fn unsubscribe(&mut self, id: SubscriberId) -> bool {
        let Some((pattern, group)) = self.subscribers.remove(&id) else { return false };
        let Some(name) = group else {
            self.trie.remove(&pattern, |entry| matches!(entry, Entry::One(one) if *one == id));
            return true;
        };
        if let Some(Entry::Group { members, .. }) = self.trie.get_mut(&pattern, |entry| entry.is_group(&name)) {
            if members.len() > 1 {
                members.retain(|member| *member != id);
            } else {
                self.trie.remove(&pattern, |entry| entry.is_group(&name));
            }
        }
        true
    }

    /// Whether anybody would get a message of this subject.
    #[must_use]
    pub fn has_interest(&self, subject: &[u8]) -> bool {
        self.trie.find(subject, |_| true)
    }

    /// Adds to `out` who gets a message of these subjects: each subscription once, of each queue group one member drawn by `rng`.
    pub fn matches<'a>(
        &self,
        subjects: impl Iterator<Item = &'a [u8]>,
        rng: &mut fastrand::Rng,
        out: &mut Vec<SubscriberId>,
    ) {
        // A group that subscribed with several patterns is drawn from as a whole; the list is as long as groups matched.
        let mut groups: Vec<(&Text, usize, Vec<&[SubscriberId]>)> = Vec::new();
        for (turn, subject) in subjects.enumerate() {
            self.trie.for_matches(subject, |entry| match entry {
                // What one subject finds it finds once.
                Entry::One(id) if turn > 0 && out.contains(id) => {}
                Entry::One(id) => out.push(*id),
                Entry::Group { name, members } => match groups.iter_mut().find(|(have, ..)| *have == name) {
                    Some((_, _, parts)) if turn > 0 && parts.iter().any(|part| std::ptr::eq(*part, &**members)) => {}
                    Some((_, count, parts)) => {
                        *count += members.len();
                        parts.push(members);
                    }
                    None => groups.push((name, members.len(), vec![members])),
                },
            });
        }
        for (_, count, parts) in groups {
            let drawn = rng.usize(0..count.max(1));
            out.extend(parts.into_iter().flatten().nth(drawn));
        }
    }
}
