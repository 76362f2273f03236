//! `postern cert expiry`: when everything that is configured expires.

use clap::Args;
use serde_json::{Value, json};

use super::{
    configured::{self, Configured, Role},
    show, source,
};
use crate::{
    certificate::{Certificate, Item, Material},
    cli::{
        ConfigFile, Failure, Output,
        exit::Exit,
        print,
        text::{Cell, NONE, Table, bad, good, watch},
    },
    clock::{Clock, Timestamp},
};

#[derive(Args)]
pub(in crate::cli) struct Expiry {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

/// A certificate in a configured file, or why there is none.
struct Row {
    destinations: String,
    what: String,
    file: String,
    found: Result<Box<Certificate>, String>,
}

impl Expiry {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let now = Clock::system().now();
        let mut rows: Vec<Row> = configured::all(&self.file.config)?.iter().flat_map(Row::of).collect();
        // What cannot be read comes first.
        rows.sort_by_key(|row| row.found.as_ref().ok().map(|certificate| certificate.not_after));
        if self.output.json {
            print(&rows.iter().map(|row| row.to_json(now)).collect::<Value>())?;
        } else {
            let mut table = Table::new(["DESTINATION", "WHAT", "SUBJECT", "NOT AFTER", "DAYS LEFT", "STATE", "FILE"]);
            rows.iter().for_each(|row| table.row(row.cells(now)));
            table.print()?;
        }
        match rows.iter().filter(|row| row.found.is_err()).count() {
            0 => Ok(()),
            count => Err(Failure::of(Exit::Failed, format_args!("{count} of them cannot be read"))),
        }
    }
}

impl Row {
    fn of(configured: &Configured) -> Vec<Self> {
        let Configured { destinations, role, path } = configured;
        let row = |what: String, found| Self {
            destinations: destinations.join(", "),
            what,
            file: path.display().to_string(),
            found,
        };
        let name = |index: usize| match (role, index) {
            (Role::Certificate, 0) => "certificate".to_owned(),
            (Role::Certificate, index) => format!("issuer {index}"),
            (Role::Roots, index) => format!("root {}", index + 1),
        };
        let Material { items, .. } = match source::of_file(path, None) {
            Ok(material) => material,
            Err(failure) => return vec![row(name(0), Err(failure.to_string()))],
        };
        let found = items.into_iter().filter_map(|item| match item {
            Item::Certificate(held) => Some(Ok(held.certificate)),
            Item::Unreadable { what, reason } => Some(Err(format!("{what}: {reason}"))),
            _ => None,
        });
        let rows: Vec<Self> = found.enumerate().map(|(index, found)| row(name(index), found)).collect();
        match rows.is_empty() {
            true => vec![row(name(0), Err("it holds no certificate".to_owned()))],
            false => rows,
        }
    }

    fn cells(&self, now: Timestamp) -> [Cell; 7] {
        let Self { destinations, what, file, found } = self;
        let (subject, not_after, days, state) = match found {
            Ok(certificate) => (
                certificate.called().into(),
                certificate.not_after.into(),
                show::days_left(certificate, now),
                state(certificate, now),
            ),
            Err(reason) => (NONE.into(), NONE.into(), NONE.into(), bad(reason)),
        };
        [destinations.into(), what.into(), subject, not_after, days, state, file.into()]
    }

    fn to_json(&self, now: Timestamp) -> Value {
        let Self { destinations, what, file, found } = self;
        let mut shown = json!({ "destinations": destinations, "what": what, "file": file });
        match found {
            Ok(certificate) => {
                shown["subject"] = json!(certificate.subject);
                shown["not_after"] = json!(certificate.not_after.to_string());
                shown["days_left"] = json!(certificate.days_left(now));
                shown["sha256"] = json!(certificate.sha256);
            }
            Err(reason) => shown["problem"] = json!(reason),
        }
        shown
    }
}

/// How near the end is, in words.
fn state(certificate: &Certificate, now: Timestamp) -> Cell {
    match certificate.days_left(now) {
        _ if now < certificate.not_before => bad("not yet valid"),
        ..0 => bad("expired"),
        0 => bad("last day"),
        1..7 => bad("urgent"),
        7..14 => watch("near"),
        14..30 => watch("soon"),
        30.. => good("good"),
    }
}
