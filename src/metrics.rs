//! Every metric, named once.
//!
//! What is counted in the store is shown as it stands there, so a restart does not set it back; what is counted here
//! begins with the process.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{
    clock::Timestamp,
    destination::DestinationId,
    export::{Charge, Fault, Outcome},
    store::{Counters, Room},
};

const UPDATES: &str = "postern_updates_total";
const REFUSED: &str = "postern_updates_refused_total";
const EXPORTS: &str = "postern_exports";
const EXPORTS_TOTAL: &str = "postern_exports_total";
const OLDEST: &str = "postern_exports_oldest_seconds";
const POSTS: &str = "postern_posts_total";
const EXPORTS_OF_POST: &str = "postern_post_exports";
const LATENCY: &str = "postern_delivery_latency_seconds";
const STATE: &str = "postern_destination_held";
const PAUSED: &str = "postern_destination_paused";
const HOLD: &str = "postern_destination_hold_reason";
const GROUP_SIZE: &str = "postern_store_group_size";
const SYNC_TIME: &str = "postern_store_sync_seconds";
const LIVE_BYTES: &str = "postern_store_live_bytes";
const DISK_BYTES: &str = "postern_store_disk_bytes";
const PROFILES: &str = "postern_store_profiles";
const FREE_BYTES: &str = "postern_store_free_bytes";
const LIMIT_BYTES: &str = "postern_store_limit_bytes";
const INTAKE_OPEN: &str = "postern_store_intake_open";
const HEALTHY: &str = "postern_store_healthy";
const RECOVERIES: &str = "postern_store_recoveries_total";
const QUARANTINED: &str = "postern_store_quarantined_total";
const CERTIFICATE: &str = "postern_certificate_info";
const CERTIFICATE_END: &str = "postern_certificate_not_after_seconds";
const CERTIFICATE_DAYS: &str = "postern_certificate_days_left";
const CERTIFICATE_DIFFERS: &str = "postern_certificate_differs";
const CERTIFICATE_REFUSED: &str = "postern_certificate_refused";
const CLOCK_TRUSTED: &str = "postern_clock_trusted";
const AUDIT: &str = "postern_audit_difference";

/// Latencies of interest reach from below a millisecond to an outage of an hour.
const SECONDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 600.0, 3600.0];
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
const BATCHES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

