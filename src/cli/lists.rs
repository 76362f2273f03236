//! `postern inlet list`: what is configured, as the running appliance has it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Failure, Output,
    client::{NONE as NO_PARAMETERS, Reach},
    print,
    text::Table,
};
use crate::admin::status::InletView;

#[derive(Subcommand)]
pub(super) enum InletVerb {
    /// List the inlets
    List(List),
}

#[derive(Args)]
pub(super) struct List {
    #[command(flatten)]
    pub(super) reach: Reach,
    #[command(flatten)]
    pub(super) output: Output,
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
