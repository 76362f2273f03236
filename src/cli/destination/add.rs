//! `postern destination add`: a new destination, checked with all the rest and written as a drop-in.

use std::{
    fs,
    io::{self, BufRead, ErrorKind, IsTerminal, Write},
    path::{self, Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use crate::{
    admin::scene::Removed,
    cli::{Failure, Output, client::Reach, exit::Exit, print, reload},
    config::{
        Config,
        draft::{self, Draft, DraftAuthentication, DraftSecret, DraftTls},
        files::Files,
        settings::Settings,
    },
    destination::DestinationId,
    tls::HttpsUrl,
};

/// Trusts the public web's authorities, instead of those in a file.
const PUBLIC: &str = "public";

#[derive(Args)]
pub(in crate::cli) struct Add {
    /// Its name in logs, metrics and commands; the drop-in is conf.d/NAME.toml
    name: DestinationId,
    #[command(flatten)]
    wanted: Wanted,
    /// An attribute that is exported; may be said many times
    #[arg(long = "attribute", value_name = "PATH")]
    attributes: Vec<String>,
    /// The file of a bearer token
    #[arg(long, value_name = "FILE")]
    bearer_file: Option<PathBuf>,
    /// How long an answer may take, such as 2s
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// Most POSTs under way at once
    #[arg(long, value_name = "COUNT")]
    max_in_flight: Option<usize>,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    output: Output,
}

/// What must be said, by a flag or when it is asked for.
#[derive(Args)]
struct Wanted {
    /// The URL that exports are POSTed to
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// An audience whose members are exported; may be said many times
    #[arg(long = "audience", value_name = "ID")]
    audiences: Vec<String>,
    /// PEM file: our certificate, then its intermediates
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// PEM file: its private key
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// PEM file of the authorities that may name the server, or `public`
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
}

/// What was said of it, by flags and answers.
struct Given {
    endpoint: String,
    audiences: Vec<String>,
    certificate: PathBuf,
    key: PathBuf,
    roots: PathBuf,
}

impl Add {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut files = Files::read(&self.reach.config)?;
        let present = files.load()?;
        let drop_in = files.drop_in(self.name.as_str());
        is_new(&self.name, &drop_in, &present.settings)?;
        if present.config.audiences.is_empty() {
            let message = "there is no audience whose members it could get; add an [[audience]] first";
            return Err(Failure::of(Exit::Configuration, message));
        }
        let missing = self.wanted.missing();
        if !missing.is_empty() && !io::stdin().is_terminal() {
            let missing = missing.join(", ");
            let message = format_args!("{missing} must be given; at a terminal they would be asked for");
            return Err(Failure::of(Exit::Usage, message));
        }
        let Self { name, wanted, attributes, bearer_file, timeout, max_in_flight, reach, output } = self;
        let dialogue = Dialogue { answers: &mut io::stdin().lock(), talk: &mut io::stderr() };
        let Given { endpoint, audiences, certificate, key, roots } =
            wanted.complete(&present.config, dialogue).context("nothing is written")?;

        let file = |path: PathBuf| written(&path, files.folder());
        let roots = if roots == Path::new(PUBLIC) { roots } else { file(roots)? };
        let tls = DraftTls { certificate: file(certificate)?, key: file(key)?, roots };
        let bearer = bearer_file.map(file).transpose()?;
        let authentication = bearer.map(|file| DraftAuthentication { bearer: DraftSecret { file } });
        let draft =
            Draft { name: name.clone(), endpoint, audiences, attributes, timeout, max_in_flight, authentication, tls };
        let text = draft.to_toml().context("cannot write it as TOML")?;
        files.add(drop_in.clone(), text.clone());
        files.load()?;
        draft::write(&drop_in, &text).map_err(|error| unwritten(&drop_in, error))?;
        tell(&name, &drop_in, &reach, &output)
    }
}

/// Refuses what is there already: a drop-in is a person's own, even when it says something else.
fn is_new(name: &DestinationId, drop_in: &Path, present: &Settings) -> Result<(), Failure> {
    if let Some(origin) = present.origin(&format!("destination \"{name}\".name")) {
        let message =
            format_args!("there is a destination {name} already, in {origin}; choose another name, or edit that");
        return Err(Failure::of(Exit::Failed, message));
    }
    match drop_in.symlink_metadata().is_ok() {
        true => Err(exists(drop_in)),
        false => Ok(()),
    }
}

fn exists(drop_in: &Path) -> Failure {
    let message = format_args!("{} exists already; choose another name, or edit that file", drop_in.display());
    Failure::of(Exit::Failed, message)
}

fn unwritten(drop_in: &Path, error: io::Error) -> Failure {
    let path = drop_in.display();
    match error.kind() {
        ErrorKind::AlreadyExists => exists(drop_in),
        ErrorKind::PermissionDenied => {
            let message = format_args!("cannot write {path}: {error}; do it as root, for example with sudo");
            Failure::of(Exit::NotPermitted, message)
        }
        _ => Failure::failed(anyhow::Error::new(error).context(format!("cannot write {path}"))),
    }
}

/// Puts it to work where an appliance runs, and says what was done.
fn tell(name: &DestinationId, drop_in: &Path, reach: &Reach, output: &Output) -> Result<(), Failure> {
    let is_running = reach.is_there();
    if !output.json {
        print(&format_args!("wrote {}", drop_in.display()))?;
    }
    if is_running && let Err(refusal) = reload::now(reach, &Removed::default()) {
        // Left there, it would keep the service from its next start. An error leaves what the refusal names.
        let _ = fs::remove_file(drop_in);
        return Err(refusal.because("the running appliance does not take it, so it is removed again"));
    }
    match (output.json, is_running) {
        (true, _) => print(&json!({ "destination": name, "written": drop_in, "reloaded": is_running })),
        (false, true) => print(&format_args!("reloaded: {name} is served now")),
        (false, false) => print(&"postern does not run; it is served once that is started"),
    }
}

/// A path as it is written: what the person named from where they stand, seen from the folder of the configuration.
fn written(path: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))?;
    Ok(path.strip_prefix(folder).map(Path::to_owned).unwrap_or(path))
}

