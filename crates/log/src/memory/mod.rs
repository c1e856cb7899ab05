//! The engine in memory: the reference for what the contract means, and the log of tests and of volatile brokers.
//!
//! Architecture invariant: no thread, no clock and no disk. What happens is a function of the calls alone.

mod cleanup;
mod one;
mod store;

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use types::{Epoch, LogId, Offset, Timestamp};

use self::one::OneLog;
use self::store::Store;
use crate::{
    Capabilities, Commit, CommitOutcome, Completion, Durability, EngineState, Entry, KeySummary, Log, LogState,
    OpenError, Opened, Operation, ReadError, ReadLimit, Refusal,
};

/// The engine in memory. What it holds goes with it.
///
/// Batches are kept as they came; every durability is reached at once. See [`Self::manual`] for deterministic
/// simulation, and [`Self::fail_next`], [`Self::end_unknown`] and [`Self::reopen`] for faults.
pub struct MemoryLog {
    limits: MemoryLimits,
    manual: bool,
    inner: Mutex<Inner>,
}

/// What a [`MemoryLog`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Bytes of all batches of one commit, shared ones counted once; above it is [`Refusal::TooLarge`].
    pub commit_bytes: u64,
    /// Bytes of all commits that wait; above it is [`Refusal::Overloaded`].
    pub waiting_bytes: u64,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { commit_bytes: 256 << 20, waiting_bytes: 512 << 20 }
    }
}

#[derive(Default)]
struct Inner {
    store: Store,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    /// Somebody is completing what waits, and will come to what is added.
    draining: bool,
    closed: bool,
    poisoned: Option<String>,
    /// What the next commits end in, whatever they hold.
    faults: VecDeque<Fault>,
    /// A commit of unknown end that a restart will find done.
    found_later: Option<Commit>,
    commits: u64,
    rounds: u64,
    /// What the last commit asked for.
    last_durability: Option<Durability>,
}

struct Waiting {
    commit: Commit,
    bytes: u64,
    /// Set if it was refused when it came, and waits only for its turn to hear so.
    refused: Option<Refusal>,
    done: Completion,
}

enum Fault {
    Refuse(Refusal),
    Unknown { found_later: bool },
}

const FAULT: &str = "a fault was injected";

impl MemoryLog {
    /// An empty engine that ends each commit within the call, or, if it is called from a completion, right after that one.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limits(MemoryLimits::default())
    }

    /// An empty engine whose commits wait for [`Self::run_round`].
    #[must_use]
    pub fn manual() -> Self {
        Self { manual: true, ..Self::new() }
    }

    /// Like [`Self::new`], with other limits.
    #[must_use]
    pub fn with_limits(limits: MemoryLimits) -> Self {
        Self { limits, manual: false, inner: Mutex::default() }
    }

    /// Does the commits that wait and calls their completions, in order. Commits queued by a completion wait for the next
    /// round. Says how many commits ended.
    ///
    /// Until then nothing of them is visible; checks of epochs and ends are made here, in order, too.
    pub fn run_round(&self) -> usize {
        let mut inner = self.inner.lock();
        let round: Vec<Waiting> = inner.waiting.drain(..).collect();
        inner.waiting_bytes = 0;
        let ended: Vec<_> = round.into_iter().map(|waiting| inner.end(waiting)).collect();
        inner.rounds += u64::from(!ended.is_empty());
        drop(inner);
        let count = ended.len();
        ended.into_iter().for_each(|(done, outcome)| done(outcome));
        count
    }

    /// How many commits wait for [`Self::run_round`].
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.lock().waiting.len()
    }

    /// The durability that the last commit asked for, which is reached at once here.
    #[must_use]
    pub fn last_durability(&self) -> Option<Durability> {
        self.inner.lock().last_durability
    }

    /// Lets the next commit that is done be refused for this reason. Calls add up: each takes one more commit.
    pub fn fail_next(&self, refusal: Refusal) {
        self.inner.lock().faults.push_back(Fault::Refuse(refusal));
    }

    /// Lets the next commit that is done end as unknown and poison the engine; after [`Self::reopen`] it is not there.
    pub fn end_unknown(&self) {
        self.inner.lock().faults.push_back(Fault::Unknown { found_later: false });
    }

    /// As [`Self::end_unknown`], but after [`Self::reopen`] the commit is found done.
    pub fn end_unknown_found_later(&self) {
        self.inner.lock().faults.push_back(Fault::Unknown { found_later: true });
    }

    /// What a restart of the process would find: a healthy engine of the same kind with the same logs, but for volatile ones. This
    /// one is closed; commits that wait are dropped without an end, as a kill does.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        inner.waiting_bytes = 0;
        let mut store = inner.store.clone();
        if let Some(commit) = &inner.found_later {
            // If it would have been refused, nothing of it is found.
            let _ = store.commit(commit);
        }
        drop(inner);
        // IMPORTANT: not under the lock. What a completion owns may call back when it is dropped.
        drop(waiting);
        let inner = Inner { store: store.without_volatile(), ..Inner::default() };
        Self { limits: self.limits, manual: self.manual, inner: Mutex::new(inner) }
    }

    /// Ends what waits, one by one, without the lock during completions. Whoever comes while somebody does leaves it to them, so
    /// that completions stay in order.
    fn drain(&self) {
        let mut inner = self.inner.lock();
        if inner.draining {
            return;
        }
        inner.draining = true;
        // A completion that panics must not leave the engine draining for ever.
        let reset = Reset(self);
        while let Some(waiting) = inner.waiting.pop_front() {
            inner.waiting_bytes -= waiting.bytes;
            inner.rounds += 1;
            let (done, outcome) = inner.end(waiting);
            drop(inner);
            done(outcome);
            inner = self.inner.lock();
        }
        inner.draining = false;
        drop(inner);
        std::mem::forget(reset);
    }

    fn with_log<T>(&self, id: LogId, get: impl FnOnce(&OneLog) -> T) -> Result<T, ReadError> {
        self.inner.lock().store.logs.get(&id).map(get).ok_or(ReadError::NoSuchLog(id))
    }
}

