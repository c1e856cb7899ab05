//! From write-ahead files to segments, and from sparse segments to dense ones.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use types::LogId;

use super::core::Core;
use super::locations::Location;
use super::log_data::{Extent, LogData};
use super::maintenance::Upkeep;
use super::read::place_of;
use super::segment::{self, EntryFault, Segment, SegmentCursor, SegmentEntry, SegmentIndex};
use super::segment_writer::{Moved, SegmentWriter};
use super::stored::{BatchFault, parse, read_located};
use super::wal::WalFile;
use crate::batch::RecordBatch;
use crate::{Fault, Live};

/// A batch to be moved: where it is and what of it lives.
struct Survivor {
    at: Location,
    live: Live,
    records: u64,
}

/// Segments being written, and those that are done.
struct Output {
    done: Vec<(Arc<Segment>, SegmentIndex)>,
    shared: Option<SegmentWriter>,
    /// To be removed if the move fails.
    created: Vec<u64>,
}

/// A segment that is worth rewriting, and what is in it.
struct Sparse {
    segment: Arc<Segment>,
    extents: Vec<(LogId, Extent)>,
}

impl Core {
    /// Moves what is alive of the oldest write-ahead file into segments. The file is free once a checkpoint has been written.
    pub(super) fn move_oldest(&self, upkeep: &mut Upkeep) -> io::Result<()> {
        let oldest = self.wal.lock().oldest_sealed();
        let Some(file) = oldest else { return Ok(()) };
        let seq = file.seq();
        let is_in = |data: &LogData| data.locations.oldest_file().is_some_and(|oldest| oldest <= seq);
        let mut logs: Vec<LogId> = {
            let published = self.published.read();
            published.logs.iter().filter(|(_, data)| is_in(data)).map(|(log, _)| *log).collect()
        };
        logs.sort_unstable();
        let mut output = Output { done: Vec::new(), shared: None, created: Vec::new() };
        let moved = self.write_survivors(&file, &logs, &mut output);
        if let Err(error) = moved {
            self.discard(&output.created);
            return Err(error);
        }
        self.adopt(seq, &logs, output.done);
        upkeep.owes_checkpoint = true;
        Ok(())
    }

    fn write_survivors(&self, file: &WalFile, logs: &[LogId], output: &mut Output) -> io::Result<()> {
        let seq = file.seq();
        for log in logs {
            let (survivors, apart) = self.survivors(*log, seq);
            let live_bytes: u64 = survivors.iter().map(|survivor| u64::from(survivor.at.len)).sum();
            if survivors.is_empty() {
                continue;
            }
            let mut own = None;
            if apart || live_bytes >= self.options.own_segment_bytes {
                own = Some(self.create_segment(&mut output.created)?);
            } else if output.shared.is_none() {
                output.shared = Some(self.create_segment(&mut output.created)?);
            }
            let Some(writer) = own.as_mut().or(output.shared.as_mut()) else { continue };
            for survivor in survivors {
                if let Some(moved) = self.take_survivor(*log, file, &survivor)? {
                    writer.push(*log, &moved)?;
                }
            }
            if let Some(own) = own {
                output.done.push(own.finish(self.disk.as_ref())?);
            }
        }
        if let Some(shared) = output.shared.take() {
            output.done.push(shared.finish(self.disk.as_ref())?);
        }
        Ok(())
    }

    /// What is alive of a log up to this file, and whether it must be kept apart.
    fn survivors(&self, log: LogId, seq: u64) -> (Vec<Survivor>, bool) {
        let published = self.published.read();
        let Some(data) = published.logs.get(&log) else { return (Vec::new(), false) };
        let window = data.window();
        let survivor = |at: Location| {
            let (live, records) = data.dead.live_of(at.base, at.count, &window);
            (records > 0).then_some(Survivor { at, live, records })
        };
        (data.locations.in_files_upto(seq).filter_map(survivor).collect(), data.config.apart)
    }

