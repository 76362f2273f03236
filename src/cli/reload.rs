//! `postern reload`: the configuration read anew, all of it or nothing.

use clap::Args;
use serde_json::json;

use super::{Failure, Output, client::Reach, print};
use crate::{
    admin::scene::{Reloaded, Removed, RenamedView},
    destination::DestinationId,
};

#[derive(Args)]
pub(super) struct ReloadArguments {
    /// Send what waits for this destination, which the configuration does not have any more, before it ends
    #[arg(long, value_name = "NAME")]
    drain: Vec<DestinationId>,
    /// Drop what waits for this destination, which the configuration does not have any more
    #[arg(long, value_name = "NAME")]
    discard: Vec<DestinationId>,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

pub(super) fn reload(ReloadArguments { drain, discard, reach, output }: ReloadArguments) -> Result<(), Failure> {
    let removed = Removed { drain: drain.into_iter().collect(), discard: discard.into_iter().collect() };
    let reloaded = now(&reach, &removed)?;
    if output.json {
        return print(&json!(reloaded));
    }
    let Reloaded { added, changed, renamed, removed, draining, discarding, others } = &reloaded;
    let renamed = renamed.iter().map(|RenamedView { from, to }| format!("{from} to {to}")).collect();
    let lines = [
        ("added", added),
        ("changed", changed),
        ("renamed", &renamed),
        ("removed", removed),
        ("draining", draining),
        ("discarding", discarding),
        ("also", others),
    ];
    let mut said = lines.iter().filter(|(_, names)| !names.is_empty()).peekable();
    if said.peek().is_none() {
        return print(&"reloaded; nothing changed");
    }
    print(&"reloaded")?;
    said.try_for_each(|(what, names)| print(&format_args!("  {what:<11}{}", names.join(", "))))
}

/// Has the running appliance read its configuration anew.
pub(super) fn now(reach: &Reach, removed: &Removed) -> Result<Reloaded, Failure> {
    reach.post_json("/v1/reload", removed)
}
