//! `postern backfill`: exports the present members of audiences to a destination, and shows how far that is.

use std::{sync::mpsc, time::Duration};

use anyhow::Context;
use clap::{ArgGroup, Args};
use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    Failure, Output,
    client::{NONE as NO_PARAMETERS, Reach},
    exit::Exit,
    print, talk,
    text::{Cell, NONE, Table, bad, good, or_none, rate, watch},
};
use crate::admin::walks::{BackfillCount, BackfillQuery, WalkView};

/// How often it is asked how far a backfill is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).args(["destination", "list", "follow", "cancel"]))]
pub(super) struct BackfillArguments {
    /// The destination whose audiences' members are exported
    destination: Option<String>,
    /// Only the members of this audience, rather than of all that are mapped
    #[arg(long, value_name = "ID", conflicts_with_all = ["list", "follow", "cancel"])]
    audience: Option<String>,
    /// Count whom it would export, and change nothing
    #[arg(long, conflicts_with_all = ["list", "follow", "cancel"])]
    dry_run: bool,
    /// Start it and do not wait for its end
    #[arg(long, conflicts_with_all = ["list", "follow", "cancel", "dry_run"])]
    detach: bool,
    /// List backfills and evaluations: those that have not ended, and the last ones that have
    #[arg(long)]
    list: bool,
    /// Wait for the end of one
    #[arg(long, value_name = "ID")]
    follow: Option<String>,
    /// End one before its time; what it has made is sent
    #[arg(long, value_name = "ID")]
    cancel: Option<String>,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

pub(super) fn backfill(arguments: BackfillArguments) -> Result<(), Failure> {
    let BackfillArguments { destination, audience, dry_run, detach, list: _, follow, cancel, reach, output } =
        arguments;
    match (destination, follow, cancel) {
        (Some(destination), ..) => {
            let (path, query) = (format!("/v1/destinations/{destination}/backfill"), BackfillQuery { audience });
            if dry_run {
                return show_count(&reach.get(&path, &query)?, &output);
            }
            let walk: WalkView = reach.post(&path, &query)?;
            match detach {
                true if output.json => print(&json!(walk)),
                true => print(&format_args!(
                    "backfill {} begins; `postern backfill --follow {0}` shows how far it is",
                    walk.id
                )),
                false => wait_for(walk, &reach, &output),
            }
        }
        (None, Some(id), _) => wait_for(look(&reach, &id)?, &reach, &output),
        (None, None, Some(id)) => {
            let walk: WalkView = reach.delete(&format!("/v1/backfills/{id}"), NO_PARAMETERS)?;
            ended(&walk, &output)
        }
        (None, None, None) => list(&reach, &output),
    }
}

fn show_count(count: &BackfillCount, output: &Output) -> Result<(), Failure> {
    if output.json {
        return print(&json!(count));
    }
    let BackfillCount { profiles, exports, skipped } = count;
    let [profiles, exports] = [profiles, exports].map(|count| HumanCount(*count));
    print(&format_args!("{exports} of {profiles} profiles would be exported"))?;
    match skipped {
        0 => Ok(()),
        _ => print(&format_args!("{} more would be left out, because they lack the unique id", HumanCount(*skipped))),
    }
}

fn list(reach: &Reach, output: &Output) -> Result<(), Failure> {
    let walks: Vec<WalkView> = reach.get("/v1/backfills", NO_PARAMETERS)?;
    if output.json {
        return print(&json!(walks));
    }
    let mut table = Table::new([
        "ID",
        "WORK",
        "DESTINATION",
        "BECAUSE OF",
        "STATE",
        "DONE",
        "OF",
        "EXPORTS",
        "RATE/S",
        "LEFT",
        "WHY",
    ]);
    for walk in &walks {
        table.row([
            (&walk.id).into(),
            (&walk.work).into(),
            or_none(walk.destination.as_ref()).into(),
            (&walk.cause).into(),
            state(walk),
            HumanCount(walk.done).into(),
            or_none(walk.total.map(HumanCount)).into(),
            HumanCount(walk.exports).into(),
            rate(walk.rate).into(),
            left(walk).into(),
            or_none(walk.reason.as_ref()).into(),
        ]);
    }
    table.print()
}

fn state(walk: &WalkView) -> Cell {
    match walk.state.as_str() {
        "done" | "running" => good(&walk.state),
        "waiting" => watch(&walk.state),
        other => bad(other),
    }
}

fn left(walk: &WalkView) -> String {
    let time = |seconds| HumanDuration(Duration::from_secs(seconds)).to_string();
    walk.seconds_left.map_or_else(|| NONE.to_owned(), time)
}

/// How far it is, in a line: `backfill crm: 1,204 of 20,000 profiles, 800 exports, 500.0/s, 38 seconds left`.
pub(super) fn line(walk: &WalkView) -> String {
    let to = walk.destination.as_ref().map(|destination| format!(" {destination}")).unwrap_or_default();
    let total = walk.total.map(|total| format!(" of {}", HumanCount(total))).unwrap_or_default();
    let (done, exports, work) = (HumanCount(walk.done), HumanCount(walk.exports), &walk.work);
    let so_far = format!("{work}{to}: {done}{total} profiles, {exports} exports");
    match (walk.state.as_str(), &walk.reason) {
        ("waiting", Some(what)) => format!("{so_far}; it waits for {what}"),
        ("waiting", None) => format!("{so_far}; it waits for its turn"),
        ("running", _) => format!("{so_far}, {}/s, {} left", rate(walk.rate), left(walk)),
        (state, Some(why)) => format!("{so_far}; {state}: {why}"),
        (state, None) => format!("{so_far}; {state}"),
    }
}

fn look(reach: &Reach, id: &str) -> Result<WalkView, Failure> {
    reach.get(&format!("/v1/backfills/{id}"), NO_PARAMETERS)
}

/// Shows how far it is until it has ended; whoever interrupts that leaves it running.
fn wait_for(mut walk: WalkView, reach: &Reach, output: &Output) -> Result<(), Failure> {
    let interrupted = interrupted()?;
    let style = ProgressStyle::with_template("{wide_bar} {msg}").expect("the template is right");
    let bar = ProgressBar::new(0).with_style(style);
    while walk.ended_at.is_none() {
        bar.set_length(walk.total.unwrap_or_default());
        bar.set_position(walk.done);
        bar.set_message(line(&walk));
        if interrupted.recv_timeout(LOOK_EVERY).is_ok() {
            bar.finish_and_clear();
            talk(format_args!("backfill {} goes on; `postern backfill --follow {0}` shows how far it is", walk.id));
            return Ok(());
        }
        walk = look(reach, &walk.id)?;
    }
    bar.finish_and_clear();
    ended(&walk, output)?;
    match walk.state.as_str() {
        "done" => Ok(()),
        _ => Err(Failure::of(Exit::Failed, format_args!("backfill {} did not come to its end", walk.id))),
    }
}

fn ended(walk: &WalkView, output: &Output) -> Result<(), Failure> {
    if output.json { print(&json!(walk)) } else { print(&line(walk)) }
}

/// Told of a Ctrl-C.
fn interrupted() -> Result<mpsc::Receiver<()>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        // Nobody may listen any more; or the system gives no signals, and a Ctrl-C ends us, which is as good.
        let _ = runtime.block_on(tokio::signal::ctrl_c()).map(|()| tell.send(()));
    });
    Ok(told)
}