    fn take_survivor(&self, log: LogId, file: &WalFile, survivor: &Survivor) -> io::Result<Option<Moved>> {
        let Survivor { at, live, records } = survivor;
        match read_located(file, at) {
            Ok(batch) => Ok(Some(Moved::new(at.base, at.count, *records, &thinned(batch, live, *records)))),
            Err(BatchFault::Io(error)) => Err(io::Error::other(error)),
            Err(BatchFault::Damaged(what)) => {
                let place = place_of(&file.path(), u64::from(at.pos));
                self.report_damage(Fault { place, what, logs: vec![log] });
                // It moves as it is, so that a reader meets the damage at its offset and not a gap.
                let bytes = segment::read_exact(file.file.as_ref(), u64::from(at.pos), at.len as usize);
                let whole = |bytes: Vec<u8>| Moved {
                    base: at.base,
                    count: at.count,
                    live: *records,
                    max_ts: at.max_ts,
                    bytes: Bytes::from(bytes),
                };
                Ok(bytes.ok().map(whole))
            }
        }
    }

    fn create_segment(&self, created: &mut Vec<u64>) -> io::Result<SegmentWriter> {
        let id = {
            let mut published = self.published.write();
            published.next_segment += 1;
            published.next_segment - 1
        };
        created.push(id);
        SegmentWriter::create(self.disk.as_ref(), id)
    }

    /// Removes the files of a move that failed. What cannot be removed now goes at the next start.
    fn discard(&self, created: &[u64]) {
        for id in created {
            let _ = self.disk.remove(&segment::path_of(*id));
        }
    }

    /// Lets readers find the moved batches in their segments.
    fn adopt(&self, seq: u64, logs: &[LogId], done: Vec<(Arc<Segment>, SegmentIndex)>) {
        let mut published = self.published.write();
        for log in logs {
            if let Some(data) = published.logs.get_mut(log) {
                data.bytes -= data.locations.forget_files_upto(seq).min(data.bytes);
            }
        }
        for (segment, index) in done {
            for (log, extent, _) in index.extents {
                let Some(data) = published.logs.get_mut(&log) else { continue };
                if extent.end > data.start {
                    data.bytes += extent.len;
                    data.extents.push_back(extent);
                }
                data.has_new_dead = true;
            }
            published.segments.insert(segment.id, segment);
        }
        published.oldest_seq = published.oldest_seq.max(seq + 1);
    }

    /// Takes segments out of use that hold nothing alive. Says whether there were any.
    pub(super) fn drop_dead_segments(&self, upkeep: &mut Upkeep) -> bool {
        let mut published = self.published.write();
        let used: std::collections::HashSet<u64> =
            published.logs.values().flat_map(|data| data.extents.iter().map(|extent| extent.segment)).collect();
        let dead: Vec<u64> = published.segments.keys().copied().filter(|id| !used.contains(id)).collect();
        for id in &dead {
            published.segments.remove(id);
        }
        upkeep.doomed.extend(&dead);
        !dead.is_empty()
    }

    /// Rewrites the segment with the least alive, if that is less than half. Says whether there was one.
    pub(super) fn rewrite_segment(&self, upkeep: &mut Upkeep) -> io::Result<bool> {
        let Some(Sparse { segment, extents }) = self.sparsest_segment(upkeep) else { return Ok(false) };
        let mut created = Vec::new();
        let written =
            self.create_segment(&mut created).and_then(|writer| self.copy_extents(&segment, &extents, writer));
        match written {
            Ok(Some((copy, index))) => {
                self.exchange(segment.id, copy, index);
                upkeep.doomed.push(segment.id);
                Ok(true)
            }
            Ok(None) => {
                self.discard(&created);
                upkeep.stuck.push(segment.id);
                Ok(false)
            }
            Err(error) => {
                self.discard(&created);
                Err(error)
            }
        }
    }

