//! `postern cert export`: a certificate for partners, and nothing that is not theirs to have.

use std::path::PathBuf;

use clap::Args;

use super::{
    configured,
    place::{self, Access, Piece},
    refused,
};
use crate::{
    cli::{ConfigFile, Failure, exit::Exit, print},
    tls::bundle::{self, Extent},
};

#[derive(Args)]
pub(in crate::cli) struct Export {
    /// The certificate's file
    #[arg(value_name = "FILE", required_unless_present = "destination", conflicts_with = "destination")]
    file: Option<PathBuf>,
    /// The destination whose certificate of ours is meant
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// All certificates of the file, rather than the first
    #[arg(long)]
    chain: bool,
    /// A new file, instead of stdout
    #[arg(long = "out", value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn export(Export { file, destination, chain, out, config }: &Export) -> Result<(), Failure> {
    let path = match (file, destination) {
        (Some(file), _) => file.clone(),
        (None, Some(name)) => configured::of(&config.config, name)?.certificate,
        (None, None) => return Err(Failure::of(Exit::Usage, "name a file or a --destination")),
    };
    let extent = if *chain { Extent::Chain } else { Extent::Leaf };
    let text = bundle::for_partners(&path, extent).map_err(refused)?;
    let Some(out) = out else { return print(&text.trim_end()) };
    place::write(&[Piece { path: out.clone(), text: &text, access: Access::Everybody }])?;
    print(&format_args!("{} is written", out.display()))
}
