//! `postern cert inspect`: what a file, a server or a destination's files hold, and what is wrong with it.

use std::{path::Path, time::Duration};

use anyhow::Context;
use clap::Args;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{configured, show, source};
use crate::{
    certificate::{Finding, Held, Item, Material, is_usable, judge},
    cli::{ConfigFile, Failure, Output, exit::Exit, print},
    clock::{Clock, Timestamp},
    tls::{
        ClientTlsFiles, RootsSource,
        probe::{NoChain, Place, chain_of},
    },
};

/// How long a server may take to show its chain.
const SERVER_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(in crate::cli) struct Inspect {
    /// A file, `-` for stdin, HOST:PORT of a server, or `destination` and its name
    #[arg(value_name = "FILE|-|HOST:PORT|destination NAME", required = true, num_args = 1..=2)]
    what: Vec<String>,
    #[command(flatten)]
    passphrase: source::Passphrase,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

/// Where something was read, what it holds, and what is wrong with it.
struct Seen {
    source: String,
    material: Material,
    findings: Vec<Finding>,
}

impl Inspect {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let now = Clock::system().now();
        let passphrase = self.passphrase.read()?;
        let seen = self.look(passphrase.as_ref(), now)?;
        let is_good = seen.iter().all(|seen| is_usable(&seen.findings));
        if self.output.json {
            print(
                &json!({ "good": is_good, "sources": seen.iter().map(|seen| seen.to_json(now)).collect::<Value>() }),
            )?;
        } else {
            for (index, Seen { source, material, findings }) in seen.iter().enumerate() {
                if index > 0 {
                    print(&"")?;
                }
                show::material(source, material, now)?;
                if !findings.is_empty() {
                    print(&"")?;
                    show::findings(findings)?;
                }
            }
        }
        match is_good {
            true => Ok(()),
            false => {
                Err(Failure::of(Exit::Failed, format_args!("something in {} cannot be used", self.what.join(" "))))
            }
        }
    }

    fn look(&self, passphrase: Option<&SecretString>, now: Timestamp) -> Result<Vec<Seen>, Failure> {
        let one = |source: &str, material| Ok(vec![Seen::of(source, material, now)]);
        match self.what.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["-"] => one("stdin", source::of_stdin(passphrase)?),
            ["destination", name] => of_destination(&configured::of(&self.file.config, name)?, passphrase, now),
            [what] if is_address(what) && !Path::new(what).exists() => one(what, Material::of_chain(&of_server(what)?)),
            [what] => one(what, source::of_file(Path::new(what), passphrase)?),
            _ => Err(Failure::of(Exit::Usage, "say a file, `-`, HOST:PORT, or `destination` and its name")),
        }
    }
}

impl Seen {
    fn of(source: &str, material: Material, now: Timestamp) -> Self {
        let findings = judge::judge(&material, now);
        Self { source: source.to_owned(), material, findings }
    }

    fn to_json(&self, now: Timestamp) -> Value {
        let Self { source, material: Material { form, items }, findings } = self;
        let items = items.iter().map(|item| {
            let mut shown = json!(item);
            if let Item::Certificate(Held { certificate, .. }) = item {
                shown["days_left"] = json!(certificate.days_left(now));
            }
            shown
        });
        json!({ "source": source, "form": form, "items": items.collect::<Value>(), "findings": findings })
    }
}

/// Certificate, key and roots of a destination.
fn of_destination(
    files: &ClientTlsFiles,
    passphrase: Option<&SecretString>,
    now: Timestamp,
) -> Result<Vec<Seen>, Failure> {
    let ClientTlsFiles { certificate, key, roots } = files;
    let read = |path: &Path| {
        let material = source::of_file(path, passphrase)?;
        Ok::<_, Failure>(Seen::of(&path.display().to_string(), material, now))
    };
    let (mut certificate, key) = (read(certificate)?, read(key)?);
    if let Some(first) = certificate.material.certificates().next() {
        let mismatches = key.material.private_keys().filter_map(|key| judge::match_key(&first.certificate, key));
        certificate.findings.extend(mismatches);
    }
    let mut seen = vec![certificate, key];
    if let RootsSource::File(path) = roots {
        let roots = read(path)?;
        seen.push(Seen { findings: judge::roots(&roots.material, now), ..roots });
    }
    seen.iter_mut().for_each(|seen| seen.findings.extend(judge::form(&seen.material)));
    if seen.iter().all(|seen| is_usable(&seen.findings)) {
        seen[0].findings.extend(configured::refusal(files));
    }
    Ok(seen)
}

fn is_address(what: &str) -> bool {
    what.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// The chain that a server shows, its own certificate first. Nothing is sent but what a handshake needs.
fn of_server(address: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let place = Place::parse(address).map_err(|error| Failure::of(Exit::Usage, format_args!("{address}: {error}")))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let chain = runtime.block_on(chain_of(&place, SERVER_TIMEOUT));
    // A name that does not resolve in time is still being looked up.
    runtime.shutdown_background();
    chain.map_err(|error| {
        let exit = match error {
            NoChain::Unreachable(_) => Exit::Unavailable,
            NoChain::Handshake(_) => Exit::Failed,
        };
        Failure::of(exit, format_args!("{address}: {error}"))
    })
}
