//! Messages on their way in, with where each of them goes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use types::Message;

use super::PublishTo;

/// Messages to publish, each with where it goes, in the order in which they are published.
#[derive(Clone, Debug, Default)]
pub struct Publishes {
    /// Stretches of messages that go the same way; none is empty.
    parts: Vec<Part>,
    pub(super) messages: Vec<Message>,
    weight_bytes: usize,
}

#[derive(Clone, Debug)]
struct Part {
    to: Arc<PublishTo>,
    count: usize,
}

impl Publishes {
    /// None yet, with room for so many.
    #[must_use]
    pub fn with_capacity(messages: usize) -> Self {
        Self { parts: Vec::new(), messages: Vec::with_capacity(messages), weight_bytes: 0 }
    }

    /// All to one destination.
    #[must_use]
    pub fn to(to: PublishTo, messages: Vec<Message>) -> Self {
        let weight_bytes = messages.iter().map(Message::weight_bytes).sum();
        let parts =
            if messages.is_empty() { Vec::new() } else { vec![Part { to: Arc::new(to), count: messages.len() }] };
        Self { parts, messages, weight_bytes }
    }

    /// Adds a message behind the others.
    pub fn push(&mut self, to: &Arc<PublishTo>, message: Message) {
        self.weight_bytes += message.weight_bytes();
        self.messages.push(message);
        match self.parts.last_mut() {
            Some(last) if Arc::ptr_eq(&last.to, to) || last.to == *to => last.count += 1,
            _ => self.parts.push(Part { to: Arc::clone(to), count: 1 }),
        }
    }

    /// The messages by where they go, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&PublishTo, &[Message])> {
        let mut rest = self.messages.as_slice();
        self.parts.iter().filter_map(move |part| {
            let (these, later) = rest.split_at_checked(part.count)?;
            rest = later;
            Some((&*part.to, these))
        })
    }

    /// Makes room for so many more.
    pub fn reserve(&mut self, messages: usize) {
        self.messages.reserve(messages);
    }

    /// How many messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes that they count for; see [`Message::weight_bytes`].
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// Where all of them go; `None` if there are none or they go to several places.
    #[must_use]
    pub fn destination(&self) -> Option<&Arc<PublishTo>> {
        match self.parts.as_slice() {
            [only] => Some(&only.to),
            _ => None,
        }
    }

    /// The messages alone.
    #[must_use]
    pub fn into_messages(self) -> Vec<Message> {
        self.messages
    }

    /// Without the messages at these places, which ascend.
    pub(super) fn without(self, places: &[usize]) -> Self {
        let mut kept = Self::with_capacity(self.messages.len().saturating_sub(places.len()));
        let mut messages = self.messages.into_iter().enumerate();
        for part in self.parts {
            for (at, message) in messages.by_ref().take(part.count) {
                if places.binary_search(&at).is_err() {
                    kept.push(&part.to, message);
                }
            }
        }
        kept
    }

    /// Puts those together that can be published together without a change of order: to any queue, a queue's messages keep theirs.
    /// Messages to a topic stay where they are, since they may meet others in a queue.
    pub(super) fn grouped(self) -> Grouped {
        let (groups, group_of) = group(&self.parts);
        if groups.len() == self.parts.len() {
            let places = (0..self.messages.len()).collect();
            return Grouped { groups, messages: self.messages, places };
        }
        let mut next: Vec<usize> = groups.iter().map(|group| group.range.start).collect();
        let mut order: Vec<(usize, usize)> = Vec::with_capacity(self.messages.len());
        let mut place = 0;
        for (part, group) in self.parts.iter().zip(group_of) {
            let Some(next) = next.get_mut(group) else { continue };
            order.extend((*next..*next + part.count).zip(place..));
            *next += part.count;
            place += part.count;
        }
        let mut moved: Vec<(usize, usize, Message)> =
            order.into_iter().zip(self.messages).map(|((to, from), message)| (to, from, message)).collect();
        moved.sort_unstable_by_key(|(to, ..)| *to);
        let (places, messages) = moved.into_iter().map(|(_, from, message)| (from, message)).unzip();
        Grouped { groups, messages, places }
    }
}

