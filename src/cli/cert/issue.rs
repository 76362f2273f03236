//! `postern cert issue`: a private authority, and what it issues.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    New, in_a_line,
    place::{self, Access, Piece},
    refused, shown, stem, summary, tell,
};
use crate::{
    cli::{Failure, print},
    clock::{Clock, Timestamp},
    tls::issue::{Authority, Period, Purpose, Subject, SubjectAltName, Template},
};

/// Certificates begin earlier than now because clocks differ.
const VALID_BEFORE: Duration = Duration::from_secs(5 * 60);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ROOT_LIFETIME: Lifetime = Lifetime(DAY.saturating_mul(3650));
const SUBORDINATE_LIFETIME: Lifetime = Lifetime(DAY.saturating_mul(5 * 365));

#[derive(Subcommand)]
pub(in crate::cli) enum IssueVerb {
    /// Make an authority: ca.crt, for those who are to trust it, and ca.key, which stays where it is made
    Authority(NewAuthority),
    /// Issue a server's certificate, with its key
    Server(Server),
    /// Issue a client's certificate, with its key
    Client(Client),
}

#[derive(Args)]
pub(in crate::cli) struct NewAuthority {
    /// The authority's name
    #[arg(long, value_name = "NAME")]
    common_name: Option<String>,
    /// The folder of the authority that is to vouch for it; without that it is a root, which vouches for itself
    #[arg(long, value_name = "DIR")]
    under: Option<PathBuf>,
    /// Most authorities between it and a certificate that it or they issue; a root has no limit, others 0, if nothing is said
    #[arg(long, value_name = "COUNT")]
    path_length: Option<u8>,
    /// How long it is valid, such as 36h, 90d or 10y [default: 10y; under another one 5y, or as long as that one]
    #[arg(long, value_name = "TIME")]
    lifetime: Option<Lifetime>,
    #[command(flatten)]
    new: New,
}

#[derive(Args)]
pub(in crate::cli) struct Server {
    /// A host name (also *.example.com), an IP address or a URI that clients know it by; may be said many times
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<SubjectAltName>,
    /// The name in its subject [default: the first name]
    #[arg(long, value_name = "NAME")]
    common_name: Option<String>,
    #[command(flatten)]
    leaf: Leaf,
}

#[derive(Args)]
pub(in crate::cli) struct Client {
    /// The name in its subject, such as edge-001
    #[arg(long, value_name = "NAME")]
    common_name: String,
    /// A host name, an IP address, a URI or an e-mail address that servers may look for; may be said many times
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<SubjectAltName>,
    #[command(flatten)]
    leaf: Leaf,
}

/// What servers and clients have alike.
#[derive(Args)]
struct Leaf {
    /// The folder of the authority
    #[arg(long, value_name = "DIR")]
    authority: PathBuf,
    /// How long it is valid, such as 36h, 90d or 1y; never longer than its authority
    #[arg(long, value_name = "TIME", default_value = "90d")]
    lifetime: Lifetime,
    #[command(flatten)]
    new: New,
}

pub(super) fn issue(verb: IssueVerb) -> Result<(), Failure> {
    let now = Clock::system().now();
    match verb {
        IssueVerb::Authority(wanted) => authority(&wanted, now),
        IssueVerb::Server(Server { names, common_name, leaf }) => {
            let first = names.first().map(ToString::to_string).unwrap_or_default();
            let name = common_name.clone().unwrap_or_else(|| first.clone());
            // A long name stands among the others alone.
            let common_name = common_name.or(Some(first).filter(|first| first.len() <= 64));
            let subject = leaf.new.subject.named(common_name.as_deref());
            issue_leaf(Purpose::Server, &name, subject, names, &leaf, now)
        }
        IssueVerb::Client(Client { common_name, names, leaf }) => {
            issue_leaf(Purpose::Client, &common_name, leaf.new.subject.named(Some(&common_name)), names, &leaf, now)
        }
    }
}

