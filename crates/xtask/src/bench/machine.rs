//! The machine, in words that name nobody's.

use std::fmt;

use super::cases::Lab;
use super::figure::{number, short};

/// What the figures were taken on.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    cores: usize,
    memory_gib: f64,
    small: Rhythm,
    large: Rhythm,
    nats: &'static str,
    redis: String,
}

/// What the disk gives at one rhythm.
#[derive(Clone, Copy, Debug)]
struct Rhythm {
    mib_per_second: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Machine {
    /// Looks at it before anything else runs.
    ///
    /// # Errors
    /// If the disk cannot be measured.
    pub(super) fn look(lab: &Lab) -> anyhow::Result<Self> {
        let report = lab.posthouse.bench_disk(&lab.directory, &["64KiB", "1MiB"], lab.plan.seconds)?;
        let rhythm = |at: usize| -> anyhow::Result<Rhythm> {
            Ok(Rhythm {
                mib_per_second: number(&report, &format!("/disk/{at}/mib_per_second"))?,
                p50_us: number(&report, &format!("/disk/{at}/fdatasync_p50_us"))?,
                p99_us: number(&report, &format!("/disk/{at}/fdatasync_p99_us"))?,
            })
        };
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib.unwrap_or(0.0) / f64::from(1 << 20),
            small: rhythm(0)?,
            large: rhythm(1)?,
            nats: super::peers::NATS_VERSION,
            redis: lab.programs.redis_version.clone(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores, shared by broker and client, and {} GiB of memory. A bare writer that syncs after every 64 KiB gets {} MiB/s (fdatasync p50 {} µs, \
             p99 {} µs), after every MiB {} MiB/s (p50 {} µs, p99 {} µs). nats-server {}, Redis {}.",
            self.cores,
            short(self.memory_gib.round()),
            short(self.small.mib_per_second),
            short(self.small.p50_us),
            short(self.small.p99_us),
            short(self.large.mib_per_second),
            short(self.large.p50_us),
            short(self.large.p99_us),
            self.nats,
            self.redis
        )
    }
}
