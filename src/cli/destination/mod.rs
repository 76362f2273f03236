//! `postern destination`: what an operator does with the places where exports go.

use clap::Subcommand;

use super::Failure;

mod add;

#[derive(Subcommand)]
pub(super) enum DestinationVerb {
    /// Add one as a drop-in beside the configuration; at a terminal it asks for what is not said
    Add(add::Add),
}

pub(super) fn destination(verb: DestinationVerb) -> Result<(), Failure> {
    match verb {
        DestinationVerb::Add(add) => add.run(),
    }
}