    fn sparsest_segment(&self, upkeep: &Upkeep) -> Option<Sparse> {
        let mut published = self.published.write();
        // Dense stretches are told again from sparse ones only when something died.
        let mut is_changed = false;
        for data in published.logs.values_mut().filter(|data| data.has_new_dead) {
            data.has_new_dead = false;
            data.dead.optimize();
            is_changed = true;
        }
        if !is_changed {
            return None;
        }
        let mut alive: HashMap<u64, u64> = HashMap::new();
        for data in published.logs.values() {
            let window = data.window();
            for extent in &data.extents {
                let seen = extent.base.max(window.start)..extent.end.min(window.end);
                let live = u128::from(data.dead.live_in(seen)) * u128::from(extent.len);
                let live = u64::try_from(live / u128::from(extent.records.max(1))).unwrap_or(extent.len);
                *alive.entry(extent.segment).or_default() += live.min(extent.len);
            }
        }
        let sparse = |(id, live): (&u64, &u64)| {
            let segment = published.segments.get(id).filter(|_| !upkeep.stuck.contains(id))?;
            (live * 2 < segment.entries_bytes()).then(|| (*live, segment.clone()))
        };
        let (_, segment) = alive.iter().filter_map(sparse).min_by_key(|(live, segment)| (*live, segment.id))?;
        let extents = published.logs.iter().flat_map(|(log, data)| data.extents.iter().map(|extent| (*log, *extent)));
        let mut extents: Vec<(LogId, Extent)> = extents.filter(|(_, extent)| extent.segment == segment.id).collect();
        extents.sort_unstable_by_key(|(_, extent)| extent.pos);
        // There may be more than one.
        if let Some(data) = extents.first().and_then(|(log, _)| published.logs.get_mut(log)) {
            data.has_new_dead = true;
        }
        Some(Sparse { segment, extents })
    }

    /// Copies what is alive. `None` if the segment is too damaged to tell.
    fn copy_extents(
        &self,
        segment: &Arc<Segment>,
        extents: &[(LogId, Extent)],
        mut writer: SegmentWriter,
    ) -> io::Result<Option<(Arc<Segment>, SegmentIndex)>> {
        let path = segment::path_of(segment.id);
        let file = self.disk.open(&path, false)?;
        for (log, extent) in extents {
            let mut cursor = SegmentCursor::new(file.clone(), *log, extent.pos, extent);
            loop {
                match cursor.next() {
                    Ok(Some(entry)) => {
                        if let Some(moved) = self.take_entry(*log, &entry, extent) {
                            writer.push(*log, &moved)?;
                        }
                    }
                    Ok(None) => break,
                    Err(EntryFault::Io(error)) => return Err(error),
                    Err(EntryFault::Damaged { pos, what }) => {
                        let fault = Fault { place: place_of(&path, pos), what: what.to_owned(), logs: vec![*log] };
                        self.report_damage(fault);
                        return Ok(None);
                    }
                }
            }
        }
        writer.finish(self.disk.as_ref()).map(Some)
    }

    fn take_entry(&self, log: LogId, entry: &SegmentEntry, extent: &Extent) -> Option<Moved> {
        let (live, records) = {
            let published = self.published.read();
            let data = published.logs.get(&log)?;
            data.dead.live_of(entry.base, entry.count, &data.window())
        };
        if records == 0 {
            return None;
        }
        Some(match parse(entry.batch.clone()) {
            Ok(batch) => Moved::new(entry.base, entry.count, records, &thinned(batch, &live, records)),
            Err(_) => Moved {
                base: entry.base,
                count: entry.count,
                live: records,
                max_ts: extent.max_ts,
                bytes: entry.batch.clone(),
            },
        })
    }

    fn exchange(&self, old: u64, copy: Arc<Segment>, index: SegmentIndex) {
        let mut published = self.published.write();
        for data in published.logs.values_mut() {
            let before: u64 = data.extents.iter().map(|extent| extent.len).sum();
            data.extents.retain(|extent| extent.segment != old);
            let after: u64 = data.extents.iter().map(|extent| extent.len).sum();
            data.bytes -= (before - after).min(data.bytes);
        }
        for (log, extent, _) in index.extents {
            let Some(data) = published.logs.get_mut(&log) else { continue };
            if extent.end > data.start {
                let at = data.extents.partition_point(|other| other.base < extent.base);
                data.extents.insert(at, extent);
                data.bytes += extent.len;
            }
        }
        published.segments.remove(&old);
        published.segments.insert(copy.id, copy);
    }
}

/// The batch without its dead records if half of them or more are dead, and as it is otherwise.
fn thinned(batch: RecordBatch, live: &Live, records: u64) -> RecordBatch {
    if records * 2 > u64::from(batch.record_count()) {
        return batch;
    }
    match batch.filter(|record| live.contains(record.offset_delta)) {
        Ok(Some(thin)) => thin,
        _ => batch,
    }
}
