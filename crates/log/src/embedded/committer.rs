//! The committer: one vectored write and one sync a round, then the commits' ends in order.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::Core;
use super::intake::Pending;
use super::options::{COPY_PAYLOAD_BYTES, WAL_OVERRUN};
use super::published::{Payload, Position};
use super::round::{Encoded, encode_round, in_memory};
use super::stats::instant;
use super::wal::{FILE_HEADER_BYTES, FileHeader, WalFile};
use crate::{CommitOutcome, Durability};

/// Where the committer writes.
pub(super) struct Writer {
    pub(super) active: Option<Arc<WalFile>>,
    pub(super) seq: u64,
    pub(super) pos: u64,
    /// The active file's header, if it is still to be written.
    pub(super) header: Option<FileHeader>,
    /// The last round written.
    pub(super) round: u64,
    /// The last round synced.
    pub(super) synced: u64,
    pub(super) boot: u32,
    /// When the oldest commit that wants a sync within the interval was written.
    pub(super) interval_since: Option<Instant>,
    /// How long the last sync took.
    pub(super) last_sync: Duration,
    pub(super) buffer: Vec<u8>,
}

/// What a call of `run_round` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Nothing waited.
    Idle,
    /// A round was written, or failed.
    Done,
    /// Commits wait for a write-ahead file: all are in use, and the disk has no room for another until one was moved.
    Stalled,
}

impl Writer {
    pub(super) fn new(position: Position, boot: u32) -> Self {
        Self {
            active: None,
            seq: position.seq,
            pos: position.pos,
            header: None,
            round: position.round,
            synced: position.round,
            boot,
            interval_since: None,
            last_sync: Duration::ZERO,
            buffer: Vec::new(),
        }
    }

    fn fits(&self, frame_bytes: u64) -> bool {
        self.active.as_ref().is_some_and(|file| self.pos + frame_bytes <= file.capacity)
    }

    /// Syncs what is written.
    fn sync(&mut self, core: &Core) -> io::Result<()> {
        if let (true, Some(file)) = (self.synced < self.round, &self.active) {
            let since = instant();
            file.file.sync_data()?;
            core.stats.syncs.add(since);
            self.last_sync = since.elapsed();
        }
        self.synced = self.round;
        self.interval_since = None;
        Ok(())
    }
}

impl Core {
    /// Writes one round of what waits, and ends its commits.
    pub(super) fn run_round(&self) -> Round {
        let _turn = self.turn.lock();
        let mut writer = self.writer.lock();
        let commits = match self.take_round(&mut writer) {
            Ok(commits) if commits.is_empty() => return Round::Idle,
            Ok(commits) => commits,
            Err(TakeError::Stalled) => {
                self.is_stalled.store(true, Ordering::Release);
                self.ring();
                return Round::Stalled;
            }
            Err(TakeError::Failed(error)) => {
                drop(writer);
                self.poison(&format!("a sync of the write-ahead log failed: {error}"));
                return Round::Done;
            }
        };
        self.is_stalled.store(false, Ordering::Release);
        match self.write_round(&mut writer, &commits) {
            Ok(encoded) => {
                let position = Position { seq: writer.seq, pos: writer.pos, round: writer.round };
                let ends = self.publish(commits, encoded.payloads, Some(position));
                drop(writer);
                self.finish(ends);
            }
            Err(error) => {
                drop(writer);
                self.fail(commits, &format!("a write to the write-ahead log failed: {error}"));
            }
        }
        Round::Done
    }

