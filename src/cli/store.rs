//! `postern store`: what an operator does with the store: most of it while it is stopped, some of it while it runs.

use std::{
    fmt,
    path::{self, Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    Failure, Output, child,
    client::{NONE as NO_PARAMETERS, Reach},
    confirmed,
    exit::Exit,
    print,
};
use crate::{
    admin::upkeep::{BackupOrder, BackupView, StoreView},
    clock::Clock,
    config,
    store::{
        Counters, StoreError,
        upkeep::{self, Basis, Copied, Report, Size, UpkeepError},
    },
};

#[derive(Subcommand)]
pub(super) enum StoreVerb {
    /// Read every record and compare the counters; exit code 1 when something is wrong
    Check(Place),
    /// Print how much is in it, while it runs or not
    Stats(Place),
    /// Write it anew, without the air in it
    Compact(Place),
    /// Put a damaged store aside and make a new one of all that reads
    Salvage(Salvage),
    /// Copy it to a new directory, which can be used in its place, while it runs or not
    Backup(Carry),
    /// Make a backup the store; the one that is there is put aside
    Restore(Restore),
}

#[derive(Args)]
pub(super) struct Place {
    #[command(flatten)]
    reach: Reach,
    /// The state directory of a stopped store, instead of the one that the configuration names
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Salvage {
    #[command(flatten)]
    place: Place,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// One try in this process: on the files as they are, or without sled's snapshots
    #[arg(long, hide = true, value_parser = ["as-it-is", "log-alone"])]
    basis: Option<String>,
}

#[derive(Args)]
pub(super) struct Carry {
    /// The directory of the backup
    directory: PathBuf,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
pub(super) struct Restore {
    #[command(flatten)]
    carry: Carry,
    /// Do it
    #[arg(long)]
    yes: bool,
}

pub(super) fn store(verb: StoreVerb) -> Result<(), Failure> {
    match verb {
        StoreVerb::Check(place) => check(&place),
        StoreVerb::Stats(place) => stats(&place),
        StoreVerb::Compact(place) => {
            let copied =
                with_bar("compacting", |progress| upkeep::compact(&place.dir()?, progress).map_err(Failure::from))?;
            show(&place, "compacted", &copied)
        }
        StoreVerb::Salvage(salvage) => salvage.run(),
        StoreVerb::Backup(Carry { directory, place }) if place.is_running() => backup_running(&directory, &place),
        StoreVerb::Backup(Carry { directory, place }) => {
            let copied = with_bar("copying", |progress| {
                upkeep::backup(&place.dir()?, &directory, progress).map_err(Failure::from)
            })?;
            show(&place, &format!("backed up to {}", directory.display()), &copied)
        }
        StoreVerb::Restore(Restore { carry: Carry { directory, place }, yes }) => {
            let dir = place.dir()?;
            confirmed(yes, &format!("make {} the store in {}", directory.display(), dir.display()))?;
            let copied =
                with_bar("copying", |progress| upkeep::restore(&dir, &directory, progress).map_err(Failure::from))?;
            show(&place, &format!("restored from {}", directory.display()), &copied)
        }
    }
}

impl Place {
    /// Whether the store is asked for that runs now.
    fn is_running(&self) -> bool {
        self.state_dir.is_none() && self.reach.is_there()
    }

    fn dir(&self) -> Result<PathBuf, Failure> {
        match &self.state_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(config::state_dir(&self.reach.config)?),
        }
    }
}

impl Salvage {
    /// Tries in processes of its own, because sled may end or hang one; an empty store is the last resort.
    fn run(self) -> Result<(), Failure> {
        let Self { place, yes, basis } = self;
        let dir = place.dir()?;
        let basis = match basis.as_deref() {
            None => {
                let what = format!("put the store in {} aside and make a new one of what reads", dir.display());
                confirmed(yes, &what)?;
                if let Some(kept) = child::salvage_or_begin_afresh(&dir, place.output.json)? {
                    let kept = kept.display();
                    print(&format_args!("nothing of it can be read; it is in {kept}, and the store is empty now"))?;
                }
                return Ok(());
            }
            Some("log-alone") => Basis::LogAlone,
            Some(_) => Basis::AsItIs,
        };
        let failed = |error| match error {
            UpkeepError::Store(error @ StoreError::Damaged { .. }) => Failure::of(Exit::Damaged, error),
            other => other.into(),
        };
        let copied = with_bar("salvaging", |progress| {
            upkeep::salvage(&dir, basis, Clock::system().now(), progress).map_err(failed)
        })?;
        show(&place, "salvaged", &copied)
    }
}

fn check(place: &Place) -> Result<(), Failure> {
    let dir = place.dir()?;
    let report = with_bar("reading", |progress| upkeep::check(&dir, progress).map_err(Failure::from))?;
    let Report { records, damaged, faults, blobs, differences, counters } = &report;
    if place.output.json {
        print(&json!({
            "whole": report.is_whole(), "records": records, "damaged": damaged, "faults": faults, "blobs": blobs,
            "differences": differences, "counters": counters,
        }))?;
    } else {
        print(&format_args!("{} records read\n{}", HumanCount(*records), Counted(counters)))?;
        for (what, count) in [
            ("records fail their checksum", *damaged),
            ("places cannot be read", *faults),
            ("files that are never synced", *blobs as u64),
        ] {
            if count > 0 {
                print(&format_args!("{count} {what}"))?;
            }
        }
        differences.iter().try_for_each(|difference| print(&format_args!("does not add up: {difference}")))?;
    }
    match report.is_whole() {
        true => Ok(()),
        false => Err(Failure::failed(anyhow::anyhow!(
            "the store in {dir} is not whole; back it up, then `postern store salvage --state-dir {dir}`",
            dir = dir.display()
        ))),
    }
}

fn stats(place: &Place) -> Result<(), Failure> {
    if place.is_running() {
        return stats_running(place);
    }
    let Size { counters, disk_bytes, free_bytes } = upkeep::stats(&place.dir()?)?;
    if place.output.json {
        return print(&json!({ "counters": counters, "disk_bytes": disk_bytes, "free_bytes": free_bytes }));
    }
    let (disk, free) = (HumanBytes(disk_bytes), HumanBytes(free_bytes));
    print(&format_args!("{}\nfiles        {disk}\nfree on disk {free}", Counted(&counters)))
}

fn stats_running(Place { reach, output, .. }: &Place) -> Result<(), Failure> {
    let StoreView { figures, counters, disk_bytes } = &reach.get("/v1/store", NO_PARAMETERS)?;
    if output.json {
        let free_bytes = figures.free_bytes;
        return print(&json!({ "counters": counters, "disk_bytes": disk_bytes, "free_bytes": free_bytes }));
    }
    let [live, disk, free] = [figures.live_bytes, *disk_bytes, figures.free_bytes].map(HumanBytes);
    print(&format_args!("profiles     {}", HumanCount(figures.profiles.unwrap_or_default())))?;
    print(&format_args!("quarantine   {} records", figures.quarantined.unwrap_or_default()))?;
    print(&format_args!("live         {live} of at most {}", HumanBytes(figures.hard_limit_bytes)))?;
    print(&format_args!("files        {disk}\nfree on disk {free}"))
}

fn backup_running(directory: &Path, Place { reach, output, .. }: &Place) -> Result<(), Failure> {
    let absolute = path::absolute(directory).context("cannot tell where the backup goes")?;
    let order = BackupOrder { directory: absolute.display().to_string() };
    let waiting = ProgressBar::new_spinner().with_message("backing up the running store");
    waiting.enable_steady_tick(Duration::from_millis(200));
    let done = reach.post_json::<BackupView>("/v1/store/backup", &order);
    waiting.finish_and_clear();
    let done = done?;
    if output.json {
        return print(&json!(done));
    }
    let BackupView { directory, records, damaged, disk_bytes } = &done;
    let (records, bytes) = (HumanCount(*records), HumanBytes(*disk_bytes));
    print(&format_args!("backed up to {directory}: {records} records, {bytes}"))?;
    match damaged {
        0 => Ok(()),
        _ => print(&format_args!("{damaged} damaged records are in its quarantine")),
    }
}

fn show(place: &Place, done: &str, copied: &Copied) -> Result<(), Failure> {
    let Copied { records, damaged, faults, letters, exports_lost, disk_bytes: [before, after], kept } = copied;
    if place.output.json {
        return print(&json!({
            "records": records, "damaged": damaged, "faults": faults, "letters": letters, "exports_lost": exports_lost,
            "disk_bytes_before": before, "disk_bytes_after": after, "kept": kept,
        }));
    }
    let (records, before, after) = (HumanCount(*records), HumanBytes(*before), HumanBytes(*after));
    print(&format_args!("{done}: {records} records, files of {before} before and {after} now"))?;
    if damaged + faults > 0 {
        print(&format_args!("{damaged} damaged records are in quarantine; {faults} places could not be read"))?;
    }
    if *letters > 0 {
        print(&format_args!(
            "the store had fallen back to an older state: {letters} exports that waited are dead letters now, because they may have been delivered since"
        ))?;
    }
    for (destination, lost) in exports_lost {
        print(&format_args!("{lost} exports to {destination} are lost"))?;
    }
    kept.iter().try_for_each(|kept| print(&format_args!("the store as it was is in {}", kept.display())))
}

/// The counters for a person.
struct Counted<'c>(&'c Counters);

impl fmt::Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counters { profiles, applied, unchanged, quarantined, live_bytes, destinations, .. } = self.0;
        writeln!(f, "profiles     {}", HumanCount(*profiles))?;
        writeln!(f, "updates      {} applied, {} unchanged", HumanCount(*applied), HumanCount(*unchanged))?;
        for (id, counted) in destinations {
            let [waiting, delivered, dead] = [counted.waiting, counted.delivered, counted.dead].map(HumanCount);
            writeln!(f, "{id:<12} {waiting} waiting, {delivered} delivered, {dead} dead, {} damaged", counted.damaged)?;
        }
        writeln!(f, "quarantine   {quarantined} records")?;
        write!(f, "live         {}", HumanBytes(*live_bytes))
    }
}

/// Shows how far it is, on a terminal.
fn with_bar<T>(what: &'static str, work: impl FnOnce(upkeep::Progress<'_>) -> T) -> T {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
    let bar = ProgressBar::new(0).with_message(what).with_style(style.expect("the template is right"));
    let done = work(&mut |done, total| {
        bar.set_length(total.max(done));
        bar.set_position(done);
    });
    bar.finish_and_clear();
    done
}
