//! `postern inlet list` and `postern audience list`: what is configured, as the running appliance has it.

use clap::{Args, Subcommand};
use indicatif::HumanCount;
use serde_json::json;

use super::{
    Failure, Output,
    client::{NONE as NO_PARAMETERS, Reach},
    print,
    text::Table,
};
use crate::admin::{audiences::AudienceView, status::InletView};

#[derive(Subcommand)]
pub(super) enum InletVerb {
    /// List the inlets
    List(List),
}

#[derive(Subcommand)]
pub(super) enum AudienceVerb {
    /// List the audiences, and how many are in each
    List(List),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

pub(super) fn inlets(InletVerb::List(List { reach, output }): InletVerb) -> Result<(), Failure> {
    let inlets: Vec<InletView> = reach.get("/v1/inlets", NO_PARAMETERS)?;
    if output.json {
        return print(&json!(inlets));
    }
    let mut table = Table::new(["INLET", "DATASET", "POST TO"]);
    for InletView { name, dataset } in inlets {
        table.row([(&name).into(), dataset.into(), format_args!("/collection/{name}").into()]);
    }
    table.print()
}

pub(super) fn audiences(AudienceVerb::List(List { reach, output }): AudienceVerb) -> Result<(), Failure> {
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
