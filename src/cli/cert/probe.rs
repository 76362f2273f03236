//! `postern cert probe`: what delivery would meet at a server, and what anybody without our certificate would.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        ConfigFile, Failure, Output,
        exit::Exit,
        print,
        text::{Cell, NONE, Table, bad, good, or_none, watch},
    },
    clock::Clock,
    config::{self, Config},
    destination::Destination,
    tls::{
        ClientTls, ClientTlsFiles, RootsSource,
        probe::{
            self, Accepts, Delivers, NotATarget, Place, Report, Requires, ServerCertificate, Severity, Target,
            TrustedRoots, VersionSeen,
        },
    },
};

#[derive(Args)]
pub(in crate::cli) struct Probe {
    /// A destination of the configuration, or HOST:PORT; an IPv6 address in brackets
    #[arg(value_name = "DESTINATION|HOST:PORT")]
    target: String,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    given: Given,
    /// How long each connection may take, such as 5s; there are at most eight, one after another
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    #[command(flatten)]
    output: Output,
}

/// What a destination has in its settings, for HOST:PORT.
#[derive(Args)]
struct Given {
    /// For HOST:PORT: PEM file of our certificate, then its intermediates
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// For HOST:PORT: PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// For HOST:PORT: PEM file of the authorities that may name the server, or `public`, which is the default
    #[arg(long, value_name = "FILE|public")]
    roots: Option<PathBuf>,
    /// For HOST:PORT: the name or address that the server's certificate must have, instead of HOST
    #[arg(long, value_name = "HOST")]
    name: Option<String>,
}

/// No connection takes longer than this to show what it will.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

impl Probe {
    pub(super) fn run(self) -> Result<(), Failure> {
        let target = match self.target.contains(':') {
            true => self.given.target(&self.target)?,
            false => self.destination()?,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        let report = runtime.block_on(probe::probe(&target, self.timeout, Clock::system().now()));
        // A name that does not resolve in time is still being looked up.
        runtime.shutdown_background();
        match self.output.json {
            true => print(&json!(report))?,
            false => show(&self.target, &report)?,
        }
        verdict(&self.target, &report)
    }

    fn destination(&self) -> Result<Target, Failure> {
        if let Some(flag) = self.given.first_flag() {
            let message = format_args!("{flag} is for HOST:PORT; a destination has its own in the configuration");
            return Err(Failure::of(Exit::Usage, message));
        }
        let Config { destinations, .. } = Config::load(&self.file.config)?;
        let Some(destination) = destinations.iter().find(|one| one.id().as_str() == self.target) else {
            return Err(missing(&self.target, &destinations));
        };
        Target::endpoint(&destination.endpoint, &destination.tls)
            .map_err(|error| Failure::of(Exit::Configuration, format_args!("{}: {error}", destination.endpoint.host())))
    }
}

impl Given {
    fn target(self, place: &str) -> Result<Target, Failure> {
        let unusable = |what: &str, error: NotATarget| Failure::of(Exit::Usage, format_args!("{what}: {error}"));
        let parsed = Place::parse(place).map_err(|error| unusable(place, error))?;
        let roots = match self.roots {
            Some(file) if file.as_os_str() != "public" => RootsSource::File(file),
            _ => RootsSource::Public,
        };
        let target = match self.certificate.zip(self.key) {
            Some((certificate, key)) => {
                let tls = ClientTls::load(&ClientTlsFiles { certificate, key, roots }).map_err(unloadable)?;
                Target::with_certificate(parsed, tls)
            }
            None => Target::without_certificate(parsed, TrustedRoots::load(&roots).map_err(unloadable)?),
        };
        let target = target.map_err(|error| unusable(place, error))?;
        match self.name {
            Some(name) => target.named(&name).map_err(|error| unusable(&name, error)),
            None => Ok(target),
        }
    }

    fn first_flag(&self) -> Option<&'static str> {
        let Self { certificate, key, roots, name } = self;
        let given = [
            (certificate.is_some(), "--certificate"),
            (key.is_some(), "--key"),
            (roots.is_some(), "--roots"),
            (name.is_some(), "--name"),
        ];
        given.iter().find(|(is_given, _)| *is_given).map(|(_, flag)| *flag)
    }
}

fn unloadable(error: impl std::error::Error + 'static) -> Failure {
    Failure::of(Exit::Configuration, crate::chain(&error))
}

fn missing(name: &str, destinations: &[Destination]) -> Failure {
    let names: Vec<&str> = destinations.iter().map(|one| one.id().as_str()).collect();
    let known = match names.as_slice() {
        [] => "there is none in the configuration".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    Failure::of(
        Exit::Missing,
        format_args!("no destination {name}: {known}; for a server that is none, give HOST:PORT"),
    )
}

/// Reads a duration such as `500ms`, within what makes sense for a connection.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = config::duration(text).ok_or("expected a whole number and a unit (ms, s), such as 5s")?;
    match (Duration::from_millis(1)..=TIMEOUT_MAX).contains(&duration) {
        true => Ok(duration),
        false => Err(format!("expected a duration from 1ms to {TIMEOUT_MAX:?}")),
    }
}