impl Wanted {
    /// The flags that are missing.
    fn missing(&self) -> Vec<&'static str> {
        let Self { endpoint, audiences, certificate, key, roots } = self;
        let flags = [
            ("--endpoint", endpoint.is_none()),
            ("--audience", audiences.is_empty()),
            ("--certificate", certificate.is_none()),
            ("--key", key.is_none()),
            ("--roots", roots.is_none()),
        ];
        flags.into_iter().filter(|(_, missing)| *missing).map(|(flag, _)| flag).collect()
    }

    /// Asks for what is missing.
    fn complete(self, config: &Config, mut dialogue: Dialogue<'_>) -> anyhow::Result<Given> {
        let Self { endpoint, audiences, certificate, key, roots } = self;
        let https = |text: &str| HttpsUrl::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string());
        let endpoint = dialogue.unless(endpoint, "URL that exports are POSTed to", https)?;
        let known: Vec<&str> = config.audiences.iter().map(|audience| audience.id.as_str()).collect();
        let question = format!("audiences whose members are exported, with spaces between ({})", known.join(", "));
        let all_known = |text: &str| match text.split_whitespace().find(|id| !known.contains(id)) {
            Some(id) => Err(format!("there is no audience {id}")),
            None => Ok(text.split_whitespace().map(str::to_owned).collect()),
        };
        let audiences = Some(audiences).filter(|given| !given.is_empty());
        let audiences = dialogue.unless(audiences, &question, all_known)?;
        let there = |text: &str| match text == PUBLIC || Path::new(text).exists() {
            true => Ok(PathBuf::from(text)),
            false => Err(format!("there is no file {text}")),
        };
        let certificate = dialogue.unless(certificate, "file of our certificate, PEM", there)?;
        let key = dialogue.unless(key, "file of its key, PEM", there)?;
        let whom = "file of the authorities that may name the server, PEM, or `public`";
        let roots = dialogue.unless(roots, whom, there)?;
        Ok(Given { endpoint, audiences, certificate, key, roots })
    }
}

/// Questions to a person, and their answers.
struct Dialogue<'d> {
    answers: &'d mut dyn BufRead,
    talk: &'d mut dyn Write,
}

impl Dialogue<'_> {
    /// What is given, or else an answer that can be meant.
    fn unless<T>(
        &mut self,
        given: Option<T>,
        question: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> anyhow::Result<T> {
        if let Some(given) = given {
            return Ok(given);
        }
        loop {
            write!(self.talk, "{question}: ")?;
            self.talk.flush()?;
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                bail!("no answer to that");
            }
            match line.trim() {
                "" => {}
                answer => match read(answer) {
                    Ok(meant) => return Ok(meant),
                    Err(why) => writeln!(self.talk, "{why}")?,
                },
            }
        }
    }
}
