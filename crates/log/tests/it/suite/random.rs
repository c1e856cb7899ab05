//! Random use against a model so small that it can be seen to be right.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use log::{KeySummary, LogConfig};
use types::{Epoch, LogId, Offset, Timestamp};

use super::*;

const SEEDS: u64 = 200;
const STEPS: usize = 60;
/// Every record weighs the same, so that weights are exact whatever is removed.
const WEIGHT: u64 = 10;
const KEYS: [Option<&str>; 4] = [None, Some("a"), Some("b"), Some("c")];

#[derive(Clone, Debug, PartialEq)]
struct Record {
    value: String,
    key: Option<&'static str>,
    batch_time: i64,
}

#[derive(Clone, Debug, PartialEq)]
struct ModelLog {
    config: LogConfig,
    epoch: Epoch,
    start: u64,
    end: u64,
    records: BTreeMap<u64, Record>,
}

/// All there is: a map of records for each log, copied for each commit.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    logs: BTreeMap<LogId, ModelLog>,
    used: BTreeSet<LogId>,
}

impl Model {
    /// Does one operation, or says that it is refused.
    fn apply(&mut self, target: &Target, keys: &[Option<&'static str>]) -> Option<Written> {
        if let Operation::Create(config) = &target.operation {
            let new = self.used.insert(target.log) && target.expected_end.is_none_or(|end| end.0 == 0);
            let log = ModelLog { config: config.clone(), epoch: FIRST, start: 0, end: 0, records: BTreeMap::new() };
            self.logs.insert(target.log, log);
            return new.then_some(Written { base: Offset(0), end: Offset(0) });
        }
        let log = self.logs.get_mut(&target.log)?;
        if log.epoch != target.epoch || target.expected_end.is_some_and(|end| end.0 != log.end) {
            return None;
        }
        let mut base = log.end;
        match &target.operation {
            Operation::Create(_) => {}
            Operation::Configure(config) => log.config = config.clone(),
            Operation::Append(append) => {
                let selected =
                    |delta: u32| append.selection.as_ref().is_none_or(|all| all.iter().any(|r| r.contains(&delta)));
                for (record, key) in append.batch.records().unwrap().map(Result::unwrap).zip(keys) {
                    let value = String::from_utf8(record.value.unwrap().into()).unwrap();
                    let record_of = Record { value, key: *key, batch_time: append.batch.max_timestamp_ms() };
                    if selected(record.offset_delta) {
                        log.records.insert(base + u64::from(record.offset_delta), record_of);
                    }
                }
                log.end += u64::from(append.batch.last_offset_delta()) + 1;
            }
            Operation::Delete { ranges, .. } => {
                log.records.retain(|offset, _| !ranges.iter().any(|range| range.contains(&Offset(*offset))));
            }
            Operation::Trim(start) => {
                log.records.retain(|offset, _| *offset >= start.0);
                log.start = log.start.max(start.0);
            }
            Operation::Remove => {
                base = log.end;
                self.logs.remove(&target.log);
                return Some(Written { base: Offset(base), end: Offset(base) });
            }
        }
        if !matches!(target.operation, Operation::Append(_)) {
            base = log.end;
        }
        Some(Written { base: Offset(base), end: Offset(log.end) })
    }
}

/// A run of random steps: the engine, and the model of what it should hold.
struct Run {
    case: Case,
    model: Model,
    rng: Rng,
    last_id: u64,
    time: i64,
}

/// An operation, and the keys of the records that it appends.
type Step = (Target, Vec<Option<&'static str>>);

impl Run {
    fn new(make: Make, seed: u64) -> Self {
        Self { case: Case::new(make), model: Model::default(), rng: Rng::with_seed(seed), last_id: 0, time: T0 }
    }

    fn any_log(&mut self) -> Option<LogId> {
        let logs: Vec<LogId> = self.model.logs.keys().copied().collect();
        self.rng.choice(logs)
    }

    fn any_config(&mut self) -> LogConfig {
        LogConfig { key_index: self.rng.bool(), ..config() }
    }

    /// An operation that is right for the model as it stands.
    fn step(&mut self, model: &Model) -> Step {
        let logs: Vec<LogId> = model.logs.keys().copied().collect();
        let Some(id) = self.rng.choice(logs).filter(|_| model.logs.len() >= 2 && self.rng.u8(0..30) > 0) else {
            self.last_id += 1;
            let config = LogConfig { volatile: self.rng.u8(0..6) == 0, ..self.any_config() };
            return (create_as(LogId(self.last_id), config), Vec::new());
        };
        let log = &model.logs[&id];
        let mut keys = Vec::new();
        let operation = match self.rng.u8(0..100) {
            0..50 => self.append(&mut keys),
            50..85 => {
                let ranges = self.ranges(log.start.saturating_sub(1), log.end, 4);
                let dead =
                    log.records.keys().filter(|offset| ranges.iter().any(|range| range.contains(offset))).count();
                return (under(log.epoch, delete_weighing(id, &ranges, dead as u64 * WEIGHT)), keys);
            }
            85..93 => Operation::Trim(Offset(self.rng.u64(0..=log.end))),
            93..98 => Operation::Configure(LogConfig { volatile: log.config.volatile, ..self.any_config() }),
            _ => Operation::Remove,
        };
        let expected_end = self.rng.bool().then_some(Offset(log.end));
        (Target { log: id, epoch: log.epoch, expected_end, operation }, keys)
    }

    fn append(&mut self, keys: &mut Vec<Option<&'static str>>) -> Operation {
        let count = self.rng.u32(1..=6);
        self.time += self.rng.i64(-3..=10);
        let codec = if self.rng.u8(0..4) == 0 { Codec::Lz4 } else { Codec::None };
        let values: Vec<String> = (0..count).map(|_| format!("{:x}", self.rng.u32(..))).collect();
        keys.extend((0..count).map(|_| KEYS[self.rng.usize(..4)]));
        let records: Vec<Spec<'_>> =
            values.iter().zip(&*keys).map(|(value, key)| (None, *key, Some(&**value))).collect();
        let batch = build(codec, self.time, &records);
        let selection: Option<Vec<Range<u32>>> = (self.rng.u8(0..3) == 0).then(|| {
            let ranges = self.ranges(0, u64::from(count), 2);
            ranges.into_iter().map(|range| range.start as u32..range.end as u32).collect()
        });
        let selected = selection.as_ref().map_or(count, |all| all.iter().map(|range| range.end - range.start).sum());
        Operation::Append(Append { batch, selection, weight: u64::from(selected) * WEIGHT })
    }

    /// Up to so many ascending ranges, none empty.
    fn ranges(&mut self, from: u64, end: u64, most: usize) -> Vec<Range<u64>> {
        let mut places: Vec<u64> = (0..self.rng.usize(0..=most) * 2).map(|_| self.rng.u64(from..=end)).collect();
        places.sort_unstable();
        places.dedup();
        places.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect()
    }

    /// Spoils an operation, or adds one that is wrong.
    fn spoil(&mut self, model: &Model, steps: &mut Vec<Step>) {
        let at = self.rng.usize(0..=steps.len());
        let Some(id) = self.any_log() else { return };
        let Some(log) = model.logs.get(&id) else { return };
        let bad = match self.rng.u8(0..5) {
            0 => under(Epoch(log.epoch.0 + 1), append(id, &["spoilt"])),
            1 => expecting(log.end + 1000, under(log.epoch, append(id, &["spoilt"]))),
            2 => create(id),
            3 => append(LogId(1_000_000), &["spoilt"]),
            _ => under(log.epoch, delete(id, &[log.end + 5000..log.end + 5001])),
        };
        steps.insert(at, (bad, vec![None]));
    }

    /// A random commit and how it should end. A spoilt one is refused.
    fn commit(&mut self, spoilt: bool) {
        let before = self.model.clone();
        let mut after = before.clone();
        let mut steps: Vec<Step> = Vec::new();
        let mut expected = Some(Vec::new());
        for _ in 0..self.rng.usize(1..=4) {
            let step = self.step(&after);
            match after.apply(&step.0, &step.1) {
                Some(written) => expected.iter_mut().for_each(|all| all.push(written)),
                None => panic!("the model refuses its own step: {step:?}"),
            }
            steps.push(step);
        }
        if spoilt {
            let count = steps.len();
            self.spoil(&before, &mut steps);
            if steps.len() > count {
                expected = None;
            }
        }
        let operations: Vec<Target> = steps.into_iter().map(|(target, _)| target).collect();
        let durability = [Durability::Fsync, Durability::Os, Durability::Interval][self.rng.usize(..3)];
        let outcome = ended(&self.case.start(durability, operations.clone()));
        match (&outcome, expected) {
            (CommitOutcome::Committed(written), Some(expected)) => {
                assert_eq!(*written, expected, "{operations:#?}");
                self.model = after;
            }
            (CommitOutcome::Refused(_), None) => {}
            (_, expected) => panic!("expected {expected:?}, got {outcome:?}\n{operations:#?}"),
        }
    }

    fn restart(&mut self) {
        self.case.restart();
        self.model.logs.retain(|_, log| !log.config.volatile);
        let ids: Vec<LogId> = self.model.logs.keys().copied().collect();
        for (id, opened) in ids.iter().zip(self.case.engine.open(&ids)) {
            let (opened, log) = (opened.unwrap(), self.model.logs.get_mut(id).unwrap());
            assert!(opened.epoch > log.epoch);
            assert_eq!(opened.config, log.config);
            log.epoch = opened.epoch;
        }
    }

    fn check(&mut self) {
        let mut logs = self.case.engine.logs();
        logs.sort_unstable();
        assert_eq!(logs, self.model.logs.keys().copied().collect::<Vec<_>>());
        for (id, log) in self.model.logs.clone() {
            let state = self.case.state(id);
            assert_eq!((state.end, state.records), (Offset(log.end), log.records.len() as u64), "log {id}");
            assert_eq!(state.weight, log.records.len() as u64 * WEIGHT, "log {id}");
            let first = log.records.keys().next().copied().unwrap_or(log.end);
            assert!((log.start..=first).contains(&state.start.0), "log {id} starts at {}", state.start);
            let values: Vec<_> = log.records.iter().map(|(offset, record)| (*offset, record.value.clone())).collect();
            assert_eq!(self.case.values(id), values, "log {id}");
            self.check_reads(id, &log);
        }
    }

    /// A read from anywhere within any limit, a time and a key.
    fn check_reads(&mut self, id: LogId, log: &ModelLog) {
        let from = self.rng.u64(0..=log.end + 1);
        let before = self.rng.u64(0..=log.end + 1);
        let limit =
            ReadLimit { bytes: self.rng.usize(0..1000), records: self.rng.usize(0..10), before: Offset(before) };
        let read = self.case.engine.read(id, Offset(from), limit).unwrap();
        assert!(read.iter().all(|entry| !live_values(entry).is_empty()), "no entry without a live record");
        let got: Vec<_> = read.iter().flat_map(live_values).collect();
        let all = log.records.range(from..before.max(from)).map(|(offset, record)| (*offset, record.value.clone()));
        let all: Vec<_> = all.collect();
        assert!(all.starts_with(&got), "read from {from} before {before}: {got:?} of {all:?}");
        assert!(all.is_empty() || !got.is_empty());

        let time = self.time - self.rng.i64(0..100);
        let expected = log.records.iter().find(|(_, record)| record.batch_time >= time).map(|(at, _)| Offset(*at));
        assert_eq!(self.case.engine.offset_at(id, Timestamp(time)), Ok(expected), "log {id} at {time}");
        if log.config.key_index {
            let key = KEYS[self.rng.usize(1..4)];
            let offsets: Vec<u64> = log.records.iter().filter(|(_, r)| r.key == key).map(|(at, _)| *at).collect();
            let expected = offsets.first().zip(offsets.last()).map(|(first, last)| KeySummary {
                first: Offset(*first),
                last: Offset(*last),
                count: offsets.len() as u64,
            });
            assert_eq!(self.case.engine.key(id, key.unwrap().as_bytes()), Ok(expected), "log {id} key {key:?}");
        }
    }
}

/// Commits, refusals, takeovers and restarts in any order; after each the engine holds what the model holds.
pub(crate) fn random_use_matches_the_model(make: Make) {
    for_seeds(SEEDS, |seed| {
        let mut run = Run::new(make, seed);
        for _ in 0..STEPS {
            match run.rng.u8(0..100) {
                0..80 => run.commit(false),
                80..90 => run.commit(true),
                90..95 => {
                    if let Some(id) = run.any_log() {
                        let epoch = run.case.open(id).epoch;
                        run.model.logs.get_mut(&id).unwrap().epoch = epoch;
                    }
                }
                _ => run.restart(),
            }
            if run.rng.u8(0..4) == 0 {
                run.check();
            }
        }
        run.restart();
        run.check();
    });
}

/// Half of the commits hold one wrong part; nothing of those is ever seen, before or after a restart.
pub(crate) fn a_random_refused_commit_leaves_no_trace(make: Make) {
    for_seeds(SEEDS, |seed| {
        let mut run = Run::new(make, seed);
        for _ in 0..4 {
            run.commit(false);
        }
        for _ in 0..STEPS / 2 {
            let spoilt = run.rng.bool();
            run.commit(spoilt);
            run.check();
        }
        run.restart();
        run.check();
    });
}
