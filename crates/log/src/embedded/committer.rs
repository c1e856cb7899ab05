//! The committer: one vectored write and one sync a round, then the commits' ends in order.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::core::Core;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader};
use super::intake::{Pending, Stage};
use super::options::{COPY_PAYLOAD_BYTES, WAL_OVERRUN};
use super::published::{Payload, Position};
use super::stats::instant;
use super::wal::{FILE_HEADER_BYTES, FileHeader, WalFile};
use crate::{CommitOutcome, Durability};

/// How often the committer looks for a free file while the engine is being closed, before it gives up.
const STALLS_OF_CLOSE: u32 = 40;

/// Syncs that take less are not worth waiting for company.
const GATHER_ABOVE: Duration = Duration::from_micros(40);
/// The part of a sync's time that is waited at most.
const GATHER_PART: u32 = 4;
/// A sleep takes about so long whatever was asked for; shorter waits only let others run.
const SLEEP_ABOVE: Duration = Duration::from_micros(100);
/// What is waited at most, however slow the disk.
const GATHER_MOST: Duration = Duration::from_millis(1);
/// Rounds without waiting after one in which it did not pay.
const GATHER_PAUSE: u32 = 16;

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
    last_sync: Duration,
    buffer: Vec<u8>,
}

/// Whether it pays to wait for the callers that were just answered.
///
/// Callers that each wait for an end before they commit again fall into two halves otherwise: one is synced while the other queues, and
/// each round is half as large, and each commit waits for twice as many syncs, as need be.
#[derive(Default)]
struct Gather {
    /// Rounds for which nobody is waited for, because those expected did not come the last time.
    pause: u32,
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

/// A round as it is written.
#[derive(Default)]
struct Encoded {
    /// Payloads that are not copied: each stands in the buffer before this byte.
    large: Vec<(usize, Bytes)>,
    /// The payloads' places of each commit.
    payloads: Vec<Vec<Payload>>,
    bytes: u64,
}

impl Core {
    /// Writes one round of what waits, and ends its commits.
    pub(super) fn run_round(&self) -> Round {
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
                let ends = self.publish(commits, encoded.payloads, position);
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
        writer.header =
            Some(FileHeader { seq, previous_end: writer.pos, previous_round: writer.round, boot: writer.boot });
        writer.active = Some(file);
        writer.seq = seq;
        writer.pos = FILE_HEADER_BYTES as u64;
        self.ring();
        Ok(())
    }