    /// Ends commits of which nothing is written in the caller's own time, if it is nobody else's turn: to wake the committer for them takes
    /// longer than they do. `false` if it is; the committer is to be woken then.
    pub(super) fn end_in_memory(&self) -> bool {
        let Some(turn) = self.turn.try_lock() else { return false };
        let mut commits = Vec::with_capacity(1);
        {
            let mut intake = self.intake.lock();
            while commits.len() < self.options.round_commits
                && let Some(next) = intake.queue.pop_front_if(|next| next.is_in_memory())
            {
                commits.push(next);
            }
        }
        let payloads = commits.iter().flat_map(in_memory).collect();
        let ends = self.publish(commits, payloads, None);
        self.finish(ends);
        drop(turn);
        // IMPORTANT: whoever queued behind these, and was not the first, has woken nobody.
        let waits = !self.intake.lock().queue.is_empty();
        if waits {
            self.work.notify_one();
        }
        true
    }

    /// Takes what fits the active file and the bounds of a round.
    fn take_round(&self, writer: &mut Writer) -> Result<Vec<Pending>, TakeError> {
        loop {
            let needed = {
                let mut intake = self.intake.lock();
                let Some(first) = intake.queue.front() else { return Ok(Vec::new()) };
                let needed = first.frame_bytes;
                if needed == 0 || writer.fits(needed) {
                    let mut commits = Vec::with_capacity(intake.queue.len().min(self.options.round_commits));
                    let mut bytes = 0;
                    while commits.len() < self.options.round_commits && bytes < self.options.round_bytes {
                        let fits = |next: &mut Pending| next.frame_bytes == 0 || writer.fits(bytes + next.frame_bytes);
                        let Some(next) = intake.queue.pop_front_if(fits) else { break };
                        bytes += next.frame_bytes;
                        commits.push(next);
                    }
                    return Ok(commits);
                }
                needed
            };
            self.next_file(writer, needed)?;
        }
    }

    /// Goes on in another file, which must hold a frame of this size.
    fn next_file(&self, writer: &mut Writer, frame_bytes: u64) -> Result<(), TakeError> {
        // IMPORTANT: the file that is left must be durable to its end before the next is begun: a sync of the next file says nothing
        // about it, and recovery takes a hole in it for damage.
        writer.sync(self).map_err(TakeError::Failed)?;
        let needed = FILE_HEADER_BYTES as u64 + frame_bytes;
        let seq = writer.seq + 1;
        let begun = self.wal.lock().begin(seq, needed);
        let file = match begun {
            Some(file) => file,
            None => self.make_file(seq, needed)?,
        };
        let (previous_end, previous_round) = (writer.pos, writer.round);
        writer.header =
            Some(FileHeader { seq, previous_end, previous_round, boot: writer.boot, capacity: file.capacity });
        writer.active = Some(file);
        writer.seq = seq;
        writer.pos = FILE_HEADER_BYTES as u64;
        self.ring();
        Ok(())
    }

    /// Makes a file in the committer's own time, because none was ready.
    fn make_file(&self, seq: u64, needed: u64) -> Result<Arc<WalFile>, TakeError> {
        let capacity = self.options.wal_file_bytes.max(needed);
        let number = {
            let mut wal = self.wal.lock();
            let is_over = wal.in_use.len() >= self.options.wal_files * WAL_OVERRUN;
            if is_over || self.check_room(capacity, wal.in_use.len()).is_err() {
                return Err(TakeError::Stalled);
            }
            wal.take_number()
        };
        match WalFile::create(self.disk.as_ref(), number, capacity) {
            Ok(file) => {
                let file = Arc::new(file);
                self.wal.lock().put_in_use(file.clone(), seq);
                Ok(file)
            }
            Err(error) => {
                tracing::warn!(%error, capacity, "no room for another write-ahead file; commits wait");
                Err(TakeError::Stalled)
            }
        }
    }

