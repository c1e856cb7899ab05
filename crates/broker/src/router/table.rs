//! The bindings of one topic, arranged so that a message finds those that take it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use types::{EntityId, Fields, Filter, SubjectPattern, Text, Value};

use super::kind::RouterKind;
use super::ring::Ring;
use super::{RouteTarget, RouterBinding};
use crate::live::SubjectTrie;

/// One way to a target. A binding has one or more: an `Or` of subjects has one for each.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) binding: EntityId,
    pub(super) target: RouteTarget,
    /// What is left to ask once the subject fits.
    residue: Option<Arc<Filter>>,
}

/// Where a slot is looked for.
#[derive(Clone, Debug)]
enum Index {
    Everything,
    Exact(Bytes),
    Pattern(SubjectPattern),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Asked of every message, one by one. In the order of their bindings' ids.
    everything: Vec<Slot>,
    exact: HashMap<Bytes, Vec<Slot>>,
    patterns: SubjectTrie<Slot>,
    ring: Option<Ring>,
}

impl Table {
    pub(super) fn new(kind: &RouterKind) -> Self {
        let ring = match kind {
            RouterKind::ConsistentHash(on) => Some(Ring::new(on.clone())),
            _ => None,
        };
        Self { ring, ..Self::default() }
    }

    pub(super) fn insert(&mut self, binding: &RouterBinding) {
        let slot = |residue: Option<Filter>| Slot {
            binding: binding.id,
            target: binding.target,
            residue: residue.map(Arc::new),
        };
        if let Some(ring) = &mut self.ring {
            let residue = Some(binding.filter.clone().simplify()).filter(|filter| *filter != Filter::All);
            return ring.insert(slot(residue), binding.weight);
        }
        for (index, residue) in plan(&binding.filter) {
            match index {
                Index::Everything => {
                    let at = self.everything.partition_point(|have| have.binding < binding.id);
                    self.everything.insert(at, slot(residue));
                }
                Index::Exact(subject) => self.exact.entry(subject).or_default().push(slot(residue)),
                Index::Pattern(pattern) => self.patterns.insert(&pattern, slot(residue)),
            }
        }
    }

    pub(super) fn remove(&mut self, binding: &RouterBinding) {
        if let Some(ring) = &mut self.ring {
            return ring.remove(binding.id);
        }
        for (index, _) in plan(&binding.filter) {
            match index {
                Index::Everything => {
                    let at = self.everything.partition_point(|have| have.binding < binding.id);
                    if self.everything.get(at).is_some_and(|have| have.binding == binding.id) {
                        self.everything.remove(at);
                    }
                }
                Index::Exact(subject) => {
                    if let Some(slots) = self.exact.get_mut(&subject) {
                        slots.retain(|slot| slot.binding != binding.id);
                        if slots.is_empty() {
                            self.exact.remove(&subject);
                        }
                    }
                }
                Index::Pattern(pattern) => drop(self.patterns.remove(&pattern, |slot| slot.binding == binding.id)),
            }
        }
    }

    /// As [`for_taking`](Self::for_taking), for the message's subject and for each that it is routed by besides. Where a hash chooses, it does
    /// so once.
    pub(super) fn for_taking_by_any<'a>(&'a self, fields: &dyn Fields, mut taken: impl FnMut(&'a Slot)) {
        self.for_taking(fields, &mut taken);
        if self.ring.is_some() {
            return;
        }
        for subject in fields.also() {
            self.for_taking(&Under { subject, fields }, &mut taken);
        }
    }

    /// Calls `taken` with each slot that takes the message; a binding may come more than once.
    pub(super) fn for_taking<'a>(&'a self, fields: &dyn Fields, mut taken: impl FnMut(&'a Slot)) {
        let mut offer = |slot: &'a Slot| {
            if slot.residue.as_ref().is_none_or(|filter| filter.matches(fields)) {
                taken(slot);
            }
        };
        if let Some(ring) = &self.ring {
            ring.choose(fields).into_iter().for_each(offer);
            return;
        }
        let subject = fields.subject();
        if let Some(slots) = self.exact.get(subject) {
            slots.iter().for_each(&mut offer);
        }
        if !self.patterns.is_empty() {
            self.patterns.for_matches(subject, &mut offer);
        }
        self.everything.iter().for_each(&mut offer);
    }
}

/// A message under another subject.
struct Under<'a> {
    subject: &'a [u8],
    fields: &'a dyn Fields,
}

impl Fields for Under<'_> {
    fn subject(&self) -> &[u8] {
        self.subject
    }

    fn key(&self) -> Option<&[u8]> {
        self.fields.key()
    }

    fn for_header(&self, name: &str, visit: &mut dyn FnMut(&Value) -> bool) -> bool {
        self.fields.for_header(name, visit)
    }

    fn for_body(&self, path: &[Text], visit: &mut dyn FnMut(&Value) -> bool) -> bool {
        self.fields.for_body(path, visit)
    }
}

/// Where a filter's slots go: by their subject if they ask for one, and what is left to ask there.
fn plan(filter: &Filter) -> Vec<(Index, Option<Filter>)> {
    match filter.clone().simplify() {
        Filter::All => vec![(Index::Everything, None)],
        Filter::Or(parts) if parts.iter().all(|part| index(part).is_some()) => {
            parts.iter().filter_map(index).map(|index| (index, None)).collect()
        }
        Filter::And(mut parts) => {
            let exact = parts.iter().position(|part| matches!(part, Filter::SubjectExact(_)));
            let subject = exact.or_else(|| parts.iter().position(|part| index(part).is_some()));
            match subject.and_then(|at| index(&parts.remove(at))) {
                Some(index) => vec![(index, Some(Filter::And(parts)))],
                None => vec![(Index::Everything, Some(Filter::And(parts)))],
            }
        }
        filter => match index(&filter) {
            Some(index) => vec![(index, None)],
            None => vec![(Index::Everything, Some(filter))],
        },
    }
}

fn index(filter: &Filter) -> Option<Index> {
    match filter {
        Filter::SubjectExact(subject) => Some(Index::Exact(subject.clone())),
        Filter::Subject(pattern) => Some(Index::Pattern(pattern.clone())),
        _ => None,
    }
}
