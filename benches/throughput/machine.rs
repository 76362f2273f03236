//! The machine underneath, and what a process has used of it, as Linux tells.

use std::{collections::BTreeMap, fs, path::Path, time::UNIX_EPOCH};

use anyhow::Context;

/// Ticks of `/proc/PID/stat` in a second: Linux shows 100 to programs on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Microseconds since 1970. Processes of one machine share this clock, which their `Instant`s do not promise.
#[expect(clippy::disallowed_methods, reason = "an instant that one process writes down and another one reads")]
pub(crate) fn now_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_micros()).expect("the year is before 500,000")
}

/// Cores and model.
pub(crate) fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, {}", model.map_or("model unknown", |(_, model)| model))
}

/// The kernel's release.
pub(crate) fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// How busy the machine is already: the load average of the last minute.
pub(crate) fn busy() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

/// The kind of file system that a directory is on.
pub(crate) fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let directory = directory.canonicalize().unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let around = fields.filter(|mount| mount.len() > 2 && directory.starts_with(mount[1]));
    around
        .max_by_key(|mount| mount[1].len())
        .map_or("unknown".to_owned(), |mount| format!("{} on {}", mount[2], mount[0]))
}

/// CPU seconds that all processes of the machine have used since it was started, its host's share of them included.
pub(crate) fn cpu_seconds_of_all() -> anyhow::Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu  ")).context("no cpu line in /proc/stat")?;
    let ticks = line.split(' ').map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?;
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user already.
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|field| ticks.get(*field));
    Ok(busy.sum::<f64>() / TICKS_PER_SECOND)
}

/// CPU seconds that a process has used, in user and in kernel mode.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    cpu(Path::new(&format!("/proc/{process}/stat"))).map(|(_, seconds)| seconds)
}

/// CPU seconds by the names of a process's threads.
pub(crate) fn cpu_seconds_by_thread(process: u32) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut threads = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may have ended since it was listed.
        let Ok((name, seconds)) = cpu(&thread?.path().join("stat")) else { continue };
        *threads.entry(name).or_default() += seconds;
    }
    Ok(threads)
}

fn cpu(stat: &Path) -> anyhow::Result<(String, f64)> {
    let text = fs::read_to_string(stat).with_context(|| format!("cannot read {}", stat.display()))?;
    let (before, fields) = text.rsplit_once(") ").context("no name in stat")?;
    let (_, name) = before.split_once('(').context("no name in stat")?;
    let mut fields = fields.split(' ').skip(11).map(str::parse::<f64>);
    let (user, kernel) = (fields.next().context("no utime")??, fields.next().context("no stime")??);
    Ok((name.to_owned(), (user + kernel) / TICKS_PER_SECOND))
}

/// Most memory that a process ever had resident, in MiB.
pub(crate) fn peak_memory_mib(process: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
