//! Delivery alone: a full queue is drained, one export a request and a hundred, beside the bare sender.
//!
//! The queue is filled while the destination is paused, by an appliance of its own each time. What counts is what the
//! receiver sees, from the first request to the last.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;
use postern::tls::ClientTlsFiles;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    appliance::Appliance,
    bare,
    child::Child,
    load, machine,
    receiver::Receiver,
    run::{CHILD_GRACE, DRAIN_MAX, LOOK_PAUSE},
    settings::Settings,
};

/// Exports in a request, where they go together.
const TOGETHER: usize = 100;
/// Filling may take so long.
const FILL_MAX: Duration = Duration::from_secs(3600);
/// For the bare sender.
const BARE: Duration = Duration::from_secs(5);

/// How a queue was drained.
#[derive(Serialize)]
struct Drained {
    exports: u64,
    requests: u64,
    exports_per_s: f64,
    /// Until all was settled, from the moment at which the destination was resumed.
    settled_s: f64,
    /// CPU seconds for 10 000 exports.
    cpu_s_per_10k: f64,
    by_thread_s_per_10k: BTreeMap<String, f64>,
    receiver_cpu_s_per_10k: f64,
    group_size: f64,
    sync_ms: f64,
}

/// What the bare sender was like.
#[derive(Serialize)]
struct Bare {
    delivered_per_s: f64,
    /// Its CPU seconds and the receiver's for 10 000 requests.
    cpu_s_per_10k: f64,
}

/// Drains one queue after the other.
pub(crate) fn run(
    settings: &Settings,
    directory: &Path,
    mut receiver: Receiver,
    tls: &ClientTlsFiles,
) -> anyhow::Result<Value> {
    println!("\na full queue of {} exports, drained", settings.queue);
    let mut first = 0;
    let single = drain(settings, directory, &mut receiver, tls, &mut first, "")?;
    single.print("one a request");
    let bodies = receiver.samples()?;
    let bare_before = Bare::send(&mut receiver, bodies.clone(), tls)?;
    let batch = format!("batch = {{ max_exports = {TOGETHER} }}");
    let together = drain(settings, directory, &mut receiver, tls, &mut first, &batch)?;
    together.print("a hundred a request");
    let bare_after = Bare::send(&mut receiver, bodies, tls)?;
    println!(
        "  bare sender        {:.0}/s between them, {:.0}/s behind",
        bare_before.delivered_per_s, bare_after.delivered_per_s
    );
    // The machine is not the same from one moment to the next.
    let bare = f64::midpoint(bare_before.delivered_per_s, bare_after.delivered_per_s);
    let bare_cpu = f64::midpoint(bare_before.cpu_s_per_10k, bare_after.cpu_s_per_10k);
    let ratios = [&single, &together].map(|drained| {
        let Drained { exports_per_s, cpu_s_per_10k, receiver_cpu_s_per_10k, .. } = drained;
        [exports_per_s / bare, bare_cpu / (cpu_s_per_10k + receiver_cpu_s_per_10k)]
    });
    let [[of_single, single_by_cpu], [of_together, together_by_cpu]] = ratios;
    println!("  ratio              {of_single:.3} one a request; {of_together:.3} a hundred a request");
    println!("  by CPU time        {single_by_cpu:.3} one a request; {together_by_cpu:.3} a hundred a request");
    Ok(json!({
        "single": single, "together": together, "bare": [bare_before, bare_after], "ratio_single": ratios[0],
        "ratio_together": ratios[1],
    }))
}

