//! What the `Log` trait promises, as tests that know nothing of the engine.
//!
//! An engine runs them all by one line in a module of its own, `crate::suite::run_over!(crate::embedded::make);`, where `make` is
//! a `fn() -> Box<dyn Harness>` that gives an empty engine.

pub(crate) mod cleanup;
pub(crate) mod commits;
pub(crate) mod keys;
pub(crate) mod ownership;
pub(crate) mod random;
pub(crate) mod reads;
pub(crate) mod removals;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use log::batch::{BatchBuilder, BatchOptions, Codec, NO_HEADERS, RecordBatch};
use log::{
    Append, Cleanup, Commit, CommitOutcome, Durability, Entry, Log, LogConfig, LogState, Opened, Operation, ReadLimit,
    Refusal, Target, Written,
};
use testkit::ManualClock;
use types::{Epoch, LogId, Offset, Timestamp};

/// An engine under test.
pub(crate) trait Harness {
    /// The engine as it runs now.
    fn engine(&self) -> Arc<dyn Log>;
    /// Ends the process, as far as the engine can tell, and starts it again. What was confirmed at `Durability::Os` or above
    /// is there afterwards, but for volatile logs.
    fn restart(&mut self);
}

/// Makes a harness over an empty engine.
pub(crate) type Make = fn() -> Box<dyn Harness>;

/// Declares all tests of the suite over one engine.
macro_rules! run_over {
    ($make:path) => {
        crate::suite::run_over!(@ $make;
            ownership: a_new_log_starts_at_zero_under_epoch_one
                an_id_is_never_used_twice
                a_refused_creation_does_not_use_the_id_up
                opening_fences_the_owner_before
                epochs_only_grow_over_restarts
                open_answers_in_the_order_asked
                a_removed_log_is_gone_for_good
                logs_lists_what_is_there
                a_volatile_log_works_until_the_restart
                whether_a_log_is_volatile_cannot_change;
            commits: a_commit_says_where_everything_went
                operations_of_a_commit_see_those_before_them
                a_refusal_of_one_part_refuses_all
                the_expected_end_counts_commits_under_way
                malformed_commits_are_refused
                completions_come_in_the_order_of_commits
                completions_of_many_threads_come_once_each_and_in_offset_order
                a_completion_may_commit_again
                what_was_confirmed_can_be_read_at_once
                every_durability_is_confirmed
                one_batch_may_go_to_many_logs
                an_empty_commit_is_committed
                a_batch_that_cannot_be_decoded_is_refused_where_keys_matter
                close_ends_what_is_under_way_and_refuses_the_rest
                commits_are_counted;
            reads: batches_come_back_as_they_were_whatever_the_codec
                a_read_gives_what_is_live_from_an_offset_on
                a_read_ends_with_the_entry_that_passes_a_limit
                a_read_stays_below_its_upper_bound
                records_not_selected_take_offsets_and_are_never_live
                offsets_without_a_record_are_never_live
                a_log_that_does_not_exist_cannot_be_read
                offset_at_finds_the_first_live_batch_of_a_time
                state_says_how_far_a_log_reaches;
            removals: deleted_records_are_gone_and_the_others_keep_their_offsets
                deleting_twice_changes_nothing
                weight_is_what_was_appended_less_what_was_deleted
                a_trim_removes_everything_before_it
                a_trim_takes_its_share_of_the_weight
                removals_survive_a_restart
                a_log_may_be_emptied_and_go_on;
            cleanup: without_cleanup_everything_stays
                records_go_by_age
                the_oldest_batches_go_by_bytes
                the_oldest_batches_go_by_records
                compaction_keeps_the_last_of_each_key
                a_tombstone_goes_after_its_time
                cleanup_holds_from_when_it_is_configured
                what_was_cleaned_up_stays_gone_over_a_restart;
            keys: the_index_knows_first_last_and_count
                the_index_follows_removals
                the_index_is_there_after_a_restart
                an_index_can_be_asked_for_later_and_given_up
                records_without_a_key_are_not_indexed;
            random: random_use_matches_the_model
                a_random_refused_commit_leaves_no_trace;
        );
    };
    (@ $make:path; $($module:ident: $($name:ident)+;)+) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                crate::suite::$module::$name($make);
            })+
        })+
    };
}
pub(crate) use run_over;

/// How long a test waits for an engine before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The epoch of a log just created.
pub(crate) const FIRST: Epoch = Epoch(1);
/// Most ends that a test lets wait at a time.
const MOST_ENDS: usize = 1000;