    /// Makes a file in the committer's own time, because none was ready. Its space is reserved, but not filled with zeros.
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
        match WalFile::create(self.disk.as_ref(), number, capacity, false) {
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
        payloads: Vec<Vec<Payload>>,
        position: Position,
    ) -> Vec<(Pending, CommitOutcome)> {
        let mut ends = Vec::with_capacity(commits.len());
        let mut published = self.published.write();
        for (mut commit, payloads) in commits.into_iter().zip(payloads) {
            for op in std::mem::take(&mut commit.ops) {
                published.apply(op, &payloads);
            }
            for payload in payloads {
                if let (Some((seq, pos, _)), Some(batch)) = (payload.place, payload.batch) {
                    published.recent.push(seq, pos, batch);
                }
            }
            let outcome = match commit.refused.take() {
                Some(refusal) => CommitOutcome::Refused(refusal),
                None => CommitOutcome::Committed(std::mem::take(&mut commit.written)),
            };
            ends.push((commit, outcome));
        }
        published.position = position;
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
        for (commit, outcome) in ends {
            self.stats.commits.fetch_add(1, Ordering::Relaxed);
            self.stats.commit_times.add(commit.queued_at);
            (commit.done)(outcome);
        }
        // IMPORTANT: only now, or the refusal of a later commit could be heard before the end of these.
        self.intake.lock().under_way -= count;
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

    /// Waits, for a small part of a sync's time, until as many commits are under way as were when the last round ended.
    fn gather(&self, gather: &mut Gather) {
        let last_sync = self.writer.lock().last_sync;
        let mut intake = self.intake.lock();
        let expected = std::mem::take(&mut intake.last_under_way);
        if expected < 2 || last_sync < GATHER_ABOVE {
            return;
        }
        if gather.pause > 0 {
            gather.pause -= 1;
            return;
        }
        let deadline = instant() + (last_sync / GATHER_PART).min(GATHER_MOST);
        intake.wake_at = expected;
        while intake.under_way < expected && intake.stage == Stage::Open && instant() < deadline {
            if deadline - instant() > SLEEP_ABOVE {
                self.work.wait_until(&mut intake, deadline);
            } else {
                MutexGuard::unlocked(&mut intake, std::thread::yield_now);
            }
        }
        intake.wake_at = usize::MAX;
        // Nine of ten are enough to go on hoping.
        if intake.under_way * 10 < expected * 9 {
            gather.pause = GATHER_PAUSE;
        }
    }

    /// The committer's thread.
    pub(super) fn run_committer(&self) {
        let mut stalls_of_close = 0;
        let mut gather = Gather::default();
        loop {
            self.gather(&mut gather);
            let round = self.run_round();
            if round == Round::Done {
                continue;
            }
            if round == Round::Stalled && self.intake.lock().stage != Stage::Open {
                stalls_of_close += 1;
                if stalls_of_close > STALLS_OF_CLOSE {
                    self.poison("the engine was closed while commits waited for space");
                    continue;
                }
            }
            let since = self.writer.lock().interval_since;
            let rest = since.map(|since| self.options.interval.saturating_sub(since.elapsed()));
            if rest == Some(Duration::ZERO) {
                if let Err(error) = self.sync_written() {
                    self.poison(&error.to_string());
                }
                continue;
            }
            let mut intake = self.intake.lock();
            let must_wait = intake.queue.is_empty() || round == Round::Stalled;
            if intake.queue.is_empty() && intake.stage != Stage::Open {
                return;
            }
            if must_wait {
                let wait = rest.unwrap_or(self.options.maintenance_interval);
                self.work.wait_for(&mut intake, wait);
            }
        }
    }
}

enum TakeError {
    Stalled,
    Failed(io::Error),
}

/// Puts the round's bytes into the writer's buffer, but for the large payloads.
fn encode_round(writer: &mut Writer, commits: &[Pending]) -> Encoded {
    let mut encoded = Encoded::default();
    writer.buffer.clear();
    if let Some(header) = &writer.header {
        writer.buffer.extend_from_slice(&header.encode());
    }
    let count = commits.iter().filter(|commit| commit.frame_bytes > 0).count();
    let mut index = 0;
    for commit in commits {
        let frame_pos = writer.pos + encoded.bytes;
        let mut at = frame_pos + (FRAME_HEADER_BYTES + commit.targets.len()) as u64;
        let mut payloads: Vec<Payload> = commit
            .payloads
            .iter()
            .map(|payload| Payload {
                place: None,
                max_ts: payload.batch.max_timestamp_ms(),
                batch: Some(payload.batch.clone()),
            })
            .collect();
        if commit.frame_bytes > 0 {
            let on_disk = || commit.on_disk.iter().filter_map(|index| commit.payloads.get(*index as usize));
            index += 1;
            let header = FrameHeader {
                seq: writer.seq,
                round: writer.round + 1,
                synced: writer.synced,
                boot: writer.boot,
                index: index - 1,
                frame_bytes: narrow(commit.frame_bytes),
                targets_bytes: narrow(commit.targets.len() as u64),
                payload_crc: on_disk().fold(0, |crc, payload| crc32c::crc32c_append(crc, &payload.bytes)),
                payload_bytes: narrow(on_disk().map(|payload| payload.bytes.len() as u64).sum()),
                last_of_round: index as usize == count,
            };
            header.encode(&commit.targets, &mut writer.buffer);
            for number in &commit.on_disk {
                let Some(payload) = commit.payloads.get(*number as usize) else { continue };
                let len = payload.bytes.len() as u64;
                if let Some(placed) = payloads.get_mut(*number as usize) {
                    placed.place = Some((writer.seq, narrow(at), narrow(len)));
                }
                at += len;
                if payload.bytes.len() <= COPY_PAYLOAD_BYTES {
                    writer.buffer.extend_from_slice(&payload.bytes);
                } else {
                    encoded.large.push((writer.buffer.len(), payload.bytes.clone()));
                }
            }
            let padding = frame_pos + commit.frame_bytes - at;
            writer.buffer.resize(writer.buffer.len() + usize::try_from(padding).unwrap_or(0), 0);
            encoded.bytes += commit.frame_bytes;
        }
        encoded.payloads.push(payloads);
    }
    encoded
}

/// Sizes and places within a file, which the largest frame keeps within 32 bits.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
