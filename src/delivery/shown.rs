//! Our certificates as metrics, by role: on file, in use, accepted.

use std::collections::BTreeMap;

use super::Certificates;
use crate::{
    clock::Clock,
    destination::DestinationId,
    metrics,
    tls::{Credentials, Fingerprint},
};

/// What is shown of a destination's certificates. Once it is dropped nothing is.
#[derive(Debug)]
pub(super) struct Shown {
    destination: DestinationId,
    roles: BTreeMap<&'static str, Fingerprint>,
}

impl Shown {
    pub(super) fn new(destination: DestinationId) -> Self {
        Self { destination, roles: BTreeMap::new() }
    }

    /// Shows them as they are by this clock.
    pub(super) fn show(&mut self, certificates: &Certificates, accepted: Option<Fingerprint>, clock: &Clock) {
        let (Certificates { in_use, newer, problem: _ }, on_file) = (certificates, certificates.on_file());
        let refused = newer.as_ref().is_some_and(|newer| newer.refused.is_some());
        metrics::certificates_differ(&self.destination, on_file.is_none_or(|on_file| on_file != in_use), refused);
        let now = clock.distrusted().is_none().then(|| clock.now());
        for (role, credentials) in [("in_use", Some(in_use)), ("on_file", on_file)] {
            self.role(role, credentials.map(Credentials::fingerprint));
            metrics::certificate_end(&self.destination, role, credentials.map(Credentials::not_after), now);
        }
        self.role("accepted", accepted);
    }

    fn role(&mut self, role: &'static str, fingerprint: Option<Fingerprint>) {
        let before = match fingerprint {
            Some(fingerprint) => self.roles.insert(role, fingerprint),
            None => self.roles.remove(role),
        };
        if let Some(before) = before.filter(|before| Some(*before) != fingerprint) {
            metrics::certificate(&self.destination, role, before.to_string(), false);
        }
        if let Some(fingerprint) = fingerprint {
            metrics::certificate(&self.destination, role, fingerprint.to_string(), true);
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        metrics::certificates_differ(&self.destination, false, false);
        ["in_use", "on_file", "accepted"].into_iter().for_each(|role| self.role(role, None));
        for role in ["in_use", "on_file"] {
            metrics::certificate_end(&self.destination, role, None, None);
        }
    }
}
