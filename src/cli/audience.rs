//! `postern audience`: who is in what, and what a rule says of a profile.

use std::{
    fs,
    io::{self, Read as _},
    path::PathBuf,
};

use clap::{Args, Subcommand};
use indicatif::HumanCount;
use serde_json::{Value, json};

use super::{
    Failure, Output,
    client::{NONE as NO_PARAMETERS, Reach},
    exit::Exit,
    lists::List,
    print,
    text::Table,
};
use crate::{
    admin::audiences::AudienceView,
    audience::{AudienceId, RULE_NAMESPACE, Subject, rule},
    profile::path::Attributes,
};

/// Largest profile that is read, in bytes: far above what is ever kept of one.
const PROFILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Subcommand)]
pub(super) enum AudienceVerb {
    /// List the audiences, and how many are in each
    List(List),
    /// Say what a rule, or any expression, comes to for a profile: nothing has to run
    Try(Try),
}

#[derive(Args)]
pub(super) struct Try {
    /// The expression, in PQL
    #[arg(allow_hyphen_values = true)]
    pql: String,
    /// A file with a profile: attributes, and identityMap and segmentMembership as exports show them; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
}

pub(super) fn audience(verb: AudienceVerb) -> Result<(), Failure> {
    match verb {
        AudienceVerb::List(List { reach, output }) => list(&reach, output),
        AudienceVerb::Try(Try { pql, input }) => try_out(&pql, &input),
    }
}

fn list(reach: &Reach, output: Output) -> Result<(), Failure> {
    let audiences: Vec<AudienceView> = reach.get("/v1/audiences", NO_PARAMETERS)?;
    if output.json {
        return print(&json!(audiences));
    }
    let mut table = Table::new(["AUDIENCE", "NAME", "MERGE POLICY", "MEMBERS", "DESTINATIONS"]);
    for AudienceView { id, name, merge_policy, members, destinations } in audiences {
        table.row([
            id.into(),
            name.into(),
            merge_policy.into(),
            HumanCount(members).into(),
            destinations.join(", ").into(),
        ]);
    }
    table.print()
}

fn try_out(pql: &str, input: &PathBuf) -> Result<(), Failure> {
    let mut attributes = read(input)?;
    let mut take = |name| attributes.remove(name).unwrap_or_default();
    let (identities, memberships) = (take("identityMap"), take("segmentMembership"));
    let is_in = |audience: &AudienceId| {
        let status = memberships[RULE_NAMESPACE][audience.as_str()]["status"].as_str();
        // What older messages of AEP call `existing` is in, too.
        matches!(status, Some("realized" | "existing"))
    };
    let value = rule::evaluate(pql, &Subject::new(&attributes, &identities, &is_in));
    match value.map_err(|error| Failure::of(Exit::Failed, error))? {
        Some(value) => print(&value),
        None => Err(Failure::of(Exit::Failed, "the expression looks at too much: loops within loops over long lists?")),
    }
}

fn read(input: &PathBuf) -> Result<Attributes, Failure> {
    let shown = input.display();
    let failed = |error: io::Error| {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::Missing } else { Exit::Failed };
        Failure::of(exit, format_args!("cannot read {shown}: {error}"))
    };
    let source: Box<dyn io::Read> = match input.as_os_str() == "-" {
        true => Box::new(io::stdin()),
        false => Box::new(fs::File::open(input).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    source.take(PROFILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > PROFILE_BYTES_MAX {
        return Err(Failure::of(Exit::Failed, format_args!("{shown} has more than {PROFILE_BYTES_MAX} bytes")));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(attributes)) => Ok(attributes),
        Ok(_) => Err(Failure::of(Exit::Failed, format_args!("{shown} is not a profile: expected a JSON object"))),
        Err(error) => Err(Failure::of(Exit::Failed, format_args!("{shown} is not JSON: {error}"))),
    }
}
