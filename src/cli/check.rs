//! `postern check`: everything that `run` would refuse of a configuration.

use std::path::Path;

use super::{Failure, print};
use crate::config::Config;

pub(super) fn check(file: &Path) -> Result<(), Failure> {
    let Config { inlets, audiences, destinations, .. } = Config::load(file)?;
    let (inlets, audiences, destinations) = (inlets.len(), audiences.len(), destinations.len());
    print(&format_args!(
        "{} is good: {inlets} inlets, {audiences} audiences, {destinations} destinations",
        file.display()
    ))
}
