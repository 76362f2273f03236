//! `postern man`: a manual page for each verb, made from what `--help` says, for whoever builds a package.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::{Arguments, Failure};

/// What all pages end with.
const SEE_ALSO: &str = r#".SH "SEE ALSO"
.BR postern (1),
.BR postern.toml (5),
.BR postern (8)
"#;

#[derive(Args)]
pub(super) struct Pages {
    /// An existing directory for the pages
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn man(pages: &Pages) -> Result<(), Failure> {
    let mut postern = Arguments::command().disable_help_subcommand(true);
    // Gives each verb its whole name: `postern-store-check`.
    postern.build();
    let directory = &pages.directory;
    Ok(write(&postern, directory).with_context(|| format!("cannot write manual pages to {}", directory.display()))?)
}

fn write(verb: &clap::Command, directory: &Path) -> io::Result<()> {
    verb.get_subcommands().filter(|verb| !verb.is_hide_set()).try_for_each(|verb| write(verb, directory))?;
    let page = Man::new(verb.clone()).source(concat!("postern ", env!("CARGO_PKG_VERSION"))).manual("Postern");
    let mut text = Vec::new();
    page.render(&mut text)?;
    text.extend_from_slice(SEE_ALSO.as_bytes());
    fs::write(directory.join(page.get_filename()), text)
}
