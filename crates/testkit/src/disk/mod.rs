//! A disk in memory that fails on demand, and that can be looked at as a kill or a power cut would leave it.
//!
//! What it holds stands twice: as the running system sees it (the page cache), and as it is on the disk. `sync_data` and
//! `sync_dir` bring the two together; a power cut shows only the second, plus whatever happened to be written back in time.

mod handle;
mod inode;
mod recording;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use inode::Inode;
pub use recording::DiskOperation;
use tree::{Node, Tree, failure, relative};

/// The disk. Clones are handles on the same one; [`FaultDisk::crash_image`] makes another.
///
/// Every change counts as one operation: a write, a sync (of data or a directory), a new length, a reservation, a file or
/// directory made, a rename, a removal. Changes that the switches make fail count too.
#[derive(Clone, Default)]
pub struct FaultDisk {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    syncs_held: Condvar,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashStyle {
    /// A power cut, before anything unsynced was written back: it is all lost.
    Lost,
    /// A power cut in the midst of writing back: a random part of the unsynced sectors or pages is there, in any order; a file has its old length,
    /// its new one or one between; of each directory's unsynced changes the first few are there.
    Torn,
    /// The process was killed. The page cache lives on: everything is there, and what was unsynced still is.
    Kept,
}

#[derive(Default)]
struct State {
    tree: Tree,
    inodes: BTreeMap<u64, Inode>,
    last_inode: u64,
    /// How many handles each open file has.
    open: BTreeMap<u64, usize>,
    counts: Counts,
    faults: Faults,
    recording: Option<Vec<DiskOperation>>,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    operations: u64,
    writes: u64,
    syncs: u64,
    written_bytes: u64,
}

#[derive(Default)]
struct Faults {
    /// The number of the operation that the disk dies on.
    crash_at: Option<u64>,
    crashed: bool,
    free_bytes: Option<u64>,
    failing_syncs: bool,
    failing_writes: bool,
    failing_reads: Vec<(PathBuf, Range<u64>)>,
    syncs_are_held: bool,
}

impl FaultDisk {
    /// An empty disk without faults and without an end.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations so far; see [`FaultDisk`] for what counts.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().counts.operations
    }

