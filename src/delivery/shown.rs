//! Our certificates as metrics, by role: on file, in use, accepted.

use std::collections::BTreeMap;

use super::Certificates;
use crate::{
    clock::Timestamp,
    destination::DestinationId,
    metrics,
    tls::{Credentials, Fingerprint},
};

/// What is shown of a destination's certificates.
#[derive(Debug, Default)]
pub(super) struct Shown(BTreeMap<&'static str, Fingerprint>);

impl Shown {
    /// Shows them as they are now.
    pub(super) fn show(
        &mut self,
        destination: &DestinationId,
        certificates: &Certificates,
        accepted: Option<Fingerprint>,
        now: Timestamp,
    ) {
        let (Certificates { in_use, newer, problem: _ }, on_file) = (certificates, certificates.on_file());
        let refused = newer.as_ref().is_some_and(|newer| newer.refused.is_some());
        metrics::certificates_differ(destination, on_file.is_none_or(|on_file| on_file != in_use), refused);
        for (role, credentials) in [("in_use", Some(in_use)), ("on_file", on_file)] {
            self.role(destination, role, credentials.map(Credentials::fingerprint));
            if let Some(credentials) = credentials {
                metrics::certificate_end(destination, role, credentials.not_after(), now);
            }
        }
        self.role(destination, "accepted", accepted);
    }

    fn role(&mut self, destination: &DestinationId, role: &'static str, fingerprint: Option<Fingerprint>) {
        let before = match fingerprint {
            Some(fingerprint) => self.0.insert(role, fingerprint),
            None => self.0.remove(role),
        };
        if let Some(before) = before.filter(|before| Some(*before) != fingerprint) {
            metrics::certificate(destination, role, before.to_string(), false);
        }
        if let Some(fingerprint) = fingerprint {
            metrics::certificate(destination, role, fingerprint.to_string(), true);
        }
    }
}
