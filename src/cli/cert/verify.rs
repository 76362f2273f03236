//! `postern cert verify`: whether a certificate would be accepted, and if not, why not.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use secrecy::SecretString;
use serde_json::json;

use super::{configured, show, source};
use crate::{
    certificate::{Finding, Form, Held, Item, Material, is_usable, judge},
    cli::{
        ConfigFile, Failure, Output,
        exit::Exit,
        print,
        text::{bad, good},
    },
    clock::{Clock, Timestamp},
    tls::{
        ClientTlsFiles, RootsSource, file,
        verify::{Question, verify},
    },
};

#[derive(Args)]
pub(in crate::cli) struct Verify {
    /// The file with the certificate, then its issuers
    #[arg(value_name = "FILE", required_unless_present = "destination", conflicts_with = "destination")]
    chain: Option<PathBuf>,
    /// Verify what this destination of the configuration uses: certificate, chain, key, and whom it trusts
    #[arg(long, value_name = "NAME", conflicts_with_all = ["roots", "key", "purpose", "name"])]
    destination: Option<String>,
    /// Who must vouch for it: a file, or `public` for the web's authorities
    #[arg(long, value_name = "FILE|public")]
    roots: Option<String>,
    /// The host name or address that it must have
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
    /// What it is for
    #[arg(long, value_enum, default_value_t = Purpose::Client)]
    purpose: Purpose,
    /// The private key that must belong to it; of its file, also the mode is looked at
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A list of revoked certificates; may be said again
    #[arg(long, value_name = "FILE")]
    crl: Vec<PathBuf>,
    /// The instant at which it must be valid, rather than now
    #[arg(long, value_name = "RFC3339", value_parser = instant)]
    at: Option<Timestamp>,
    #[command(flatten)]
    passphrase: source::Passphrase,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Purpose {
    /// To say who a client is
    Client,
    /// To say who a server is
    Server,
    /// To issue others
    Authority,
}

impl From<Purpose> for judge::Purpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Client => Self::Client,
            Purpose::Server => Self::Server,
            Purpose::Authority => Self::Authority,
        }
    }
}

/// Which files are looked at.
struct What {
    chain: PathBuf,
    key: Option<PathBuf>,
    /// Who vouches for the certificate.
    roots: Option<RootsSource>,
    /// Whom its owner trusts.
    trusted: Option<PathBuf>,
    /// The destination's files, if it is one.
    configured: Option<ClientTlsFiles>,
}

impl Verify {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let now = self.at.unwrap_or_else(|| Clock::system().now());
        let what = self.what()?;
        let findings = self.findings(&what, now)?;
        let (is_good, name) = (is_usable(&findings), what.chain.display());
        if self.output.json {
            print(&json!({ "good": is_good, "file": what.chain, "at": now.to_string(), "findings": findings }))?;
        } else {
            show::findings(&findings)?;
            let verdict = if is_good { good("good") } else { bad("not usable") };
            print(&format_args!("{name} is {} at {now}", verdict.paint()))?;
        }
        match is_good {
            true => Ok(()),
            false => Err(Failure::of(Exit::Failed, format_args!("{name} would not be accepted"))),
        }
    }

    fn what(&self) -> Result<What, Failure> {
        if let Some(name) = &self.destination {
            let files = configured::of(&self.file.config, name)?;
            let configured = Some(files.clone());
            let ClientTlsFiles { certificate, key, roots } = files;
            let trusted = match roots {
                RootsSource::File(path) => Some(path),
                RootsSource::Public => None,
            };
            return Ok(What { chain: certificate, key: Some(key), roots: None, trusted, configured });
        }
        let roots = self.roots.as_deref().map(|roots| match roots {
            "public" => RootsSource::Public,
            path => RootsSource::File(path.into()),
        });
        if let Some(RootsSource::File(path)) = &roots {
            file::read(path).map_err(|error| source::unreadable(path, &error))?;
        }
        let chain = self.chain.clone().ok_or_else(|| Failure::of(Exit::Usage, "say which file"))?;
        Ok(What { chain, key: self.key.clone(), roots, trusted: None, configured: None })
    }

    fn findings(
        &self,
        What { chain, key, roots, trusted, configured }: &What,
        now: Timestamp,
    ) -> Result<Vec<Finding>, Failure> {
        let passphrase = self.passphrase.read()?;
        let read = |path: &Path| source::of_file(path, passphrase.as_ref());
        let material = read(chain)?;
        let mut findings = unreadable(chain, &material);

        let key = key.as_deref().map(|path| key_of(path, passphrase.as_ref())).transpose()?;
        let key = match &key {
            Some((path, keys, mode)) => {
                findings.extend(unreadable(path, keys));
                let only = keys.private_keys().next();
                if only.is_none_or(|key| key.encrypted) {
                    let what = format!("{} holds no private key that can be used", path.display());
                    findings.push(Finding::error("no-key", what, "put an unencrypted key there, in PEM"));
                }
                only.map(|key| (key, Some(*mode)))
            }
            None => material.private_keys().next().map(|key| (key, None)),
        };

        let lists = self.crl.iter().map(|path| Ok((path, read(path)?))).collect::<Result<Vec<_>, Failure>>()?;
        for (path, list) in &lists {
            findings.extend(unreadable(path, list));
            if list.revocation_lists().next().is_none() {
                let what = format!("{} holds no revocation list", path.display());
                findings.push(Finding::error("list", what, "name another file"));
            }
        }
        if let Some(path) = trusted {
            let trusted = read(path)?;
            findings.extend(judge::form(&material));
            let called =
                |finding: Finding| Finding { what: format!("{}: {}", path.display(), finding.what), ..finding };
            findings.extend(judge::roots(&trusted, now).into_iter().map(called));
        }

        let chain: Vec<&Held> = material.certificates().collect();
        let question = Question {
            chain: &chain,
            purpose: self.purpose.into(),
            roots: roots.as_ref(),
            name: self.name.as_deref(),
            key,
            lists: &lists.iter().flat_map(|(_, list)| list.revocation_lists()).collect::<Vec<_>>(),
        };
        findings.extend(verify(&question, now));
        if let Some(files) = configured.as_ref().filter(|_| is_usable(&findings)) {
            findings.extend(configured::refusal(files));
        }
        Ok(findings)
    }
}

fn key_of<'a>(path: &'a Path, passphrase: Option<&SecretString>) -> Result<(&'a Path, Material, u32), Failure> {
    let (material, mode) = source::of_file_with_mode(path, passphrase)?;
    Ok((path, material, mode))
}

/// What in a file cannot be read.
fn unreadable(path: &Path, material: &Material) -> Vec<Finding> {
    let found = material.items.iter().filter_map(|item| match item {
        Item::Unreadable { what, reason } => {
            Some(Finding::error("unreadable", format_args!("{}: {what}: {reason}", path.display()), ""))
        }
        _ => None,
    });
    let empty = (material.form == Form::Empty)
        .then(|| Finding::error("empty", format_args!("{} is empty", path.display()), "name another file"));
    found.chain(empty).collect()
}

fn instant(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "expected an instant such as 2027-01-31T12:00:00Z".to_owned())
}
