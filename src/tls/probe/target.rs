//! What is probed, and as whom.

use std::{fmt, sync::Arc};

use rustls::{RootCertStore, pki_types::ServerName};

use crate::tls::{ClientTls, HttpVersion, HttpsUrl, RootsError, RootsSource, roots};

/// What is to be probed, and as whom.
#[derive(Clone)]
pub struct Target {
    /// Where to connect.
    pub(super) place: Place,
    /// Whom the server's certificate must name.
    pub(super) name: ServerName<'static>,
    /// What a HEAD request asks for.
    pub(super) path: String,
    /// Whom we trust to name servers.
    pub(super) roots: Arc<RootCertStore>,
    /// Our certificate, if there is one.
    pub(super) ours: Option<ClientTls>,
}

/// A host and a port. As text: `host:port`, an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why a text is not a place or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATarget {
    /// There is no port, or none from 1 to 65535.
    #[error("expected HOST:PORT, such as dest.example:443 or [2001:db8::1]:443")]
    Place,
    /// It can stand in no certificate.
    #[error("that is neither a host name nor an IP address")]
    Name,
}

/// Whom a probe trusts to name servers.
#[derive(Clone)]
pub struct TrustedRoots(Arc<RootCertStore>);

impl Target {
    /// A destination's endpoint, as its settings say.
    ///
    /// # Errors
    /// [`NotATarget::Name`] when the endpoint's host can stand in no certificate.
    pub fn endpoint(endpoint: &HttpsUrl, tls: &ClientTls) -> Result<Self, NotATarget> {
        let place = Place::new(endpoint.host(), endpoint.port());
        Ok(Self { path: endpoint.path().to_owned(), ..Self::with_certificate(place, tls.clone())? })
    }

    /// A place with our certificate and roots.
    ///
    /// # Errors
    /// [`NotATarget::Name`] when the host can stand in no certificate.
    pub fn with_certificate(place: Place, tls: ClientTls) -> Result<Self, NotATarget> {
        let roots = Arc::clone(&tls.roots);
        Ok(Self { name: place.name()?, place, path: "/".to_owned(), roots, ours: Some(tls) })
    }

    /// A place with roots alone: whether our certificate is accepted stays unknown.
    ///
    /// # Errors
    /// [`NotATarget::Name`] when the host can stand in no certificate.
    pub fn without_certificate(place: Place, roots: TrustedRoots) -> Result<Self, NotATarget> {
        Ok(Self { name: place.name()?, place, path: "/".to_owned(), roots: roots.0, ours: None })
    }

    /// Expects the server to be this one, rather than the host that is connected to.
    ///
    /// # Errors
    /// [`NotATarget::Name`] when it can stand in no certificate.
    pub fn named(self, text: &str) -> Result<Self, NotATarget> {
        Ok(Self { name: name(unbracketed(text))?, ..self })
    }

    /// What is spoken there.
    pub(super) fn http(&self) -> HttpVersion {
        self.ours.as_ref().map(ClientTls::http).unwrap_or_default()
    }

    /// What stands in the `Host` header.
    pub(super) fn host(&self) -> String {
        let host = self.name.to_str().into_owned();
        Place { host, port: self.place.port }.to_string()
    }
}

impl TrustedRoots {
    /// Reads them.
    ///
    /// # Errors
    /// When the file does not hold authorities in PEM.
    pub fn load(source: &RootsSource) -> Result<Self, RootsError> {
        Ok(Self(Arc::new(roots::load(source)?.0)))
    }
}

impl Place {
    /// A host, which may stand in brackets, and a port.
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: unbracketed(host).to_owned(), port }
    }

    /// Whom the server's certificate must name there.
    ///
    /// # Errors
    /// [`NotATarget::Name`] when the host can stand in no certificate.
    pub(super) fn name(&self) -> Result<ServerName<'static>, NotATarget> {
        name(&self.host)
    }

    /// Reads `host:port`.
    ///
    /// # Errors
    /// [`NotATarget::Place`].
    pub fn parse(text: &str) -> Result<Self, NotATarget> {
        let (host, port) = text.rsplit_once(':').ok_or(NotATarget::Place)?;
        let port = port.parse().ok().filter(|&port| port > 0).ok_or(NotATarget::Place)?;
        let bare = unbracketed(host);
        // An IPv6 address without brackets has no port that one could tell.
        let is_good = !bare.is_empty() && (bare != host || !host.contains(':')) && !bare.contains(['/', '@', ' ']);
        is_good.then(|| Self { host: bare.to_owned(), port }).ok_or(NotATarget::Place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn name(text: &str) -> Result<ServerName<'static>, NotATarget> {
    ServerName::try_from(text.to_owned()).map_err(|_| NotATarget::Name)
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_a_host_and_a_port() {
        for (text, shown) in [
            ("dest.example:443", Some("dest.example:443")),
            ("10.0.0.7:8443", Some("10.0.0.7:8443")),
            ("[::1]:443", Some("[::1]:443")),
            ("", None),
            (":443", None),
            ("dest.example", None),
            ("dest.example:", None),
            ("dest.example:0", None),
            ("dest.example:65536", None),
            ("::1:443", None),
            ("https://dest.example:443", None),
            ("dest.example/in:443", None),
        ] {
            assert_eq!(Place::parse(text).ok().map(|place| place.to_string()).as_deref(), shown, "{text}");
        }
    }

    #[test]
    fn names_are_what_a_certificate_can_hold() {
        for (text, is_good) in [
            ("dest.example", true),
            ("10.0.0.7", true),
            ("::1", true),
            ("a b", false),
            ("", false),
            ("ü.example", false),
        ] {
            assert_eq!(name(text).is_ok(), is_good, "{text}");
        }
    }
}
