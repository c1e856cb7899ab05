//! Wake-ups of many things that one task polls: each leaves word which it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// Says of one thing that it is to be polled.
#[derive(Debug)]
pub(crate) struct Flag {
    raised: AtomicBool,
    task: Arc<AtomicWaker>,
}

impl Flag {
    /// A flag that is raised, of the task that registers with `task`.
    pub(crate) fn new(task: &Arc<AtomicWaker>) -> Arc<Self> {
        Arc::new(Self { raised: AtomicBool::new(true), task: Arc::clone(task) })
    }

    /// Whether it was raised since the last call.
    pub(crate) fn take(&self) -> bool {
        self.raised.load(Ordering::Relaxed) && self.raised.swap(false, Ordering::AcqRel)
    }

    /// Whether it is raised.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Raises it without waking anybody: the task is at it.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }

    /// A waker that raises it.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // IMPORTANT: raised first. The task looks at the flags after it has registered.
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.task.wake();
        }
    }
}
