//! `postern cert install`: what an authority answered is checked, and only then put in place.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde_json::json;

use super::{
    configured, in_a_line,
    place::Access,
    refused,
    replace::{Replacement, keep},
    tell,
};
use crate::{
    certificate::Material,
    cli::{ConfigFile, Failure, Output, exit::Exit, print, talk},
    clock::Clock,
    tls::{ClientTlsFiles, answer::Answer, file, is_pair, issue::PrivateKey},
};

#[derive(Args)]
pub(in crate::cli) struct Install {
    /// What the authority sent: PEM, DER or PKCS#7, in any order, with or without its intermediates and its root
    #[arg(value_name = "ANSWER")]
    answer: PathBuf,
    /// More certificates of the chain, where the authority sent them in a file of their own
    #[arg(long, value_name = "FILE")]
    chain: Option<PathBuf>,
    /// The private key that is in place, or will be with --new-key
    #[arg(long, value_name = "FILE", required_unless_present = "destination")]
    key: Option<PathBuf>,
    /// Where the certificate goes
    #[arg(long, value_name = "FILE", required_unless_present = "destination")]
    certificate: Option<PathBuf>,
    /// The key that the request was made with, to be put in place with the certificate
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
    /// The destination whose files are meant, instead of --key and --certificate
    #[arg(long, value_name = "NAME", conflicts_with_all = ["key", "certificate"])]
    destination: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    output: Output,
}

pub(super) fn install(install: &Install) -> Result<(), Failure> {
    let files = install.files()?;
    let new_key = install.new_key.as_ref().unwrap_or(&files.key);
    if is_same(&files.certificate, &files.key) {
        let message = "certificate and key are one file: keep them in two, so that each can be replaced";
        return Err(Failure::of(Exit::Failed, message));
    }
    let key = PrivateKey::load(new_key).map_err(refused)?;
    let Install { answer, chain, output, .. } = install;
    let answer = Answer::load(answer, chain.as_deref(), new_key, &key, Clock::system().now()).map_err(refused)?;

    // The key goes first: whoever looks at the certificate when that changes finds its key there already.
    let key_bytes = file::read(new_key).with_context(|| format!("cannot read private key {}", new_key.display()))?;
    let replacements = [
        Replacement::prepare(&files.key, &key_bytes, Access::Service, KEY)?,
        Replacement::prepare(&files.certificate, answer.chain_pem.as_bytes(), Access::Everybody, "CERTIFICATE-----")?,
    ];
    if let [None, Some(certificate)] = &replacements
        && certificate.keeps()
        && is_pair(&files.certificate, &files.key)
    {
        keep(&files.key, KEY)?;
    }
    warn_of_an_earlier_end(&files.certificate, &answer);
    let mut kept = Vec::new();
    let is_new = replacements.iter().any(Option::is_some);
    for replacement in replacements.into_iter().flatten() {
        kept.extend(replacement.put()?);
    }
    tell_of(&files, &answer, is_new, &kept, output)
}

/// What a key's file has.
const KEY: &str = "PRIVATE KEY-----";

/// Says so when the certificate in place would have lasted longer.
fn warn_of_an_earlier_end(path: &Path, answer: &Answer) {
    let present = file::read(path).map(|bytes| Material::read(&bytes, None)).unwrap_or(Material::of_chain(&[]));
    let (present, new) = (present.certificates().next(), answer.chain.first());
    if let (Some(present), Some(new)) = (present, new)
        && new.not_after < present.certificate.not_after
    {
        let (before, now) = (present.certificate.not_after, new.not_after);
        talk(format_args!("the new certificate ends at {now}, before the one that is replaced ({before})"));
    }
}

/// Where certificate and key go.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Install {
    fn files(&self) -> Result<Files, Failure> {
        match (&self.destination, &self.certificate, &self.key) {
            (Some(name), _, _) => {
                let ClientTlsFiles { certificate, key, roots: _ } = configured::of(&self.config.config, name)?;
                Ok(Files { certificate, key })
            }
            (None, Some(certificate), Some(key)) => Ok(Files { certificate: certificate.clone(), key: key.clone() }),
            (None, _, _) => Err(Failure::of(Exit::Usage, "name --key and --certificate, or a --destination")),
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn tell_of(
    Files { certificate, key }: &Files,
    Answer { chain, root, left_out, .. }: &Answer,
    is_new: bool,
    kept: &[PathBuf],
    output: &Output,
) -> Result<(), Failure> {
    if output.json {
        return print(&json!({
            "certificate": certificate, "key": key, "new": is_new, "chain": chain, "root": root, "left_out": left_out, "kept": kept,
        }));
    }
    let Some((ours, intermediates)) = chain.split_first() else { return Ok(()) };
    tell(certificate, &in_a_line(ours))?;
    for intermediate in intermediates {
        print(&format_args!("  then {}", in_a_line(intermediate)))?;
    }
    let issuer = chain.last().map_or("", |last| last.issuer.as_str());
    match root {
        Some(root) => print(&format_args!("  left out: the root, {}; receivers have it", root.subject))?,
        None => print(&format_args!("  the receiver must trust its issuer: {issuer}"))?,
    }
    for other in left_out {
        print(&format_args!("  left out: {}, which has no place in the chain", other.subject))?;
    }
    for file in kept {
        print(&format_args!("{}: what was there before", file.display()))?;
    }
    match is_new {
        true => print(&"in place; a running appliance takes it by itself within seconds"),
        false => print(&"it was in place already; nothing is changed"),
    }
}
