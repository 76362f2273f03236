//! What is odd about a configuration that is used all the same.

use std::{path::PathBuf, time::Duration};

use super::{
    Loaded,
    files::Files,
    problem::{Finding, Kind},
    reading::Place,
    settings::Origin,
};
use crate::{clock::Timestamp, destination::Destination, tls::Validity};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates that run out sooner are told of: an issuer of one's own may take weeks.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Files {
    /// The drop-in to which a place belongs; none for the main file.
    pub(super) fn drop_in_at(&self, place: Place) -> Option<PathBuf> {
        let (main, file) = (0, place.file());
        (file != main).then(|| self.sources[file].path.clone())
    }
}

impl Loaded {
    /// What an operator should know at `now`: certificates that are of no use or soon will be, drop-ins that say nothing,
    /// audiences that nobody maps.
    pub fn warnings(&self, now: Timestamp) -> Vec<Finding> {
        let empty = self.empty_drop_ins.iter().map(|file| {
            let (file, message) = (file.clone(), "says nothing".to_owned());
            Finding { kind: Kind::EmptyDropIn, file, line: None, key: None, message }
        });
        let mapped = |id| self.config.destinations.iter().any(|one| one.mapping.audiences.contains(id));
        let unmapped = self.config.audiences.iter().filter(|audience| !mapped(&audience.id)).filter_map(|audience| {
            let message = "no destination maps it: its members are exported nowhere".to_owned();
            self.at(Kind::UnmappedAudience, format!("audience \"{}\".id", audience.id), message)
        });
        let certificates = self.config.destinations.iter().filter_map(|destination| {
            let (kind, message) = certificate(destination, now)?;
            self.at(kind, format!("destination \"{}\".tls.certificate", destination.id()), message)
        });
        empty.chain(unmapped).chain(certificates).collect()
    }

    /// A warning about a key that is written.
    fn at(&self, kind: Kind, key: String, message: String) -> Option<Finding> {
        match self.settings.origin(&key)? {
            Origin::Written { file, line, .. } => {
                Some(Finding { kind, file: file.clone(), line: Some(*line), key: Some(key), message })
            }
            Origin::Default | Origin::NotSet => None,
        }
    }
}

fn certificate(destination: &Destination, now: Timestamp) -> Option<(Kind, String)> {
    let credentials = destination.tls.credentials();
    match credentials.validity_at(now) {
        Validity::Expired(since) => Some((Kind::CertificateExpired, format!("the certificate expired at {since}"))),
        Validity::NotYetValid(from) => {
            Some((Kind::CertificateNotYetValid, format!("the certificate is valid from {from} only")))
        }
        Validity::Valid => {
            let left = credentials.not_after().since(now);
            let days = left.as_secs() / DAY.as_secs();
            let message = format!("the certificate expires at {}, in {days} days", credentials.not_after());
            (left < EXPIRES_SOON).then_some((Kind::CertificateExpiresSoon, message))
        }
    }
}
