//! Confirms on their way out: as few frames as tell them.

use crate::codec::outbox::Outbox;

/// Positive confirms that were not written yet: of one channel, each known for all numbers up to it.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    channel: u16,
    last: u64,
    count: u64,
}

impl Confirms {
    /// The publish of this number, the next of its channel, was taken.
    pub(super) fn ack(&mut self, channel: u16, number: u64, out: &mut Outbox) {
        match &mut self.waiting {
            Some(waiting) if waiting.channel == channel => {
                waiting.last = number;
                waiting.count += 1;
            }
            _ => {
                self.flush(out);
                self.waiting = Some(Waiting { channel, last: number, count: 1 });
            }
        }
    }

    /// It was refused.
    pub(super) fn nack(&mut self, channel: u16, number: u64, out: &mut Outbox) {
        self.flush(out);
        out.confirm(channel, number, false, false);
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self, out: &mut Outbox) {
        if let Some(Waiting { channel, last, count }) = self.waiting.take() {
            out.confirm(channel, last, count > 1, true);
        }
    }
}