/// Publishes with those of one group next to each other.
pub(super) struct Grouped {
    pub(super) groups: Vec<Group>,
    pub(super) messages: Vec<Message>,
    /// The place that each message had before.
    pub(super) places: Vec<usize>,
}

/// Messages that go the same way.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) to: Arc<PublishTo>,
    pub(super) range: Range<usize>,
}

/// The groups, and which of them each part belongs to.
fn group(parts: &[Part]) -> (Vec<Group>, Vec<usize>) {
    let mut groups: Vec<Group> = Vec::with_capacity(parts.len());
    let mut queues: HashMap<&PublishTo, usize> = HashMap::with_capacity(parts.len());
    let mut group_of = Vec::with_capacity(parts.len());
    for part in parts {
        let next = groups.len();
        let at = if matches!(*part.to, PublishTo::Queue(_)) {
            *queues.entry(&part.to).or_insert(next)
        } else {
            // What comes to a queue behind this must stay behind it.
            queues.clear();
            next
        };
        match groups.get_mut(at) {
            Some(group) => group.range.end += part.count,
            None => groups.push(Group { to: Arc::clone(&part.to), range: 0..part.count }),
        }
        group_of.push(at);
    }
    let mut start = 0;
    for group in &mut groups {
        group.range = start..start + group.range.len();
        start = group.range.end;
    }
    (groups, group_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publishes(words: &[&str]) -> Publishes {
        let mut all = Publishes::default();
        for (at, word) in words.iter().enumerate() {
            let to = match word.strip_prefix('t') {
                Some(_) => PublishTo::Topic((*word).to_owned()),
                None => PublishTo::Queue((*word).to_owned()),
            };
            all.push(&Arc::new(to), Message::new("", at.to_string()));
        }
        all
    }

    fn shown(grouped: &Grouped) -> Vec<(String, Vec<usize>)> {
        let name = |to: &PublishTo| match to {
            PublishTo::Topic(name) | PublishTo::Queue(name) => name.clone(),
            PublishTo::Subject => String::new(),
        };
        for (message, place) in grouped.messages.iter().zip(&grouped.places) {
            assert_eq!(message.body.as_deref(), Some(place.to_string().as_bytes()), "places follow their messages");
        }
        grouped.groups.iter().map(|group| (name(&group.to), grouped.places[group.range.clone()].to_vec())).collect()
    }

    fn check(words: &[&str], expected: &[(&str, &[usize])]) {
        let expected: Vec<_> = expected.iter().map(|(name, places)| ((*name).to_owned(), places.to_vec())).collect();
        assert_eq!(shown(&publishes(words).grouped()), expected);
    }

    #[test]
    fn queues_are_put_together_but_not_over_a_topic() {
        check(&["a", "b", "a", "a", "b"], &[("a", &[0, 2, 3]), ("b", &[1, 4])]);
        check(&["a", "b", "c"], &[("a", &[0]), ("b", &[1]), ("c", &[2])]);
        check(&["a", "b", "a", "t", "a", "b"], &[("a", &[0, 2]), ("b", &[1]), ("t", &[3]), ("a", &[4]), ("b", &[5])]);
        check(&["t", "t2", "t", "t"], &[("t", &[0]), ("t2", &[1]), ("t", &[2, 3])]);
        check(&[], &[]);
    }

    #[test]
    fn what_is_left_out_leaves_the_others_in_order() {
        let left = publishes(&["a", "a", "b", "a", "a"]).without(&[0, 2]);
        assert_eq!((left.len(), left.weight_bytes()), (3, left.messages.iter().map(Message::weight_bytes).sum()));
        assert_eq!(left.destination(), Some(&Arc::new(PublishTo::Queue("a".to_owned()))));
    }
}