/// A channel on which completions say that they were called. They must not block, so it has room for all of a test's.
pub(crate) fn ends<T>() -> (SyncSender<T>, Receiver<T>) {
    sync_channel(MOST_ENDS)
}

/// A log to use.
pub(crate) const A: LogId = LogId(1);
/// Another log to use.
pub(crate) const B: LogId = LogId(2);
/// The time of batches that do not say another.
pub(crate) const T0: i64 = ManualClock::START.0;

/// An engine with the words that tests are written in.
pub(crate) struct Case {
    pub(crate) harness: Box<dyn Harness>,
    pub(crate) engine: Arc<dyn Log>,
}

impl Case {
    pub(crate) fn new(make: Make) -> Self {
        let harness = make();
        let engine = harness.engine();
        Self { harness, engine }
    }

    /// An engine with the logs [`A`] and [`B`].
    pub(crate) fn with_logs(make: Make) -> Self {
        let case = Self::new(make);
        case.must([create(A), create(B)]);
        case
    }

    pub(crate) fn restart(&mut self) {
        // The harness must hold the only handle, or an embedded engine would find its directory in use.
        self.engine = Arc::new(log::MemoryLog::new());
        self.harness.restart();
        self.engine = self.harness.engine();
    }

    /// Queues a commit, and gives where its end will be heard.
    pub(crate) fn start(
        &self,
        durability: Durability,
        operations: impl IntoIterator<Item = Target>,
    ) -> Receiver<CommitOutcome> {
        let (sender, receiver) = ends();
        let commit = Commit { durability, operations: operations.into_iter().collect(), uses_reserve: false };
        self.engine.commit(commit, Box::new(move |outcome| sender.send(outcome).unwrap_or_default()));
        receiver
    }

    pub(crate) fn commit(&self, operations: impl IntoIterator<Item = Target>) -> CommitOutcome {
        ended(&self.start(Durability::Fsync, operations))
    }

