//! The runner: starts all, takes one phase after the other, checks that everything adds up, and prints.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use postern::{
    clock::Clock,
    tls::issue::{Authority, Period},
};
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    appliance::{self, Appliance},
    bare,
    child::Child,
    drain,
    figures::{Metrics, Percentiles},
    load, machine,
    receiver::{self, Receiver},
    settings::{Parts, Settings},
};

/// How long what was accepted may take to be delivered and settled once the load has ended: one retry fits.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(120);
/// The wait between two looks at something that ends soon.
pub(crate) const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// How much longer than its phase a child may take: connecting, last answers, sorting.
pub(crate) const CHILD_GRACE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn run() -> anyhow::Result<()> {
    let settings = Settings::read()?;
    let directory = TempDir::with_prefix_in("throughput-", &settings.directory)
        .with_context(|| format!("cannot make a directory in {}", settings.directory.display()))?;
    let (machine, kernel) = (machine::processor(), machine::kernel());
    let file_system = machine::file_system(directory.path());
    println!("machine      {machine}, Linux {kernel}, load average {:.2} before", machine::busy());
    println!("file system  {file_system}");
    if file_system.starts_with("tmpfs") {
        println!(
            "             this is memory: syncing costs nothing here; set POSTERN_BENCH_DIR to a directory on a disk"
        );
    }
    println!(
        "settings     {} profiles, {} connections, phases of at most {} updates and {:?}",
        settings.profiles, settings.connections, settings.updates, settings.phase
    );

    let now = Clock::system().now();
    let period = Period { from: now - DAY, until: now + DAY };
    let authority = Authority::new("Benchmark authority", period)?;
    let server = authority.server(&["127.0.0.1"], period)?;
    let client = authority.client("Benchmark client", period)?;
    let tls = appliance::write_tls(directory.path(), &client, &authority.certificate_pem())?;
    let receiver = Receiver::start(&receiver::Order {
        certificate_pem: server.certificate_pem,
        key_pem: server.key_pem,
        clients_pem: authority.certificate_pem(),
        profiles: settings.profiles,
    })?;
    if settings.parts == Parts::Drain {
        println!("\n{}", drain::run(&settings, directory.path(), receiver, &tls)?);
        return Ok(());
    }
    let appliance = Appliance::start(&settings.binary, directory.path(), &receiver.endpoint(), &tls, "")?;
    let mut bench = Bench { settings, receiver, appliance, next: 0, accepted: 0 };

    let (profiles, updates, phase) = (bench.settings.profiles, bench.settings.updates, bench.settings.phase);
    // However slow the machine: profiles that are left over come in the next phase, as new ones.
    let new = bench.phase("new profiles, as fast as answered", profiles, phase * 4, None)?;
    let full = bench.phase("known profiles, as fast as answered", updates, phase, None)?;
    let bodies = bench.receiver.samples()?;
    // Right behind what it is compared with; the appliance has nothing to do meanwhile.
    let bare = bench.bare(bodies, bare::Files::of(&tls)?)?;
    let half = bench.phase("known profiles, at half that rate", updates, phase, Some(full.end_to_end_per_s / 2.0))?;
    let (memory_mib, disk_mib) = (machine::peak_memory_mib(bench.appliance.process())?, bench.appliance.disk_mib());
    bench.check(&[&new, &full, &half])?;
    let Bench { appliance, settings, accepted, receiver, .. } = bench;
    appliance.stop()?;

    let ratio = full.end_to_end_per_s / bare.delivered_per_s;
    let ratio_by_cpu = bare.all_cpu_s_per_10k() / full.all_cpu_s_per_10k();
    println!("\nin short");
    println!("  end to end         {:.0}/s; the bare sender {:.0}/s", full.end_to_end_per_s, bare.delivered_per_s);
    println!("  ratio              {ratio:.3}; by CPU time {ratio_by_cpu:.3}");
    println!("  delivery at half   {}", half.delivery);
    println!("  memory at most     {memory_mib:.0} MiB resident; files of the store {disk_mib:.0} MiB");
    println!("  adds up            {accepted} updates accepted = exports made = delivered; none waiting, none dead");
    let drained = match settings.parts {
        Parts::All => Some(drain::run(&settings, directory.path(), receiver, &tls)?),
        Parts::Throughput | Parts::Drain => None,
    };
    let settings = json!({
        "profiles": settings.profiles, "connections": settings.connections,
        "updates": settings.updates, "seconds": settings.phase.as_secs(),
    });
    let line = json!({
        "machine": machine, "kernel": kernel, "file_system": file_system, "settings": settings,
        "new": new, "full": full, "half": half, "bare": bare, "accepted": accepted,
        "ratio": ratio, "ratio_by_cpu": ratio_by_cpu, "memory_mib": memory_mib, "disk_mib": disk_mib, "drained": drained,
    });
    println!("\n{line}");
    Ok(())
}

struct Bench {
    settings: Settings,
    receiver: Receiver,
    appliance: Appliance,
    /// The number of the next update.
    next: u64,
    accepted: u64,
}

