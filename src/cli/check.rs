//! `postern check`: everything that `run` would refuse of a configuration, and what is odd about it.

use std::{
    io::{self, Write},
    path::Path,
};

use clap::Args;
use serde_json::json;

use super::{ConfigFile, Failure, Output, print};
use crate::{
    clock::Clock,
    config::{
        Config, Loaded,
        files::Files,
        problem::{Finding, Kind},
    },
    store,
};

#[derive(Args)]
pub(super) struct Check {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

pub(super) fn check(what: &Check) -> Result<(), Failure> {
    let files = Files::read(&what.file.config)?;
    let paths: Vec<&Path> = files.paths().collect();
    let loaded = match usable(&files) {
        Ok(loaded) => loaded,
        Err((failure, problems)) => {
            match what.output.json {
                true => print(&json!({ "good": false, "files": paths, "problems": problems, "warnings": [] }))?,
                false => tell(&format_args!("read: {}", list(&paths))),
            }
            return Err(failure);
        }
    };
    let warnings = loaded.warnings(Clock::system().now());
    let Config { inlets, audiences, destinations, .. } = &loaded.config;
    let (inlets, audiences, destinations) = (inlets.len(), audiences.len(), destinations.len());
    if what.output.json {
        return print(&json!({
            "good": true, "files": paths, "inlets": inlets, "audiences": audiences, "destinations": destinations,
            "problems": [], "warnings": warnings,
        }));
    }
    for warning in &warnings {
        tell(&format_args!("warning: {warning}; {}", warning.kind.remedy()));
    }
    let file = what.file.config.display();
    print(&format_args!("{file} is good: {inlets} inlets, {audiences} audiences, {destinations} destinations"))?;
    print(&format_args!("read: {}", list(&paths)))
}

/// The configuration, if `run` could use it: also its store, as far as that can be told from outside.
fn usable(files: &Files) -> Result<Loaded, (Failure, Vec<Finding>)> {
    let loaded = files.load().map_err(|error| {
        let problems = error.problems().to_vec();
        (Failure::from(error), problems)
    })?;
    let file = &loaded.config.state_dir;
    match store::is_readable(file) {
        Ok(()) => Ok(loaded),
        Err(error) => {
            let (file, message) = (file.clone(), crate::chain(&error));
            Err((error.into(), vec![Finding { kind: Kind::Store, file, line: None, key: None, message }]))
        }
    }
}

fn list(paths: &[&Path]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Talk. Nobody is left to tell when stderr is gone.
fn tell(line: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
