//! The sparse indexes of the segments that were read last.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::options::CACHED_INDEXES;
use super::segment::{Segment, SegmentIndex};

/// Indexes by segment id, the last used at the back.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    indexes: Mutex<VecDeque<(u64, Arc<SegmentIndex>)>>,
}

impl IndexCache {
    /// The segment's index. One that cannot be read is empty: then an extent is read from its front, where its entries' own
    /// checksums tell.
    ///
    /// # Errors
    /// The operating system's, but not for a damaged footer.
    pub(super) fn get(&self, segment: &Segment) -> io::Result<Arc<SegmentIndex>> {
        {
            let mut indexes = self.indexes.lock();
            if let Some(at) = indexes.iter().rposition(|(id, _)| *id == segment.id)
                && let Some(found) = indexes.remove(at)
            {
                let index = found.1.clone();
                indexes.push_back(found);
                return Ok(index);
            }
        }
        let index = match segment.index() {
            Ok(index) => Arc::new(index),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                Arc::default()
            }
            Err(error) => return Err(error),
        };
        let mut indexes = self.indexes.lock();
        if indexes.len() >= CACHED_INDEXES {
            indexes.pop_front();
        }
        indexes.push_back((segment.id, index.clone()));
        Ok(index)
    }
}
