//! `postern cert`: what an operator does with certificates.

use clap::Subcommand;

mod configured;
mod expiry;
mod inspect;
mod renewal;
mod show;
mod source;
mod verify;

use super::Failure;

#[derive(Subcommand)]
pub(super) enum CertVerb {
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
    /// Say whether it is time for a new certificate: exit code 0 when it is, 1 when not, 66 when there is no such file
    ///
    /// For scripts: `postern cert needs-renewal client.crt --within 33% && renew`. What ends first in the file counts, but
    /// for a root.
    NeedsRenewal(renewal::NeedsRenewal),
    /// List when everything that is configured expires, the next first; exit code 1 when a file cannot be read
    Expiry(expiry::Expiry),
}

pub(super) fn cert(verb: CertVerb) -> Result<(), Failure> {
    match verb {
        CertVerb::Inspect(inspect) => inspect.run(),
        CertVerb::Verify(verify) => verify.run(),
        CertVerb::NeedsRenewal(needs) => needs.run(),
        CertVerb::Expiry(expiry) => expiry.run(),
    }
}
