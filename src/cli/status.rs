//! `postern status`: the appliance on one screen.

use std::time::Duration;

use clap::Args;
use indicatif::{HumanBytes, HumanCount};
use serde_json::json;

use super::{
    Failure, Output, backfill,
    client::{NONE as NO_PARAMETERS, Reach},
    destination, print,
    text::{Table, ago, bad, good, long, watch},
};
use crate::admin::status::{Status, StoreFigures, Updates};

#[derive(Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

pub(super) fn status(StatusArguments { reach, output }: StatusArguments) -> Result<(), Failure> {
    let status: Status = reach.get("/v1/status", NO_PARAMETERS)?;
    match output.json {
        true => print(&json!(status)),
        false => screen(&status),
    }
}

fn screen(status: &Status) -> Result<(), Failure> {
    let Status { version, pid, started_at, loaded_at, config_file, ready, not_ready, missing, .. } = status;
    let word = if *ready { good("ready").paint() } else { bad("not ready").paint() };
    print(&format_args!(
        "postern {version}  {word}  pid {pid}, up {}, {config_file} loaded {} ago",
        ago(started_at),
        ago(loaded_at)
    ))?;
    for sentence in not_ready.iter().chain(missing).chain(&status.clock.why_not) {
        print(&format_args!("          {}", watch(sentence).paint()))?;
    }
    match status.updates {
        Some(Updates { accepted, applied, unchanged }) => {
            let [accepted, applied, unchanged] = [accepted, applied, unchanged].map(HumanCount);
            print(&format_args!("updates   {accepted} accepted: {applied} applied, {unchanged} unchanged"))?;
        }
        None => print(&"updates   cannot be counted while the store is mended")?,
    }
    let StoreFigures { profiles, live_bytes, hard_limit_bytes, free_bytes, quarantined, .. } = &status.store;
    let [live, hard, free] = [*live_bytes, *hard_limit_bytes, *free_bytes].map(HumanBytes);
    let profiles = HumanCount(profiles.unwrap_or_default());
    print(&format_args!("store     {profiles} profiles, {live} live of at most {hard}, {free} free on disk"))?;
    if let Some(count) = quarantined.filter(|count| *count > 0) {
        print(&format_args!("          {}", bad(format_args!("{count} damaged records are in quarantine")).paint()))?;
    }
    let counted = || status.destinations.iter().filter_map(|destination| destination.counted);
    let (waiting, dead) = (counted().map(|counted| counted.waiting).sum(), counted().map(|counted| counted.dead).sum());
    let oldest = status.destinations.iter().filter_map(|destination| destination.oldest_seconds).reduce(f64::max);
    let oldest = oldest.map(|age| format!(", the oldest since {}", long(Duration::from_secs_f64(age))));
    print(&format_args!(
        "exports   {} waiting{}; {} dead letters",
        HumanCount(waiting),
        oldest.unwrap_or_default(),
        HumanCount(dead)
    ))?;
    for gone in &status.unconfigured {
        let (name, waiting) = (&gone.name, HumanCount(gone.waiting));
        print(&format_args!(
            "          {}",
            watch(format_args!("{waiting} wait for {name}, which is not configured")).paint()
        ))?;
    }
    for walk in &status.backfills {
        print(&format_args!("          {}", backfill::line(walk)))?;
    }
    if !status.destinations.is_empty() {
        print(&"")?;
        let mut table = Table::new(destination::HEADING);
        status.destinations.iter().for_each(|destination| table.row(destination::row(destination)));
        table.print()?;
        for (name, word) in status.destinations.iter().flat_map(destination::about_certificate) {
            print(&format_args!("{name}: {}", watch(word).paint()))?;
        }
    }
    Ok(())
}
