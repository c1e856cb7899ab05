//! Topics' logs and groups, held against the model.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::Read;
use broker::definitions::TopicConfig;
use broker::views::ReadFrom;
use types::{EntityId, Offset};

use crate::check::Votes;
use crate::fixtures::{TOMBSTONE_MS, WINDOW_AGE_MS, WINDOW_RECORDS};
use crate::life::Life;
use crate::model::Model;
use crate::operation::{Num, OpId, Operation};
use crate::publishing::BATCH;
use crate::replies::number_in;

impl Model {
    /// Every confirmed record is at its place in its log, and nothing that was never published.
    pub(crate) fn check_logs(&mut self, life: &Life, votes: &mut Votes) {
        let topics = self.definitions.topics.clone();
        for (name, (id, config)) in topics.into_iter().filter(|(_, (_, config))| config.retention.is_some()) {
            let mut there: BTreeMap<Num, u32> = BTreeMap::new();
            for partition in 0..config.partitions.unwrap_or(1) {
                let found = records(life, &name, partition);
                let log = self.logs.entry((id, partition)).or_default();
                for (offset, num) in &found {
                    let times = there.entry(*num).or_default();
                    *times += 1;
                    assert_eq!(*times, 1, "{num} is twice in {name}");
                    let before = log.insert(*offset, *num);
                    assert!(
                        before.is_none_or(|before| before == *num),
                        "{name}/{partition} at {offset}: {before:?} was confirmed"
                    );
                    if before.is_none() && !self.must_log.contains(&(id, *num)) {
                        let is_open = |(_, at, maybe): &&(OpId, EntityId, Num)| (*at, *maybe) == (id, *num);
                        let open = self.maybe_logged.iter().find(is_open);
                        let (op, ..) = open.unwrap_or_else(|| panic!("{num} is in {name}, but was never confirmed"));
                        votes.add(*op, true, format!("{num} in the log of {name}"));
                    }
                }
                let log = &self.logs[&(id, partition)];
                for (offset, num) in log {
                    let is_right = match found.get(offset) {
                        Some(there) => there == num,
                        None => self.may_be_gone(&config, log, &found, (*offset, *num)),
                    };
                    assert!(is_right, "{name}/{partition} at {offset}: {num} was confirmed, there is {found:?}");
                }
            }
            self.must_log.retain(|(topic, num)| {
                assert!(
                    *topic != id || there.contains_key(num),
                    "{num} was confirmed, and is not in the log of {name}"
                );
                *topic != id
            });
            for (op, _, num) in self.maybe_logged.iter().filter(|(_, at, num)| *at == id && !there.contains_key(num)) {
                votes.add(*op, false, format!("{num} in the log of {name}"));
            }
        }
    }

    /// Whether a record may have gone from its log: of its bounds, or since a later one has its key.
    fn may_be_gone(
        &self,
        config: &TopicConfig,
        log: &BTreeMap<Offset, Num>,
        found: &BTreeMap<Offset, Num>,
        (offset, num): (Offset, Num),
    ) -> bool {
        let Some(retention) = &config.retention else { return false };
        let facts = &self.messages[&num];
        if retention.compact {
            let is_replaced = log.range(offset.next()..).any(|(_, later)| self.messages[later].key == facts.key);
            return facts.key.is_some() && (is_replaced || (facts.removes && self.is_past(facts.wall + TOMBSTONE_MS)));
        }
        // Whole batches go, from the front.
        let is_before = found.keys().next().is_none_or(|first| offset < *first);
        let behind = log.range(offset..).count();
        let is_beyond = retention.max_records.is_some_and(|most| behind + BATCH > most as usize);
        let is_old = retention.max_age_ms.is_some_and(|age| self.is_past(facts.wall + age as i64));
        is_before && (is_beyond || is_old)
    }

    fn is_past(&self, wall: i64) -> bool {
        wall <= self.latest_wall
    }

    /// In the end nothing is kept longer than the topics say.
    pub(crate) fn check_kept(&self, life: &Life, wall: i64) {
        if self.definitions.topic_id("window").is_some() {
            let found = records(life, "window", 0);
            assert!(found.len() as u64 <= WINDOW_RECORDS, "{} records are kept", found.len());
            let oldest = found.values().next().map(|num| self.messages[num].wall);
            assert!(oldest.is_none_or(|at| at + WINDOW_AGE_MS + 1_000 >= wall), "one of {oldest:?} is kept at {wall}");
        }
        if self.definitions.topic_id("latest").is_some() {
            let mut last: BTreeMap<u8, Num> = BTreeMap::new();
            for num in records(life, "latest", 0).into_values() {
                let facts = &self.messages[&num];
                let Some(key) = facts.key else { continue };
                let before = last.insert(key, num);
                assert_eq!(before, None, "{num} has the key of one before it");
                assert!(!facts.removes || facts.wall + TOMBSTONE_MS + 1_000 >= wall, "the removal {num} is kept");
            }
        }
    }

    /// Groups stand where they were confirmed, or where the open commit puts them.
    pub(crate) fn check_groups(&mut self, life: &Life) {
        for (name, (id, _)) in self.definitions.groups.clone() {
            let info = life.session.group(&name).expect("a group");
            let shown: BTreeMap<u32, Offset> =
                info.partitions.iter().filter_map(|place| Some((place.partition, place.committed?))).collect();
            let confirmed = self.groups.entry(id).or_default();
            let open = self.open.values().find_map(|operation| match operation {
                Operation::Commit(of, offsets) if *of == name => Some(offsets),
                _ => None,
            });
            let mut moved = confirmed.clone();
            moved.extend(open.into_iter().flatten().copied());
            assert!(shown == *confirmed || shown == moved, "group {name} is at {shown:?}, not {confirmed:?}");
            *confirmed = shown;
        }
    }

    /// The last value of each key is the last record that has it.
    pub(crate) fn check_versions(&self, life: &Life) {
        for name in ["kv", "latest"] {
            let Some(topic) = self.definitions.topic_id(name) else { continue };
            for (key, last) in self.versions(topic) {
                let record = life.session.last_value(name, &[b'k', key]).expect("an index");
                let record = record.map(|one| one.position.offset);
                let facts = &self.messages[&self.logs[&(topic, 0)][&last]];
                let is_removed = record.is_none() && facts.removes && self.is_past(facts.wall + TOMBSTONE_MS);
                assert!(record == Some(last) || is_removed, "the last value of key {key} in {name}: {record:?}");
            }
        }
    }

    /// The offset of each key's last record.
    pub(crate) fn versions(&self, topic: EntityId) -> BTreeMap<u8, Offset> {
        let log = self.logs.get(&(topic, 0)).into_iter().flatten();
        log.filter_map(|(offset, num)| Some((self.messages.get(num)?.key?, *offset))).collect()
    }
}

fn records(life: &Life, topic: &str, partition: u32) -> BTreeMap<Offset, Num> {
    let mut found = BTreeMap::new();
    let mut from = ReadFrom::Earliest;
    loop {
        let read = Read { partition, from, max: 1_000, max_bytes: usize::MAX, wait: Duration::ZERO };
        let answer = life.wait(life.session.read(topic, read)).expect("a topic can be read");
        if answer.records.is_empty() {
            return found;
        }
        from = ReadFrom::Offset(answer.next);
        found.extend(answer.records.iter().map(|one| (one.position.offset, number_in(&one.message))));
    }
}
