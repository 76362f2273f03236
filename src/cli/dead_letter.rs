//! `postern dead-letter`: exports that will not be tried again by themselves; looked at, made anew, or dropped.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    Failure, Output,
    client::{self, NONE as NO_PARAMETERS, Reach},
    confirmed,
    exit::Exit,
    export::{self, Pages},
    print,
    text::{Table, or_none},
};
use crate::{
    admin::{
        exports::ExportView,
        letters::{self, DroppedView, LetterLine, LetterPage, LetterQuery, RedriveQuery, RedriveView, Redrives},
    },
    clock::Clock,
    store::StoreOwner,
};

#[derive(Subcommand)]
pub(super) enum DeadLetterVerb {
    /// List them, oldest first
    List(List),
    /// Show one by its export's id
    Show(Show),
    /// Make one anew, or all that match: a new export of the profile's present state
    Redrive(Redrive),
    /// Drop one, or all that match
    Drop(Drop),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,
    /// Read the stopped store in this directory, rather than ask the running appliance
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    pages: Pages,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

/// Which letters.
#[derive(Args)]
struct Which {
    /// Only those of this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only those that are dead for this cause
    #[arg(long, value_parser = ["exhausted", "refused", "salvaged"])]
    cause: Option<String>,
    /// Only those whose last attempt met this, such as status_500
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Only those that are dead since then or before, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
}

#[derive(Args)]
pub(super) struct Show {
    /// The export's id
    id: String,
    /// Show the body and what was answered too; for root and the appliance's own user
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Redrive {
    #[command(flatten)]
    chosen: Chosen,
    /// Send the body as it was, not the present state; refused once a newer export of the profile was delivered
    #[arg(long)]
    as_was: bool,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct Drop {
    #[command(flatten)]
    chosen: Chosen,
    /// Do it
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

/// One letter, or those that match, or all.
#[derive(Args)]
struct Chosen {
    /// The export's id
    #[arg(conflicts_with_all = ["destination", "cause", "outcome", "before", "all"])]
    id: Option<String>,
    #[command(flatten)]
    which: Which,
    /// All of them
    #[arg(long)]
    all: bool,
}

pub(super) fn dead_letter(verb: DeadLetterVerb) -> Result<(), Failure> {
    match verb {
        DeadLetterVerb::List(arguments) => list(&arguments),
        DeadLetterVerb::Show(Show { id, reveal, reach, output }) => {
            let view: ExportView = reach.get(&format!("/v1/dead-letters/{id}"), &[("reveal", reveal)])?;
            if output.json { print(&json!(view)) } else { export::whole(&view) }
        }
        DeadLetterVerb::Redrive(arguments) => redrive(arguments),
        DeadLetterVerb::Drop(arguments) => drop_letters(arguments),
    }
}

fn list(List { which, state_dir, pages, reach, output }: &List) -> Result<(), Failure> {
    let mut table = Table::new(["DEAD SINCE", "DESTINATION", "CAUSE", "ATTEMPTS", "LAST OUTCOME", "EXPORT"]);
    let mut damaged = 0;
    let mut show = |line: &LetterLine| {
        damaged += u64::from(line.id.is_none());
        match output.json {
            true => print(&json!(line)),
            false => {
                table.row([
                    or_none(line.at.as_ref()).into(),
                    (&line.destination).into(),
                    (&line.cause).into(),
                    line.attempts.into(),
                    or_none(line.last_outcome.as_ref()).into(),
                    or_none(line.id.as_ref()).into(),
                ]);
                Ok(())
            }
        }
    };
    let more = match state_dir {
        Some(dir) => stopped(dir, &which.query(), pages, &mut show)?,
        None => pages.walk(|cursor, limit| {
            let LetterPage { items, next } = reach.get("/v1/dead-letters", &which.page(cursor, limit))?;
            items.iter().try_for_each(&mut show)?;
            Ok((items.len(), next))
        })?,
    };
    if !output.json {
        table.print()?;
    }
    Pages::say_if(more);
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::of(
            Exit::Failed,
            format_args!("{damaged} dead letters fail their checksum; `postern store check` says what else does"),
        )),
    }
}

/// As the running appliance lists them, from a stopped store.
fn stopped(
    dir: &Path,
    query: &LetterQuery,
    pages: &Pages,
    show: &mut impl FnMut(&LetterLine) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let owner = StoreOwner::open_existing(dir)?;
    let store = owner.store();
    let listed = pages.walk(|cursor, limit| {
        let query = LetterQuery { cursor, limit: Some(limit), ..query.clone() };
        let page = letters::page(&store, &query).map_err(client::failure)?;
        page.items.iter().try_for_each(&mut *show)?;
        Ok((page.items.len(), page.next))
    });
    owner.close();
    listed
}

fn redrive(Redrive { chosen, as_was, reach, output }: Redrive) -> Result<(), Failure> {
    if let Some(id) = &chosen.id {
        let path = format!("/v1/dead-letters/{id}/redrive");
        let done: RedriveView = reach.post(&path, &RedriveQuery { as_was })?;
        return match (output.json, &done.export) {
            (true, _) => print(&json!(done)),
            (false, Some(export)) => print(&format_args!("redriven as export {export}")),
            (false, None) => print(&"closed: the profile is in no mapped audience any more"),
        };
    }
    let query = chosen.query()?;
    if as_was {
        return Err(Failure::of(Exit::Usage, "--as-was takes one id: of many letters the younger overtake the older"));
    }
    let mut sum = Redrives::default();
    page_by_page("redriving", &reach, query, |query| {
        let Redrives { exported, moot, refused, first_refusal, next } =
            reach.post("/v1/dead-letters/redrive", query)?;
        (sum.exported, sum.moot, sum.refused) = (sum.exported + exported, sum.moot + moot, sum.refused + refused);
        sum.first_refusal = sum.first_refusal.take().or(first_refusal);
        Ok((exported + moot + refused, next))
    })?;
    if output.json {
        return print(&json!(sum));
    }
    let [exported, moot] = [sum.exported, sum.moot].map(HumanCount);
    print(&format_args!("{exported} redriven, {moot} closed because the profile is in no mapped audience any more"))?;
    match &sum.first_refusal {
        None => Ok(()),
        Some(why) => Err(Failure::of(Exit::Failed, format_args!("{} stay letters: {why}", HumanCount(sum.refused)))),
    }
}

/// Does something with all letters that match and are dead by now, and shows how far it is.
fn page_by_page(
    what: &'static str,
    reach: &Reach,
    mut query: LetterQuery,
    mut page: impl FnMut(&LetterQuery) -> Result<(u64, Option<String>), Failure>,
) -> Result<(), Failure> {
    const PAGE: usize = 500;
    // Written in whole seconds, so the one that has begun is in it.
    query.before.get_or_insert_with(|| (Clock::system().now() + Duration::from_secs(1)).to_string());
    let bar = bar(what, count(reach, &query)?);
    query.limit = Some(PAGE);
    loop {
        let (done, next) = page(&query)?;
        bar.inc(done);
        query.cursor = next;
        if query.cursor.is_none() {
            bar.finish_and_clear();
            return Ok(());
        }
    }
}

/// A bar that counts, on a terminal.
fn bar(what: &'static str, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
    ProgressBar::new(total).with_message(what).with_style(style.expect("the template is right"))
}

fn drop_letters(Drop { chosen, yes, reach, output }: Drop) -> Result<(), Failure> {
    let done: DroppedView = match &chosen.id {
        Some(id) => {
            confirmed(yes, &format!("drop dead letter {id}"))?;
            reach.delete(&format!("/v1/dead-letters/{id}"), NO_PARAMETERS)?
        }
        None => {
            let query = chosen.query()?;
            if !yes {
                let count = count(&reach, &query)?;
                confirmed(false, &format!("drop {} dead letters", HumanCount(count)))?;
            }
            let mut dropped = 0;
            page_by_page("dropping", &reach, query, |query| {
                let page: DroppedView = reach.delete("/v1/dead-letters", query)?;
                dropped += page.dropped;
                Ok((page.dropped, page.next))
            })?;
            DroppedView { dropped, next: None }
        }
    };
    match output.json {
        true => print(&json!(done)),
        false => print(&format_args!("{} dropped", HumanCount(done.dropped))),
    }
}

fn count(reach: &Reach, query: &LetterQuery) -> Result<u64, Failure> {
    let mut total = 0;
    let all = Pages { limit: 0, all: true };
    all.walk(|cursor, limit| {
        let query = LetterQuery { cursor, limit: Some(limit), ..query.clone() };
        let LetterPage { items, next } = reach.get("/v1/dead-letters", &query)?;
        total += items.len() as u64;
        Ok((items.len(), next))
    })?;
    Ok(total)
}

impl Chosen {
    /// The filter; an error when nothing was chosen.
    fn query(&self) -> Result<LetterQuery, Failure> {
        let query = self.which.query();
        match query == LetterQuery::default() && !self.all {
            true => Err(Failure::of(Exit::Usage, "say which: an id, a filter such as --destination NAME, or --all")),
            false => Ok(query),
        }
    }
}

impl Which {
    fn query(&self) -> LetterQuery {
        let Self { destination, cause, outcome, before } = self;
        LetterQuery {
            destination: destination.clone(),
            cause: cause.clone(),
            outcome: outcome.clone(),
            before: before.clone(),
            ..LetterQuery::default()
        }
    }

    fn page(&self, cursor: Option<String>, limit: usize) -> LetterQuery {
        LetterQuery { cursor, limit: Some(limit), ..self.query() }
    }
}
