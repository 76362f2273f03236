//! `postern config`: what is in effect, and who says so.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{ConfigFile, Failure, Output, print};
use crate::config::{files::Files, settings::Setting};

#[derive(Subcommand)]
pub(super) enum ConfigVerb {
    /// Print every key with its value and its origin, as TOML that means the same; secrets only as where they are kept
    Show(Show),
}

#[derive(Args)]
pub(super) struct Show {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

pub(super) fn config(verb: ConfigVerb) -> Result<(), Failure> {
    let ConfigVerb::Show(Show { file, output }) = verb;
    let settings = Files::read(&file.config)?.load()?.settings;
    match output.json {
        true => print(&settings.iter().map(Setting::to_json).collect::<Value>()),
        false => print(&settings.to_string().trim_end()),
    }
}
