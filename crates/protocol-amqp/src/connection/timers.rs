//! What time brings: heartbeats, and deliveries that nobody acknowledges.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::handshake::Terms;
use super::wire::Lost;
use super::{Open, State};
use crate::app::AmqpOptions;
use crate::fault::Fault;
use crate::limits::CLOSE_TIMEOUT;

/// How often deliveries are looked at, at most.
const LOOK: Duration = Duration::from_secs(30);

/// When to look next.
pub(super) struct Timers {
    sleep: Pin<Box<Sleep>>,
    interval: Duration,
    heartbeat: Option<Duration>,
    /// Bytes that were written when it was last looked at.
    written: u64,
    /// Until when the client may take to answer `connection.close`.
    close_until: Option<Instant>,
}

impl Timers {
    pub(super) fn new(terms: &Terms, options: &AmqpOptions) -> Self {
        let look = LOOK.min(options.consumer_timeout / 2).max(Duration::from_millis(50));
        let interval = terms.heartbeat.map_or(look, |heartbeat| (heartbeat / 2).min(look));
        Self {
            sleep: Box::pin(sleep_until(Instant::now() + interval)),
            interval,
            heartbeat: terms.heartbeat,
            written: 0,
            close_until: None,
        }
    }

    /// The connection is being closed.
    pub(super) fn closing(&mut self) {
        let until = Instant::now() + CLOSE_TIMEOUT;
        self.close_until = Some(until);
        self.sleep.as_mut().reset(until);
    }
}

impl Open {
    /// Ready if the connection is over.
    pub(super) fn poll_timers(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while self.timers.sleep.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if self.timers.close_until.is_some_and(|until| until <= now) {
                return Poll::Ready(Ok(()));
            }
            let next = self.timers.close_until.unwrap_or(now + self.timers.interval);
            self.timers.sleep.as_mut().reset(next);
            if let Some(heartbeat) = self.timers.heartbeat {
                if now.duration_since(self.wire.heard) > heartbeat * 2 && self.may_read() {
                    // The specification's section 4.2.7: it is gone, so nobody is told.
                    tracing::debug!("an AMQP client has missed its heartbeats");
                    return Poll::Ready(Ok(()));
                }
                if self.wire.written == self.timers.written && self.wire.out.is_empty() {
                    self.wire.out.heartbeat();
                }
                self.timers.written = self.wire.written;
            }
            self.look_at_deliveries();
        }
        Poll::Pending
    }

    /// Closes channels on which a delivery has been out for too long.
    fn look_at_deliveries(&mut self) {
        if self.state != State::Open {
            return;
        }
        let now = self.app.options.clock.now().mono;
        let timeout = self.app.options.consumer_timeout;
        let late: Vec<u16> = self
            .channels
            .iter()
            .filter(|(_, channel)| {
                !channel.closing
                    && channel
                        .unsettled
                        .oldest()
                        .is_some_and(|entry| now.since(entry.since) > entry.timeout.unwrap_or(timeout))
            })
            .map(|(number, _)| number)
            .collect();
        for number in late {
            let ms = timeout.as_millis();
            let why = format!(
                "delivery acknowledgement on channel {number} timed out. Timeout value used: {ms} ms. This timeout value can be configured"
            );
            self.close_channel(number, &Fault::precondition_failed(why));
        }
    }
}
