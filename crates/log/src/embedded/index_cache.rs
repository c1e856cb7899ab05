//! The segments that were read last: open, and with their sparse indexes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use types::disk::{Disk, DiskFile};

use super::options::OPEN_SEGMENTS;
use super::segment::{Segment, SegmentIndex, path_of};

/// A segment that is open.
pub(super) struct OpenSegment {
    pub(super) file: Arc<dyn DiskFile>,
    /// Empty if it cannot be read: then an extent is read from its front, where its entries' own checksums tell.
    pub(super) index: SegmentIndex,
}

/// Open segments by id, the last used at the back. Ids are not used twice, so none is ever stale.
#[derive(Default)]
pub(super) struct IndexCache {
    open: Mutex<VecDeque<(u64, Arc<OpenSegment>)>>,
}

impl IndexCache {
    /// Opens a segment, if it is not.
    ///
    /// # Errors
    /// The operating system's, but not for a damaged index.
    pub(super) fn get(&self, disk: &dyn Disk, segment: &Segment) -> io::Result<Arc<OpenSegment>> {
        {
            let mut open = self.open.lock();
            if let Some(at) = open.iter().rposition(|(id, _)| *id == segment.id)
                && let Some(found) = open.remove(at)
            {
                let segment = found.1.clone();
                open.push_back(found);
                return Ok(segment);
            }
        }
        let file = disk.open(&path_of(segment.id), false)?;
        let index = match segment.index(file.as_ref()) {
            Ok(index) => index,
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                SegmentIndex::default()
            }
            Err(error) => return Err(error),
        };
        let opened = Arc::new(OpenSegment { file, index });
        let mut open = self.open.lock();
        if open.len() >= OPEN_SEGMENTS {
            open.pop_front();
        }
        open.push_back((segment.id, opened.clone()));
        Ok(opened)
    }

    /// Closes a segment whose file is being removed, so that its space is given back.
    pub(super) fn forget(&self, segment: u64) {
        self.open.lock().retain(|(id, _)| *id != segment);
    }
}
