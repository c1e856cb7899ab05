//! End to end: transient messages from one connection to another, without acknowledgements.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;

use clap::Args;
use tokio::sync::Notify;

use super::wire::{self, BODY, Properties, Wire};
use super::{Load, Server, WRITE_MESSAGES, copies, declare_exclusive, start_consumer};
use crate::measure::{Meter, Report, WARMUP, body, now, runtime};

const QUEUE: &str = "bench-through";

#[derive(Args, Debug)]
pub(crate) struct Through {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    load: Load,
}

/// What the publisher and the consumer know of each other.
pub(super) struct Flight {
    sent: Cell<u64>,
    received: Cell<u64>,
    /// Up to which message each write went, and when.
    writes: RefCell<VecDeque<(u64, Instant)>>,
    room: Notify,
    window: u64,
    meter: RefCell<Meter>,
}

impl Flight {
    pub(super) fn new(window: usize, meter: Meter) -> anyhow::Result<Self> {
        Ok(Self {
            sent: Cell::new(0),
            received: Cell::new(0),
            writes: RefCell::default(),
            room: Notify::new(),
            window: u64::try_from(window)?,
            meter: RefCell::new(meter),
        })
    }

    /// How many may be written now; `None` once it is over. Notes them as sent.
    pub(super) fn next_write(&self) -> Option<usize> {
        let at = now();
        if self.meter.borrow().is_over(at) {
            return None;
        }
        let room = self.window.saturating_sub(self.sent.get() - self.received.get());
        let count = usize::try_from(room).unwrap_or(usize::MAX).min(WRITE_MESSAGES);
        if count > 0 {
            self.sent.set(self.sent.get() + count as u64);
            self.writes.borrow_mut().push_back((self.sent.get(), at));
        }
        Some(count)
    }

    /// Waits until something has arrived.
    pub(super) async fn until_room(&self) {
        self.room.notified().await;
    }

    /// Notes what has arrived.
    pub(super) fn arrived(&self, mut count: u64) {
        let at = now();
        let (mut writes, mut meter) = (self.writes.borrow_mut(), self.meter.borrow_mut());
        while let Some((upto, since)) = writes.front().copied().filter(|_| count > 0) {
            let of_write = count.min(upto - self.received.get());
            meter.note(since, at, of_write);
            self.received.set(self.received.get() + of_write);
            count -= of_write;
            if self.received.get() == upto {
                writes.pop_front();
            }
        }
        self.room.notify_one();
    }

    /// Whether all has arrived, and no more will be sent.
    pub(super) fn is_over(&self) -> bool {
        self.sent.get() == self.received.get() && self.meter.borrow().is_over(now())
    }

    pub(super) fn finish(self, bench: &'static str) -> anyhow::Result<Report> {
        self.meter.into_inner().finish(bench)
    }
}

pub(crate) fn run(through: Through) -> anyhow::Result<Report> {
    runtime(1)?.block_on(async {
        let Through { server, load } = through;
        let mut consumer = Wire::open(server.address).await?;
        // It goes with the consumer's connection.
        declare_exclusive(&mut consumer, QUEUE).await?;
        start_consumer(&mut consumer, QUEUE, true).await?;
        let mut publisher = Wire::open(server.address).await?;
        let message = wire::publish("", QUEUE.as_bytes(), Properties::default(), &body(load.size));
        let copies = copies(&message);
        let flight = Flight::new(load.window, Meter::new(WARMUP, load.duration, server.pid)?)?;
        tokio::try_join!(send(&mut publisher, &copies, &flight), take(&mut consumer, &flight))?;
        flight.finish("amqp-through")
    })
}

async fn send(wire: &mut Wire, copies: &[u8], flight: &Flight) -> anyhow::Result<()> {
    let length = copies.len() / WRITE_MESSAGES;
    while let Some(count) = flight.next_write() {
        if count > 0 {
            wire.send(&copies[..count * length]).await?;
            continue;
        }
        tokio::select! {
            () = flight.until_room() => {}
            received = wire.receive() => {
                received?;
                wire.drain(|_, _| Ok(()))?;
            }
        }
    }
    Ok(())
}

async fn take(wire: &mut Wire, flight: &Flight) -> anyhow::Result<()> {
    while !flight.is_over() {
        wire.receive().await?;
        let mut count = 0;
        wire.drain(|kind, _| {
            count += u64::from(kind == BODY);
            Ok(())
        })?;
        flight.arrived(count);
    }
    Ok(())
}