    fn write_round(&self, writer: &mut Writer, commits: &[Pending]) -> io::Result<Encoded> {
        let encoded = encode_round(writer, commits);
        if encoded.bytes == 0 {
            return Ok(encoded);
        }
        let Some(file) = writer.active.clone() else { return Err(io::Error::other("no write-ahead file is open")) };
        // The first round of a file brings the file's header, which stands right before it.
        let at = if writer.header.take().is_some() { 0 } else { writer.pos };
        let mut parts = Vec::with_capacity(1 + 2 * encoded.large.len());
        let mut from = 0;
        for (until, payload) in &encoded.large {
            parts.push(IoSlice::new(writer.buffer.get(from..*until).unwrap_or_default()));
            parts.push(IoSlice::new(payload));
            from = *until;
        }
        parts.push(IoSlice::new(writer.buffer.get(from..).unwrap_or_default()));
        file.file.write_at(&parts, at)?;
        drop(parts);
        writer.pos += encoded.bytes;
        writer.round += 1;
        self.stats.rounds.fetch_add(1, Ordering::Relaxed);
        self.stats.written_bytes.fetch_add(encoded.bytes, Ordering::Relaxed);
        let wants = |durability| commits.iter().any(|commit| commit.frame_bytes > 0 && commit.durability == durability);
        if wants(Durability::Fsync) {
            writer.sync(self)?;
        } else if wants(Durability::Interval) {
            writer.interval_since.get_or_insert_with(instant);
        }
        if writer.buffer.capacity() > 2 * COPY_PAYLOAD_BYTES * 64 {
            writer.buffer.shrink_to(COPY_PAYLOAD_BYTES * 64);
        }
        Ok(encoded)
    }

    /// Shows readers what the round brought.
    fn publish(
        &self,
        commits: Vec<Pending>,
        payloads: Vec<Payload>,
        position: Option<Position>,
    ) -> Vec<(Pending, CommitOutcome)> {
        let mut ends = Vec::with_capacity(commits.len());
        let mut published = self.published.write();
        let mut rest = payloads.as_slice();
        for mut commit in commits {
            let (own, others) = rest.split_at_checked(commit.payloads.len()).unwrap_or((rest, &[]));
            rest = others;
            for op in std::mem::take(&mut commit.ops) {
                published.apply(op, own);
            }
            let outcome = match commit.refused.take() {
                Some(refusal) => CommitOutcome::Refused(refusal),
                None => CommitOutcome::Committed(std::mem::take(&mut commit.written)),
            };
            ends.push((commit, outcome));
        }
        for payload in payloads {
            if let (Some((seq, pos, _)), Some(batch)) = (payload.place, payload.batch) {
                published.recent.push(seq, pos, batch);
            }
        }
        published.position = position.unwrap_or(published.position);
        ends
    }

    pub(super) fn finish(&self, ends: Vec<(Pending, CommitOutcome)>) {
        let cost: u64 = ends.iter().map(|(commit, _)| commit.cost_bytes).sum();
        let count = ends.len();
        {
            let mut intake = self.intake.lock();
            intake.waiting_bytes -= cost;
            intake.last_under_way = intake.under_way;
        }
        self.stats.commits.fetch_add(count as u64, Ordering::Relaxed);
        let now = instant();
        for (commit, outcome) in ends {
            self.stats.commit_times.add_at(commit.queued_at, now);
            (commit.done)(outcome);
        }
        // IMPORTANT: only now, or the refusal of a later commit could be heard before the end of these.
        let mut intake = self.intake.lock();
        intake.under_way -= count;
        self.under_way.store(intake.under_way, Ordering::Release);
    }

    fn fail(&self, commits: Vec<Pending>, reason: &str) {
        // What waits behind them ends with them, in order.
        let mut intake = self.intake.lock();
        for commit in commits.into_iter().rev() {
            intake.queue.push_front(commit);
        }
        drop(intake);
        self.poison(reason);
    }

    /// Syncs what is written, whatever durability it asked for.
    ///
    /// # Errors
    /// The operating system's words, never as a full disk: the caller must poison the engine once it holds no lock.
    pub(super) fn sync_written(&self) -> io::Result<()> {
        let synced = self.writer.lock().sync(self);
        synced.map_err(|error| io::Error::other(format!("a sync of the write-ahead log failed: {error}")))
    }
}

enum TakeError {
    Stalled,
    Failed(io::Error),
}
