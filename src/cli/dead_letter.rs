//! `postern dead-letter`: exports that will not be tried again by themselves, read from a stopped store.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{ConfigFile, Failure, Output, print};
use crate::{
    config::Config,
    destination::DestinationId,
    export::DeadLetter,
    store::{Store, StoreOwner},
};

/// Letters read at a time, so that millions of them need no more memory than a few.
const PAGE: usize = 1000;

#[derive(Subcommand)]
pub(super) enum DeadLetterVerb {
    /// List them, oldest first, from a stopped store
    List(List),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    file: ConfigFile,
    /// The state directory, instead of the one that the configuration names
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Only those of this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<DestinationId>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn dead_letter(verb: DeadLetterVerb) -> Result<(), Failure> {
    let DeadLetterVerb::List(List { file, state_dir, destination, output }) = verb;
    let state_dir = match state_dir {
        Some(dir) => dir,
        None => Config::load(&file.config)?.state_dir,
    };
    let owner = StoreOwner::open_existing(&state_dir)?;
    let listed = list(&owner.store(), destination.as_ref(), output.json);
    owner.close();
    listed
}

fn list(store: &Store, only: Option<&DestinationId>, json: bool) -> Result<(), Failure> {
    if !json {
        print(&format_args!(
            "{:<20}  {:<20}  {:<9}  {:<24}  EXPORT",
            "DEAD SINCE", "DESTINATION", "CAUSE", "LAST OUTCOME"
        ))?;
    }
    let mut damaged = 0;
    for (destination, _) in store.queues().iter().filter(|(id, _)| only.is_none_or(|only| only == id)) {
        let mut from = 0;
        loop {
            let page = store.dead_letters(destination, from, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = last + 1;
            for (number, letter) in &page {
                damaged += u64::from(letter.is_none());
                let line = letter.as_ref().map(|letter| line(destination, letter, json));
                print(&line.unwrap_or_else(|| damaged_line(destination, *number, json)))?;
            }
        }
    }
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::failed(anyhow::anyhow!(
            "{damaged} dead letters fail their checksum; `postern store check` says what else does"
        ))),
    }
}

fn damaged_line(destination: &DestinationId, number: u64, json: bool) -> String {
    match json {
        false => format!("{:<20}  {destination:<20}  {:<9}  {:<24}  number {number}", "-", "damaged", "-"),
        true => json!({ "destination": destination, "number": number, "damaged": true }).to_string(),
    }
}

fn line(destination: &DestinationId, letter: &DeadLetter, json: bool) -> String {
    let DeadLetter { export, at, cause } = letter;
    let attempts: Vec<_> = export.attempts.iter().map(|a| (a.at.to_string(), a.outcome.to_string())).collect();
    if !json {
        let last = attempts.last().map_or("-", |(_, outcome)| outcome.as_str());
        return format!("{at:<20}  {destination:<20}  {cause:<9}  {last:<24}  {}", export.id);
    }
    let attempts: Vec<_> = attempts.iter().map(|(at, outcome)| json!({ "at": at, "outcome": outcome })).collect();
    json!({
        "export": export.id.to_string(),
        "destination": destination,
        "cause": cause,
        "dead_since": at.to_string(),
        "accepted_at": export.accepted_at.to_string(),
        "attempts": attempts,
        "trials": export.trials,
    })
    .to_string()
}
