//! Receipts: what settles a delivery, from any connection and through any owner.

use std::fmt;
use std::str::FromStr;

use types::{EntityId, Offset};

use crate::queue::Lease;

/// Names one delivery of one queue. Its text form is opaque to clients; it carries what is needed to find the queue again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The queue.
    pub queue: EntityId,
    /// The start of the broker under which it was given: a lease does not outlive the process.
    pub boot: u32,
    /// The delivery.
    pub lease: Lease,
}

/// A text is not a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not a receipt")]
pub struct BadReceipt;

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r1-{:x}-{:x}-{:x}-{:x}", self.queue.0, self.boot, self.lease.offset.0, self.lease.serial)
    }
}

impl FromStr for Receipt {
    type Err = BadReceipt;

    fn from_str(text: &str) -> Result<Self, BadReceipt> {
        let mut parts = text.strip_prefix("r1-").ok_or(BadReceipt)?.split('-');
        let mut number = || u64::from_str_radix(parts.next().ok_or(BadReceipt)?, 16).map_err(|_| BadReceipt);
        let (queue, boot, offset, serial) = (number()?, number()?, number()?, number()?);
        match parts.next() {
            Some(_) => Err(BadReceipt),
            None => Ok(Self {
                queue: EntityId(queue),
                boot: u32::try_from(boot).map_err(|_| BadReceipt)?,
                lease: Lease { offset: Offset(offset), serial },
            }),
        }
    }
}
