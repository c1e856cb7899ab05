//! Whether a queue stays once its consumers have gone.

use super::QueueGuard;

/// Whether the queue stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::queues) enum Stay {
    /// It has consumers, or has had none since the process started.
    #[default]
    Stays,
    /// Its last consumer has left. A queue that is to go then goes, unless another one comes first.
    Abandoned,
    /// It is being deleted for that: whoever comes now is too late.
    Going,
}

impl QueueGuard<'_> {
    /// A standing consumer has come.
    pub(super) fn used_again(&mut self) {
        self.inner.stay = Stay::Stays;
    }

    /// A standing consumer has left.
    pub(super) fn consumer_left(&mut self) {
        if self.inner.consumers == 0 && self.inner.stay == Stay::Stays {
            self.inner.stay = Stay::Abandoned;
        }
    }

    /// Whether the queue is to go because its last consumer has left.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.inner.stay == Stay::Abandoned && self.owner.definition().config.auto_delete && !self.owner.is_deleted()
    }

    /// The queue begins to go, if it is abandoned. No consumer attaches from here on.
    pub(crate) fn begin_going(&mut self) -> bool {
        let goes = self.is_abandoned();
        if goes {
            self.inner.stay = Stay::Going;
        }
        goes
    }

    /// The queue could not go: it may be used again, and is tried to delete once more.
    pub(crate) fn end_going(&mut self) {
        if self.inner.stay == Stay::Going {
            self.inner.stay = Stay::Abandoned;
        }
    }

    /// Whether a consumer that comes now is too late.
    pub(crate) fn is_going(&self) -> bool {
        self.inner.stay == Stay::Going || self.owner.is_deleted()
    }
}