fn verdict(target: &str, report: &Report) -> Result<(), Failure> {
    match (report.is_good(), report.is_reached()) {
        (true, _) => Ok(()),
        (false, false) => Err(Failure::of(Exit::Unavailable, format_args!("{target}: nobody answers there"))),
        (false, true) => Err(Failure::of(Exit::Failed, format_args!("{target}: {}", wrong(report.delivers)))),
    }
}

fn wrong(delivers: Delivers) -> &'static str {
    match delivers {
        Delivers::No => "delivery would be held",
        Delivers::Yes | Delivers::Unclear => "the server is open to clients without a certificate",
    }
}

fn show(target: &str, report: &Report) -> Result<(), Failure> {
    let word = match (report.delivers, report.is_good()) {
        (Delivers::Yes, true) => good("good"),
        (Delivers::Unclear, true) => watch("unclear"),
        (Delivers::No, _) => bad("bad"),
        (Delivers::Yes | Delivers::Unclear, false) => bad("open"),
    };
    print(&format_args!("{}  {target}: {}", word.paint(), report.verdict))?;
    for finding in &report.findings {
        let severity = match finding.severity {
            Severity::Held => bad("held"),
            Severity::Error => bad("error"),
            Severity::Warning => watch("warning"),
        };
        print(&format_args!("{}  {}: {}", severity.paint(), finding.id, finding.what))?;
        print(&format_args!("      {}", finding.remedy))?;
    }
    if report.is_reached() { details(report) } else { Ok(()) }
}

fn details(report: &Report) -> Result<(), Failure> {
    let line = |name: &str, what: &dyn std::fmt::Display| print(&format_args!("{name:<14}{what}"));
    print(&"")?;
    let address = or_none(report.address);
    match report.addresses {
        0 | 1 => line("address", &address)?,
        addresses => line("address", &format_args!("{address}, one of {addresses}; the others were not probed"))?,
    }
    line("asks", &report.asks.map_or(Cell::from(NONE), |asks| if asks { good("yes") } else { bad("no") }).paint())?;
    line("requires", &with_answer(requires(report.requires), report.answer_without_certificate.as_ref(), "without"))?;
    line("accepts ours", &with_answer(accepts(report.accepts), report.answer_with_certificate.as_ref(), "with"))?;
    if report.asks == Some(true) {
        line("authorities", &format_args!("{}{}", report.authorities.len(), leads(report.leads_to_authority)))?;
        report.authorities.iter().try_for_each(|authority| line("", authority))?;
    }
    let trusted =
        report.trusted.map(|trusted| if trusted { good("verifies").paint() } else { bad("does not verify").paint() });
    let why = report.trust_error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    line("server", &format_args!("{}{why}", or_none(trusted)))?;
    report.chain.iter().try_for_each(|shown| certificate(shown).iter().try_for_each(|text| line("", text)))?;
    print(&"")?;
    let mut table = Table::new(["VERSION", "TAKEN", "ASKS", "DETAIL"]);
    report.versions.iter().for_each(|seen| table.row(version(seen)));
    table.print()
}

fn with_answer(said: Cell, answer: Option<&String>, how: &str) -> String {
    let answer = answer.map(|answer| format!(" ({how} it: {answer})")).unwrap_or_default();
    format!("{}{answer}", said.paint())
}

fn requires(requires: Option<Requires>) -> Cell {
    match requires {
        Some(Requires::Yes) => good("yes"),
        Some(Requires::No) => bad("no"),
        Some(Requires::Unclear) => watch("unclear"),
        None => NONE.into(),
    }
}

fn accepts(accepts: Option<Accepts>) -> Cell {
    match accepts {
        Some(Accepts::Yes) => good("yes"),
        Some(Accepts::No) => bad("no"),
        Some(Accepts::Unclear) => watch("unclear"),
        None => NONE.into(),
    }
}

fn leads(leads: Option<bool>) -> &'static str {
    match leads {
        Some(true) => "; our chain leads to one of them",
        Some(false) => "; our chain leads to none of them",
        None => "",
    }
}

fn certificate(ServerCertificate { certificate, days_left, error }: &ServerCertificate) -> Vec<String> {
    let Some(certificate) = certificate else { return vec![or_none(error.as_ref())] };
    let names = certificate.names.listed().join(", ");
    let until = format!("until {}, {} days left", certificate.not_after, or_none(days_left.as_ref()));
    [certificate.subject.clone(), names, until].into_iter().filter(|text| !text.is_empty()).collect()
}

fn version(VersionSeen { version, taken, asks, detail }: &VersionSeen) -> [Cell; 4] {
    let yes_or_no = |is: bool| if is { "yes" } else { "no" };
    [version.into(), yes_or_no(*taken).into(), or_none(asks.map(yes_or_no)).into(), or_none(detail.as_ref()).into()]
}
