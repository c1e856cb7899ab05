//! Ending gracefully: no new connections, time for those that are there, then an end for all.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Tells listeners and connections that the process is ending, and knows when the last connection is gone. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: CancellationToken,
    over: CancellationToken,
    connections: TaskTracker,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// All connections ended by themselves.
    Quietly,
    /// So many were still open when the time was up, and were closed.
    Closed(usize),
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins: listeners stop accepting, connections finish what is under way.
    pub fn begin(&self) {
        self.begun.cancel();
        self.connections.close();
    }

    /// Whether it has begun.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Waits until connections have had their time and must go, whatever they are doing.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Begins, waits for all connections to end, at most `limit`, and closes those that are left.
    pub async fn finish(&self, limit: Duration) -> Drained {
        self.begin();
        if tokio::time::timeout(limit, self.connections.wait()).await.is_ok() {
            return Drained::Quietly;
        }
        let left = self.connections.len();
        self.over.cancel();
        if left == 0 { Drained::Quietly } else { Drained::Closed(left) }
    }

    /// Counts a connection as there until the token is dropped.
    pub(crate) fn connection(&self) -> TaskTrackerToken {
        self.connections.token()
    }
}
