//! Kills processes at random and starts them again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::supervise::{Shop, Victim};

/// How long a killed process stays away at most.
const AWAY: Duration = Duration::from_millis(1_500);
/// Of so many times once a second process dies with the first.
const TWO_AT_ONCE: u32 = 5;
/// How often the progress is shown.
const SHOW: Duration = Duration::from_millis(250);

/// Victims in random order, each once before any is drawn again: so a run that is long enough kills every process.
struct Bag {
    all: Vec<Victim>,
    left: Vec<Victim>,
    random: fastrand::Rng,
}

impl Bag {
    fn draw(&mut self) -> Option<Victim> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            self.random.shuffle(&mut self.left);
        }
        self.left.pop()
    }

    fn draw_some(&mut self) -> Vec<Victim> {
        let first = self.draw();
        let second = if self.random.u32(0..TWO_AT_ONCE) == 0 { self.draw() } else { None };
        let mut victims: Vec<Victim> = first.into_iter().chain(second).collect();
        victims.dedup();
        victims
    }
}

/// Kills for so long, and leaves everything running. How often each was killed.
pub(super) async fn kill_at_random(
    shop: &mut Shop,
    duration: Duration,
    every: Duration,
    seed: u64,
    mut show: impl FnMut(u32),
) -> anyhow::Result<BTreeMap<Victim, u32>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bag = Bag { all: shop.victims(), left: Vec::new(), random: random.fork() };
    let mut kills: BTreeMap<Victim, u32> = BTreeMap::new();
    let end = Instant::now() + duration;
    loop {
        let next = Instant::now() + every.mul_f64(0.3 + 1.4 * random.f64());
        while Instant::now() < next.min(end) {
            show(kills.values().sum());
            tokio::time::sleep(SHOW.min(next.min(end).saturating_duration_since(Instant::now()))).await;
            if let Some(died) = shop.died() {
                anyhow::bail!("{died}");
            }
        }
        if Instant::now() >= end {
            return Ok(kills);
        }
        let victims = bag.draw_some();
        for victim in &victims {
            shop.kill(*victim).await?;
            *kills.entry(*victim).or_default() += 1;
        }
        tokio::time::sleep(AWAY.mul_f64(random.f64())).await;
        shop.restart(&victims).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::Name;

    #[test]
    fn every_process_dies_before_any_dies_again() {
        let all: Vec<Victim> = Name::ALL.into_iter().map(Victim::Service).chain([Victim::Broker]).collect();
        let mut bag = Bag { all: all.clone(), left: Vec::new(), random: fastrand::Rng::with_seed(3) };
        for _ in 0..10 {
            let mut drawn: Vec<Victim> = (0..all.len()).filter_map(|_| bag.draw()).collect();
            drawn.sort();
            let mut wanted = all.clone();
            wanted.sort();
            assert_eq!(drawn, wanted);
        }
    }
}
