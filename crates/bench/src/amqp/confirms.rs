//! A publisher with a window of confirms.

use std::collections::VecDeque;
use std::time::Instant;

use super::WRITE_MESSAGES;
use super::wire::{ACK, CONFIRM_SELECT, METHOD, NACK, Wire, name, tag};
use crate::measure::now;

/// When each message was sent that is not confirmed yet, by its place behind the oldest.
#[derive(Debug, Default)]
struct Outstanding {
    /// The delivery tag of the oldest.
    oldest: u64,
    sent: VecDeque<Option<Instant>>,
    count: usize,
}

impl Outstanding {
    fn confirm(&mut self, tag: u64, multiple: bool, confirmed: &mut impl FnMut(Instant)) -> anyhow::Result<()> {
        let place = usize::try_from(tag.checked_sub(self.oldest).unwrap_or(u64::MAX))?;
        anyhow::ensure!(place < self.sent.len(), "the server confirms {tag}, which is not outstanding");
        let first = if multiple { 0 } else { place };
        for since in self.sent.range_mut(first..=place).filter_map(Option::take) {
            self.count -= 1;
            confirmed(since);
        }
        while self.sent.front().is_some_and(Option::is_none) {
            self.sent.pop_front();
            self.oldest += 1;
        }
        Ok(())
    }
}

/// Publishes `copies` of a message of `length` bytes, with at most `window` unconfirmed, for as long as `more` says so; then waits for the
/// last confirm. `more` is asked how many of so many may be sent.
///
/// # Errors
/// If one is refused, or the server goes.
pub(super) async fn publish(
    wire: &mut Wire,
    copies: &[u8],
    window: usize,
    mut more: impl FnMut(usize) -> usize,
    mut confirmed: impl FnMut(Instant),
) -> anyhow::Result<()> {
    wire.call(CONFIRM_SELECT, |to| to.push(0)).await?;
    let length = copies.len() / WRITE_MESSAGES;
    let mut outstanding = Outstanding { oldest: 1, ..Outstanding::default() };
    loop {
        let room = (window - outstanding.count).min(WRITE_MESSAGES);
        let send = if room > 0 { more(room) } else { 0 };
        if send > 0 {
            let since = now();
            outstanding.sent.extend(std::iter::repeat_n(Some(since), send));
            outstanding.count += send;
            wire.send(&copies[..send * length]).await?;
            // Until the window is full nothing needs to be read.
            if outstanding.count < window {
                continue;
            }
        }
        if outstanding.count == 0 {
            return Ok(());
        }
        wire.receive().await?;
        wire.drain(|kind, payload| {
            match (kind, name(payload)) {
                (METHOD, ACK) => {
                    let (tag, multiple) = tag(payload, 4)?;
                    outstanding.confirm(tag, multiple & 1 != 0, &mut confirmed)?;
                }
                (METHOD, NACK) => anyhow::bail!("the server refuses a message"),
                _ => {}
            }
            Ok(())
        })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_confirmed_once_in_any_order() {
        let mut outstanding = Outstanding { oldest: 1, sent: std::iter::repeat_n(Some(now()), 5).collect(), count: 5 };
        let mut confirmed = 0;
        let mut confirm = |tag, multiple| outstanding.confirm(tag, multiple, &mut |_| confirmed += 1);
        confirm(2, false).unwrap();
        confirm(3, true).unwrap();
        confirm(5, false).unwrap();
        assert!(confirm(3, false).is_err(), "it is confirmed already");
        assert!(confirm(6, true).is_err(), "it was never sent");
        assert_eq!((confirmed, outstanding.count, outstanding.oldest), (4, 1, 4));
    }
}
