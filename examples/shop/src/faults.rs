//! Things that go wrong on purpose.

use clap::Args;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What the shop lets go wrong, in percent. Decisions about an order follow from its id and the seed, so that they are the same each time
/// they are asked for; those about a call are made anew for each.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Orders whose payment the customer's bank declines.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub decline: u8,
    /// Orders that the last look at a paid order rejects, so that the payment has to be given back.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub reject: u8,
    /// Calls of payments and refunds that fail without having done anything.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub flaky: u8,
    /// Payments that are taken, but whose answer comes too late.
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub stall: u8,
    /// Which orders they are.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub fault_seed: u64,
}

impl Faults {
    /// What `chaos` asks for.
    #[must_use]
    pub const fn chaos(seed: u64) -> Self {
        Self { decline: 10, reject: 5, flaky: 10, stall: 5, fault_seed: seed }
    }

    /// Whether the bank declines this order's payment.
    #[must_use]
    pub fn declines(&self, order_id: &str) -> bool {
        self.hits("decline", order_id, self.decline)
    }

    /// Whether this order is rejected after it was paid.
    #[must_use]
    pub fn rejects(&self, order_id: &str) -> bool {
        self.hits("reject", order_id, self.reject)
    }

    /// Whether this order's first payment is answered too late.
    #[must_use]
    pub fn stalls(&self, order_id: &str) -> bool {
        self.hits("stall", order_id, self.stall)
    }

    /// Whether this call fails.
    #[must_use]
    pub fn fails_now(&self) -> bool {
        fastrand::u8(0..100) < self.flaky
    }

    fn hits(&self, kind: &str, order_id: &str, percent: u8) -> bool {
        let seed = xxh3_64_with_seed(kind.as_bytes(), self.fault_seed);
        xxh3_64_with_seed(order_id.as_bytes(), seed) % 100 < u64::from(percent)
    }

    /// As arguments of a service.
    #[must_use]
    pub fn to_args(self) -> Vec<String> {
        [
            ("--decline", self.decline.to_string()),
            ("--reject", self.reject.to_string()),
            ("--flaky", self.flaky.to_string()),
            ("--stall", self.stall.to_string()),
            ("--fault-seed", self.fault_seed.to_string()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_meets_the_same_fate_each_time() {
        let faults = Faults { decline: 30, fault_seed: 7, ..Faults::default() };
        let declined: Vec<bool> = (0..1000).map(|order| faults.declines(&format!("o-{order}"))).collect();
        let again: Vec<bool> = (0..1000).map(|order| faults.declines(&format!("o-{order}"))).collect();
        assert_eq!(declined, again);
        let count = declined.iter().filter(|declined| **declined).count();
        assert!((200..400).contains(&count), "30 % of 1000 orders, not {count}");
        assert!((0..1000).all(|order| !faults.rejects(&format!("o-{order}"))), "0 % are none");
    }
}