struct Reset<'a>(&'a MemoryLog);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().draining = false;
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    /// Why a commit cannot even wait.
    fn refuse_early(&self, bytes: u64, limits: MemoryLimits) -> Option<Refusal> {
        let waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        if self.closed {
            Some(Refusal::Closed)
        } else if bytes > limits.commit_bytes {
            Some(Refusal::TooLarge { bytes, limit: limits.commit_bytes })
        } else if waiting_bytes > limits.waiting_bytes {
            Some(Refusal::Overloaded { waiting_bytes })
        } else {
            None
        }
    }

    /// Does one commit, and gives what its completion is to be called with.
    fn end(&mut self, waiting: Waiting) -> (Completion, CommitOutcome) {
        self.commits += 1;
        let Waiting { commit, refused, done, .. } = waiting;
        let outcome = match refused {
            Some(refusal) => CommitOutcome::Refused(refusal),
            None => self.decide(commit),
        };
        (done, outcome)
    }

    fn decide(&mut self, commit: Commit) -> CommitOutcome {
        if let Some(why) = &self.poisoned {
            return CommitOutcome::Refused(Refusal::Poisoned(why.clone()));
        }
        match self.faults.pop_front() {
            Some(Fault::Refuse(refusal)) => CommitOutcome::Refused(refusal),
            Some(Fault::Unknown { found_later }) => {
                self.poisoned = Some(FAULT.to_owned());
                self.found_later = found_later.then_some(commit);
                CommitOutcome::Unknown(FAULT.to_owned())
            }
            None => match self.store.commit(&commit) {
                Ok(written) => CommitOutcome::Committed(written),
                Err(refusal) => CommitOutcome::Refused(refusal),
            },
        }
    }

    fn open(&mut self, id: LogId) -> Result<Opened, OpenError> {
        if let Some(why) = &self.poisoned {
            return Err(OpenError::Unavailable(why.clone()));
        }
        if self.closed {
            return Err(OpenError::Unavailable("it is closed".to_owned()));
        }
        let log = self.store.logs.get_mut(&id).ok_or(OpenError::NoSuchLog(id))?;
        log.epoch = Epoch(log.epoch.0.saturating_add(1));
        Ok(Opened { epoch: log.epoch, state: log.state(), config: log.config.clone(), damage: None })
    }
}

/// Bytes of a commit's batches; one that several targets share counts once.
fn commit_bytes(commit: &Commit) -> u64 {
    let mut sizes: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for target in &commit.operations {
        if let Operation::Append(append) = &target.operation {
            let body = append.batch.body();
            sizes.insert((body.as_ptr().addr(), body.len()), append.batch.size_bytes() as u64);
        }
    }
    sizes.values().sum()
}

impl Log for MemoryLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities { sparse_deletes: true, key_index: true, durable: false }
    }

    fn logs(&self) -> Vec<LogId> {
        self.inner.lock().store.logs.keys().copied().collect()
    }

    fn open(&self, logs: &[LogId]) -> Vec<Result<Opened, OpenError>> {
        let mut inner = self.inner.lock();
        logs.iter().map(|id| inner.open(*id)).collect()
    }

    fn commit(&self, commit: Commit, done: Completion) {
        let bytes = commit_bytes(&commit);
        let mut inner = self.inner.lock();
        let refused = inner.refuse_early(bytes, self.limits);
        let bytes = if refused.is_some() { 0 } else { bytes };
        inner.waiting_bytes += bytes;
        inner.last_durability = Some(commit.durability);
        let after_close = inner.closed;
        inner.waiting.push_back(Waiting { commit, bytes, refused, done });
        drop(inner);
        // After the end no round may come, and everything before was ended by `close`.
        if !self.manual || after_close {
            self.drain();
        }
    }

    fn read(&self, log: LogId, from: Offset, limit: ReadLimit) -> Result<Vec<Entry>, ReadError> {
        self.with_log(log, |log| log.read(from, limit))
    }

    fn state(&self, log: LogId) -> Result<LogState, ReadError> {
        self.with_log(log, OneLog::state)
    }

    fn damage(&self, _log: LogId) -> Option<String> {
        None
    }

    fn offset_at(&self, log: LogId, time: Timestamp) -> Result<Option<Offset>, ReadError> {
        self.with_log(log, |log| log.offset_at(time))
    }

    fn key(&self, log: LogId, key: &[u8]) -> Result<Option<KeySummary>, ReadError> {
        self.with_log(log, |log| log.key(key))?.ok_or(ReadError::NoKeyIndex(log))
    }

    fn poisoned(&self) -> Option<String> {
        self.inner.lock().poisoned.clone()
    }

    fn engine_state(&self) -> EngineState {
        let inner = self.inner.lock();
        EngineState {
            poisoned: inner.poisoned.clone(),
            commits: inner.commits,
            rounds: inner.rounds,
            waiting_bytes: inner.waiting_bytes,
            ..EngineState::default()
        }
    }

    fn maintain(&self, now: Timestamp) {
        let mut inner = self.inner.lock();
        if !inner.closed {
            inner.store.logs.values_mut().for_each(|log| log.clean_up(now));
        }
    }

    fn close(&self) {
        self.inner.lock().closed = true;
        self.drain();
    }
}
