//! What is measured, and for how long: from the environment, with bounds.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};

/// What is measured.
pub(crate) struct Settings {
    /// Distinct profiles, a multiple of `connections`: so each profile is updated over one connection, in order.
    pub(crate) profiles: u64,
    /// Most updates of a phase.
    pub(crate) updates: u64,
    /// Longest time of a phase.
    pub(crate) phase: Duration,
    /// Connections of the load: updates under way at once.
    pub(crate) connections: u64,
    /// Exports in the queue that is drained.
    pub(crate) queue: u64,
    /// What is run.
    pub(crate) parts: Parts,
    /// Where the temporary directory is made, the store in it.
    pub(crate) directory: PathBuf,
    /// The appliance's binary.
    pub(crate) binary: PathBuf,
}

/// Parts of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parts {
    /// Updates, from end to end.
    Throughput,
    /// A full queue.
    Drain,
    /// Both.
    All,
}

impl Settings {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let path = |variable: &str, default: &str| std::env::var_os(variable).map_or(default.into(), PathBuf::from);
        let connections = number("POSTERN_BENCH_CONNECTIONS", 64, 1..=1024)?;
        let profiles = number("POSTERN_BENCH_PROFILES", 100_000, 1..=10_000_000)?;
        Ok(Self {
            profiles: profiles.next_multiple_of(connections),
            updates: number("POSTERN_BENCH_UPDATES", 1_000_000, 1..=100_000_000)?,
            phase: Duration::from_secs(number("POSTERN_BENCH_SECONDS", 15, 1..=3600)?),
            connections,
            queue: number("POSTERN_BENCH_QUEUE", 200_000, 1..=100_000_000)?,
            parts: parts()?,
            directory: path("POSTERN_BENCH_DIR", env!("CARGO_TARGET_TMPDIR")),
            binary: path("POSTERN_BENCH_BINARY", env!("CARGO_BIN_EXE_postern")),
        })
    }
}

fn parts() -> anyhow::Result<Parts> {
    match std::env::var("POSTERN_BENCH_PARTS").as_deref() {
        Err(_) | Ok("all") => Ok(Parts::All),
        Ok("throughput") => Ok(Parts::Throughput),
        Ok("drain") => Ok(Parts::Drain),
        Ok(other) => anyhow::bail!("POSTERN_BENCH_PARTS is `{other}`, take all, throughput or drain"),
    }
}

fn number(variable: &str, default: u64, range: RangeInclusive<u64>) -> anyhow::Result<u64> {
    let Ok(text) = std::env::var(variable) else { return Ok(default) };
    let number = text.parse().with_context(|| format!("{variable} is `{text}`, not a number"))?;
    ensure!(range.contains(&number), "{variable} is {number}, take {} to {}", range.start(), range.end());
    Ok(number)
}
