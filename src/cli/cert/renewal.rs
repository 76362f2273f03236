//! `postern cert needs-renewal`: whether it is time for a new certificate, for scripts.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::Args;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    configured::{self, Role},
    source,
};
use crate::{
    certificate::{Certificate, Item},
    cli::{ConfigFile, Failure, Output, exit::Exit, print},
    clock::{Clock, Timestamp},
};

#[derive(Args)]
pub(in crate::cli) struct NeedsRenewal {
    /// The file with the certificate, then its issuers; without it, each client certificate of the configuration
    #[arg(value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// How long before its end a certificate is to be renewed: a time (`30d`, `12h`), or a share of its life (`33%`)
    #[arg(long, value_name = "TIME|SHARE", default_value = "30d")]
    within: Within,
    #[command(flatten)]
    passphrase: source::Passphrase,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    output: Output,
}

/// How long before its end a certificate is to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Time(Duration),
    Percent(u32),
}

/// What is said of one file.
struct Answer {
    path: PathBuf,
    called: String,
    ends: Timestamp,
    needs: bool,
}

impl NeedsRenewal {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let now = Clock::system().now();
        let passphrase = self.passphrase.read()?;
        let paths = match &self.certificate {
            Some(path) => vec![path.clone()],
            None => {
                let all = configured::all(&self.file.config)?.into_iter();
                all.filter(|file| file.role == Role::Certificate).map(|file| file.path).collect()
            }
        };
        let answers = paths.iter().map(|path| self.ask(path, passphrase.as_ref(), now));
        let answers = answers.collect::<Result<Vec<_>, Failure>>()?;
        let needs = answers.iter().any(|answer| answer.needs);
        match self.output.json {
            true => print(&json!({
                "needs_renewal": needs,
                "certificates": answers.iter().map(Answer::to_json).collect::<Value>(),
            }))?,
            false if answers.is_empty() => print(&"no client certificate is configured")?,
            false => answers.iter().try_for_each(Answer::print)?,
        }
        // No is an answer, and nothing to talk about.
        if needs { Ok(()) } else { Err(Failure::answered(Exit::Failed)) }
    }

    fn ask(&self, path: &Path, passphrase: Option<&SecretString>, now: Timestamp) -> Result<Answer, Failure> {
        let material = source::of_file(path, passphrase)?;
        let unsure = |why: &str| Failure::of(Exit::Damaged, format_args!("{}: {why}", path.display()));
        // Half of a file is not to be taken for all of it.
        for item in &material.items {
            if let Item::Unreadable { what, reason } = item {
                return Err(unsure(&format!("{what}: {reason}")));
            }
        }
        let all: Vec<&Certificate> = material.certificates().map(|held| &*held.certificate).collect();
        let Some(first) = all.first() else { return Err(unsure("it holds no certificate")) };
        // A peer has its roots by itself.
        let issuers = all[1..].iter().filter(|certificate| !certificate.is_self_issued());
        let ends = issuers.map(|issuer| issuer.not_after).fold(first.not_after, Ord::min);
        let needs = now + self.within.of(first.not_after.since(first.not_before)) >= ends;
        Ok(Answer { path: path.to_owned(), called: first.called().to_owned(), ends, needs })
    }
}

impl Answer {
    fn to_json(&self) -> Value {
        let Self { path, called, ends, needs } = self;
        json!({ "file": path, "name": called, "ends": ends.to_string(), "needs_renewal": needs })
    }

    fn print(&self) -> Result<(), Failure> {
        let Self { path, called, ends, needs } = self;
        let verdict = if *needs { "renew it" } else { "not yet" };
        print(&format_args!("{}: `{called}` can be used until {ends}: {verdict}", path.display()))
    }
}

impl Within {
    /// How long that is of a life.
    fn of(self, life: Duration) -> Duration {
        match self {
            Self::Time(time) => time,
            Self::Percent(percent) => life / 100 * percent,
        }
    }
}

impl FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const WHAT: &str = "expected a whole number with d, h or m, such as `30d`, or a share such as `33%`";
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or(WHAT)?);
        let number: u32 = digits.parse().map_err(|_| WHAT)?;
        let times = |seconds: u64| Ok(Self::Time(Duration::from_secs(u64::from(number) * seconds)));
        match unit {
            "d" => times(24 * 60 * 60),
            "h" => times(60 * 60),
            "m" => times(60),
            "%" if number <= 100 => Ok(Self::Percent(number)),
            "%" => Err("a share is at most 100%".to_owned()),
            _ => Err(WHAT.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_is_a_time_or_a_share() {
        for (text, within) in [
            ("30d", Within::Time(Duration::from_secs(2_592_000))),
            ("12h", Within::Time(Duration::from_secs(43_200))),
            ("0m", Within::Time(Duration::ZERO)),
            ("33%", Within::Percent(33)),
            ("100%", Within::Percent(100)),
        ] {
            assert_eq!(text.parse(), Ok(within), "{text}");
        }
        for text in ["", "30", "d", "-1d", "1.5d", "30 d", "101%", "4294967296d", "30w", "３d"] {
            assert!(text.parse::<Within>().is_err(), "{text}");
        }
        assert_eq!(Within::Percent(33).of(Duration::from_secs(100)), Duration::from_secs(33));
    }
}