    /// Calls of `write_at` so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.lock().counts.writes
    }

    /// Calls of `sync_data` so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().counts.syncs
    }

    /// Bytes that all calls of `write_at` so far have written.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.lock().counts.written_bytes
    }

    /// Lets the disk die on the `operations`th operation from now (1 is the next). That one and all that follow fail, reads too, and nothing
    /// changes any more. If it is a write, it still reaches the page cache, as the last thing that does.
    pub fn crash_after(&self, operations: u64) {
        let mut state = self.lock();
        state.faults.crash_at = Some(state.counts.operations.saturating_add(operations));
    }

    /// Whether the disk has died.
    #[must_use]
    pub fn crashed(&self) -> bool {
        self.lock().faults.crashed
    }

    /// Another disk, as a crash at this moment would leave this one: healthy, with the same free space. The same seed gives the same image.
    #[must_use]
    pub fn crash_image(&self, style: CrashStyle, seed: u64) -> Self {
        let state = self.lock();
        let mut rng = Rng::with_seed(seed);
        let tree = match style {
            CrashStyle::Lost => state.tree.after_power_cut(None),
            CrashStyle::Torn => state.tree.after_power_cut(Some(&mut rng)),
            CrashStyle::Kept => state.tree.clone(),
        };
        let reachable = tree.reachable();
        let inodes = state.inodes.iter().filter(|(id, _)| reachable.contains(id));
        let inodes = inodes.map(|(id, inode)| {
            let inode = match style {
                CrashStyle::Lost => inode.without_unsynced(),
                CrashStyle::Torn => inode.torn(&mut rng),
                CrashStyle::Kept => inode.clone(),
            };
            (*id, inode)
        });
        let image = State {
            tree,
            inodes: inodes.collect(),
            last_inode: state.last_inode,
            faults: Faults { free_bytes: state.faults.free_bytes, ..Faults::default() },
            ..State::default()
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(image), syncs_held: Condvar::new() }) }
    }

    /// Sets how many bytes are free from now on; `None` (as at first) is without bound. Writes beyond it fail as on a full disk, having
    /// written what fits. Space is taken by the page of 4 KiB, and given back by removals and cuts.
    pub fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.lock().faults.free_bytes = free_bytes;
    }

    /// Makes every `sync_data` fail, or work again. As on Linux, what was unsynced at a failure counts as clean afterwards: reads still show it,
    /// later syncs succeed without it, and a power cut shows that it never reached the disk.
    pub fn fail_syncs(&self, failing: bool) {
        self.lock().faults.failing_syncs = failing;
    }

    /// Makes every `write_at` fail without having written anything, or work again.
    pub fn fail_writes(&self, failing: bool) {
        self.lock().faults.failing_writes = failing;
    }

    /// Makes reads that touch these bytes of a file fail, until [`Self::heal_reads`].
    pub fn fail_reads(&self, path: impl Into<PathBuf>, bytes: Range<u64>) {
        self.lock().faults.failing_reads.push((path.into(), bytes));
    }

    /// Ends all of [`Self::fail_reads`].
    pub fn heal_reads(&self) {
        self.lock().faults.failing_reads.clear();
    }

    /// Lets every `sync_data` wait from now on until [`Self::release_syncs`], so that a test can say what piles up behind one.
    pub fn hold_syncs(&self) {
        self.lock().faults.syncs_are_held = true;
    }

    /// Lets the syncs that wait go on.
    pub fn release_syncs(&self) {
        self.lock().faults.syncs_are_held = false;
        self.shared.syncs_held.notify_all();
    }

    /// Flips the lowest bit of one byte, in the page cache and on the disk.
    ///
    /// # Errors
    /// `NotFound`, or `UnexpectedEof` if the file ends before it.
    pub fn corrupt(&self, path: impl AsRef<Path>, offset: u64) -> io::Result<()> {
        let flipped = self.lock().inode_at(path.as_ref())?.flip(offset, 1);
        if flipped { Ok(()) } else { Err(failure(ErrorKind::UnexpectedEof, "the file ends earlier", path.as_ref())) }
    }

    /// Cuts a file, durably, as a careless tool would.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn truncate(&self, path: impl AsRef<Path>, len_bytes: u64) -> io::Result<()> {
        let mut state = self.lock();
        let inode = state.inode_at(path.as_ref())?;
        inode.set_len(len_bytes);
        inode.settle();
        Ok(())
    }

    /// A whole file, as the system shows it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn contents(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        let inode = state.inode_at(path.as_ref())?;
        let mut bytes = vec![0; usize::try_from(inode.len_bytes()).map_err(io::Error::other)?];
        inode.read(&mut bytes, 0);
        Ok(bytes)
    }

    /// Puts a file there durably, with its directories, replacing what had the name: for fixtures.
    ///
    /// # Errors
    /// `InvalidInput` if the path leaves the disk.
    pub fn put(&self, path: impl AsRef<Path>, contents: &[u8]) -> io::Result<()> {
        let path = relative(path.as_ref())?;
        let mut state = self.lock();
        state.add_dirs(&tree::parent(&path))?;
        let id = state.add_file(&path)?;
        if let Some(inode) = state.inodes.get_mut(&id) {
            let mut without_bound = u64::MAX;
            inode.write(contents, 0, &mut without_bound);
            inode.settle();
        }
        state.tree.settle();
        Ok(())
    }

    /// Writes all that the system shows into a directory of the real disk, for a process that knows no other.
    ///
    /// # Errors
    /// The operating system's.
    pub fn export(&self, directory: &Path) -> io::Result<()> {
        let state = self.lock();
        std::fs::create_dir_all(directory)?;
        for (path, node) in state.tree.nodes() {
            let place = directory.join(path);
            let Node::File(id) = node else {
                std::fs::create_dir_all(place)?;
                continue;
            };
            let Some(inode) = state.inodes.get(id) else { continue };
            let mut bytes = vec![0; usize::try_from(inode.len_bytes()).map_err(io::Error::other)?];
            inode.read(&mut bytes, 0);
            std::fs::write(place, bytes)?;
        }
        Ok(())
    }

    /// Makes all that the system shows durable at once.
    pub fn settle(&self) {
        let mut state = self.lock();
        state.tree.settle();
        state.inodes.values_mut().for_each(Inode::settle);
    }

    /// Notes all operations from now on; see [`Self::take_recording`].
    pub fn record(&self) {
        self.lock().recording = Some(Vec::new());
    }

    /// Notes something of the test's own among the recorded operations.
    pub fn mark(&self, mark: u64) {
        self.lock().note(|| DiskOperation::Mark(mark));
    }

    /// What was recorded since [`Self::record`] or the last call, without the operations that failed.
    #[must_use]
    pub fn take_recording(&self) -> Vec<DiskOperation> {
        self.lock().recording.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.faults.crashed { Err(died()) } else { Ok(()) }
    }

    /// Counts a change, and says whether it may happen.
    fn count(&mut self) -> io::Result<()> {
        self.alive()?;
        self.counts.operations += 1;
        if self.faults.crash_at.is_some_and(|at| self.counts.operations >= at) {
            self.faults.crashed = true;
            return Err(died());
        }
        Ok(())
    }

    fn note(&mut self, operation: impl FnOnce() -> DiskOperation) {
        if let Some(recording) = &mut self.recording {
            recording.push(operation());
        }
    }

    /// Notes a change of a file under the name that it has now.
    fn note_file(&mut self, id: u64, operation: impl FnOnce(PathBuf) -> DiskOperation) {
        if let Some(path) = self.recording.as_ref().and_then(|_| self.tree.name_of(id)) {
            self.note(|| operation(path));
        }
    }

    fn inode_at(&mut self, path: &Path) -> io::Result<&mut Inode> {
        let id = self.tree.file(&relative(path)?)?;
        self.inode(id)
    }

    fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(|| io::Error::from(ErrorKind::NotFound))
    }

    /// Runs a change of one file with the free space, which it may take from.
    fn with_budget<T>(&mut self, id: u64, change: impl FnOnce(&mut Inode, &mut u64) -> T) -> io::Result<T> {
        let mut budget = self.faults.free_bytes.unwrap_or(u64::MAX);
        let changed = change(self.inode(id)?, &mut budget);
        if let Some(free) = &mut self.faults.free_bytes {
            *free = budget;
        }
        Ok(changed)
    }

    fn give_back(&mut self, bytes: u64) {
        if let Some(free) = &mut self.faults.free_bytes {
            *free = free.saturating_add(bytes);
        }
    }

    fn add_file(&mut self, path: &Path) -> io::Result<u64> {
        let id = self.last_inode + 1;
        self.tree.add(path, Node::File(id))?;
        self.last_inode = id;
        self.inodes.insert(id, Inode::default());
        Ok(id)
    }

    /// Makes a directory and its parents; gives those that were new, outermost first.
    fn add_dirs(&mut self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        let mut path = PathBuf::new();
        for name in directory {
            path.push(name);
            match self.tree.get(&path) {
                Some(Node::Directory) => {}
                Some(Node::File(_)) => return Err(failure(ErrorKind::AlreadyExists, "it is a file", &path)),
                None => {
                    self.tree.add(&path, Node::Directory)?;
                    made.push(path.clone());
                }
            }
        }
        Ok(made)
    }

    /// Gives back the space of a file that has lost its last name.
    fn lost_name(&mut self, id: u64) {
        if !self.tree.named().any(|named| named == id) {
            let bytes = self.inodes.get(&id).map_or(0, Inode::allocated_bytes);
            self.give_back(bytes);
        }
    }

    /// Forgets the files that no name and no handle leads to, even after a power cut.
    fn forget_unreachable(&mut self) {
        let reachable: BTreeSet<u64> = self.tree.reachable();
        let open = &self.open;
        self.inodes.retain(|id, _| reachable.contains(id) || open.contains_key(id));
    }
}

fn died() -> io::Error {
    io::Error::other("the disk has died (crash_after)")
}
