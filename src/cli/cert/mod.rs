//! `postern cert`: certificates, ours and those of others: looked at, proved, issued, asked for, put in place, handed out.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

mod configured;
mod expiry;
mod export;
mod inspect;
mod install;
mod issue;
mod place;
mod probe;
mod renewal;
mod replace;
mod request;
mod show;
mod source;
mod verify;

use super::{Failure, Output, exit::Exit, print};
use crate::{
    certificate::{Certificate, Material},
    tls::issue::{IssueError, KeyKind, Subject},
};

#[derive(Subcommand)]
pub(super) enum CertVerb {
    /// Issue certificates from a private authority of your own, for stagings
    #[command(subcommand)]
    Issue(issue::IssueVerb),
    /// Make a key, and the request (PKCS#10) that an authority answers with a client certificate
    Request(request::RequestArguments),
    /// Check what an authority answered against the key, and put it in place with its chain; a refusal changes nothing
    Install(install::Install),
    /// Print a certificate for partners: PEM with lines that say what it is, and never a key
    Export(export::Export),
    /// Prove a server's TLS from outside: would delivery send there, and does the server require a certificate
    ///
    /// Connects to a destination's endpoint, or to HOST:PORT, as delivery would, and then as somebody without a certificate
    /// would, and says what the server does: whether it asks for a client certificate, whether it requires one, which
    /// authorities it names, which versions of TLS it takes, whether its chain and name verify, and whether it accepts our
    /// certificate. The first line says whether delivery would send there.
    ///
    /// Each connection sends at most a HEAD request: no profile data, no Authorization header, no query. Our certificate is shown
    /// only over TLS 1.3, to a server that verifies.
    ///
    /// Exit code 0: all is good; 1: delivery would be held, or the server is open to others; 66: no such destination; 69:
    /// nobody answers there; 78: the configuration, or a file that is given, cannot be used.
    Probe(probe::Probe),
    /// Show what a file holds, or what a server shows, and what is wrong with it; exit code 1 when something is unusable
    ///
    /// Reads PEM with anything in it and around it, DER, PKCS#7 (.p7b), PKCS#12 (.p12, .pfx), requests, revocation lists and
    /// keys, whatever the file is called. Of a private key only its kind is shown.
    Inspect(inspect::Inspect),
    /// Prove that a certificate would be accepted: chain, name, purpose, dates, key, revocation; exit code 1 when not
    ///
    /// Without roots the chain is verified up to its last certificate. Each finding has a stable word, how bad it is, and what
    /// to do.
    Verify(verify::Verify),
    /// Say whether it is time for a new certificate: exit code 0 when it is, 1 when not, 65 when the file cannot be read, 66 when there is none
    ///
    /// For scripts: `postern cert needs-renewal client.crt --within 33% && renew`. What ends first in the file counts, but
    /// for a root.
    NeedsRenewal(renewal::NeedsRenewal),
    /// List when everything that is configured expires, the next first; exit code 1 when a file cannot be read
    Expiry(expiry::Expiry),
}

pub(super) fn cert(verb: CertVerb) -> Result<(), Failure> {
    match verb {
        CertVerb::Probe(probe) => probe.run(),
        CertVerb::Issue(verb) => issue::issue(verb),
        CertVerb::Request(arguments) => request::request(&arguments),
        CertVerb::Install(install) => install::install(&install),
        CertVerb::Export(export) => export::export(&export),
        CertVerb::Inspect(inspect) => inspect.run(),
        CertVerb::Verify(verify) => verify.run(),
        CertVerb::NeedsRenewal(needs) => needs.run(),
        CertVerb::Expiry(expiry) => expiry.run(),
    }
}

/// What a subject says beside its common name.
#[derive(Args)]
struct SubjectParts {
    /// The company, as the subject says it
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,
    /// A part of the company
    #[arg(long, value_name = "NAME")]
    organizational_unit: Option<String>,
    /// The town
    #[arg(long, value_name = "NAME")]
    locality: Option<String>,
    /// The state or province
    #[arg(long, value_name = "NAME")]
    state: Option<String>,
    /// The country, two capital letters such as DE
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
}

impl SubjectParts {
    fn named(&self, common_name: Option<&str>) -> Subject {
        let Self { organization, organizational_unit, locality, state, country } = self;
        Subject {
            common_name: common_name.map(str::to_owned),
            organization: organization.clone(),
            organizational_unit: organizational_unit.clone(),
            locality: locality.clone(),
            state: state.clone(),
            country: country.clone(),
        }
    }
}

/// What is made: whom it names, its key, and where it goes.
#[derive(Args)]
struct New {
    #[command(flatten)]
    subject: SubjectParts,
    /// The kind of key that is made
    #[arg(long, value_name = "KIND", default_value = "p256", value_parser = key_kinds())]
    key: KeyKind,
    /// The folder of the new files; it is made if it is not there
    #[arg(long = "out", value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    output: Output,
}

fn key_kinds() -> impl TypedValueParser<Value = KeyKind> {
    PossibleValuesParser::new(KeyKind::ALL.map(|(name, _)| name)).try_map(|name| name.parse())
}

/// Most characters of a file's name that follow a name in a certificate.
const STEM_MAX: usize = 64;

/// The name of files that are about somebody.
fn stem(name: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let stem: String = name.replace('*', "wildcard").chars().map(good).take(STEM_MAX).collect();
    match stem.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None => stem,
    }
}

/// A refusal, with the exit code that goes with its cause.
fn refused(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    let error = anyhow::Error::new(error);
    let exit = match error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => Exit::Missing,
        Some(io::ErrorKind::PermissionDenied) => Exit::NotPermitted,
        _ if matches!(error.downcast_ref(), Some(IssueError::Name(_))) => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::of(exit, format_args!("{error:#}"))
}

/// What a certificate that was just made says.
fn summary(pem: &str) -> anyhow::Result<Certificate> {
    let material = Material::read(pem.as_bytes(), None);
    let first =
        material.certificates().next().context("what was just made is no certificate; this is a fault of ours")?;
    Ok((*first.certificate).clone())
}

/// A line about a file that is there now.
fn tell(path: &Path, what: &dyn fmt::Display) -> Result<(), Failure> {
    print(&format_args!("{}: {what}", path.display()))
}

/// A certificate in a line.
fn in_a_line(Certificate { subject, not_after, sha256, .. }: &Certificate) -> String {
    format!("{subject}, valid until {not_after}, SHA-256 {sha256}")
}

/// A path as a shell takes it.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_harmless() {
        for (name, file) in [
            ("edge-001", "edge-001"),
            ("*.peer.example", "wildcard.peer.example"),
            ("../../etc/passwd", "_._.._etc_passwd"),
            ("2001:db8::7", "2001_db8__7"),
            ("Büro 7", "B_ro_7"),
        ] {
            assert_eq!(stem(name), file, "{name}");
        }
        assert_eq!(stem(&"x".repeat(300)).len(), 64);
    }
}