/// Collects metrics for the whole process from now on; the handle writes them out for Prometheus.
///
/// # Errors
/// When something collects already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(LATENCY.to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Full(SYNC_TIME.to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Full(GROUP_SIZE.to_owned()), SIZES)?
        .set_buckets_for_metric(Matcher::Full(EXPORTS_OF_POST.to_owned()), BATCHES)?
        .install_recorder()?;
    describe_counter!(UPDATES, "Updates accepted, by result: applied, unchanged");
    describe_counter!(REFUSED, "Updates refused, by inlet and reason");
    describe_gauge!(EXPORTS, "Exports by destination and state: waiting, dead");
    describe_counter!(
        EXPORTS_TOTAL,
        "Exports by destination and what became of them: made, delivered, dead, damaged, dropped, redriven, moot, skipped"
    );
    describe_gauge!(OLDEST, Unit::Seconds, "Age of the oldest waiting export, by destination");
    describe_counter!(POSTS, "POSTs by destination, outcome and charge: attempt, trial");
    describe_histogram!(EXPORTS_OF_POST, "Exports in a POST, by destination, where they go together");
    describe_histogram!(LATENCY, Unit::Seconds, "From an update's acceptance to the delivery of its export");
    describe_gauge!(STATE, "1 while a destination is held");
    describe_gauge!(PAUSED, "1 while a person wishes that nothing is sent to a destination");
    describe_gauge!(HOLD, "1 for the reason for which a destination is held");
    describe_histogram!(GROUP_SIZE, "Commands behind one sync of the store");
    describe_histogram!(SYNC_TIME, Unit::Seconds, "Time of a flush and sync of the store");
    describe_gauge!(LIVE_BYTES, Unit::Bytes, "Bytes of all records in the store");
    describe_gauge!(DISK_BYTES, Unit::Bytes, "Bytes of the store's files");
    describe_gauge!(PROFILES, "Profiles in the store");
    describe_gauge!(FREE_BYTES, Unit::Bytes, "Free bytes of the store's file system");
    describe_gauge!(LIMIT_BYTES, Unit::Bytes, "Limits: soft and hard of live bytes, free_min of free bytes");
    describe_gauge!(INTAKE_OPEN, "0 while updates are refused because the store or its disk is full");
    describe_gauge!(HEALTHY, "0 while the store has failed and is not mended");
    describe_counter!(RECOVERIES, "Failures of the store that were mended, by how: reopened, rebuilt");
    describe_counter!(QUARANTINED, "Records that failed their checksum and were put aside");
    describe_gauge!(
        CERTIFICATE,
        "1 for our certificate's fingerprint, by destination and role: on_file, in_use, accepted"
    );
    describe_gauge!(CERTIFICATE_END, Unit::Seconds, "Unix time at which our certificate ends, by destination and role");
    describe_gauge!(CERTIFICATE_DAYS, "Days until our certificate ends, by destination and role");
    describe_gauge!(CERTIFICATE_DIFFERS, "1 while our certificate on file is not the one in use, or cannot be used");
    describe_gauge!(CERTIFICATE_REFUSED, "1 while a receiver refuses our newest certificate and gets the one before");
    describe_gauge!(CLOCK_TRUSTED, "0 while the clock tells a time before one that is known to be over");
    describe_gauge!(AUDIT, "What does not add up, by what was compared: counters, records");
    Ok(handle)
}

pub(crate) fn refused(inlet: &str, reason: &'static str) {
    counter!(REFUSED, "inlet" => inlet.to_owned(), "reason" => reason).increment(1);
}

pub(crate) fn post(destination: &DestinationId, outcome: &Outcome, charge: Charge) {
    let charge = match charge {
        Charge::Attempt => "attempt",
        Charge::Trial => "trial",
    };
    let destination = destination.as_str().to_owned();
    counter!(POSTS, "destination" => destination, "outcome" => outcome.to_string(), "charge" => charge).increment(1);
}

pub(crate) fn exports_of_post(destination: &DestinationId, exports: usize) {
    histogram!(EXPORTS_OF_POST, "destination" => destination.as_str().to_owned()).record(exports as f64);
}

pub(crate) fn delivered(destination: &DestinationId, latencies: impl Iterator<Item = Duration>) {
    let histogram = histogram!(LATENCY, "destination" => destination.as_str().to_owned());
    latencies.for_each(|latency| histogram.record(latency));
}

pub(crate) fn destination_state(destination: &DestinationId, held: Option<&Fault>, paused: bool) {
    let destination = destination.as_str().to_owned();
    gauge!(PAUSED, "destination" => destination.clone()).set(if paused { 1.0 } else { 0.0 });
    gauge!(STATE, "destination" => destination.clone()).set(if held.is_some() { 1.0 } else { 0.0 });
    if let Some(fault) = held {
        gauge!(HOLD, "destination" => destination, "reason" => fault.to_string()).set(1.0);
    }
}

pub(crate) fn hold_ended(destination: &DestinationId, fault: &Fault) {
    gauge!(HOLD, "destination" => destination.as_str().to_owned(), "reason" => fault.to_string()).set(0.0);
}

pub(crate) fn group_size(commands: usize) {
    histogram!(GROUP_SIZE).record(commands as f64);
}

pub(crate) fn sync_time(took: Duration) {
    histogram!(SYNC_TIME).record(took);
}

pub(crate) fn recovered(how: &'static str) {
    counter!(RECOVERIES, "how" => how).increment(1);
}