/// What a phase was like.
#[derive(Serialize)]
struct Phase {
    accepted: u64,
    repeats: u64,
    out_of_order: u64,
    foreign: u64,
    accepted_per_s: f64,
    /// While the load ran.
    delivered_per_s: f64,
    /// From the first update begun to the last export delivered.
    end_to_end_per_s: f64,
    /// From the load's end until all was delivered and settled.
    drain_s: f64,
    answer: Percentiles,
    delivery: Percentiles,
    /// CPU seconds a 10 000 updates.
    cpu_s_per_10k: f64,
    cpu_by_thread_s_per_10k: BTreeMap<String, f64>,
    load_cpu_s_per_10k: f64,
    receiver_cpu_s_per_10k: f64,
    /// Commands behind one sync of the store, in the mean.
    group_size: f64,
    sync_ms: f64,
    syncs_per_s: f64,
    /// Cores that were busy with something else.
    others_cores: f64,
}

/// What the bare sender was like.
#[derive(Serialize)]
struct Bare {
    delivered_per_s: f64,
    cpu_s_per_10k: f64,
    receiver_cpu_s_per_10k: f64,
    others_cores: f64,
}

/// How a moment looks from outside.
struct Look {
    at: Instant,
    cpu: f64,
    by_thread: BTreeMap<String, f64>,
    receiver_cpu: f64,
    all_cpu: f64,
    metrics: Metrics,
}

impl Bench {
    fn phase(&mut self, name: &str, updates: u64, phase: Duration, pace: Option<f64>) -> anyhow::Result<Phase> {
        self.receiver.begin()?;
        let before = self.look()?;
        let order = load::Order {
            inlets: self.appliance.inlets(),
            connections: self.settings.connections,
            profiles: self.settings.profiles,
            first: self.next,
            updates,
            phase,
            pace,
        };
        let loaded: load::Report = Child::start(load::ROLE, &order)?.hear(phase + CHILD_GRACE)?;
        let delivered_meanwhile = self.receiver.count()?;
        let ended = Instant::now();
        self.drain(loaded.accepted)?;
        let after = self.look()?;
        let arrived = self.receiver.report()?;
        self.next = loaded.next;
        self.accepted += loaded.accepted;

        let end_to_end = arrived.last_micros.saturating_sub(loaded.begun_micros) as f64 / 1e6;
        let per_10k = 1e4 / loaded.accepted.max(1) as f64;
        let (syncs, sync_s) = after.metrics.mean_since(&before.metrics, "postern_store_sync_seconds");
        let by_thread = after.by_thread.iter().map(|(thread, seconds)| {
            (thread.clone(), (seconds - before.by_thread.get(thread).copied().unwrap_or_default()) * per_10k)
        });
        let (cpu, receiver_cpu) = (after.cpu - before.cpu, after.receiver_cpu - before.receiver_cpu);
        let result = Phase {
            accepted: loaded.accepted,
            repeats: arrived.repeats,
            out_of_order: arrived.out_of_order,
            foreign: arrived.foreign,
            accepted_per_s: loaded.accepted as f64 / loaded.seconds,
            delivered_per_s: delivered_meanwhile as f64 / loaded.seconds,
            end_to_end_per_s: arrived.distinct as f64 / end_to_end,
            drain_s: (after.at - ended).as_secs_f64(),
            answer: loaded.answer,
            delivery: arrived.latency,
            cpu_s_per_10k: cpu * per_10k,
            cpu_by_thread_s_per_10k: by_thread.filter(|(_, seconds)| *seconds > 0.0).collect(),
            load_cpu_s_per_10k: loaded.cpu_seconds * per_10k,
            receiver_cpu_s_per_10k: receiver_cpu * per_10k,
            group_size: after.metrics.mean_since(&before.metrics, "postern_store_group_size").1,
            sync_ms: sync_s * 1000.0,
            syncs_per_s: syncs / (after.at - before.at).as_secs_f64(),
            others_cores: before.others_cores(&after, cpu + receiver_cpu + loaded.cpu_seconds),
        };
        result.print(name, &loaded, arrived.mean_bytes);
        Ok(result)
    }

    /// The bare sender: the same bodies by the same client, from memory.
    fn bare(&mut self, bodies: Vec<String>, tls: bare::Files) -> anyhow::Result<Bare> {
        let phase = self.settings.phase;
        self.receiver.begin()?;
        let before = self.look()?;
        let order = bare::Order { endpoint: self.receiver.endpoint(), tls, phase, bodies };
        let sent: bare::Report = Child::start(bare::ROLE, &order)?.hear(phase + CHILD_GRACE)?;
        let after = self.look()?;
        let per_10k = 1e4 / sent.delivered.max(1) as f64;
        let receiver_cpu = after.receiver_cpu - before.receiver_cpu;
        let result = Bare {
            delivered_per_s: sent.delivered as f64 / sent.seconds,
            cpu_s_per_10k: sent.cpu_seconds * per_10k,
            receiver_cpu_s_per_10k: receiver_cpu * per_10k,
            others_cores: before.others_cores(&after, sent.cpu_seconds + receiver_cpu + after.cpu - before.cpu),
        };
        let bytes = self.receiver.report()?.mean_bytes;
        println!("\nbare sender: {} of the same bodies ({bytes:.0} bytes) in {:.1} s", sent.delivered, sent.seconds);
        println!("  delivered          {:.0}/s", result.delivered_per_s);
        println!(
            "  CPU                sender {:.2} s, receiver {:.2} s a 10 000",
            result.cpu_s_per_10k, result.receiver_cpu_s_per_10k
        );
        println!("  rest of machine    {:.2} cores busy", result.others_cores);
        Ok(result)
    }

