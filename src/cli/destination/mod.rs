//! `postern destination`: what an operator does with the places where exports go.

use clap::Subcommand;

mod add;
mod steer;

pub(super) use steer::{HEADING, about_certificate, row};

use super::Failure;

#[derive(Subcommand)]
pub(super) enum DestinationVerb {
    /// Add one as a drop-in beside the configuration; at a terminal it asks for what is not said
    Add(add::Add),
    /// List the destinations and how each is doing
    List(steer::List),
    /// Show one destination, whole
    Show(steer::One),
    /// Connect as delivery would, and send a request that holds nothing of anybody; exit code 1 when exports would not arrive
    Test(steer::Test),
    /// Send nothing to it, over restarts too, until it is resumed
    Pause(steer::One),
    /// End a pause; one that is held is probed at once
    Resume(steer::One),
}

pub(super) fn destination(verb: DestinationVerb) -> Result<(), Failure> {
    match verb {
        DestinationVerb::Add(add) => add.run(),
        DestinationVerb::List(list) => steer::list(&list),
        DestinationVerb::Show(one) => steer::show(&one),
        DestinationVerb::Test(test) => steer::test(&test),
        DestinationVerb::Pause(one) => steer::pause(&one),
        DestinationVerb::Resume(one) => steer::resume(&one),
    }
}