fn drain(
    settings: &Settings,
    directory: &Path,
    receiver: &mut Receiver,
    tls: &ClientTlsFiles,
    first: &mut u64,
    batch: &str,
) -> anyhow::Result<Drained> {
    let directory = directory.join(format!("drain-{first}"));
    fs::create_dir(&directory)?;
    let appliance = Appliance::start(&settings.binary, &directory, &receiver.endpoint(), tls, batch)?;
    appliance.tell_destination("pause")?;
    receiver.begin()?;
    let order = load::Order {
        inlets: appliance.inlets(),
        connections: settings.connections,
        profiles: settings.queue.next_multiple_of(settings.connections),
        first: *first,
        updates: settings.queue,
        phase: FILL_MAX,
        pace: None,
    };
    let filled: load::Report = Child::start(load::ROLE, &order)?.hear(FILL_MAX + CHILD_GRACE)?;
    *first = filled.next;

    let (process, cpu) = (appliance.process(), machine::cpu_seconds(appliance.process())?);
    let (by_thread, receiver_cpu) =
        (machine::cpu_seconds_by_thread(process)?, machine::cpu_seconds(receiver.process())?);
    let (metrics, begun) = (appliance.metrics()?, Instant::now());
    appliance.tell_destination("resume")?;
    while receiver.count()? < filled.accepted {
        ensure!(begun.elapsed() < DRAIN_MAX, "the queue is not drained {DRAIN_MAX:?} later");
        std::thread::sleep(LOOK_PAUSE);
    }
    while appliance.metrics()?.sum(&["postern_exports{", "waiting"]) > 0.0 {
        ensure!(begun.elapsed() < DRAIN_MAX, "deliveries are not settled {DRAIN_MAX:?} later");
        std::thread::sleep(LOOK_PAUSE);
    }
    let settled_s = begun.elapsed().as_secs_f64();
    let (after, arrived) = (appliance.metrics()?, receiver.report()?);
    let per_10k = 1e4 / filled.accepted as f64;
    let threads = machine::cpu_seconds_by_thread(process)?.into_iter().map(|(thread, seconds)| {
        let before = by_thread.get(&thread).copied().unwrap_or_default();
        (thread, (seconds - before) * per_10k)
    });
    let drained = Drained {
        exports: arrived.distinct,
        requests: arrived.requests,
        exports_per_s: arrived.distinct as f64 / (arrived.last_micros - arrived.first_micros).max(1) as f64 * 1e6,
        settled_s,
        by_thread_s_per_10k: threads.filter(|(_, seconds)| *seconds > 0.0).collect(),
        cpu_s_per_10k: (machine::cpu_seconds(process)? - cpu) * per_10k,
        receiver_cpu_s_per_10k: (machine::cpu_seconds(receiver.process())? - receiver_cpu) * per_10k,
        group_size: after.mean_since(&metrics, "postern_store_group_size").1,
        sync_ms: after.mean_since(&metrics, "postern_store_sync_seconds").1 * 1000.0,
    };
    ensure!(
        (arrived.distinct, arrived.repeats, arrived.out_of_order, arrived.foreign) == (filled.accepted, 0, 0, 0),
        "of {} exports {} arrived, {} twice, {} behind a younger one; {} requests of another shape",
        filled.accepted,
        arrived.distinct,
        arrived.repeats,
        arrived.out_of_order,
        arrived.foreign
    );
    appliance.stop()?;
    fs::remove_dir_all(directory)?;
    Ok(drained)
}

impl Bare {
    fn send(receiver: &mut Receiver, bodies: Vec<String>, tls: &ClientTlsFiles) -> anyhow::Result<Self> {
        receiver.begin()?;
        let before = machine::cpu_seconds(receiver.process())?;
        let order = bare::Order { endpoint: receiver.endpoint(), tls: bare::Files::of(tls)?, phase: BARE, bodies };
        let sent: bare::Report = Child::start(bare::ROLE, &order)?.hear(BARE + CHILD_GRACE)?;
        let cpu = sent.cpu_seconds + machine::cpu_seconds(receiver.process())? - before;
        let delivered_per_s = sent.delivered as f64 / sent.seconds;
        Ok(Self { delivered_per_s, cpu_s_per_10k: cpu * 1e4 / sent.delivered.max(1) as f64 })
    }
}

impl Drained {
    fn print(&self, how: &str) {
        let threads = self.by_thread_s_per_10k.iter().map(|(thread, seconds)| format!("{thread} {seconds:.3}"));
        println!(
            "  {how:<18} {:.0} exports/s in {} requests; all settled after {:.2} s",
            self.exports_per_s, self.requests, self.settled_s
        );
        println!(
            "    appliance's CPU  {:.3} s a 10 000: {}",
            self.cpu_s_per_10k,
            threads.collect::<Vec<_>>().join(", ")
        );
        println!(
            "    others           receiver {:.3} s a 10 000; {:.1} commands a sync, {:.2} ms a flush and sync",
            self.receiver_cpu_s_per_10k, self.group_size, self.sync_ms
        );
    }
}