    #[track_caller]
    pub(crate) fn must(&self, operations: impl IntoIterator<Item = Target>) -> Vec<Written> {
        match self.commit(operations) {
            CommitOutcome::Committed(written) => written,
            other => panic!("expected a commit, got {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn refused(&self, operations: impl IntoIterator<Item = Target>) -> Refusal {
        match self.commit(operations) {
            CommitOutcome::Refused(refusal) => refusal,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn state(&self, log: LogId) -> LogState {
        self.engine.state(log).unwrap()
    }

    #[track_caller]
    pub(crate) fn open(&self, log: LogId) -> Opened {
        self.engine.open(&[log]).pop().unwrap().unwrap()
    }

    /// All live records: offset and value, `-` for null.
    #[track_caller]
    pub(crate) fn values(&self, log: LogId) -> Vec<(u64, String)> {
        self.values_from(log, 0)
    }

    #[track_caller]
    pub(crate) fn values_from(&self, log: LogId, from: u64) -> Vec<(u64, String)> {
        let mut values: Vec<(u64, String)> = Vec::new();
        let mut from = Offset(from);
        loop {
            let entries = self.engine.read(log, from, EVERYTHING).unwrap();
            let Some(last) = entries.last() else { return values };
            from = last.base.plus(u64::from(last.batch.last_offset_delta()) + 1);
            values.extend(entries.iter().flat_map(live_values));
            assert!(values.is_sorted_by(|one, two| one.0 < two.0), "in offset order: {values:?}");
        }
    }

    /// The offsets of all live records.
    #[track_caller]
    pub(crate) fn offsets(&self, log: LogId) -> Vec<u64> {
        self.values(log).into_iter().map(|(offset, _)| offset).collect()
    }

    /// Maintains until the condition holds: an engine may leave some of it to its own thread.
    #[track_caller]
    #[allow(clippy::disallowed_methods, reason = "an engine's own thread tells nobody when it has cleaned up")]
    pub(crate) fn maintain_until(&self, now: Timestamp, holds: impl Fn() -> bool) {
        let start = std::time::Instant::now();
        loop {
            self.engine.maintain(now);
            if holds() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "maintenance does not get there");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A read without bounds.
pub(crate) const EVERYTHING: ReadLimit = ReadLimit { bytes: usize::MAX, records: usize::MAX, before: Offset(u64::MAX) };

/// The end of a commit.
#[track_caller]
pub(crate) fn ended(receiver: &Receiver<CommitOutcome>) -> CommitOutcome {
    receiver.recv_timeout(PATIENCE).expect("the commit ends")
}

/// The live records of an entry.
pub(crate) fn live_values(entry: &Entry) -> Vec<(u64, String)> {
    let text =
        |value: Option<bytes::Bytes>| value.map_or("-".to_owned(), |value| String::from_utf8(value.into()).unwrap());
    let records = entry.batch.records().unwrap().map(Result::unwrap);
    let live = records.filter(|record| entry.live.contains(record.offset_delta));
    live.map(|record| (entry.base.0 + u64::from(record.offset_delta), text(record.value))).collect()
}

/// A record: offset delta (the next if `None`), key, value.
pub(crate) type Spec<'a> = (Option<u32>, Option<&'a str>, Option<&'a str>);

pub(crate) fn build(codec: Codec, time: i64, records: &[Spec<'_>]) -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    for (delta, key, value) in records {
        builder.push(*delta, time, key.map(str::as_bytes), value.map(str::as_bytes), NO_HEADERS).unwrap();
    }
    builder.finish().unwrap()
}

/// A batch of records without keys.
pub(crate) fn batch(values: &[&str]) -> RecordBatch {
    batch_at(T0, values)
}

pub(crate) fn batch_at(time: i64, values: &[&str]) -> RecordBatch {
    let records: Vec<Spec<'_>> = values.iter().map(|value| (None, None, Some(*value))).collect();
    build(Codec::None, time, &records)
}

/// A batch of `key=value` records; `key` alone has a null value.
pub(crate) fn keyed<'a>(time: i64, records: &[&'a str]) -> RecordBatch {
    let spec = |record: &&'a str| match record.split_once('=') {
        Some((key, value)) => (None, Some(key), Some(value)),
        None => (None, Some(*record), None),
    };
    let records: Vec<Spec<'a>> = records.iter().map(spec).collect();
    build(Codec::None, time, &records)
}

pub(crate) fn config() -> LogConfig {
    LogConfig {
        label: "a log of a test".to_owned(),
        cleanup: Cleanup::default(),
        key_index: false,
        volatile: false,
        apart: false,
    }
}

/// An operation under the first epoch; see [`under`] and [`expecting`] for others.
pub(crate) fn target(log: LogId, operation: Operation) -> Target {
    Target { log, epoch: FIRST, expected_end: None, operation }
}

pub(crate) fn under(epoch: Epoch, target: Target) -> Target {
    Target { epoch, ..target }
}

pub(crate) fn expecting(end: u64, target: Target) -> Target {
    Target { expected_end: Some(Offset(end)), ..target }
}

pub(crate) fn create(log: LogId) -> Target {
    create_as(log, config())
}

pub(crate) fn create_as(log: LogId, config: LogConfig) -> Target {
    target(log, Operation::Create(config))
}

pub(crate) fn configure(log: LogId, config: LogConfig) -> Target {
    target(log, Operation::Configure(config))
}

pub(crate) fn append(log: LogId, values: &[&str]) -> Target {
    append_batch(log, batch(values))
}

pub(crate) fn append_batch(log: LogId, batch: RecordBatch) -> Target {
    target(log, Operation::Append(Append { batch, selection: None, weight: 0 }))
}

pub(crate) fn append_selected(log: LogId, batch: RecordBatch, selection: &[Range<u32>]) -> Target {
    target(log, Operation::Append(Append { batch, selection: Some(selection.to_vec()), weight: 0 }))
}

pub(crate) fn append_weighing(log: LogId, values: &[&str], weight: u64) -> Target {
    target(log, Operation::Append(Append { batch: batch(values), selection: None, weight }))
}

pub(crate) fn delete(log: LogId, ranges: &[Range<u64>]) -> Target {
    delete_weighing(log, ranges, 0)
}

pub(crate) fn delete_weighing(log: LogId, ranges: &[Range<u64>], weight: u64) -> Target {
    let ranges = ranges.iter().map(|range| Offset(range.start)..Offset(range.end)).collect();
    target(log, Operation::Delete { ranges, weight })
}

pub(crate) fn trim(log: LogId, to: u64) -> Target {
    target(log, Operation::Trim(Offset(to)))
}

pub(crate) fn remove(log: LogId) -> Target {
    target(log, Operation::Remove)
}

/// Runs a test for many seeds, or for the one in `POSTHOUSE_SEED`, and says which one failed.
pub(crate) fn for_seeds(count: u64, test: impl Fn(u64)) {
    let given = std::env::var("POSTHOUSE_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let seeds = given.map_or(0..count, |seed| seed..seed + 1);
    for seed in seeds {
        if catch_unwind(AssertUnwindSafe(|| test(seed))).is_err() {
            panic!("failed with seed {seed}; run it alone with POSTHOUSE_SEED={seed}");
        }
    }
}
