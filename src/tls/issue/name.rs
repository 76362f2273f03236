//! Names as X.509 has them: a subject, and the subject alternative names that verifiers look at.

use std::{fmt, net::IpAddr, str::FromStr};

use rcgen::{DistinguishedName, DnType, DnValue, SanType};
use rustls::pki_types::DnsName;

/// Longest common name, organization and organizational unit, in characters (RFC 5280, upper bounds).
const NAME_MAX: usize = 64;
/// Longest locality and state, in characters (RFC 5280, upper bounds).
const PLACE_MAX: usize = 128;

/// Whom a certificate names, in the parts that authorities ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The name itself, which some receivers look at.
    pub common_name: Option<String>,
    /// The company.
    pub organization: Option<String>,
    /// A part of the company.
    pub organizational_unit: Option<String>,
    /// The town.
    pub locality: Option<String>,
    /// The state or province.
    pub state: Option<String>,
    /// Two letters of ISO 3166, such as `DE`.
    pub country: Option<String>,
}

/// A name that verifiers compare: a host name, perhaps with a wildcard, an IP address, a URI or an e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectAltName(pub(super) SanType);

/// Why a text cannot stand in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` cannot stand in a certificate: {reason}")]
pub struct NameError {
    text: String,
    reason: &'static str,
}

impl Subject {
    /// A subject that has a common name only.
    pub fn named(common_name: &str) -> Self {
        Self { common_name: Some(common_name.to_owned()), ..Self::default() }
    }

    /// In the order in which directories nest.
    pub(super) fn to_distinguished_name(&self) -> Result<DistinguishedName, NameError> {
        let Self { common_name, organization, organizational_unit, locality, state, country } = self;
        let mut name = DistinguishedName::new();
        if let Some(country) = country {
            let text =
                Some(country.as_str()).filter(|text| text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()));
            let text = text.and_then(|text| text.try_into().ok());
            let text = text.ok_or_else(|| refused(country, "a country is two capital letters, such as DE"))?;
            name.push(DnType::CountryName, DnValue::PrintableString(text));
        }
        for (kind, text, max) in [
            (DnType::StateOrProvinceName, state, PLACE_MAX),
            (DnType::LocalityName, locality, PLACE_MAX),
            (DnType::OrganizationName, organization, NAME_MAX),
            (DnType::OrganizationalUnitName, organizational_unit, NAME_MAX),
            (DnType::CommonName, common_name, NAME_MAX),
        ] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                return Err(refused(text, "a part of a subject has something to read, and no control characters"));
            }
            if text.chars().count() > max {
                return Err(refused(text, "a common name and an organization have at most 64 characters, a place 128"));
            }
            name.push(kind, text.as_str());
        }
        Ok(name)
    }
}

/// The common name, or the most particular part there is.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { common_name, organization, organizational_unit, locality, state, country } = self;
        let parts = [common_name, organizational_unit, organization, locality, state, country];
        f.write_str(parts.into_iter().flatten().next().map_or("nobody", String::as_str))
    }
}

/// The kind of name follows from its form.
impl FromStr for SubjectAltName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(SanType::IpAddress(address)));
        }
        if !text.is_ascii() {
            return Err(refused(text, "it is not ASCII; an international host name is written as xn--..."));
        }
        let ascii = || text.try_into().map_err(|_| refused(text, "it is not ASCII"));
        if is_uri(text) {
            return Ok(Self(SanType::URI(ascii()?)));
        }
        if text.contains([':', '/']) {
            return Err(refused(text, "no port, path or prefix belongs to a host name; a URI is scheme://..."));
        }
        if let Some((local, host)) = text.split_once('@') {
            let is_word = |byte: u8| byte.is_ascii_graphic() && !b"\"(),;<>[\\]@".contains(&byte);
            return match !local.is_empty() && local.bytes().all(is_word) && is_host_name(host) {
                true => Ok(Self(SanType::Rfc822Name(ascii()?))),
                false => Err(refused(text, "it is no e-mail address")),
            };
        }
        match text.strip_prefix("*.") {
            // `*.example` would be a whole top-level domain: verifiers refuse it.
            Some(host) if is_host_name(host) && host.contains('.') => Ok(Self(SanType::DnsName(ascii()?))),
            None if is_host_name(text) => Ok(Self(SanType::DnsName(ascii()?))),
            Some(_) | None => Err(refused(
                text,
                "it is neither a host name (also as *.example.com), an IP address, a URI nor an e-mail address",
            )),
        }
    }
}

/// As it was written.
impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SanType::DnsName(text) | SanType::URI(text) | SanType::Rfc822Name(text) => f.write_str(text.as_str()),
            SanType::IpAddress(address) => address.fmt(f),
            other => write!(f, "{other:?}"),
        }
    }
}

fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let form = scheme.eq_ignore_ascii_case("urn") || rest.strip_prefix("//").is_some_and(|rest| !rest.is_empty());
    named && form && rest.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_host_name(text: &str) -> bool {
    DnsName::try_from(text).is_ok() && !text.ends_with('.')
}

fn refused(text: &str, reason: &'static str) -> NameError {
    NameError { text: text.escape_debug().take(80).collect(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> &'static str {
        match text.parse() {
            Ok(SubjectAltName(SanType::DnsName(_))) => "dns",
            Ok(SubjectAltName(SanType::IpAddress(_))) => "ip",
            Ok(SubjectAltName(SanType::URI(_))) => "uri",
            Ok(SubjectAltName(SanType::Rfc822Name(_))) => "email",
            Ok(other) => panic!("{other:?}"),
            Err(_) => "refused",
        }
    }

    #[test]
    fn names_are_told_by_their_form() {
        for (text, meant) in [
            ("peer.example", "dns"),
            ("localhost", "dns"),
            ("*.peer.example", "dns"),
            ("xn--bcher-kva.example", "dns"),
            ("10.0.0.7", "ip"),
            ("::1", "ip"),
            ("2001:db8::7", "ip"),
            ("spiffe://site/edge-001", "uri"),
            ("https://peer.example/in", "uri"),
            ("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "uri"),
            ("ops@peer.example", "email"),
        ] {
            assert_eq!(kind(text), meant, "{text}");
            assert_eq!(text.parse::<SubjectAltName>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_no_verifier_would_match_is_refused() {
        for text in [
            "",
            " ",
            "peer example",
            "peer.example:443",
            "peer.example.",
            "10.0.0.300",
            "10.0.0.0/8",
            "*.example",
            "*",
            "a.*.example.com",
            "bücher.example",
            "DNS:peer.example",
            "https://",
            "1a://b",
            "@peer.example",
            "ops@",
            "a@b@c.example",
            "peer.example\n",
            "http://a\nb",
        ] {
            assert_eq!(kind(text), "refused", "{text:?}");
        }
    }

    #[test]
    fn subjects_keep_to_the_bounds_of_the_standard() {
        let good = |subject: Subject| subject.to_distinguished_name().is_ok();
        assert!(good(Subject {
            country: Some("DE".into()),
            organization: Some("Büro & Co".into()),
            ..Subject::named("é")
        }));
        assert!(good(Subject::named(&"é".repeat(64))));
        assert!(good(Subject::default()));
        for text in ["", " ", "a\nb", "a\u{1b}[31m", &"x".repeat(65)] {
            assert!(!good(Subject::named(text)), "{text:?}");
        }
        for country in ["", "de", "DEU", "ÄÖ"] {
            assert!(!good(Subject { country: Some(country.into()), ..Subject::default() }), "{country}");
        }
    }
}
