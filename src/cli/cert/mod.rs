//! `postern cert …`: certificates, ours and those of others.

use clap::Subcommand;

use super::Failure;

mod probe;

#[derive(Subcommand)]
pub(super) enum CertVerb {
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
}

pub(super) fn cert(verb: CertVerb) -> Result<(), Failure> {
    match verb {
        CertVerb::Probe(probe) => probe.run(),
    }
}
