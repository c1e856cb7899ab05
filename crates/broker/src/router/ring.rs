//! Consistent hashing: which one of a topic's bindings a message goes to.

use std::collections::{BTreeMap, BTreeSet};

use types::{EntityId, Fields, MessageId, Value};

use super::kind::HashOn;
use super::table::Slot;

/// Places on the ring for each unit of a binding's weight. More spread messages more evenly and cost more memory.
const POINTS_A_WEIGHT: u32 = 64;

/// Seed of the hash. IMPORTANT: with another seed, or another hash, every message would go another way after an upgrade.
const SEED: u64 = 0x706f_7374_686f_7573;

/// A ring of 2^64 places. Each binding stands at some of them, and a message belongs to the first binding at or after its own
/// place. So a binding that goes leaves its messages to others, and no other message moves.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    on: HashOn,
    points: BTreeSet<(u64, EntityId)>,
    slots: BTreeMap<EntityId, (Slot, u32)>,
}

impl Ring {
    pub(super) fn new(on: HashOn) -> Self {
        Self { on, points: BTreeSet::new(), slots: BTreeMap::new() }
    }

    pub(super) fn insert(&mut self, slot: Slot, weight: u32) {
        self.points.extend(points(slot.binding, weight));
        self.slots.insert(slot.binding, (slot, weight));
    }

    pub(super) fn remove(&mut self, binding: EntityId) {
        if let Some((_, weight)) = self.slots.remove(&binding) {
            for point in points(binding, weight) {
                self.points.remove(&point);
            }
        }
    }

    pub(super) fn choose(&self, fields: &dyn Fields) -> Option<&Slot> {
        let place = self.place(fields);
        let (_, binding) = self.points.range((place, EntityId(0))..).next().or_else(|| self.points.first())?;
        self.slots.get(binding).map(|(slot, _)| slot)
    }

    fn place(&self, fields: &dyn Fields) -> u64 {
        match &self.on {
            HashOn::Subject => hash(fields.subject()),
            HashOn::Key => hash(fields.key().unwrap_or_else(|| fields.subject())),
            HashOn::Header(name) => {
                let mut bytes = Vec::new();
                fields.for_header(name, &mut |value| {
                    write_value(value, &mut bytes);
                    true
                });
                hash(&bytes)
            }
            HashOn::MessageId => match fields.id() {
                Some(MessageId::Uuid(uuid)) => hash(uuid),
                Some(MessageId::Text(text)) => hash(text.bytes()),
                None => hash(&[]),
            },
            HashOn::CorrelationId => hash(fields.correlation_id().map_or(&[], |id| id.bytes())),
            HashOn::Timestamp => hash(&fields.timestamp().map_or_else(Vec::new, |at| at.0.to_le_bytes().to_vec())),
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    murmur2::murmur64a(bytes, SEED)
}

fn points(binding: EntityId, weight: u32) -> impl Iterator<Item = (u64, EntityId)> {
    (0..weight.saturating_mul(POINTS_A_WEIGHT)).map(move |at| {
        let mut name = [0; 12];
        let (id, number) = name.split_at_mut(8);
        id.copy_from_slice(&binding.0.to_le_bytes());
        number.copy_from_slice(&at.to_le_bytes());
        (hash(&name), binding)
    })
}

/// Bytes that are equal for equal values: text and bytes as they are, whole numbers as their digits, other kinds by their parts.
fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => {}
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::Int { value, .. } => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Uint { value, .. } => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Float(value) => out.extend_from_slice(&f64::from(*value).to_le_bytes()),
        Value::Double(value) => out.extend_from_slice(&value.to_le_bytes()),
        Value::Decimal { scale, unscaled } => {
            out.push(*scale);
            out.extend_from_slice(&unscaled.to_le_bytes());
        }
        Value::Text(text) => out.extend_from_slice(text.bytes()),
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Timestamp(at) => out.extend_from_slice(&at.0.to_le_bytes()),
        Value::List(values) => values.iter().for_each(|value| write_value(value, out)),
        Value::Map(entries) => {
            for (name, value) in entries {
                out.extend_from_slice(name.bytes());
                write_value(value, out);
            }
        }
    }
}