fn authority(wanted: &NewAuthority, now: Timestamp) -> Result<(), Failure> {
    let NewAuthority { common_name, under, path_length, lifetime, new: New { subject, key, folder, output } } = wanted;
    let template = |name: &str, period| Template {
        subject: subject.named(Some(common_name.as_deref().unwrap_or(name))),
        names: Vec::new(),
        period,
        key: *key,
    };
    let made = match under {
        None => {
            let period = lifetime.unwrap_or(ROOT_LIFETIME).from(now);
            Authority::root(&template("Private authority", period), *path_length)
        }
        Some(above) => {
            let above = Authority::open(above, now).map_err(refused)?;
            let Period { from, until } = SUBORDINATE_LIFETIME.from(now);
            let longest = Period { from, until: until.min(above.until()) };
            let period = lifetime.map_or(longest, |lifetime| lifetime.from(now));
            above.issue_authority(&template("Private intermediate authority", period), *path_length)
        }
    };
    let made = made.map_err(refused)?;
    let (certificate, key) = (folder.join(Authority::CERTIFICATE_FILE), folder.join(Authority::KEY_FILE));
    let key_pem = made.key_pem();
    let pieces = [
        Piece { path: key.clone(), text: &key_pem, access: Access::Owner },
        Piece { path: certificate.clone(), text: made.chain_pem(), access: Access::Everybody },
    ];
    place::create(folder, &pieces)?;

    let summary = summary(made.chain_pem())?;
    if output.json {
        return print(&json!({ "certificate": certificate, "key": key, "summary": summary }));
    }
    tell(&certificate, &in_a_line(&summary))?;
    tell(&key, &"its key; whoever has it can issue, so it stays here and goes into no destination")?;
    let folder = shown(folder);
    print(&format_args!(
        "\nnext:
  postern cert issue server --authority {folder} --name peer.example --out peer
  postern cert issue client --authority {folder} --common-name edge-001 --out edge
Both sides trust {}.",
        if made.is_root() { shown(&certificate) } else { "the ca.crt of the root above it".to_owned() }
    ))
}

fn issue_leaf(
    purpose: Purpose,
    name: &str,
    subject: Subject,
    names: Vec<SubjectAltName>,
    Leaf { authority: above, lifetime, new: New { subject: _, key, folder, output } }: &Leaf,
    now: Timestamp,
) -> Result<(), Failure> {
    let authority = Authority::open(above, now).map_err(refused)?;
    let template = Template { subject, names, period: lifetime.from(now), key: *key };
    let issued = authority.issue(&template, purpose).map_err(refused)?;
    let file = |kind| folder.join(format!("{}.{kind}", stem(name)));
    let (certificate, key) = (file("crt"), file("key"));
    let pieces = [
        Piece { path: key.clone(), text: &issued.key_pem, access: Access::Service },
        Piece { path: certificate.clone(), text: &issued.certificate_pem, access: Access::Everybody },
    ];
    place::create(folder, &pieces)?;

    let summary = summary(&issued.certificate_pem)?;
    if output.json {
        return print(&json!({ "certificate": certificate, "key": key, "summary": summary }));
    }
    tell(&certificate, &in_a_line(&summary))?;
    tell(&key, &"its key")?;
    let roots = match authority.is_root() {
        true => shown(&above.join(Authority::CERTIFICATE_FILE)),
        false => "ROOTS".to_owned(),
    };
    match purpose {
        Purpose::Server => {
            print(&format_args!("\nnext: give the server both files; it asks clients for a certificate of {roots}"))?
        }
        Purpose::Client => print(&format_args!(
            "\nnext: postern destination add NAME --certificate {} --key {} --roots {roots}",
            shown(&certificate),
            shown(&key)
        ))?,
    }
    match authority.is_root() {
        true => Ok(()),
        false => print(&"ROOTS is the ca.crt of the root above this authority."),
    }
}

/// How long a certificate is valid: a whole number and a unit, such as `90d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lifetime(Duration);

/// Nobody's key is good for longer.
const LIFETIME_MAX: Duration = DAY.saturating_mul(100 * 365);

impl Lifetime {
    fn from(self, now: Timestamp) -> Period {
        Period { from: now - VALID_BEFORE, until: now + self.0 }
    }
}

impl FromStr for Lifetime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let unit = match unit {
                "m" => DAY / 24 / 60,
                "h" => DAY / 24,
                "d" => DAY,
                "y" => DAY * 365,
                _ => return None,
            };
            let number = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())??;
            unit.checked_mul(number)
        };
        match parse().filter(|lifetime| !lifetime.is_zero() && *lifetime <= LIFETIME_MAX) {
            Some(lifetime) => Ok(Self(lifetime)),
            None => Err("a lifetime is a whole number and a unit (m, h, d or y), such as 90d, of at most 100y"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetime_is_a_whole_number_and_a_unit() {
        for (text, days) in [("90d", 90), ("48h", 2), ("1440m", 1), ("1y", 365), ("100y", 36_500)] {
            assert_eq!(text.parse(), Ok(Lifetime(DAY * days)), "{text}");
        }
        for text in ["", "d", "90", "0d", "-1d", "+1d", "1.5d", "1 d", "1é", "é", "101y", "99999999999999999999d"] {
            assert!(text.parse::<Lifetime>().is_err(), "{text}");
        }
    }
}
