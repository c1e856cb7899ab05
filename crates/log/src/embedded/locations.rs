//! Where a log's batches are in the write-ahead files: 20 bytes a batch.

use std::collections::VecDeque;

/// Batches of one run; a bound on what a half-filled run wastes.
const RUN_BATCHES: usize = 512;

/// One batch in a write-ahead file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The file's sequence number.
    pub(super) seq: u64,
    /// The batch's first byte in the file.
    pub(super) pos: u32,
    /// Its length in bytes.
    pub(super) len: u32,
    /// The offset of its delta 0.
    pub(super) base: u64,
    /// Offsets taken.
    pub(super) count: u32,
    /// Its greatest timestamp.
    pub(super) max_ts: i64,
}

impl Location {
    pub(super) fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }
}

#[derive(Debug)]
struct Packed {
    base: u32,
    pos: u32,
    len: u32,
    count: u32,
    ts: i32,
}

/// Batches of one file, as distances from the first.
#[derive(Debug)]
struct Run {
    seq: u64,
    base: u64,
    ts: i64,
    /// How many at the front are gone.
    gone: u32,
    batches: Vec<Packed>,
}

impl Run {
    fn unpack(&self, packed: &Packed) -> Location {
        let base = self.base + u64::from(packed.base);
        let max_ts = self.ts.saturating_add(i64::from(packed.ts));
        Location { seq: self.seq, pos: packed.pos, len: packed.len, base, count: packed.count, max_ts }
    }

    fn push(&mut self, at: &Location) -> bool {
        let ts = at.max_ts.checked_sub(self.ts).and_then(|ts| i32::try_from(ts).ok());
        let (Ok(base), Some(ts)) = (u32::try_from(at.base - self.base), ts) else { return false };
        if self.seq != at.seq || self.batches.len() >= RUN_BATCHES {
            return false;
        }
        self.batches.push(Packed { base, pos: at.pos, len: at.len, count: at.count, ts });
        true
    }

    fn present(&self) -> &[Packed] {
        self.batches.get(self.gone as usize..).unwrap_or_default()
    }

    fn end(&self) -> u64 {
        self.batches.last().map_or(self.base, |last| self.unpack(last).end())
    }
}

/// All batches of one log in write-ahead files, in offset order.
#[derive(Debug, Default)]
pub(super) struct Locations {
    runs: VecDeque<Run>,
}

impl Locations {
    /// Adds a batch after all others.
    pub(super) fn push(&mut self, at: &Location) {
        if self.runs.back_mut().is_some_and(|run| run.push(at)) {
            return;
        }
        let mut run = Run { seq: at.seq, base: at.base, ts: at.max_ts, gone: 0, batches: Vec::new() };
        run.push(at);
        self.runs.push_back(run);
    }

    /// Forgets the batches that end at or before `start`; gives their bytes.
    pub(super) fn forget_before(&mut self, start: u64) -> u64 {
        let mut bytes = 0;
        while let Some(run) = self.runs.front_mut() {
            let dead = run.present().iter().take_while(|packed| run.unpack(packed).end() <= start);
            let (count, dropped) = dead.fold((0, 0), |(count, sum), packed| (count + 1, sum + u64::from(packed.len)));
            bytes += dropped;
            run.gone += count;
            if (run.gone as usize) < run.batches.len() {
                break;
            }
            self.runs.pop_front();
        }
        bytes
    }

    /// The oldest file that holds a batch of this log.
    pub(super) fn oldest_file(&self) -> Option<u64> {
        self.runs.front().map(|run| run.seq)
    }

    /// The batches in this file and older ones.
    pub(super) fn in_files_upto(&self, seq: u64) -> impl Iterator<Item = Location> + '_ {
        self.runs
            .iter()
            .take_while(move |run| run.seq <= seq)
            .flat_map(|run| run.present().iter().map(|packed| run.unpack(packed)))
    }

    /// Forgets the batches in this file and older ones; gives their bytes.
    pub(super) fn forget_files_upto(&mut self, seq: u64) -> u64 {
        let mut bytes = 0;
        while let Some(run) = self.runs.pop_front_if(|run| run.seq <= seq) {
            bytes += run.present().iter().map(|packed| u64::from(packed.len)).sum::<u64>();
        }
        bytes
    }

    /// The batches that end after `offset`, in order.
    pub(super) fn after(&self, offset: u64) -> impl Iterator<Item = Location> + '_ {
        let first = self.runs.partition_point(|run| run.end() <= offset);
        let in_run = move |run: &Run| run.present().partition_point(|packed| run.unpack(packed).end() <= offset);
        self.runs.range(first..).flat_map(move |run| {
            let skip = in_run(run);
            run.present().iter().skip(skip).map(|packed| run.unpack(packed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64, base: u64, max_ts: i64) -> Location {
        Location { seq, pos: 64, len: 100, base, count: 2, max_ts }
    }

    #[test]
    fn batches_come_back_from_any_offset_and_go_by_offset_and_by_file() {
        let mut locations = Locations::default();
        let all: Vec<Location> = (0..2000)
            .map(|n| at(1 + n / 700, n * 2 + (n / 1000) * (1 << 33), if n % 5 == 0 { i64::MIN } else { n as i64 }))
            .collect();
        for location in &all {
            locations.push(location);
        }
        for from in [0, 1, 2, 1399, 1400, 3001, 1 << 33, u64::MAX] {
            let expected: Vec<Location> = all.iter().copied().filter(|location| location.end() > from).collect();
            assert_eq!(locations.after(from).collect::<Vec<_>>(), expected, "from {from}");
        }
        assert_eq!(locations.forget_before(11), 500);
        assert_eq!(locations.after(0).next().map(|at| at.base), Some(10));
        assert_eq!(locations.in_files_upto(1).count(), 695);
        assert_eq!(locations.forget_files_upto(1), 69_500);
        assert_eq!(locations.oldest_file(), Some(2));
        assert_eq!(locations.forget_before(u64::MAX), 130_000);
        assert_eq!(locations.oldest_file(), None);
    }
}