    fn look(&self) -> anyhow::Result<Look> {
        let process = self.appliance.process();
        Ok(Look {
            at: Instant::now(),
            cpu: machine::cpu_seconds(process)?,
            by_thread: machine::cpu_seconds_by_thread(process)?,
            receiver_cpu: machine::cpu_seconds(self.receiver.process())?,
            all_cpu: machine::cpu_seconds_of_all()?,
            metrics: self.appliance.metrics()?,
        })
    }

    /// Waits until so many updates have been delivered in this phase, and are settled.
    fn drain(&mut self, accepted: u64) -> anyhow::Result<()> {
        let until = Instant::now() + DRAIN_MAX;
        loop {
            let delivered = self.receiver.count()?;
            // Arrived first, then settled: asking for metrics takes the appliance's time.
            if delivered >= accepted && self.appliance.metrics()?.sum(&["postern_exports{", "waiting"]) == 0.0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "of {accepted} updates accepted {delivered} were delivered {DRAIN_MAX:?} after the load"
            );
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// Everything adds up, here and in the appliance's own counters.
    fn check(&self, phases: &[&Phase]) -> anyhow::Result<()> {
        let metrics = self.appliance.metrics()?;
        let total = |result: &str| metrics.sum(&["postern_exports_total{", &format!("result=\"{result}\"")]);
        let (made, delivered, dead) = (total("made"), total("delivered"), total("dead"));
        let waiting = metrics.sum(&["postern_exports{", "state=\"waiting\""]);
        let applied = metrics.sum(&["postern_updates_total{", "result=\"applied\""]);
        let accepted = self.accepted as f64;
        ensure!(
            applied == accepted && made == accepted && delivered == accepted && waiting == 0.0 && dead == 0.0,
            "{accepted} updates accepted, {applied} applied; exports: {made} made, {delivered} delivered, {waiting} waiting, {dead} dead"
        );
        for phase in phases {
            let Phase { repeats, out_of_order, foreign, .. } = phase;
            ensure!(
                (*repeats, *out_of_order, *foreign) == (0, 0, 0),
                "exports that came twice: {repeats}, behind a younger one: {out_of_order}, of another shape: {foreign}"
            );
        }
        Ok(())
    }
}

impl Look {
    /// Cores that were busy until `after` with anything but what used so many CPU seconds.
    fn others_cores(&self, after: &Self, ours: f64) -> f64 {
        (after.all_cpu - self.all_cpu - ours).max(0.0) / (after.at - self.at).as_secs_f64()
    }
}

impl Bare {
    fn all_cpu_s_per_10k(&self) -> f64 {
        self.cpu_s_per_10k + self.receiver_cpu_s_per_10k
    }
}

impl Phase {
    fn all_cpu_s_per_10k(&self) -> f64 {
        self.cpu_s_per_10k + self.load_cpu_s_per_10k + self.receiver_cpu_s_per_10k
    }

    fn print(&self, name: &str, loaded: &load::Report, mean_bytes: f64) {
        println!("\n{name}: {} updates in {:.1} s, exports of {mean_bytes:.0} bytes", self.accepted, loaded.seconds);
        println!("  accepted           {:.0}/s   ({} answers 503)", self.accepted_per_s, loaded.busy);
        println!(
            "  delivered          {:.0}/s while the load ran; all delivered and settled {:.2} s later",
            self.delivered_per_s, self.drain_s
        );
        println!("  end to end         {:.0}/s", self.end_to_end_per_s);
        println!("  update to answer   {}", self.answer);
        println!("  update to delivery {}", self.delivery);
        let threads = self.cpu_by_thread_s_per_10k.iter().map(|(thread, seconds)| format!("{thread} {seconds:.2}"));
        println!(
            "  appliance's CPU    {:.2} s a 10 000: {}",
            self.cpu_s_per_10k,
            threads.collect::<Vec<_>>().join(", ")
        );
        println!(
            "  others' CPU        load {:.2} s, receiver {:.2} s a 10 000",
            self.load_cpu_s_per_10k, self.receiver_cpu_s_per_10k
        );
        println!(
            "  store              {:.1} commands a sync, {:.2} ms a flush and sync, {:.0} syncs/s",
            self.group_size, self.sync_ms, self.syncs_per_s
        );
        println!("  rest of machine    {:.2} cores busy", self.others_cores);
    }
}