/// Shows how full the store is, and whether it works.
pub(crate) fn show_room(room: &Room, healthy: bool) {
    let Room { open, live_bytes, free_bytes, limits: [soft, hard, free_min] } = *room;
    gauge!(LIVE_BYTES).set(live_bytes as f64);
    gauge!(FREE_BYTES).set(free_bytes as f64);
    for (limit, bytes) in [("soft", soft), ("hard", hard), ("free_min", free_min)] {
        gauge!(LIMIT_BYTES, "limit" => limit).set(bytes as f64);
    }
    gauge!(INTAKE_OPEN).set(if open { 1.0 } else { 0.0 });
    gauge!(HEALTHY).set(if healthy { 1.0 } else { 0.0 });
}

/// Shows how much was found not to add up.
pub(crate) fn audit(compared: &'static str, differences: usize) {
    gauge!(AUDIT, "compared" => compared).set(differences as f64);
}

/// Shows what the store has counted.
pub(crate) fn show_store(counters: &Counters, disk_bytes: u64) {
    let Counters { profiles, applied, unchanged, quarantined, destinations, .. } = counters;
    audit("counters", counters.differences().len());
    gauge!(PROFILES).set(*profiles as f64);
    counter!(UPDATES, "result" => "applied").absolute(*applied);
    counter!(UPDATES, "result" => "unchanged").absolute(*unchanged);
    counter!(QUARANTINED).absolute(*quarantined);
    gauge!(DISK_BYTES).set(disk_bytes as f64);
    for (destination, counted) in destinations {
        let total = |result: &'static str, count: u64| {
            counter!(EXPORTS_TOTAL, "destination" => destination.as_str().to_owned(), "result" => result)
                .absolute(count);
        };
        total("made", counted.made);
        total("delivered", counted.delivered);
        total("dead", counted.died);
        total("damaged", counted.damaged);
        total("dropped", counted.dropped);
        total("redriven", counted.redriven);
        total("moot", counted.moot);
        total("skipped", counted.skipped);
        let state = |state: &'static str, count: u64| {
            gauge!(EXPORTS, "destination" => destination.as_str().to_owned(), "state" => state).set(count as f64);
        };
        state("waiting", counted.waiting);
        state("dead", counted.dead);
    }
}

pub(crate) fn oldest_waiting(destination: &DestinationId, age: Duration) {
    gauge!(OLDEST, "destination" => destination.as_str().to_owned()).set(age.as_secs_f64());
}

/// Whether a certificate of ours has a role now.
pub(crate) fn certificate(destination: &DestinationId, role: &'static str, fingerprint: String, has: bool) {
    let destination = destination.as_str().to_owned();
    gauge!(CERTIFICATE, "destination" => destination, "role" => role, "fingerprint" => fingerprint).set(if has {
        1.0
    } else {
        0.0
    });
}

/// When a certificate of ours ends, if there is one, and in how many days, if anybody can tell. NaN says nothing, and
/// compares with nothing.
pub(crate) fn certificate_end(
    destination: &DestinationId,
    role: &'static str,
    end: Option<Timestamp>,
    now: Option<Timestamp>,
) {
    let destination = destination.as_str().to_owned();
    let seconds = end.map_or(f64::NAN, |end| end.as_millis() as f64 / 1000.0);
    let days = end.zip(now).map_or(f64::NAN, |(end, now)| end.days_after(now) as f64);
    gauge!(CERTIFICATE_END, "destination" => destination.clone(), "role" => role).set(seconds);
    gauge!(CERTIFICATE_DAYS, "destination" => destination, "role" => role).set(days);
}

pub(crate) fn certificates_differ(destination: &DestinationId, differ: bool, refused: bool) {
    let destination = destination.as_str().to_owned();
    gauge!(CERTIFICATE_DIFFERS, "destination" => destination.clone()).set(if differ { 1.0 } else { 0.0 });
    gauge!(CERTIFICATE_REFUSED, "destination" => destination).set(if refused { 1.0 } else { 0.0 });
}

pub(crate) fn clock_trusted(trusted: bool) {
    gauge!(CLOCK_TRUSTED).set(if trusted { 1.0 } else { 0.0 });
}
