//! `postern export`: what waits, and one export whole.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failure, Output,
    client::Reach,
    print,
    text::{Table, ago, or_none},
};
use crate::admin::exports::{AttemptView, ExportLine, ExportPage, ExportQuery, ExportView, ReasonView};

#[derive(Subcommand)]
pub(super) enum ExportVerb {
    /// List exports that wait, oldest first
    List(List),
    /// Show one export by its id: waiting, dead, or delivered as far as receipts reach
    Show(Show),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    reach: Reach,
    /// Only those for this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only those in this state
    #[arg(long, value_parser = ["waiting", "retrying", "in_flight"])]
    state: Option<String>,
    #[command(flatten)]
    pages: Pages,
    #[command(flatten)]
    output: Output,
}

/// How much of a list.
#[derive(Args)]
pub(super) struct Pages {
    /// Stop after so many
    #[arg(long, value_name = "COUNT", default_value_t = 100, conflicts_with = "all")]
    pub(super) limit: usize,
    /// Do not stop before the end
    #[arg(long)]
    pub(super) all: bool,
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

pub(super) fn export(verb: ExportVerb) -> Result<(), Failure> {
    match verb {
        ExportVerb::List(arguments) => list(arguments),
        ExportVerb::Show(Show { id, reveal, reach, output }) => {
            let view: ExportView = reach.get(&format!("/v1/exports/{id}"), &[("reveal", reveal)])?;
            if output.json { print(&json!(view)) } else { whole(&view) }
        }
    }
}

fn list(List { reach, destination, state, pages, output }: List) -> Result<(), Failure> {
    let mut table =
        Table::new(["ACCEPTED", "DESTINATION", "STATE", "DUE", "ATTEMPTS", "TRIALS", "LAST OUTCOME", "EXPORT"]);
    let row = |line: &ExportLine| {
        [
            or_none(line.accepted_at.as_ref()).into(),
            (&line.destination).into(),
            (&line.state).into(),
            or_none(line.due.as_ref()).into(),
            line.attempts.into(),
            line.trials.into(),
            or_none(line.last_outcome.as_ref()).into(),
            or_none(line.id.as_ref()).into(),
        ]
    };
    let query = ExportQuery { destination, state, cursor: None, limit: None };
    let more = pages.walk(|cursor, limit| {
        let query = ExportQuery { cursor, limit: Some(limit), ..query.clone() };
        let ExportPage { items, next } = reach.get("/v1/exports", &query)?;
        let count = items.len();
        match output.json {
            true => items.iter().try_for_each(|line| print(&json!(line)))?,
            false => items.iter().for_each(|line| table.row(row(line))),
        }
        Ok((count, next))
    })?;
    if !output.json {
        table.print()?;
    }
    Pages::say_if(more);
    Ok(())
}

impl Pages {
    /// Asks for page after page until there is enough; true when there is more.
    pub(super) fn walk(
        &self,
        mut page: impl FnMut(Option<String>, usize) -> Result<(usize, Option<String>), Failure>,
    ) -> Result<bool, Failure> {
        const PAGE: usize = 1000;
        let (mut cursor, mut left) = (None, if self.all { usize::MAX } else { self.limit });
        while left > 0 {
            let (count, next) = page(cursor, left.min(PAGE))?;
            left = left.saturating_sub(count);
            match next {
                Some(next) => cursor = Some(next),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Says that a list was cut short.
    pub(super) fn say_if(more: bool) {
        if more {
            super::talk("there are more; --limit or --all shows them");
        }
    }
}

/// What the receiver said to an attempt.
fn answered(AttemptView { answer_bytes, answer, .. }: &AttemptView) -> Result<(), Failure> {
    match (answer, answer_bytes) {
        (Some(answer), _) => print(&format_args!("{:<14}{answer}", "  answered")),
        (None, 0) => Ok(()),
        (None, bytes) => print(&format_args!("{:<14}{bytes} bytes; --reveal shows them", "  answered")),
    }
}

/// An export for a person.
pub(super) fn whole(view: &ExportView) -> Result<(), Failure> {
    let line = |name: &str, what: &dyn std::fmt::Display| print(&format_args!("{name:<14}{what}"));
    line("export", &view.id)?;
    line("destination", &view.destination)?;
    let cause = view.cause.as_ref().map(|cause| format!(": {cause}"));
    let ended = view.ended_at.as_deref().map(|at| format!(", since {at} ({} ago)", ago(at)));
    line("state", &format_args!("{}{}{}", view.state, cause.unwrap_or_default(), ended.unwrap_or_default()))?;
    if let Some(accepted_at) = &view.accepted_at {
        line("accepted", accepted_at)?;
    }
    if let Some(due) = &view.due {
        line("due", due)?;
    }
    for (index, attempt) in view.attempts.iter().enumerate() {
        line(&format!("attempt {}", index + 1), &format_args!("{}  {}", attempt.at, attempt.outcome))?;
        answered(attempt)?;
    }
    if let Some(last) = &view.last_trial {
        line("trials", &format_args!("{}, the last at {}: {}", view.trials, last.at, last.outcome))?;
        answered(last)?;
    }
    for ReasonView { kind, of } in &view.reasons {
        line("made because", &format_args!("{kind} {}", of.as_deref().unwrap_or_default()))?;
    }
    match (&view.body, view.body_bytes) {
        (Some(body), _) => line("body", &format_args!("{body:#}")),
        (None, Some(bytes)) => line("body", &format_args!("{bytes} bytes; --reveal shows them")),
        (None, None) => Ok(()),
    }
}
