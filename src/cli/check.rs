//! `postern check`: everything that `run` would refuse of a configuration, and a store that a later version wrote.

use std::path::Path;

use super::{Failure, print};
use crate::{config::Config, store};

pub(super) fn check(file: &Path) -> Result<(), Failure> {
    let Config { state_dir, inlets, audiences, destinations, .. } = Config::load(file)?;
    store::is_readable(&state_dir)?;
    let (inlets, audiences, destinations) = (inlets.len(), audiences.len(), destinations.len());
    print(&format_args!(
        "{} is good: {inlets} inlets, {audiences} audiences, {destinations} destinations",
        file.display()
    ))
}
